package ram

import (
	"context"

	"github.com/engineshed/engineshed/internal/api"
	ramapi "github.com/engineshed/engineshed/internal/oapi/ram"
)

// CreateGroup makes a group.
func (s *Server) CreateGroup(ctx context.Context, req ramapi.CreateGroupRequestObject) (ramapi.CreateGroupResponseObject, error) {
	group, err := s.directory.CreateGroup(ctx, accountOf(ctx), req.Body.GroupName, orZero(req.Body.Comments))
	if err != nil {
		return nil, err
	}
	return ramapi.CreateGroup200JSONResponse{RequestId: api.RequestID(ctx), Group: fromGroup(group)}, nil
}

// GetGroup shows a group.
func (s *Server) GetGroup(ctx context.Context, req ramapi.GetGroupRequestObject) (ramapi.GetGroupResponseObject, error) {
	group, err := s.directory.Group(ctx, accountOf(ctx), req.Body.GroupName)
	if err != nil {
		return nil, err
	}
	return ramapi.GetGroup200JSONResponse{RequestId: api.RequestID(ctx), Group: fromGroup(group)}, nil
}

// UpdateGroup changes a group.
func (s *Server) UpdateGroup(ctx context.Context, req ramapi.UpdateGroupRequestObject) (ramapi.UpdateGroupResponseObject, error) {
	group, err := s.directory.UpdateGroup(ctx, accountOf(ctx), req.Body.GroupName, req.Body.NewGroupName, req.Body.NewComments)
	if err != nil {
		return nil, err
	}
	return ramapi.UpdateGroup200JSONResponse{RequestId: api.RequestID(ctx), Group: fromGroup(group)}, nil
}

// DeleteGroup deletes a group.
func (s *Server) DeleteGroup(ctx context.Context, req ramapi.DeleteGroupRequestObject) (ramapi.DeleteGroupResponseObject, error) {
	if err := s.directory.DeleteGroup(ctx, accountOf(ctx), req.Body.GroupName); err != nil {
		return nil, err
	}
	return ramapi.DeleteGroup200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// ListGroups shows one page of groups.
func (s *Server) ListGroups(ctx context.Context, req ramapi.ListGroupsRequestObject) (ramapi.ListGroupsResponseObject, error) {
	groups, next, err := s.directory.Groups(ctx, accountOf(ctx), toPage(req.Body.Marker, req.Body.MaxItems))
	if err != nil {
		return nil, err
	}
	return ramapi.ListGroups200JSONResponse{RequestId: api.RequestID(ctx), Groups: fromGroups(groups), Marker: next, IsTruncated: next != ""}, nil
}

// AddUserToGroup puts a user into a group.
func (s *Server) AddUserToGroup(ctx context.Context, req ramapi.AddUserToGroupRequestObject) (ramapi.AddUserToGroupResponseObject, error) {
	if err := s.directory.AddToGroup(ctx, accountOf(ctx), req.Body.UserName, req.Body.GroupName); err != nil {
		return nil, err
	}
	return ramapi.AddUserToGroup200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// RemoveUserFromGroup takes a user out of a group.
func (s *Server) RemoveUserFromGroup(ctx context.Context, req ramapi.RemoveUserFromGroupRequestObject) (ramapi.RemoveUserFromGroupResponseObject, error) {
	if err := s.directory.RemoveFromGroup(ctx, accountOf(ctx), req.Body.UserName, req.Body.GroupName); err != nil {
		return nil, err
	}
	return ramapi.RemoveUserFromGroup200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// ListGroupsForUser shows the groups of a user.
func (s *Server) ListGroupsForUser(ctx context.Context, req ramapi.ListGroupsForUserRequestObject) (ramapi.ListGroupsForUserResponseObject, error) {
	groups, err := s.directory.GroupsOf(ctx, accountOf(ctx), req.Body.UserName)
	if err != nil {
		return nil, err
	}
	return ramapi.ListGroupsForUser200JSONResponse{RequestId: api.RequestID(ctx), Groups: fromJoinedGroups(groups)}, nil
}

// ListUsersForGroup shows one page of the users of a group.
func (s *Server) ListUsersForGroup(ctx context.Context, req ramapi.ListUsersForGroupRequestObject) (ramapi.ListUsersForGroupResponseObject, error) {
	users, next, err := s.directory.Members(ctx, accountOf(ctx), req.Body.GroupName, toPage(req.Body.Marker, req.Body.MaxItems))
	if err != nil {
		return nil, err
	}
	return ramapi.ListUsersForGroup200JSONResponse{RequestId: api.RequestID(ctx), Users: fromMembers(users), Marker: next, IsTruncated: next != ""}, nil
}
