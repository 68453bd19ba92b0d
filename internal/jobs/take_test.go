package jobs_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

type errand struct {
	N int `json:"n"`
}

func (errand) Kind() string { return "errand" }

// errands tells which of them were run.
type errands struct {
	river.WorkerDefaults[errand]
	ran chan int
}

func (e *errands) Work(_ context.Context, job *river.Job[errand]) error {
	e.ran <- job.Args.N
	return nil
}

func (e *errands) next(t *testing.T) int {
	t.Helper()
	select {
	case n := <-e.ran:
		return n
	case <-time.After(20 * time.Second):
		require.Fail(t, "no errand is run")
		return 0
	}
}

func take(t *testing.T, tx pgx.Tx, limit int) []jobs.Waiting {
	t.Helper()
	batch := &pgx.Batch{}
	taken := jobs.Take(batch, jobs.PublishQueue, errand{}.Kind(), limit)
	require.NoError(t, tx.SendBatch(t.Context(), batch).Close())
	return *taken
}

func TestATakenJobIsFinishedOrRunByAWorker(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	work := &errands{ran: make(chan int, 10)}
	workers := river.NewWorkers()
	river.AddWorker(workers, work)
	client, err := jobs.NewWorker(db.Control, workers, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	for n := range 4 {
		_, err := client.Insert(t.Context(), errand{n}, &river.InsertOpts{Queue: jobs.PublishQueue})
		require.NoError(t, err)
	}
	_, err = client.Insert(t.Context(), errand{9}, &river.InsertOpts{Queue: "another"})
	require.NoError(t, err)

	tx, err := db.Control.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	taken := take(t, tx, 3)
	require.Len(t, taken, 3)
	for n, job := range taken {
		require.JSONEq(t, fmt.Sprintf(`{"n": %d}`, n), string(job.Args), "the oldest first")
	}
	other, err := db.Control.Begin(t.Context())
	require.NoError(t, err)
	require.Len(t, take(t, other, 3), 1, "what somebody has taken, nobody waits for")
	require.NoError(t, other.Rollback(t.Context()))

	require.NoError(t, client.Start(t.Context()))
	defer func() { require.NoError(t, client.StopAndCancel(context.Background())) }()
	require.Equal(t, 3, work.next(t), "the others are taken")
	require.NoError(t, jobs.Finish(t.Context(), tx, []int64{taken[0].ID, taken[2].ID}))
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, 1, work.next(t), "it was taken and not finished")
	for _, n := range []int{0, 2} {
		job, err := client.JobGet(t.Context(), taken[n].ID)
		require.NoError(t, err)
		require.Equal(t, rivertype.JobStateCompleted, job.State)
		require.NotNil(t, job.FinalizedAt)
	}
	require.Empty(t, work.ran)
}

func TestATakenJobSurvivesATransactionThatFails(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	client, err := jobs.NewInserter(db.Control)
	require.NoError(t, err)
	_, err = client.Insert(t.Context(), errand{}, &river.InsertOpts{Queue: jobs.PublishQueue})
	require.NoError(t, err)
	for range 2 {
		tx, err := db.Control.Begin(t.Context())
		require.NoError(t, err)
		taken := take(t, tx, 10)
		require.Len(t, taken, 1)
		require.NoError(t, jobs.Finish(t.Context(), tx, []int64{taken[0].ID}))
		require.NoError(t, tx.Rollback(t.Context()))
	}
}
