// Package usage reads what gateways have written down of each request, and drops what is too old.
package usage

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Usage is what was used, as far back as records are kept.
type Usage struct {
	db  *pgxpool.Pool
	now func() time.Time
}

// New returns the usage that db holds.
func New(db *pgxpool.Pool, now func() time.Time) *Usage { return &Usage{db, now} }

// Maintain makes the partitions of the coming week and drops those whose records are all older than keep. Call it often:
// a partition that is being read is dropped by a later call.
func (u *Usage) Maintain(ctx context.Context, keep time.Duration) error {
	if _, err := u.db.Exec(ctx, `SELECT maintain_usage_partitions($1)`, keep); err != nil {
		return fmt.Errorf("maintain the partitions of usage records: %w", err)
	}
	return nil
}
