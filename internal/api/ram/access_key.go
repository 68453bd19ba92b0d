package ram

import (
	"context"

	"github.com/engineshed/engineshed/internal/api"
	ramapi "github.com/engineshed/engineshed/internal/oapi/ram"
)

// CreateAccessKey makes an access key.
func (s *Server) CreateAccessKey(ctx context.Context, req ramapi.CreateAccessKeyRequestObject) (ramapi.CreateAccessKeyResponseObject, error) {
	owner, err := userOrCaller(ctx, req.Body.UserName)
	if err != nil {
		return nil, err
	}
	key, at, err := s.directory.CreateKey(ctx, accountOf(ctx), owner)
	if err != nil {
		return nil, err
	}
	return ramapi.CreateAccessKey200JSONResponse{RequestId: api.RequestID(ctx), AccessKey: fromCreatedKey(key, at)}, nil
}

// ListAccessKeys shows the access keys of a user.
func (s *Server) ListAccessKeys(ctx context.Context, req ramapi.ListAccessKeysRequestObject) (ramapi.ListAccessKeysResponseObject, error) {
	owner, err := userOrCaller(ctx, req.Body.UserName)
	if err != nil {
		return nil, err
	}
	keys, err := s.directory.Keys(ctx, accountOf(ctx), owner)
	if err != nil {
		return nil, err
	}
	return ramapi.ListAccessKeys200JSONResponse{RequestId: api.RequestID(ctx), AccessKeys: ramapi.AccessKeys{AccessKey: mapped(keys, fromKey)}}, nil
}

// UpdateAccessKey activates or deactivates an access key.
func (s *Server) UpdateAccessKey(ctx context.Context, req ramapi.UpdateAccessKeyRequestObject) (ramapi.UpdateAccessKeyResponseObject, error) {
	owner, err := userOrCaller(ctx, req.Body.UserName)
	if err != nil {
		return nil, err
	}
	if err := s.directory.SetKeyActive(ctx, accountOf(ctx), owner, req.Body.UserAccessKeyId, req.Body.Status == ramapi.Active); err != nil {
		return nil, err
	}
	return ramapi.UpdateAccessKey200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// DeleteAccessKey deletes an access key.
func (s *Server) DeleteAccessKey(ctx context.Context, req ramapi.DeleteAccessKeyRequestObject) (ramapi.DeleteAccessKeyResponseObject, error) {
	owner, err := userOrCaller(ctx, req.Body.UserName)
	if err != nil {
		return nil, err
	}
	if err := s.directory.DeleteKey(ctx, accountOf(ctx), owner, req.Body.UserAccessKeyId); err != nil {
		return nil, err
	}
	return ramapi.DeleteAccessKey200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}
