package apig

import (
	"context"

	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

// CreateEnvironment makes an environment.
func (s *Server) CreateEnvironment(ctx context.Context, req apigapi.CreateEnvironmentRequestObject) (apigapi.CreateEnvironmentResponseObject, error) {
	created, err := s.Environments.CreateEnvironment(ctx, accountOf(ctx), toEnvironmentSpec(req.Body))
	if err != nil {
		return nil, err
	}
	return apigapi.CreateEnvironment200JSONResponse(success(ctx, apigapi.CreatedEnvironment{EnvironmentId: created.ID})), nil
}

// ListEnvironments shows one page of the environments.
func (s *Server) ListEnvironments(ctx context.Context, req apigapi.ListEnvironmentsRequestObject) (apigapi.ListEnvironmentsResponseObject, error) {
	filter := toEnvironmentFilter(req.Params)
	found, total, err := s.Environments.ListEnvironments(ctx, accountOf(ctx), filter)
	if err != nil {
		return nil, err
	}
	return apigapi.ListEnvironments200JSONResponse(success(ctx, fromEnvironments(found, filter.Page, total))), nil
}

// GetEnvironment shows one environment.
func (s *Server) GetEnvironment(ctx context.Context, req apigapi.GetEnvironmentRequestObject) (apigapi.GetEnvironmentResponseObject, error) {
	found, err := s.Environments.GetEnvironment(ctx, accountOf(ctx), req.EnvironmentId)
	if err != nil {
		return nil, err
	}
	return apigapi.GetEnvironment200JSONResponse(success(ctx, fromEnvironment(found))), nil
}

// UpdateEnvironment changes an environment.
func (s *Server) UpdateEnvironment(ctx context.Context, req apigapi.UpdateEnvironmentRequestObject) (apigapi.UpdateEnvironmentResponseObject, error) {
	if err := s.Environments.UpdateEnvironment(ctx, accountOf(ctx), req.EnvironmentId, req.Body.Alias, req.Body.Description); err != nil {
		return nil, err
	}
	return apigapi.UpdateEnvironment200JSONResponse(done(ctx)), nil
}

// DeleteEnvironment deletes an environment.
func (s *Server) DeleteEnvironment(ctx context.Context, req apigapi.DeleteEnvironmentRequestObject) (apigapi.DeleteEnvironmentResponseObject, error) {
	if err := s.Environments.DeleteEnvironment(ctx, accountOf(ctx), req.EnvironmentId); err != nil {
		return nil, err
	}
	return apigapi.DeleteEnvironment200JSONResponse(done(ctx)), nil
}
