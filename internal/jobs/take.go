package jobs

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"
)

// Waiting is a job that no worker has taken yet.
type Waiting struct {
	ID   int64
	Args []byte // JSON
}

// Take locks jobs of the kind that wait in the queue until the transaction of batch ends, the oldest first and at most
// limit: no worker runs them meanwhile. It waits for nobody; what somebody else has locked is left out. Those whose
// work the transaction does are to be finished by it, the others wait on. found is filled when batch has been sent.
func Take(batch *pgx.Batch, queue, kind string, limit int) (found *[]Waiting) {
	found = new([]Waiting)
	batch.Queue(`
		SELECT id, args FROM river_job WHERE state = $1 AND queue = $2 AND kind = $3
		ORDER BY priority, scheduled_at, id LIMIT $4 FOR UPDATE SKIP LOCKED`,
		rivertype.JobStateAvailable, queue, kind, limit).Query(func(rows pgx.Rows) (err error) {
		*found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Waiting])
		return err
	})
	return found
}

// Finish completes jobs that tx has taken.
func Finish(ctx context.Context, tx pgx.Tx, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
		UPDATE river_job SET state = $2, attempt = attempt + 1, attempted_at = now(), finalized_at = clock_timestamp()
		WHERE id = ANY ($1)`, ids, rivertype.JobStateCompleted)
	if err != nil {
		return fmt.Errorf("finish %d jobs: %w", len(ids), err)
	}
	return nil
}
