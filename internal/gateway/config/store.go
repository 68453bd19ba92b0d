package config

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/engineshed/engineshed/internal/gateway/upstream"
	"github.com/engineshed/engineshed/internal/secret"
)

const (
	pollInterval   = time.Second
	reportInterval = 3 * time.Second
	healthInterval = pollInterval * 9 / 10 // so that every poll finds it over
	saveInterval   = time.Second           // between attempts to write the snapshot file when one has failed
	fetchTimeout   = 10 * time.Second
	// firstFetchTimeout is how long a gateway that starts waits for the database before it takes its snapshot file.
	firstFetchTimeout = 3 * time.Second
	longestBackOff    = 5 * time.Second
)

// Settings say where a Store finds its configuration.
type Settings struct {
	DatabaseURL string
	DataDir     string      // holds the snapshot file; "": none is kept
	SnapshotKey *secret.Box // seals the file, opens the engines' keys
	GatewayID   string      // the one gateway whose APIs are served; "": all
	Guard       upstream.Guard
}

// Store holds the configuration a gateway serves and keeps it fresh. Postgres being away changes nothing but its age.
type Store struct {
	log     *slog.Logger
	db      *database
	file    file
	builder builder

	current   atomic.Pointer[Config]
	confirmed atomic.Int64 // when the database last confirmed the configuration, Unix nanoseconds
	pulse     pulse
	hints     chan struct{}
	unsaved   chan struct{}

	// These belong to the goroutine of sync.
	mine       int64 // the revision to fetch from; negative: everything
	reported   status
	reportedAt time.Time
	checked    bool
	away       bool
}

// Open prepares a store. It does not connect.
func Open(s Settings, log *slog.Logger) (*Store, error) {
	db, err := openDatabase(s.DatabaseURL)
	if err != nil {
		return nil, err
	}
	store := &Store{
		log:     log,
		db:      db,
		builder: builder{box: s.SnapshotKey, fleet: upstream.NewFleet(), guard: s.Guard, gatewayID: s.GatewayID},
		hints:   make(chan struct{}, 1),
		unsaved: make(chan struct{}, 1),
		mine:    -1,
	}
	if s.DataDir == "" {
		return store, nil
	}
	store.file = file{filepath.Join(s.DataDir, "snapshot"), s.SnapshotKey}
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		db.pool.Close()
		return nil, fmt.Errorf("create the data directory: %w", err)
	}
	return store, nil
}

// Current is the newest configuration that is known; nil before the first one. Requests are served with Serving.
func (s *Store) Current() *Config { return s.current.Load() }

// ProcessID names this process among all gateways.
func (s *Store) ProcessID() string { return s.db.processID }

// Confirmed is when the database last said that the configuration is the newest; the zero time before that.
func (s *Store) Confirmed() time.Time {
	if at := s.confirmed.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// Run keeps the configuration fresh until ctx ends. It fails only when the database role has too many rights.
func (s *Store) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.sync(ctx) })
	group.Go(func() error { return s.listen(ctx) })
	group.Go(func() error { return s.save(ctx) })
	group.Go(func() error {
		s.pulse.run(ctx)
		return nil
	})
	return group.Wait()
}

// Close ends the connections to the database and the idle ones to engines. Run must have returned.
func (s *Store) Close() {
	s.db.pool.Close()
	s.builder.fleet.Close()
	if cfg := s.Current(); cfg != nil {
		for _, u := range cfg.upstreams {
			u.closeIdle(nil)
		}
	}
}

func (s *Store) sync(ctx context.Context) error {
	if err := s.round(ctx, firstFetchTimeout); err != nil {
		return err
	}
	if s.Current() == nil {
		s.coldStart()
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.hints:
		case <-poll.C:
		}
		if err := s.round(ctx, fetchTimeout); err != nil {
			return err
		}
	}
}

// round brings the configuration up to date and reports it. Only a role with too many rights is an error.
func (s *Store) round(ctx context.Context, timeout time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	lag := s.pulse.lag.Load()
	err := s.update(bounded)
	if err == nil || lag != nil && time.Since(lag.since) > catchUpTimeout {
		s.pulse.caughtUp(lag)
	} else if lag != nil { // the connections may have broken meanwhile
		pause(ctx, catchUpPause)
		wake(s.hints)
	}
	switch {
	case errors.Is(err, ErrRights):
		return err
	case err != nil && !s.away && ctx.Err() == nil:
		s.log.Warn("the configuration could not be refreshed, the gateway serves what it has", "error", err)
		s.away = true
	case err == nil && s.away:
		s.log.Info("the database is back")
		s.away = false
	}
	return nil
}

