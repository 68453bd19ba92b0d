package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	writeInterval = 500 * time.Millisecond
	writeTimeout  = 10 * time.Second
	maxBatch      = 1000
	manyBatches   = 4 // are written without waiting for more
	maxBackOff    = 5 * time.Second
)

// store writes rows to Postgres, in batches, and keeps those that it could not write.
type store struct {
	pool    *pgxpool.Pool
	log     *slog.Logger
	process string
	written func(why drop, n int)
	total   atomic.Uint64
	wake    chan struct{}

	mu    sync.Mutex
	added []batch  // the last has room left
	spare [][]byte // memory of batches that were written

	// These belong to the goroutine of run.
	pending []batch
	away    bool
}

func (s *store) open(url string) error {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("GATEWAY_DATABASE_URL is not a connection string: %w", err)
	}
	cfg.MaxConns = 1
	cfg.ConnConfig.ConnectTimeout = 3 * time.Second
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // a pooler in between may know no prepared statements
	s.pool, err = pgxpool.NewWithConfig(context.Background(), cfg)
	return err
}

// add takes a record, which it does not keep, without waiting for those that are being written.
func (s *store) add(rec *Record) {
	s.mu.Lock()
	last := len(s.added) - 1
	if last < 0 || s.added[last].count == maxBatch {
		s.added = append(s.added, batch{rows: s.memory()})
		last++
	}
	s.added[last].add(s.process, rec)
	many := len(s.added) > manyBatches
	s.mu.Unlock()
	if many {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// memory is where the rows of a batch get: that of one that was written, or else as much as the one before took. The lock is
// held.
func (s *store) memory() []byte {
	if last := len(s.spare) - 1; last >= 0 {
		rows := s.spare[last]
		s.spare = s.spare[:last]
		return rows
	}
	if last := len(s.added) - 1; last >= 0 {
		return make([]byte, 0, cap(s.added[last].rows))
	}
	return nil
}

// release takes the memory of a batch that has been written.
func (s *store) release(b batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.spare) <= manyBatches {
		s.spare = append(s.spare, b.rows[:0])
	}
}

// run writes until ctx ends. What it cannot write it tries again, later and later.
func (s *store) run(ctx context.Context) error {
	wait := writeInterval
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-s.wake:
			timer.Stop()
		}
		err := s.writeAll(ctx)
		switch {
		case err == nil:
			if s.away {
				s.log.Info("usage records are written again")
			}
			s.away, wait = false, writeInterval
		case ctx.Err() != nil:
			return nil
		default:
			if !s.away {
				s.log.Warn("usage records cannot be written, they are kept in memory", "error", err)
			}
			s.away, wait = true, min(2*wait, maxBackOff)
			s.rest(ctx, wait)
		}
	}
}

// rest lets a database that is away alone, however many records come.
func (s *store) rest(ctx context.Context, wait time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

// finish writes what is left and returns how much of it could not be written.
func (s *store) finish(ctx context.Context) (lost int) {
	_ = s.writeAll(ctx) // what is lost says enough
	for _, b := range s.pending {
		lost += b.count
	}
	return lost
}

// writeAll writes what there is at the moment: what is left of earlier writes, and what was added since.
func (s *store) writeAll(ctx context.Context) error {
	s.mu.Lock()
	batches := append(s.pending, s.added...)
	s.added = nil
	s.mu.Unlock()
	var kept []batch
	var failed error
	for _, b := range batches {
		if failed != nil {
			kept = keep(kept, b)
			continue
		}
		if s.copy(ctx, b) == nil {
			s.done(b)
			s.release(b)
			continue
		}
		var left []batch // nobody knows whether a copy that failed was committed
		left, failed = s.write(ctx, b)
		kept = keep(kept, left...)
	}
	s.pending = kept
	return failed
}

// done counts a batch that Postgres has.
func (s *store) done(b batch) {
	s.total.Add(uint64(b.count)) //nolint:gosec // at most maxBatch
	s.written(written, b.count)
}

// copy writes a batch in the cheapest way, which can only be taken once: it does not leave out what is there already.
func (s *store) copy(ctx context.Context, b batch) error {
	bounded, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(bounded)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = conn.Conn().PgConn().CopyFrom(bounded, bytes.NewReader(b.rows), copyRecords)
	return err
}

// write writes a batch and returns what is to be tried again. A row that Postgres does not take is found by halving, so that
// it does not keep all others from being written.
func (s *store) write(ctx context.Context, b batch) (left []batch, err error) {
	bounded, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err = s.pool.Exec(bounded, insertRecords, b.values()...)
	refused, isRefused := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		s.done(b)
		return nil, nil
	case !isRefused || !isAboutRows(refused):
		return []batch{b}, err
	case b.count > 1:
		one, other := b.halves()
		left, err = s.write(ctx, one)
		if err != nil {
			return append(left, other), err
		}
		rest, err := s.write(ctx, other)
		return append(left, rest...), err
	case refused.Code == noPartition && refused.ConstraintName == "":
		return []batch{b}, nil // the control plane makes one, or the clock is set right
	}
	s.log.Error("a usage record is refused by the database and dropped", "requestId", b.requestID(), "error", err)
	s.written(droppedBad, 1)
	return nil, nil
}

const noPartition = "23514"

// isAboutRows reports whether Postgres refused what a row holds: data exceptions and violated constraints.
func isAboutRows(err *pgconn.PgError) bool {
	return len(err.Code) == 5 && (err.Code[:2] == "22" || err.Code[:2] == "23")
}
