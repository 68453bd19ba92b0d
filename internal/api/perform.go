package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/idempotency"
)

// perform authorizes the call and hands it to its handler. A mutating call leaves exactly one audit row: the
// handler's own transaction wrote it when something changed, and here it is written in every other case.
func (s *server) perform(ctx context.Context, c *call, params map[string]any) ([]byte, error) {
	c.resources = c.operation.arn.resources(s.Region, c.caller, params)
	entry := newEntry(c)
	ctx = audit.With(ctx, entry)
	var body []byte
	err := s.authorize(ctx, c, params)
	if err == nil {
		err = guard(func() (err error) {
			body, err = s.handle(ctx, c, params)
			return err
		})
	}
	if c.operation.mutates {
		err = s.record(ctx, entry, err)
	}
	return body, err
}

// authorize refuses a caller whose policies do not allow the action on every resource of the call.
func (s *server) authorize(ctx context.Context, c *call, params map[string]any) error {
	if c.operation.self {
		return nil
	}
	c.asked = c.request(c.operation, c.operation.arn, c.resources, params)
	err := s.Authorizer.Require(ctx, c.caller, c.asked)
	for _, other := range c.operation.also {
		if err == nil {
			err = s.Authorizer.Require(ctx, c.caller, c.request(c.operation, other, other.resources(s.Region, c.caller, params), params))
		}
	}
	return err
}

func newEntry(c *call) *audit.Entry {
	return &audit.Entry{
		RequestID:   c.requestID,
		AccountID:   c.caller.AccountID,
		Principal:   c.caller.ARN(),
		AccessKeyID: c.caller.AccessKeyID,
		SourceIP:    c.caller.SourceIP.String(),
		Action:      c.operation.action,
		Resource:    c.resources[0],
		Outcome:     audit.Done,
		At:          time.Now(),
	}
}

// record writes the audit row of a call that changed nothing. When it cannot be written the call fails.
func (s *server) record(ctx context.Context, entry *audit.Entry, err error) error {
	if err != nil {
		entry.Outcome, entry.Code = audit.Failed, errInternal.Code
		if f, ok := fault.From(err); ok {
			entry.Code = f.Code
		}
		if _, denied := errors.AsType[*access.DeniedError](err); denied {
			entry.Outcome = audit.Denied
		}
	}
	if entry.Outcome == audit.Done {
		return nil
	}
	// The row is owed even when the client is gone or the call ran out of time.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if auditErr := audit.Insert(ctx, s.Audit, entry); auditErr != nil {
		s.log.ErrorContext(ctx, "audit row not written", slog.String("requestId", entry.RequestID), slog.Any("error", auditErr), slog.Any("callError", err))
		return errUnavailable
	}
	return err
}

// handle calls the generated handler with the validated parameters.
func (s *server) handle(ctx context.Context, c *call, params map[string]any) ([]byte, error) {
	token, _ := params[c.operation.tokenParam].(string)
	delete(params, c.operation.tokenParam)
	canonical, err := json.Marshal(params) // members in order
	if err != nil {
		return nil, fmt.Errorf("encode the parameters: %w", err)
	}
	if c.operation.clientToken {
		ctx = idempotency.WithKey(ctx, key(s.Region, c, token, canonical))
	}
	r, err := c.operation.request(ctx, params, canonical)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	if c.operation.streams {
		return nil, s.stream(ctx, c, r)
	}
	var w response
	c.operation.handler.ServeHTTP(&w, r)
	if c.err == nil && w.status != http.StatusOK {
		c.err = fmt.Errorf("the handler of %s answered %d", c.operation.name, w.status)
	}
	return w.body.Bytes(), c.err
}

// request makes the request that the generated handler understands.
func (o *operation) request(ctx context.Context, params map[string]any, canonical []byte) (*http.Request, error) {
	if o.place != nil {
		return o.place.request(ctx, params)
	}
	return http.NewRequestWithContext(ctx, http.MethodPost, "/"+o.name, bytes.NewReader(canonical))
}

// key names the request. The fingerprint is of the parameters after validation, so that it is the same in every
// dialect and in every order of the parameters.
func key(region string, c *call, token string, canonical []byte) idempotency.Key {
	sum := sha256.Sum256(canonical)
	return idempotency.Key{
		AccountID: c.caller.AccountID, RegionID: region, Action: c.operation.fullName(), Token: token, Fingerprint: sum[:],
	}
}

// response collects what the generated handler writes, so that nothing is sent before the audit row is written.
type response struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *response) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

func (w *response) WriteHeader(status int) { w.status = status }

func (w *response) Write(data []byte) (int, error) { return w.body.Write(data) }
