package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// accountBatch is a batch of one row; the ids that are not 16 digits are refused by the table.
func accountBatch(id string) *pgx.Batch {
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO account (id, name) VALUES ($1, 'a')`, id)
	return batch
}

func TestBatchesCommitTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	const first, second = "1000000000000001", "1000000000000002"
	refused := errors.New("refused")
	for name, test := range map[string]struct {
		do    func(context.Context, *postgres.Batches) error
		fails bool
		rows  int
	}{
		"two batches": {rows: 2, do: func(ctx context.Context, b *postgres.Batches) error {
			return errors.Join(b.Send(ctx, accountBatch(first)), b.Commit(ctx, accountBatch(second)))
		}},
		"one batch": {rows: 1, do: func(ctx context.Context, b *postgres.Batches) error { return b.Commit(ctx, accountBatch(first)) }},
		"not committed": {rows: 0, do: func(ctx context.Context, b *postgres.Batches) error {
			return b.Send(ctx, accountBatch(first))
		}},
		"refused after the first": {fails: true, rows: 0, do: func(ctx context.Context, b *postgres.Batches) error {
			return errors.Join(b.Send(ctx, accountBatch(first)), refused)
		}},
		"the last fails": {fails: true, rows: 0, do: func(ctx context.Context, b *postgres.Batches) error {
			return errors.Join(b.Send(ctx, accountBatch(first)), b.Commit(ctx, accountBatch("no id")))
		}},
		"committed after a failure": {fails: true, rows: 0, do: func(ctx context.Context, b *postgres.Batches) error {
			return errors.Join(b.Send(ctx, accountBatch("no id")), b.Commit(ctx, accountBatch(first)))
		}},
		"a row between the batches": {rows: 2, do: func(ctx context.Context, b *postgres.Batches) error {
			var found bool
			return errors.Join(b.Send(ctx, accountBatch(first)),
				b.QueryRow(ctx, `SELECT true FROM account WHERE id = $1`, first).Scan(&found),
				b.Commit(ctx, accountBatch(second)))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			for range 2 { // a connection that comes back to the pool is good for the next
				err := postgres.InBatches(t.Context(), db.Control, func(b *postgres.Batches) error { return test.do(t.Context(), b) })
				require.Equal(t, test.fails, err != nil, "%v", err)
				var rows int
				require.NoError(t, db.Control.QueryRow(t.Context(), `SELECT count(*) FROM account`).Scan(&rows))
				require.Equal(t, test.rows, rows)
				_, err = db.Owner.Exec(t.Context(), `DELETE FROM account`)
				require.NoError(t, err)
			}
		})
	}
}

func TestBatchesOfACallerWhoIsGoneAreRolledBack(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx, leave := context.WithCancel(t.Context())
	err := postgres.InBatches(ctx, db.Control, func(b *postgres.Batches) error {
		require.NoError(t, b.Send(ctx, accountBatch("1000000000000001")))
		leave()
		return b.Commit(ctx, accountBatch("1000000000000002"))
	})
	require.ErrorIs(t, err, context.Canceled)
	var rows int
	require.NoError(t, db.Control.QueryRow(t.Context(), `SELECT count(*) FROM account`).Scan(&rows))
	require.Zero(t, rows)
}
