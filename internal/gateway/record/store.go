package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	maxBackOff    = 5 * time.Second
)

// store writes records to Postgres, in batches, and keeps those that it could not write.
type store struct {
	pool    *pgxpool.Pool
	log     *slog.Logger
	process string
	written func(why drop, n int)
	total   atomic.Uint64
	wake    chan struct{}

	added atomic.Pointer[chunk] // the newest

	// These belong to the goroutine of run.
	pending []*Record
	away    bool
	rows    []byte
}

// chunk is what was added at once.
type chunk struct {
	records []*Record
	before  *chunk
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

// add takes records without waiting for those that are being written. One goroutine adds.
func (s *store) add(records []*Record) {
	c := &chunk{records: records}
	for {
		c.before = s.added.Load()
		if s.added.CompareAndSwap(c.before, c) {
			break
		}
	}
	if len(records) >= maxBatch {
		select {
		case s.wake <- struct{}{}:
		default:
		}
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
	return len(s.pending)
}

// writeAll writes what there is at the moment.
func (s *store) writeAll(ctx context.Context) error {
	records := s.take()
	var kept []*Record
	var failed error
	for batch := range slices.Chunk(records, maxBatch) {
		if failed != nil {
			kept = append(kept, batch...)
			continue
		}
		if s.copy(ctx, batch) == nil {
			continue
		}
		var left []*Record // nobody knows whether a copy that failed was committed
		left, failed = s.write(ctx, batch)
		kept = append(kept, left...)
	}
	s.pending = kept
	return failed
}

// take returns what is left of earlier writes and what was added since, in its order.
func (s *store) take() []*Record {
	var chunks [][]*Record
	for c := s.added.Swap(nil); c != nil; c = c.before {
		chunks = append(chunks, c.records)
	}
	slices.Reverse(chunks)
	return slices.Concat(append([][]*Record{s.pending}, chunks...)...)
}

// copy writes a batch in the cheapest way, which can only be taken once: it does not leave out what is there already.
func (s *store) copy(ctx context.Context, batch []*Record) error {
	bounded, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(bounded)
	if err != nil {
		return err
	}
	defer conn.Release()
	s.rows = s.rows[:0]
	for _, rec := range batch {
		s.rows = appendRow(s.rows, s.process, rec)
	}
	if _, err := conn.Conn().PgConn().CopyFrom(bounded, bytes.NewReader(s.rows), copyRecords); err != nil {
		return err
	}
	s.total.Add(uint64(len(batch)))
	s.written(written, len(batch))
	release(batch)
	return nil
}

// write writes a batch and returns what is to be tried again. A record that Postgres does not take is found by halving,
// so that it does not keep all others from being written.
func (s *store) write(ctx context.Context, batch []*Record) (left []*Record, err error) {
	bounded, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err = s.insert(bounded, batch)
	refused, isRefused := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		s.total.Add(uint64(len(batch)))
		s.written(written, len(batch))
		release(batch)
		return nil, nil
	case !isRefused || !isAboutRows(refused):
		return batch, err
	case len(batch) > 1:
		half := len(batch) / 2
		left, err = s.write(ctx, batch[:half])
		if err != nil {
			return append(left, batch[half:]...), err
		}
		rest, err := s.write(ctx, batch[half:])
		return append(left, rest...), err
	case refused.Code == noPartition && refused.ConstraintName == "":
		return batch, nil // the control plane makes one, or the clock is set right
	}
	s.log.Error("a usage record is refused by the database and dropped", "requestId", batch[0].RequestID, "error", err)
	s.written(droppedBad, 1)
	release(batch)
	return nil, nil
}

const noPartition = "23514"

// isAboutRows reports whether Postgres refused what a row holds: data exceptions and violated constraints.
func isAboutRows(err *pgconn.PgError) bool {
	return len(err.Code) == 5 && (err.Code[:2] == "22" || err.Code[:2] == "23")
}

const columns = `gateway_process, began_at, request_id, account_id, http_api_id, http_api_name, route,
		service_id, service_name, model_asked, model, consumer_id, consumer_name, end_state, status, streamed,
		input_tokens, output_tokens, total_tokens, cached_tokens, reasoning_tokens, first_content_ms, total_ms, operator_key_id`

const copyRecords = `COPY usage_record (` + columns + `) FROM STDIN`

// insertRecords leaves out what is there already: a connection may break after the commit.
const insertRecords = `
	INSERT INTO usage_record (` + columns + `)
	SELECT $1, * FROM unnest($2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
		$8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::integer[],
		$16::boolean[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[],
		$23::bigint[], $24::integer[])
	ON CONFLICT DO NOTHING`

func (s *store) insert(ctx context.Context, batch []*Record) error {
	texts := func(of func(*Record) string) []string { return column(batch, of) }
	counts := func(of func(*Record) int64) []*int64 {
		return column(batch, func(r *Record) *int64 {
			n := of(r)
			if !r.Usage.Known {
				return nil
			}
			return &n
		})
	}
	_, err := s.pool.Exec(ctx, insertRecords, s.process,
		column(batch, func(r *Record) time.Time { return r.BeganAt }),
		texts(func(r *Record) string { return r.RequestID }),
		texts(func(r *Record) string { return r.AccountID }),
		texts(func(r *Record) string { return r.API }),
		texts(func(r *Record) string { return r.APIName }),
		texts(func(r *Record) string { return r.Route }),
		texts(func(r *Record) string { return r.Service }),
		texts(func(r *Record) string { return r.ServiceName }),
		texts(func(r *Record) string { return r.ModelAsked }),
		texts(func(r *Record) string { return r.Model }),
		texts(func(r *Record) string { return r.Consumer }),
		texts(func(r *Record) string { return r.ConsumerName }),
		texts(func(r *Record) string { return string(r.EndState) }),
		column(batch, func(r *Record) int32 { return int32(r.Status) }), //nolint:gosec // of three digits
		column(batch, func(r *Record) bool { return r.Streamed }),
		counts(func(r *Record) int64 { return r.Usage.Input }),
		counts(func(r *Record) int64 { return r.Usage.Output }),
		counts(func(r *Record) int64 { return r.Usage.Total }),
		counts(func(r *Record) int64 { return r.Usage.Cached }),
		counts(func(r *Record) int64 { return r.Usage.Reasoning }),
		column(batch, func(r *Record) *int64 {
			if r.FirstContent == 0 {
				return nil
			}
			ms := r.FirstContent.Milliseconds()
			return &ms
		}),
		column(batch, func(r *Record) int64 { return r.Total.Milliseconds() }),
		column(batch, func(r *Record) *int32 {
			if r.OperatorKey == 0 {
				return nil
			}
			return &r.OperatorKey
		}))
	return err
}

func column[T any](batch []*Record, of func(*Record) T) []T {
	values := make([]T, len(batch))
	for i, rec := range batch {
		values[i] = of(rec)
	}
	return values
}
