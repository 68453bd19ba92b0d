package apig

import (
	"context"

	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

// CreateHttpApiRoute adds a route to a Model API.
func (s *Server) CreateHttpApiRoute(ctx context.Context, req apigapi.CreateHttpApiRouteRequestObject) (apigapi.CreateHttpApiRouteResponseObject, error) {
	created, err := s.Routes.CreateRoute(ctx, accountOf(ctx), req.HttpApiId, toRouteSpec(req.Body))
	if err != nil {
		return nil, err
	}
	return apigapi.CreateHttpApiRoute200JSONResponse(success(ctx, apigapi.CreatedHttpApiRoute{RouteId: created.ID})), nil
}

// ListHttpApiRoutes shows one page of the routes of a Model API.
func (s *Server) ListHttpApiRoutes(ctx context.Context, req apigapi.ListHttpApiRoutesRequestObject) (apigapi.ListHttpApiRoutesResponseObject, error) {
	filter := toRouteFilter(req.Params)
	found, total, err := s.Routes.ListRoutes(ctx, accountOf(ctx), req.HttpApiId, filter)
	if err != nil {
		return nil, err
	}
	return apigapi.ListHttpApiRoutes200JSONResponse(success(ctx, fromRoutes(found, filter.Page, total))), nil
}

// GetHttpApiRoute shows one route.
func (s *Server) GetHttpApiRoute(ctx context.Context, req apigapi.GetHttpApiRouteRequestObject) (apigapi.GetHttpApiRouteResponseObject, error) {
	found, err := s.Routes.GetRoute(ctx, accountOf(ctx), req.HttpApiId, req.RouteId)
	if err != nil {
		return nil, err
	}
	return apigapi.GetHttpApiRoute200JSONResponse(success(ctx, fromRoute(found))), nil
}

// UpdateHttpApiRoute changes a route.
func (s *Server) UpdateHttpApiRoute(ctx context.Context, req apigapi.UpdateHttpApiRouteRequestObject) (apigapi.UpdateHttpApiRouteResponseObject, error) {
	if _, err := s.Routes.UpdateRoute(ctx, accountOf(ctx), req.HttpApiId, req.RouteId, toRouteUpdate(req.Body)); err != nil {
		return nil, err
	}
	return apigapi.UpdateHttpApiRoute200JSONResponse(done(ctx)), nil
}

// DeleteHttpApiRoute deletes a route.
func (s *Server) DeleteHttpApiRoute(ctx context.Context, req apigapi.DeleteHttpApiRouteRequestObject) (apigapi.DeleteHttpApiRouteResponseObject, error) {
	if err := s.Routes.DeleteRoute(ctx, accountOf(ctx), req.HttpApiId, req.RouteId); err != nil {
		return nil, err
	}
	return apigapi.DeleteHttpApiRoute200JSONResponse(done(ctx)), nil
}
