package jobs_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

type note struct {
	Text string `json:"text"`
}

func (note) Kind() string { return "note" }

type reader struct {
	river.WorkerDefaults[note]
	read chan string
}

func (r *reader) Work(_ context.Context, job *river.Job[note]) error {
	r.read <- job.Args.Text
	return nil
}

func TestAJobOfABatchIsLikeOneThatRiverInserts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	client, err := jobs.NewInserter(db.Control)
	require.NoError(t, err)
	tx, err := db.Control.Begin(t.Context())
	require.NoError(t, err)
	_, err = client.InsertManyFastTx(t.Context(), tx, []river.InsertManyParams{
		{Args: note{"a"}, InsertOpts: &river.InsertOpts{Queue: "host_a"}},
	})
	require.NoError(t, err)
	batch := &pgx.Batch{}
	require.NoError(t, jobs.Insert(batch, []jobs.Queued{{Queue: "host_a", Args: note{"a"}}}))
	require.NoError(t, tx.SendBatch(t.Context(), batch).Close())
	require.NoError(t, tx.Commit(t.Context()))

	var alike int
	require.NoError(t, db.Owner.QueryRow(t.Context(), `
		SELECT count(DISTINCT to_jsonb(j) - 'id' - 'created_at' - 'scheduled_at') FROM river_job j`).Scan(&alike))
	require.Equal(t, 1, alike)
	var rows, due int
	require.NoError(t, db.Owner.QueryRow(t.Context(), `
		SELECT count(*), count(*) FILTER (WHERE scheduled_at <= now() AND created_at <= now()) FROM river_job`).Scan(&rows, &due))
	require.Equal(t, 2, rows)
	require.Equal(t, 2, due)
}

func TestTheBellSaysWhatRiverSays(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	listener, err := pgx.Connect(t.Context(), db.ControlURL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close(context.Background()) })
	_, err = listener.Exec(t.Context(), `LISTEN "public.river_insert"`)
	require.NoError(t, err)
	heard := func() *pgconn.Notification {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		n, err := listener.WaitForNotification(ctx)
		require.NoError(t, err)
		n.PID = 0
		return n
	}
	client, err := jobs.NewInserter(db.Control)
	require.NoError(t, err)
	_, err = client.Insert(t.Context(), note{"a"}, &river.InsertOpts{Queue: "host_a"})
	require.NoError(t, err)
	said := heard()

	bell := jobs.NewBell(db.Control)
	for range 3 {
		bell.Ring("host_a")
		require.Equal(t, said, heard())
	}
}

func TestABellWakesAWorker(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	workers, notes := river.NewWorkers(), &reader{read: make(chan string, 1)}
	river.AddWorker(workers, notes)
	client, err := jobs.NewWorker(db.Control, "a", workers, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, client.Start(t.Context()))
	t.Cleanup(func() { _ = client.Stop(context.Background()) })
	batch := &pgx.Batch{}
	require.NoError(t, jobs.Insert(batch, []jobs.Queued{{Queue: jobs.HostQueue("a"), Args: note{"b"}}}))
	require.NoError(t, db.Control.SendBatch(t.Context(), batch).Close())
	jobs.NewBell(db.Control).Ring(jobs.HostQueue("a"))
	require.Equal(t, "b", <-notes.read)
}
