package modelservice

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/modelfile"
	"github.com/engineshed/engineshed/internal/node"
)

const (
	readRows     = time.Second // how old the watcher's idea of the rows may be
	lookStarting = 50 * time.Millisecond
	lookRunning  = 500 * time.Millisecond
	lookDraining = 250 * time.Millisecond
	askAgain     = time.Second // how long an inserted step may take before it is asked for again
)

// Host is what the steps and the watcher of one host need.
type Host struct {
	Services   *Services
	Driver     node.Driver
	Engines    Engines
	Name       string
	Machine    string                 // that speaks for the host; "": whichever does
	FreeAddr   func() (string, error) // finds an address for a new engine
	Files      *modelfile.Store       // of the models on this host; nil: engines fetch them themselves
	DrainLimit time.Duration          // how long a replica that goes may finish its requests
	HungAfter  time.Duration          // how long an engine may be silent
	Log        *slog.Logger
}

// Watcher looks at the engines of one host, outside jobs, and inserts a step when one differs from its row.
type Watcher struct {
	Host
	changed chan struct{}

	mu      sync.Mutex
	watched map[string]*watchedReplica
}

// watchedReplica is one replica's row as the watcher last read it.
type watchedReplica struct {
	mu    sync.Mutex
	row   replicaState
	waits bool   // for its model's files; of look alone
	pulse *pulse // of its engine while that runs
	stop  context.CancelFunc
}

// NewWatcher returns the watcher of the host's engines.
func NewWatcher(h Host) *Watcher {
	return &Watcher{Host: h, changed: make(chan struct{}, 1), watched: map[string]*watchedReplica{}}
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
			w.Log.WarnContext(ctx, "watcher cannot read its rows", slog.Any("error", err))
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
	rows, err := w.Services.db.Query(ctx, `
		SELECT id, model_service_id, status, status_reason, engine_addr, engine_generation, coalesce(restart_at, now()), now(),
			lease_until > now(), engine_key_sealed, (SELECT model_name FROM model_service s WHERE s.id = model_service_id)
		FROM replica WHERE host = $1`, w.Name)
	if err != nil {
		return err
	}
	current, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r replicaState, err error) {
		return r, row.Scan(&r.ID, &r.ServiceID, &r.Status, &r.Reason, &r.EngineAddr, &r.EngineGeneration, &r.RestartAt, &r.Now,
			&r.Leased, &r.sealedKey, &r.modelName)
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
	defer r.end()
	var asked time.Time
	looked := time.Now()
	for {
		row, now := r.get(), time.Now()
		interval, pause := intervals(row.Status, r.waits)
		if w.differs(ctx, r, row, now.Sub(looked)) && !row.Leased && now.Sub(asked) > pause {
			if err := w.ask(ctx, row.ID); err == nil {
				asked = now
			}
		}
		looked = now
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

// intervals are the times between two looks, and between two steps that are asked for.
func intervals(status string, waits bool) (look, ask time.Duration) {
	switch {
	case status == starting && !waits:
		return lookStarting, askAgain
	case status == draining:
		return lookDraining, lookDraining
	}
	return lookRunning, askAgain
}

// differs reports whether a step would do something. Rows that wait for a step without an engine are the reconcile
// loop's.
func (w *Watcher) differs(ctx context.Context, r *watchedReplica, row replicaState, elapsed time.Duration) bool {
	switch row.Status {
	case draining:
		return true
	case starting, active, silent:
	default:
		return false
	}
	seen, err := w.Driver.Observe(ctx, row.ID, row.EngineAddr)
	if err != nil {
		if ctx.Err() == nil {
			w.Log.WarnContext(ctx, "engine cannot be observed", slog.String("replica", row.ID), slog.Any("error", err))
		}
		return false
	}
	if seen.State == node.Healthy && seen.Generation == row.EngineGeneration {
		w.feel(ctx, r, row, elapsed)
	}
	p := w.prognosis(row.ID, row.EngineGeneration)
	if seen.State == node.Absent || seen.State == node.Exited {
		p.files = w.supplyOf(row.modelName)
	}
	r.waits = p.files.fetching
	return decide(row, seen, p, row.Now) != leave
}

// feel counts the time of the engine's pulse, and begins to follow an engine that has none.
func (w *Watcher) feel(ctx context.Context, r *watchedReplica, row replicaState, elapsed time.Duration) {
	if p := r.pulseOf(row.EngineGeneration); p != nil {
		p.tick(elapsed)
		return
	}
	r.end()
	key, err := w.Services.master.Open(engineKeyPurpose(row.ID), row.sealedKey)
	if err != nil {
		w.Log.ErrorContext(ctx, "engine's key cannot be opened", slog.String("replica", row.ID), slog.Any("error", err))
		return
	}
	ctx, stop := context.WithCancel(ctx)
	p := &pulse{generation: row.EngineGeneration, hungAfter: w.HungAfter, stop: stop, tried: serves(row.Status)}
	go p.follow(ctx, w.Engines, row.EngineAddr, row.ServiceID, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pulse = p
}

// pulseOf is the pulse of the engine with this generation; nil when none is followed.
func (r *watchedReplica) pulseOf(generation int64) *pulse {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pulse == nil || r.pulse.generation != generation {
		return nil
	}
	return r.pulse
}

// end follows the engine no longer.
func (r *watchedReplica) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pulse != nil {
		r.pulse.stop()
		r.pulse = nil
	}
}

// prognosis is what this process thinks of the engine with this generation.
func (w *Watcher) prognosis(replicaID string, generation int64) prognosis {
	w.mu.Lock()
	r, ok := w.watched[replicaID]
	w.mu.Unlock()
	if !ok {
		return prognosis{}
	}
	p := r.pulseOf(generation)
	if p == nil {
		return prognosis{}
	}
	return p.prognosis(time.Now())
}

func (w *Watcher) ask(ctx context.Context, replicaID string) error {
	_, err := w.Services.jobs.Insert(ctx, StepArgs{replicaID}, &river.InsertOpts{Queue: jobs.HostQueue(w.Name)})
	if err != nil && ctx.Err() == nil {
		w.Log.WarnContext(ctx, "step cannot be inserted", slog.String("replica", replicaID), slog.Any("error", err))
	}
	return err
}

// Sweep takes one step towards a host without orphans: it ends every engine of this installation that no row knows, and
// removes its files. Rows are written before engines start, and never change their host, so what has no row is an
// orphan. running is how many of them still ran.
func (w *Watcher) Sweep(ctx context.Context) (running int, err error) {
	found, err := w.Driver.List(ctx)
	if err != nil {
		return 0, fmt.Errorf("list the engines of this host: %w", err)
	}
	if len(found) == 0 {
		return 0, nil
	}
	ids, runs := make([]string, len(found)), map[string]bool{}
	for i, f := range found {
		ids[i], runs[f.ReplicaID] = f.ReplicaID, f.PID != 0
	}
	rows, err := w.Services.db.Query(ctx, `
		SELECT id FROM unnest($1::text[]) AS found(id)
		WHERE NOT EXISTS (SELECT FROM replica r WHERE r.id = found.id)`, ids)
	if err != nil {
		return 0, err
	}
	orphans, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, err
	}
	for _, id := range orphans {
		if runs[id] {
			running++
			w.Log.WarnContext(ctx, "engine without a row is ended", slog.String("replica", id))
		}
		if _, err := w.Driver.Remove(ctx, id); err != nil {
			return 0, fmt.Errorf("end the orphan %s: %w", id, err)
		}
	}
	return running, nil
}
