package ram

import (
	"context"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/fault"
	ramapi "github.com/engineshed/engineshed/internal/oapi/ram"
)

// CreateUser makes a user.
func (s *Server) CreateUser(ctx context.Context, req ramapi.CreateUserRequestObject) (ramapi.CreateUserResponseObject, error) {
	user, err := s.directory.CreateUser(ctx, accountOf(ctx), toUser(req.Body))
	if err != nil {
		return nil, err
	}
	return ramapi.CreateUser200JSONResponse{RequestId: api.RequestID(ctx), User: fromUser(user)}, nil
}

// GetUser shows a user.
func (s *Server) GetUser(ctx context.Context, req ramapi.GetUserRequestObject) (ramapi.GetUserResponseObject, error) {
	owner, err := userOrCaller(ctx, req.Body.UserName)
	if err == nil && owner == "" {
		err = fault.MissingParameter("UserName")
	}
	if err != nil {
		return nil, err
	}
	user, err := s.directory.User(ctx, accountOf(ctx), owner)
	if err != nil {
		return nil, err
	}
	return ramapi.GetUser200JSONResponse{RequestId: api.RequestID(ctx), User: fromUser(user)}, nil
}

// UpdateUser changes a user.
func (s *Server) UpdateUser(ctx context.Context, req ramapi.UpdateUserRequestObject) (ramapi.UpdateUserResponseObject, error) {
	user, err := s.directory.UpdateUser(ctx, accountOf(ctx), req.Body.UserName, toUserChange(req.Body))
	if err != nil {
		return nil, err
	}
	return ramapi.UpdateUser200JSONResponse{RequestId: api.RequestID(ctx), User: fromUser(user)}, nil
}

// DeleteUser deletes a user.
func (s *Server) DeleteUser(ctx context.Context, req ramapi.DeleteUserRequestObject) (ramapi.DeleteUserResponseObject, error) {
	if err := s.directory.DeleteUser(ctx, accountOf(ctx), req.Body.UserName); err != nil {
		return nil, err
	}
	return ramapi.DeleteUser200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// ListUsers shows one page of users.
func (s *Server) ListUsers(ctx context.Context, req ramapi.ListUsersRequestObject) (ramapi.ListUsersResponseObject, error) {
	users, next, err := s.directory.Users(ctx, accountOf(ctx), toPage(req.Body.Marker, req.Body.MaxItems))
	if err != nil {
		return nil, err
	}
	return ramapi.ListUsers200JSONResponse{RequestId: api.RequestID(ctx), Users: fromUsers(users), Marker: next, IsTruncated: next != ""}, nil
}
