package modelfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/engineshed/engineshed/internal/modelfile/hub"
)

// Supply is how it stands with the files of a model on this host.
type Supply struct {
	Dir      string // where they are, whole; "" while they are not
	Fetching bool   // they are on their way
	Note     string // how far they are, for a person; it changes every two seconds at most
	Err      error  // why they did not come, until Fetch is called again
}

const (
	atOnce      = 4               // files of one model that are fetched at the same time
	noteEvery   = 2 * time.Second // how often a note changes while bytes arrive
	maxFailures = 5               // in a row without a byte between them
)

// fetch is one model on its way.
type fetch struct {
	source hub.Source
	cancel context.CancelCauseFunc
	looked atomic.Int64 // when somebody looked last, in Unix nanoseconds
	bytes  atomic.Int64 // that are there
	total  atomic.Int64 // -1: not known

	mu     sync.Mutex
	say    string // what else there is to say
	note   string
	noted  time.Time
	err    error
	ended  bool
	waits  string // what a hub asked for
	waitTo time.Time
}

// errAbandoned ends a download that nobody waits for any more.
var errAbandoned = errors.New("nobody waits for it")

// errClosed ends the downloads of a store that is closed.
var errClosed = errors.New("the worker stops")

// Look says how it stands with the files of the source, and lets a download know that somebody waits for it.
func (s *Store) Look(source hub.Source) Supply {
	if source.Kind == hub.Directory {
		return LookAtDirectory(source)
	}
	s.mu.Lock()
	f := s.fetches[source]
	s.mu.Unlock()
	if f == nil || f.over() {
		if s.Has(source) {
			return Supply{Dir: s.Dir(source)}
		}
	}
	if f == nil {
		return Supply{}
	}
	return f.supply(time.Now())
}

// LookAtDirectory is Look for a source that is a directory of this host, which needs no store.
func LookAtDirectory(source hub.Source) Supply {
	if info, err := os.Stat(source.Name); err != nil || !info.IsDir() {
		return Supply{Err: fmt.Errorf("the directory %s is not on this host: put the model's files there", source.Name)}
	}
	return Supply{Dir: source.Name}
}

// Fetch begins to fetch the files of the source, beside the caller, unless that is under way. It is how a failed download is
// tried again: what has arrived is kept.
func (s *Store) Fetch(source hub.Source) {
	if source.Kind == hub.Directory {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.fetches[source]; s.closed || f != nil && !f.over() {
		return
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	f := &fetch{source: source, cancel: cancel, say: "the hub is asked for the list of files"}
	f.total.Store(-1)
	f.looked.Store(time.Now().UnixNano())
	s.fetches[source] = f
	s.running.Go(func() {
		defer cancel(nil)
		s.run(ctx, f)
	})
	s.running.Go(func() { s.abandon(ctx, f) })
}

// Close stops the downloads under way and waits until they have stopped. Their parts stay.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	for _, f := range s.fetches {
		f.cancel(errClosed)
	}
	s.mu.Unlock()
	s.running.Wait()
}

// abandon stops a download that nobody has looked at for a while: its service was deleted.
func (s *Store) abandon(ctx context.Context, f *fetch) {
	for sleep(ctx, s.config.Abandon/4) == nil {
		if time.Since(time.Unix(0, f.looked.Load())) > s.config.Abandon {
			f.cancel(errAbandoned)
		}
	}
}

func (s *Store) run(ctx context.Context, f *fetch) {
	log := s.config.Log.With(slog.String("model", f.source.String()))
	log.InfoContext(ctx, "model is fetched")
	began := time.Now()
	err := s.obtain(ctx, f)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	switch {
	case err == nil:
		log.InfoContext(ctx, "model is here", slog.Int64("bytes", f.bytes.Load()), slog.Duration("took", time.Since(began)))
	case errors.Is(err, errAbandoned) || errors.Is(err, errClosed):
		log.InfoContext(ctx, "download is stopped; its parts stay", slog.Any("reason", err))
	default:
		log.WarnContext(ctx, "model cannot be fetched", slog.Any("error", err))
	}
	f.end(err)
	if err == nil || errors.Is(err, errAbandoned) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.fetches, f.source)
	}
}

