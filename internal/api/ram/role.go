package ram

import (
	"context"

	"github.com/engineshed/engineshed/internal/api"
	ramapi "github.com/engineshed/engineshed/internal/oapi/ram"
)

// CreateRole makes a role.
func (s *Server) CreateRole(ctx context.Context, req ramapi.CreateRoleRequestObject) (ramapi.CreateRoleResponseObject, error) {
	role, err := s.directory.CreateRole(ctx, accountOf(ctx), toRole(req.Body))
	if err != nil {
		return nil, err
	}
	return ramapi.CreateRole200JSONResponse{RequestId: api.RequestID(ctx), Role: fromRole(ctx, role)}, nil
}

// GetRole shows a role.
func (s *Server) GetRole(ctx context.Context, req ramapi.GetRoleRequestObject) (ramapi.GetRoleResponseObject, error) {
	role, err := s.directory.Role(ctx, accountOf(ctx), req.Body.RoleName)
	if err != nil {
		return nil, err
	}
	return ramapi.GetRole200JSONResponse{RequestId: api.RequestID(ctx), Role: fromRole(ctx, role)}, nil
}

// UpdateRole changes a role.
func (s *Server) UpdateRole(ctx context.Context, req ramapi.UpdateRoleRequestObject) (ramapi.UpdateRoleResponseObject, error) {
	role, err := s.directory.UpdateRole(ctx, accountOf(ctx), req.Body.RoleName, toRoleChange(req.Body))
	if err != nil {
		return nil, err
	}
	return ramapi.UpdateRole200JSONResponse{RequestId: api.RequestID(ctx), Role: fromRole(ctx, role)}, nil
}

// DeleteRole deletes a role and ends its sessions.
func (s *Server) DeleteRole(ctx context.Context, req ramapi.DeleteRoleRequestObject) (ramapi.DeleteRoleResponseObject, error) {
	if err := s.directory.DeleteRole(ctx, accountOf(ctx), req.Body.RoleName); err != nil {
		return nil, err
	}
	return ramapi.DeleteRole200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// ListRoles shows one page of roles.
func (s *Server) ListRoles(ctx context.Context, req ramapi.ListRolesRequestObject) (ramapi.ListRolesResponseObject, error) {
	roles, next, err := s.directory.Roles(ctx, accountOf(ctx), toPage(req.Body.Marker, req.Body.MaxItems))
	if err != nil {
		return nil, err
	}
	return ramapi.ListRoles200JSONResponse{RequestId: api.RequestID(ctx), Roles: fromRoles(ctx, roles), Marker: next, IsTruncated: next != ""}, nil
}
