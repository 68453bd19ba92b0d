package modelservice

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/node"
)

const (
	readRows     = time.Second // how old the watcher's idea of the rows may be
	lookStarting = 50 * time.Millisecond
	lookRunning  = 500 * time.Millisecond
	askAgain     = time.Second // how long an inserted step may take before it is asked for again
)

// Watcher looks at the engines of one host, outside jobs, and inserts a step when one differs from its row.
type Watcher struct {
	db      *pgxpool.Pool
	jobs    *jobs.Client
	driver  node.Driver
	host    string
	changed chan struct{}
	log     *slog.Logger

	mu      sync.Mutex
	watched map[string]*watchedReplica
}

// watchedReplica is one replica's row as the watcher last read it.
type watchedReplica struct {
	mu   sync.Mutex
	row  replicaState
	stop context.CancelFunc
}

// NewWatcher returns the watcher of the host's engines.
func NewWatcher(db *pgxpool.Pool, client *jobs.Client, driver node.Driver, host string, log *slog.Logger) *Watcher {
	return &Watcher{
		db: db, jobs: client, driver: driver, host: host, log: log,
		changed: make(chan struct{}, 1), watched: map[string]*watchedReplica{},
	}
}

// Changed tells the watcher to read its rows now.
func (w *Watcher) Changed() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	ticker := time.NewTicker(readRows)
	defer ticker.Stop()
	var looking sync.WaitGroup
	defer looking.Wait()
	for {
		if err := w.read(ctx, &looking); err != nil && ctx.Err() == nil {
			w.log.WarnContext(ctx, "watcher cannot read its rows", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-w.changed:
		}
	}
}

// read follows the host's rows: a look of its own for each.
func (w *Watcher) read(ctx context.Context, looking *sync.WaitGroup) error {
	rows, err := w.db.Query(ctx, `
		SELECT id, status, engine_addr, engine_generation, coalesce(restart_at, now()), now(), lease_until > now() FROM replica WHERE host = $1`, w.host)
	if err != nil {
		return err
	}
	current, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r replicaState, err error) {
		return r, row.Scan(&r.ID, &r.Status, &r.EngineAddr, &r.EngineGeneration, &r.RestartAt, &r.Now, &r.Leased)
	})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := make(map[string]bool, len(current))
	for _, r := range current {
		seen[r.ID] = true
		if known, ok := w.watched[r.ID]; ok {
			known.set(r)
			continue
		}
		lookCtx, stop := context.WithCancel(ctx)
		added := &watchedReplica{row: r, stop: stop}
		w.watched[r.ID] = added
		looking.Go(func() { w.look(lookCtx, added) })
	}
	for id, known := range w.watched {
		if !seen[id] {
			known.stop()
			delete(w.watched, id)
		}
	}
	return nil
}

func (r *watchedReplica) set(row replicaState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row = row
}

func (r *watchedReplica) get() replicaState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.row
}

// look observes one engine again and again.
func (w *Watcher) look(ctx context.Context, r *watchedReplica) {
	var asked time.Time
	for {
		row := r.get()
		interval := lookRunning
		if row.Status == starting {
			interval = lookStarting
		}
		if time.Since(asked) > askAgain && w.differs(ctx, row) {
			if err := w.ask(ctx, row.ID); err == nil {
				asked = time.Now()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

// differs reports whether a step would do something. Rows that wait for a step without an engine are the reconcile
// loop's.
func (w *Watcher) differs(ctx context.Context, row replicaState) bool {
	if row.Leased || row.Status != starting && row.Status != active {
		return false
	}
	seen, err := w.driver.Observe(ctx, row.ID, row.EngineAddr)
	if err != nil {
		if ctx.Err() == nil {
			w.log.WarnContext(ctx, "engine cannot be observed", slog.String("replica", row.ID), slog.Any("error", err))
		}
		return false
	}
	return decide(row, seen, row.Now) != leave
}

func (w *Watcher) ask(ctx context.Context, replicaID string) error {
	_, err := w.jobs.Insert(ctx, StepArgs{replicaID}, &river.InsertOpts{Queue: jobs.HostQueue(w.host)})
	if err != nil && ctx.Err() == nil {
		w.log.WarnContext(ctx, "step cannot be inserted", slog.String("replica", replicaID), slog.Any("error", err))
	}
	return err
}

// Sweep ends every engine of this installation on this host that no row knows: rows are written before engines start,
// so such an engine is an orphan.
func (w *Watcher) Sweep(ctx context.Context) error {
	found, err := w.driver.List(ctx)
	if err != nil {
		return fmt.Errorf("list the engines of this host: %w", err)
	}
	if len(found) == 0 {
		return nil
	}
	ids := make([]string, len(found))
	for i, f := range found {
		ids[i] = f.ReplicaID
	}
	rows, err := w.db.Query(ctx, `
		SELECT id FROM unnest($1::text[]) AS found(id)
		WHERE NOT EXISTS (SELECT FROM replica r WHERE r.id = found.id AND r.host = $2)`, ids, w.host)
	if err != nil {
		return err
	}
	orphans, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, id := range orphans {
		w.log.WarnContext(ctx, "engine without a row is ended", slog.String("replica", id))
		if _, err := w.driver.Remove(ctx, id); err != nil {
			return fmt.Errorf("end the orphan %s: %w", id, err)
		}
	}
	return nil
}