// obtain makes the source's directory, under its lock.
func (s *Store) obtain(ctx context.Context, f *fetch) error {
	unlock, err := s.lock(ctx, f.source, func() { f.tell("another process of this host has its files in hand") })
	if err != nil {
		return err
	}
	defer unlock()
	if s.Has(f.source) {
		return nil
	}
	if s.config.Hubs == nil {
		return errors.New("this host fetches nothing: import the model with engineshed model import")
	}
	m, err := s.listing(ctx, f)
	if err != nil {
		return err
	}
	err = s.download(ctx, f, m)
	if errors.Is(err, hub.ErrNotFound) { // what was listed is gone: the next attempt lists anew
		err = errors.Join(err, os.Remove(s.partial(f.source, listingFile)))
	}
	if err != nil {
		return s.explain(err)
	}
	return s.settle(m, s.partial(f.source, filesDir))
}

// listing is what was listed when the download began, or what the hub lists now. A branch that moves meanwhile does not mix
// the files of two commits.
func (s *Store) listing(ctx context.Context, f *fetch) (m Manifest, err error) {
	path := s.partial(f.source, listingFile)
	if text, err := os.ReadFile(path); err == nil && json.Unmarshal(text, &m) == nil && m.Source == f.source {
		return m, nil
	}
	for {
		m = Manifest{Format: ManifestFormat, Source: f.source}
		m.Listing, err = s.config.Hubs.List(ctx, f.source)
		busy, ok := errors.AsType[*hub.Busy](err)
		if !ok {
			break
		}
		if err := f.wait(ctx, busy); err != nil {
			return m, err
		}
	}
	if err != nil {
		return m, err
	}
	if m.Files = wanted(m.Files); len(m.Files) == 0 {
		return m, fmt.Errorf("%s holds no file that an engine reads", f.source)
	}
	// Whatever is there belongs to another commit.
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		return m, err
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return m, s.explain(err)
	}
	return m, s.explain(writeJSON(path, m))
}

// download fetches what is missing, and completes m with what is only known then.
func (s *Store) download(ctx context.Context, f *fetch, m Manifest) error {
	f.begin(bytesOf(m.Files), sizeBelow(s.partial(f.source)))
	if err := s.checkRoom(f); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range m.Files {
		group.Go(func() error { return s.file(ctx, f, m.Commit, &m.Files[i]) })
	}
	return group.Wait()
}

// checkRoom finds out at once that the disk is too small, where it can be known.
func (s *Store) checkRoom(f *fetch) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(s.config.Dir, &disk); err != nil {
		return err
	}
	free := int64(disk.Bavail) * disk.Bsize
	if missing := f.total.Load() - f.bytes.Load(); missing > free {
		return fmt.Errorf("the disk of %s has %s free and %s needs another %s: make room, or give --models a larger disk",
			s.config.Dir, Size(free), f.source, Size(missing))
	}
	return nil
}

// explain turns a full disk into what to do about it.
func (s *Store) explain(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("the disk of %s is full: make room, or give --models a larger one (%w)", s.config.Dir, err)
	}
	return err
}

// settle puts the directory files, which holds all of the model's, in its place. The caller has the lock.
func (s *Store) settle(m Manifest, files string) error {
	dir := s.Dir(m.Source)
	if err := writeJSON(filepath.Join(files, hub.ManifestName), m); err != nil {
		return s.explain(err)
	}
	if err := makeDir(filepath.Dir(dir)); err != nil {
		return s.explain(err)
	}
	if err := os.RemoveAll(dir); err != nil { // what is there is no model: it has no manifest
		return err
	}
	if err := os.Rename(files, dir); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(dir)), os.RemoveAll(s.partial(m.Source)))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeJSON writes a file that everybody may read, completely or not at all.
func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
