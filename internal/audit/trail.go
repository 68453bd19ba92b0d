package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/secret"
)

// DefaultRetention is how long the trail is kept unless said otherwise.
const DefaultRetention = 400 * 24 * time.Hour

// Trail is the audit trail of an installation: what is written, and the chain of seals over it.
type Trail struct {
	db     *pgxpool.Pool
	master *secret.Box // seals the keys of seals
	now    func() time.Time
	ahead  horizon
}

// NewTrail returns the trail in db. One of its callers at a time may Seal.
func NewTrail(db *pgxpool.Pool, master *secret.Box, now func() time.Time) *Trail {
	return &Trail{db: db, master: master, now: now}
}

// Record is a row of the trail. ID grows with the rows, in no exact order of time.
type Record struct {
	ID int64
	Entry
}

// columns are those of a Record, in its order.
const columns = `id, request_id, account_id, principal, access_key_id, source_ip, action, resource, resource_id, outcome, code, detail, at`

func scanRecord(row pgx.CollectableRow) (r Record, err error) {
	return r, row.Scan(&r.ID, &r.RequestID, &r.AccountID, &r.Principal, &r.AccessKeyID, &r.SourceIP, &r.Action, &r.Resource,
		&r.ResourceID, &r.Outcome, &r.Code, &r.Detail, &r.At)
}

// digest is the SHA-256 of the row: its number and time, and every text behind its length, so that no two rows are
// written alike.
func (r Record) digest() [sha256.Size]byte {
	text := make([]byte, 0, 512)
	text = binary.BigEndian.AppendUint64(text, uint64(r.ID))
	text = binary.BigEndian.AppendUint64(text, uint64(r.At.UnixMicro()))
	for _, field := range []string{
		r.RequestID, r.AccountID, r.Principal, r.AccessKeyID, r.SourceIP, r.Action, r.Resource, r.ResourceID, string(r.Outcome), r.Code,
		r.Detail,
	} {
		text = binary.BigEndian.AppendUint32(text, uint32(len(field)))
		text = append(text, field...)
	}
	return sha256.Sum256(text)
}

// month is the first day of the month that the row is kept in.
func (r Record) month() time.Time { return monthOf(r.At) }

func monthOf(at time.Time) time.Time {
	at = at.UTC()
	return time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// Maintain makes the months that rows may be written in and drops those whose rows are all older than keep, at least a
// day. Call it often: a month that is being read is dropped by a later call.
func (t *Trail) Maintain(ctx context.Context, keep time.Duration) error {
	if _, err := t.db.Exec(ctx, `SELECT maintain_audit_partitions($1)`, keep); err != nil {
		return fmt.Errorf("maintain the months of the audit trail: %w", err)
	}
	return nil
}
