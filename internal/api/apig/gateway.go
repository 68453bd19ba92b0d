package apig

import (
	"context"

	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

// CreateGateway makes a gateway with its default environment.
func (s *Server) CreateGateway(ctx context.Context, req apigapi.CreateGatewayRequestObject) (apigapi.CreateGatewayResponseObject, error) {
	created, err := s.Gateways.CreateGateway(ctx, accountOf(ctx), toGatewaySpec(req.Body))
	if err != nil {
		return nil, err
	}
	return apigapi.CreateGateway200JSONResponse(success(ctx, apigapi.CreatedGateway{GatewayId: created.ID})), nil
}

// ListGateways shows one page of the gateways.
func (s *Server) ListGateways(ctx context.Context, req apigapi.ListGatewaysRequestObject) (apigapi.ListGatewaysResponseObject, error) {
	filter := toGatewayFilter(req.Params)
	found, total, err := s.Gateways.ListGateways(ctx, accountOf(ctx), filter)
	if err != nil {
		return nil, err
	}
	return apigapi.ListGateways200JSONResponse(success(ctx, fromGateways(found, filter.Page, total))), nil
}

// GetGateway shows one gateway.
func (s *Server) GetGateway(ctx context.Context, req apigapi.GetGatewayRequestObject) (apigapi.GetGatewayResponseObject, error) {
	found, err := s.Gateways.GetGateway(ctx, accountOf(ctx), req.GatewayId)
	if err != nil {
		return nil, err
	}
	return apigapi.GetGateway200JSONResponse(success(ctx, fromGateway(found))), nil
}

// UpdateGatewayName renames a gateway.
func (s *Server) UpdateGatewayName(ctx context.Context, req apigapi.UpdateGatewayNameRequestObject) (apigapi.UpdateGatewayNameResponseObject, error) {
	if err := s.Gateways.UpdateGatewayName(ctx, accountOf(ctx), req.GatewayId, req.Params.Name); err != nil {
		return nil, err
	}
	return apigapi.UpdateGatewayName200JSONResponse(done(ctx)), nil
}

// DeleteGateway deletes a gateway.
func (s *Server) DeleteGateway(ctx context.Context, req apigapi.DeleteGatewayRequestObject) (apigapi.DeleteGatewayResponseObject, error) {
	if err := s.Gateways.DeleteGateway(ctx, accountOf(ctx), req.GatewayId); err != nil {
		return nil, err
	}
	return apigapi.DeleteGateway200JSONResponse(done(ctx)), nil
}
