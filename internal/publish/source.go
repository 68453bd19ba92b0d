package publish

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/engineshed/engineshed/internal/jobs"
)

// Source makes the published items of one kind from its rows.
type Source interface {
	// Kind is the kind of the items, as snapshot names it.
	Kind() string
	// Compile renders the item as gateways see it and locks its source row until tx ends. A row that is gone is a
	// tombstone (Body nil). ready is false for what is not to be published yet.
	Compile(ctx context.Context, tx pgx.Tx, id string) (item Item, ready bool, err error)
	// Stale returns the ids whose published item does not show the row's version, and of items whose row is gone.
	Stale(ctx context.Context, tx pgx.Tx) ([]string, error)
}

// Args asks for an item to be published as its row is when the job runs.
type Args struct {
	Item string `json:"kind"`
	ID   string `json:"id"`
}

// Kind names the job.
func (Args) Kind() string { return "publish_item" }

// Enqueue asks for the item to be published once the caller's transaction has committed.
func Enqueue(ctx context.Context, tx pgx.Tx, client *jobs.Client, kind, id string) error {
	if _, err := client.InsertTx(ctx, tx, Args{kind, id}, &river.InsertOpts{Queue: jobs.PublishQueue}); err != nil {
		return fmt.Errorf("insert the job that publishes %s %s: %w", kind, id, err)
	}
	return nil
}

// Publisher publishes the items of its sources.
type Publisher struct {
	db      *pgxpool.Pool
	jobs    *jobs.Client
	sources map[string]Source
}

// NewPublisher returns a publisher of the sources.
func NewPublisher(db *pgxpool.Pool, client *jobs.Client, sources ...Source) *Publisher {
	p := &Publisher{db, client, map[string]Source{}}
	for _, s := range sources {
		p.sources[s.Kind()] = s
	}
	return p
}

// Publish brings what gateways serve of the item in line with its row.
func (p *Publisher) Publish(ctx context.Context, kind, id string) error {
	source, ok := p.sources[kind]
	if !ok {
		return fmt.Errorf("publish %s %s: no source makes this kind", kind, id)
	}
	return pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error {
		item, ready, err := source.Compile(ctx, tx, id)
		if err != nil || !ready {
			return err
		}
		return Put(ctx, tx, item)
	})
}

// reconcileLock lets one worker of all reconcile at a time.
const reconcileLock = 7055

// Reconcile inserts a job for every item that gateways see otherwise than it is.
func (p *Publisher) Reconcile(ctx context.Context) error {
	return pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, reconcileLock).Scan(&mine); err != nil || !mine {
			return err
		}
		for kind, source := range p.sources {
			if err := p.reconcile(ctx, tx, source); err != nil {
				return fmt.Errorf("reconcile the published items of kind %s: %w", kind, err)
			}
		}
		return nil
	})
}

func (p *Publisher) reconcile(ctx context.Context, tx pgx.Tx, source Source) error {
	stale, err := source.Stale(ctx, tx)
	if err != nil {
		return err
	}
	for _, id := range stale {
		if err := Enqueue(ctx, tx, p.jobs, source.Kind(), id); err != nil {
			return err
		}
	}
	return nil
}

// AddWorker registers the job.
func (p *Publisher) AddWorker(workers *river.Workers) {
	river.AddWorker(workers, &worker{publisher: p})
}

type worker struct {
	river.WorkerDefaults[Args]
	publisher *Publisher
}

// Timeout is generous: a publication waits for the ones before it.
func (*worker) Timeout(*river.Job[Args]) time.Duration { return 10 * time.Second }

func (*worker) NextRetry(*river.Job[Args]) time.Time { return time.Now().Add(time.Second) }

func (w *worker) Work(ctx context.Context, job *river.Job[Args]) error {
	return w.publisher.Publish(ctx, job.Args.Item, job.Args.ID)
}
