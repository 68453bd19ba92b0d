package apig

import (
	"context"

	"github.com/engineshed/engineshed/internal/idempotency"
	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

// CreateService makes upstream services.
func (s *Server) CreateService(ctx context.Context, req apigapi.CreateServiceRequestObject) (apigapi.CreateServiceResponseObject, error) {
	ids, err := s.Services.Create(ctx, idempotency.KeyFrom(ctx), accountOf(ctx), toServiceSpecs(req.Body))
	if err != nil {
		return nil, err
	}
	return apigapi.CreateService200JSONResponse(success(ctx, apigapi.CreatedServices{ServiceIds: ids})), nil
}

// ListServices shows one page of the services.
func (s *Server) ListServices(ctx context.Context, req apigapi.ListServicesRequestObject) (apigapi.ListServicesResponseObject, error) {
	filter := toServiceFilter(req.Params)
	found, total, err := s.Services.List(ctx, accountOf(ctx), filter)
	if err != nil {
		return nil, err
	}
	return apigapi.ListServices200JSONResponse(success(ctx, fromServices(found, filter.Page, total))), nil
}

// GetService shows one service.
func (s *Server) GetService(ctx context.Context, req apigapi.GetServiceRequestObject) (apigapi.GetServiceResponseObject, error) {
	found, err := s.Services.Get(ctx, accountOf(ctx), req.ServiceId)
	if err != nil {
		return nil, err
	}
	return apigapi.GetService200JSONResponse(success(ctx, fromService(found))), nil
}

// UpdateService changes a service.
func (s *Server) UpdateService(ctx context.Context, req apigapi.UpdateServiceRequestObject) (apigapi.UpdateServiceResponseObject, error) {
	if err := s.Services.Update(ctx, accountOf(ctx), req.ServiceId, toServiceUpdate(req.Body)); err != nil {
		return nil, err
	}
	return apigapi.UpdateService200JSONResponse(done(ctx)), nil
}

// DeleteService deletes a service.
func (s *Server) DeleteService(ctx context.Context, req apigapi.DeleteServiceRequestObject) (apigapi.DeleteServiceResponseObject, error) {
	if err := s.Services.Delete(ctx, accountOf(ctx), req.ServiceId); err != nil {
		return nil, err
	}
	return apigapi.DeleteService200JSONResponse(done(ctx)), nil
}