func (s *Store) update(ctx context.Context) error {
	if err := s.checkRights(ctx); err != nil {
		return err
	}
	ch, err := s.db.fetch(ctx, s.mine)
	if err != nil {
		return err
	}
	s.confirmed.Store(time.Now().UnixNano())
	if ch.all || ch.revision != s.mine {
		s.swap(ch)
		s.mine = ch.revision
	}
	return s.report(ctx)
}

// checkRights asks once: roles do not gain rights while a gateway runs.
func (s *Store) checkRights(ctx context.Context) error {
	if s.checked {
		return nil
	}
	err := s.db.checkRights(ctx)
	s.checked = err == nil
	return err
}

func (s *Store) swap(ch change) {
	old := s.Current()
	if old == nil {
		old = new(Config)
	}
	next := s.builder.apply(s.log, old, ch)
	s.current.Store(next)
	s.builder.retire(old, next)
	s.log.Info("configuration swapped", "revision", next.Revision, "services", len(next.services),
		"apis", len(next.apis), "bad", next.Bad())
	wake(s.unsaved)
}

// report tells the control plane what it does not know yet, and now and then that the process is there. How services are is
// looked at once a second.
func (s *Store) report(ctx context.Context) error {
	age := time.Since(s.reportedAt)
	if s.mine == s.reported.revision && age < healthInterval {
		return nil
	}
	cfg := s.Current()
	health, err := json.Marshal(cfg.health())
	if err != nil {
		return err
	}
	next := status{s.mine, s.builder.gatewayID, cfg.refused(), string(health)}
	if next.revision == s.reported.revision && next.health == s.reported.health && age < reportInterval {
		return nil
	}
	if err := s.db.report(ctx, next); err != nil {
		return err
	}
	s.reported, s.reportedAt = next, time.Now()
	return nil
}

// coldStart serves the snapshot file while the database is away. What the database has is fetched whole afterwards:
// the file may have been written by an older gateway.
func (s *Store) coldStart() {
	if s.file.path == "" {
		return
	}
	ch, err := s.file.load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.log.Warn("no snapshot file yet, the gateway waits for the database", "path", s.file.path)
	case err != nil:
		s.log.Error("the snapshot file is refused, the gateway waits for the database", "path", s.file.path, "error", err)
	default:
		s.log.Info("serving the snapshot file", "path", s.file.path, "revision", ch.revision)
		s.swap(ch)
	}
}

// listen turns announcements into hints. It only makes a change quicker, so its failures are silent: polling finds the
// change, and says so when the database is away.
func (s *Store) listen(ctx context.Context) error {
	backOff := 100 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		_ = s.db.listen(ctx, func() { wake(s.hints) })
		if time.Since(began) > longestBackOff {
			backOff = 100 * time.Millisecond
		}
		pause(ctx, backOff)
		backOff = min(2*backOff, longestBackOff)
	}
	return nil
}

// save writes the snapshot file after a swap. A burst of swaps is one write: the next comes no sooner than ten times
// as long as the last one took. What could not be written is tried again: the file must not go on opening what was
// revoked meanwhile.
func (s *Store) save(ctx context.Context) error {
	failing := false
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.unsaved:
			began := time.Now()
			if failing = !s.saveNow(failing); failing {
				wake(s.unsaved)
				pause(ctx, saveInterval)
				continue
			}
			pause(ctx, 10*time.Since(began))
		}
	}
	select {
	case <-s.unsaved:
		s.saveNow(failing)
	default:
	}
	return nil
}

// saveNow reports whether the snapshot file holds what is served. It says so when that changes.
func (s *Store) saveNow(failing bool) bool {
	if s.file.path == "" {
		return true
	}
	err := s.file.save(s.Current())
	switch {
	case err != nil && !failing:
		s.log.Error("the snapshot file could not be written: a gateway that starts while the database is away "+
			"would serve an older one", "path", s.file.path, "error", err)
	case err == nil && failing:
		s.log.Info("the snapshot file is written again", "path", s.file.path)
	}
	return err == nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
