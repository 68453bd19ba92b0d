package sdk

import (
	"context"
	"net/http"

	"github.com/engineshed/engineshed/sdk/audit"
)

// ListAuditEvents shows one page of who changed what in the account, the newest first.
func (c *Client) ListAuditEvents(ctx context.Context, request audit.ListAuditEventsRequest) (*audit.ListAuditEventsResponse, error) {
	r, err := c.audit.ListAuditEvents(ctx, request, func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept", "application/json")
		return c.signer.Sign(r, "ListAuditEvents", auditVersion)
	})
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	return read[audit.ListAuditEventsResponse](r)
}
