// Package audit keeps the audit trail: one row for every signed call to a mutating operation that reached authorization,
// sealed in a chain that shows when a row was changed, removed or added later.
package audit

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Outcome says how a call ended.
type Outcome string

// The outcomes: done is written in the transaction of the change, the others in one of their own.
const (
	Done     Outcome = "done"
	Repeated Outcome = "repeated" // a ClientToken met its earlier request: nothing changed
	Denied   Outcome = "denied"
	Failed   Outcome = "failed"
)

// Entry is one call, filled in as it passes the steps. It belongs to one request and is not for concurrent use.
type Entry struct {
	RequestID   string
	AccountID   string
	Principal   string // ARN of the caller
	AccessKeyID string
	SourceIP    string
	Action      string
	Resource    string // the ARN that was authorized
	ResourceID  string
	Outcome     Outcome // Done unless a step says otherwise
	Code        string  // the error code of a call that was denied or failed
	Detail      string  // what a call that was done changed, where that is to be found again
	// At is when the call was authorized; zero: when its row is written first. The row of a call has one time however often
	// it is written.
	At time.Time
}

type contextKey struct{}

// With returns a context that carries entry.
func With(ctx context.Context, entry *Entry) context.Context {
	return context.WithValue(ctx, contextKey{}, entry)
}

// From returns the entry of the call ctx belongs to; a fresh one that names no call for work the system does itself.
func From(ctx context.Context) *Entry {
	if entry, ok := ctx.Value(contextKey{}).(*Entry); ok {
		return entry
	}
	return &Entry{RequestID: rand.Text(), AccountID: "-", Principal: "system", AccessKeyID: "-", SourceIP: "-", Outcome: Done}
}

// Execer runs a statement: a transaction or a pool.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

const insert = `
	INSERT INTO audit_event (at, request_id, account_id, principal, access_key_id, source_ip, action, resource,
		resource_id, outcome, code, detail)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
	ON CONFLICT (at, request_id) DO NOTHING`

func (e *Entry) values() []any {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	return []any{
		e.At, e.RequestID, e.AccountID, e.Principal, e.AccessKeyID, e.SourceIP, e.Action, e.Resource, e.ResourceID, e.Outcome, e.Code,
		e.Detail,
	}
}

// Insert writes entry unless its call has a row already: a connection that broke during the commit leaves the call
// failed and perhaps done. The caller's call fails when the row cannot be written.
func Insert(ctx context.Context, db Execer, entry *Entry) error {
	if _, err := db.Exec(ctx, insert, entry.values()...); err != nil {
		return fmt.Errorf("write the audit row: %w", err)
	}
	return nil
}

// Queue adds what Insert does to a batch.
func Queue(batch *pgx.Batch, entry *Entry) { batch.Queue(insert, entry.values()...) }
