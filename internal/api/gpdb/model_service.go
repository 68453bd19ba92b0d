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

// ModifyModelService changes a service.
func (s *Server) ModifyModelService(ctx context.Context, req gpdbapi.ModifyModelServiceRequestObject) (gpdbapi.ModifyModelServiceResponseObject, error) {
	if err := s.services.Modify(ctx, idempotency.KeyFrom(ctx), toChange(access.CallerFrom(ctx).AccountID, req.Body)); err != nil {
		return nil, err
	}
	return gpdbapi.ModifyModelService200JSONResponse{RequestId: api.RequestID(ctx), ModelServiceId: req.Body.ModelServiceId}, nil
}

// RotateModelServiceApiKey gives a service a new key.
func (s *Server) RotateModelServiceApiKey(ctx context.Context, req gpdbapi.RotateModelServiceApiKeyRequestObject) (gpdbapi.RotateModelServiceApiKeyResponseObject, error) {
	err := s.services.RotateKey(ctx, idempotency.KeyFrom(ctx), access.CallerFrom(ctx).AccountID, req.Body.DBInstanceId, req.Body.ModelServiceId)
	if err != nil {
		return nil, err
	}
	return gpdbapi.RotateModelServiceApiKey200JSONResponse{RequestId: api.RequestID(ctx), ModelServiceId: req.Body.ModelServiceId}, nil
}

// ListModelServiceEvents shows one page of what happened to a service.
func (s *Server) ListModelServiceEvents(ctx context.Context, req gpdbapi.ListModelServiceEventsRequestObject) (gpdbapi.ListModelServiceEventsResponseObject, error) {
	page := toPage(req.Body.PageNumber, req.Body.PageSize)
	events, total, err := s.services.Events(ctx, access.CallerFrom(ctx).AccountID, req.Body.DBInstanceId, req.Body.ModelServiceId, page)
	if err != nil {
		return nil, err
	}
	return gpdbapi.ListModelServiceEvents200JSONResponse(fromEvents(api.RequestID(ctx), events, page, total)), nil
}

// GetModelServiceLogs shows the end of an engine's log.
func (s *Server) GetModelServiceLogs(ctx context.Context, req gpdbapi.GetModelServiceLogsRequestObject) (gpdbapi.GetModelServiceLogsResponseObject, error) {
	log, err := s.services.Log(ctx, access.CallerFrom(ctx).AccountID, req.Body.DBInstanceId, req.Body.ModelServiceId, toInt(req.Body.Replica))
	if err != nil {
		return nil, err
	}
	return gpdbapi.GetModelServiceLogs200JSONResponse(fromLog(api.RequestID(ctx), log)), nil
}
