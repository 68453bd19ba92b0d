package iam

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/audit"
)

// InAccount runs do in a transaction that changes who may do what in an account. It waits for other such changes of the
// account, and for the policy files to be applied; it raises the policy epoch, so that what was compiled before is stale
// at the next call on any process; and it writes the audit row of the call. do returns the name of what it changed.
func InAccount(ctx context.Context, db *pgxpool.Pool, accountID string, do func(pgx.Tx) (changed string, err error)) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(`SELECT pg_advisory_xact_lock_shared($1)`, changeLock)
		batch.Queue(`UPDATE account SET policy_epoch = policy_epoch + 1 WHERE id = $1`, accountID)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("raise the policy epoch: %w", err)
		}
		changed, err := do(tx)
		if err != nil {
			return err
		}
		entry := audit.From(ctx)
		entry.ResourceID, entry.Outcome = changed, audit.Done
		return audit.Insert(ctx, tx, entry)
	})
}
