package gpdb

import (
	"context"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/idempotency"
	gpdbapi "github.com/engineshed/engineshed/internal/oapi/gpdb"
)

// readAPIKey is the extension action without which DescribeModelService masks the ApiKey.
const readAPIKey = "gpdb:GetModelServiceApiKey"

// CreateModelService deploys a model.
func (s *Server) CreateModelService(ctx context.Context, req gpdbapi.CreateModelServiceRequestObject) (gpdbapi.CreateModelServiceResponseObject, error) {
	svc, err := s.services.Create(ctx, idempotency.KeyFrom(ctx), toSpec(access.CallerFrom(ctx).AccountID, s.region, req.Body))
	if err != nil {
		return nil, err
	}
	return gpdbapi.CreateModelService200JSONResponse{RequestId: api.RequestID(ctx), ModelServiceId: svc.ID}, nil
}

// DescribeModelService shows one service.
func (s *Server) DescribeModelService(ctx context.Context, req gpdbapi.DescribeModelServiceRequestObject) (gpdbapi.DescribeModelServiceResponseObject, error) {
	svc, err := s.services.Describe(ctx, access.CallerFrom(ctx).AccountID, req.Body.DBInstanceId, req.Body.ModelServiceId)
	if err != nil {
		return nil, err
	}
	withKey, err := api.Allowed(ctx, readAPIKey)
	if err != nil {
		return nil, err
	}
	return gpdbapi.DescribeModelService200JSONResponse(fromService(api.RequestID(ctx), svc, withKey)), nil
}

// ListModelServices shows one page of the services of an instance.
func (s *Server) ListModelServices(ctx context.Context, req gpdbapi.ListModelServicesRequestObject) (gpdbapi.ListModelServicesResponseObject, error) {
	page := toPage(req.Body.PageNumber, req.Body.PageSize)
	services, total, err := s.services.List(ctx, access.CallerFrom(ctx).AccountID, req.Body.DBInstanceId, page)
	if err != nil {
		return nil, err
	}
	return gpdbapi.ListModelServices200JSONResponse(fromServices(api.RequestID(ctx), services, page, total)), nil
}

// DeleteModelService takes a service down.
func (s *Server) DeleteModelService(ctx context.Context, req gpdbapi.DeleteModelServiceRequestObject) (gpdbapi.DeleteModelServiceResponseObject, error) {
	if err := s.services.Delete(ctx, access.CallerFrom(ctx).AccountID, req.Body.DBInstanceId, req.Body.ModelServiceId); err != nil {
		return nil, err
	}
	return gpdbapi.DeleteModelService200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// ListSupportModels names the models of the catalogue.
func (s *Server) ListSupportModels(ctx context.Context, _ gpdbapi.ListSupportModelsRequestObject) (gpdbapi.ListSupportModelsResponseObject, error) {
	names := gpdbapi.SupportedModels{ModelNames: orEmpty(s.models())}
	return gpdbapi.ListSupportModels200JSONResponse{RequestId: api.RequestID(ctx), ModelNames: names}, nil
}
