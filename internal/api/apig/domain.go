package apig

import (
	"context"

	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

// CreateDomain makes a domain.
func (s *Server) CreateDomain(ctx context.Context, req apigapi.CreateDomainRequestObject) (apigapi.CreateDomainResponseObject, error) {
	created, err := s.Domains.CreateDomain(ctx, accountOf(ctx), toDomainSpec(req.Body))
	if err != nil {
		return nil, err
	}
	return apigapi.CreateDomain200JSONResponse(success(ctx, apigapi.CreatedDomain{DomainId: created.ID})), nil
}

// ListDomains shows one page of the domains.
func (s *Server) ListDomains(ctx context.Context, req apigapi.ListDomainsRequestObject) (apigapi.ListDomainsResponseObject, error) {
	filter := toDomainFilter(req.Params)
	found, total, err := s.Domains.ListDomains(ctx, accountOf(ctx), filter)
	if err != nil {
		return nil, err
	}
	return apigapi.ListDomains200JSONResponse(success(ctx, fromDomains(found, filter.Page, total))), nil
}

// GetDomain shows one domain.
func (s *Server) GetDomain(ctx context.Context, req apigapi.GetDomainRequestObject) (apigapi.GetDomainResponseObject, error) {
	found, err := s.Domains.GetDomain(ctx, accountOf(ctx), req.DomainId)
	if err != nil {
		return nil, err
	}
	return apigapi.GetDomain200JSONResponse(success(ctx, fromDomain(found))), nil
}

// UpdateDomain changes a domain.
func (s *Server) UpdateDomain(ctx context.Context, req apigapi.UpdateDomainRequestObject) (apigapi.UpdateDomainResponseObject, error) {
	if err := s.Domains.UpdateDomain(ctx, accountOf(ctx), req.DomainId, toDomainChange(req.Body)); err != nil {
		return nil, err
	}
	return apigapi.UpdateDomain200JSONResponse(done(ctx)), nil
}

// DeleteDomain deletes a domain.
func (s *Server) DeleteDomain(ctx context.Context, req apigapi.DeleteDomainRequestObject) (apigapi.DeleteDomainResponseObject, error) {
	if err := s.Domains.DeleteDomain(ctx, accountOf(ctx), req.DomainId); err != nil {
		return nil, err
	}
	return apigapi.DeleteDomain200JSONResponse(done(ctx)), nil
}
