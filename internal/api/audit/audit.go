// Package audit answers the operations of audit 2026-03-01: it converts, calls and converts back.
package audit

import (
	"context"
	"fmt"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/audit"
	auditapi "github.com/engineshed/engineshed/internal/oapi/audit"
	"github.com/engineshed/engineshed/openapi"
)

// Trail is the audit trail.
type Trail interface {
	List(ctx context.Context, accountID string, query audit.Query) (records []audit.Record, next string, err error)
}

// Server implements the generated interface.
type Server struct{ trail Trail }

// Product is audit as api.New takes it.
func Product(trail Trail) (api.Product, error) {
	document, err := api.LoadDocument(openapi.Files, "audit.yaml")
	if err != nil {
		return api.Product{}, fmt.Errorf("audit: %w", err)
	}
	strict := auditapi.NewStrictHandlerWithOptions(&Server{trail}, nil, auditapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc: api.Fail, ResponseErrorHandlerFunc: api.Fail,
	})
	return api.Product{Name: "audit", Version: document.Info.Version, Document: document, Handler: auditapi.Handler(strict)}, nil
}

// ListAuditEvents lists who changed what, and who tried to.
func (s *Server) ListAuditEvents(ctx context.Context, req auditapi.ListAuditEventsRequestObject) (auditapi.ListAuditEventsResponseObject, error) {
	query, err := toQuery(req.Body)
	if err != nil {
		return nil, err
	}
	records, next, err := s.trail.List(ctx, access.CallerFrom(ctx).AccountID, query)
	if err != nil {
		return nil, err
	}
	return auditapi.ListAuditEvents200JSONResponse{
		RequestId: api.RequestID(ctx), MaxResults: int32(query.Size), NextToken: next, Events: fromRecords(records),
	}, nil
}
