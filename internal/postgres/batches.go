package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Batches is a transaction of as many round trips as it has batches: BEGIN travels with the first, COMMIT with the last.
type Batches struct {
	conn *pgxpool.Conn
	open bool
}

// rollbackLimit bounds the clean-up when the caller's time is over.
const rollbackLimit = 5 * time.Second

// InBatches runs do in a transaction. What do has not committed when it returns is rolled back.
func InBatches(ctx context.Context, db *pgxpool.Pool, do func(*Batches) error) error {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // which closes a connection that is still in a transaction
	b := &Batches{conn: conn}
	err = do(b)
	if b.open {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackLimit)
		defer cancel()
		_, rollbackErr := conn.Exec(ctx, `ROLLBACK`)
		if err == nil && rollbackErr != nil {
			err = fmt.Errorf("roll back: %w", rollbackErr)
		}
	}
	return err
}

// Send sends a batch and reads its results.
func (b *Batches) Send(ctx context.Context, batch *pgx.Batch) error {
	if !b.open {
		b.open = true
		batch.QueuedQueries = slices.Insert(batch.QueuedQueries, 0, &pgx.QueuedQuery{SQL: `BEGIN`})
	}
	return b.conn.SendBatch(ctx, batch).Close()
}

// Commit sends the last batch and commits.
func (b *Batches) Commit(ctx context.Context, batch *pgx.Batch) error {
	committed := false
	batch.Queue(`COMMIT`).Exec(func(tag pgconn.CommandTag) error {
		if committed = tag.String() == "COMMIT"; !committed {
			return errors.New("the transaction was rolled back")
		}
		return nil
	})
	err := b.Send(ctx, batch)
	b.open = !committed
	return err
}

// QueryRow runs a query in a round trip of its own, after the first batch.
func (b *Batches) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return b.conn.QueryRow(ctx, sql, args...)
}
