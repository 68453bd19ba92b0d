package audit

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// SignInsKept is how long counts of failed sign-ins are kept.
	SignInsKept = 7 * 24 * time.Hour
	// maxSources is how many pairs of source and code a process counts in a minute. What is more is counted together, so that
	// nobody fills the database by failing.
	maxSources = 100
	// others is the source of what is counted together.
	others = "others"
)

// SignIns counts the requests that nobody could be proven to have sent, for each source and minute. It is safe for
// concurrent use.
type SignIns struct {
	db  *pgxpool.Pool
	now func() time.Time

	mu      sync.Mutex
	pending map[signIn]int64
	minute  time.Time
	sources int // of the minute
	total   map[string]int64
}

type signIn struct {
	minute       time.Time
	source, code string
}

// NewSignIns returns counters whose Flush writes to db.
func NewSignIns(db *pgxpool.Pool, now func() time.Time) *SignIns {
	return &SignIns{db: db, now: now, pending: map[signIn]int64{}, total: map[string]int64{}}
}

// Failed counts a request from source that was refused with code before it was known who sent it. It asks nobody.
func (s *SignIns) Failed(source netip.Addr, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total[code]++
	key := signIn{s.now().UTC().Truncate(time.Minute), sourceOf(source), code}
	if !key.minute.Equal(s.minute) {
		s.minute, s.sources = key.minute, 0
	}
	if _, ok := s.pending[key]; !ok {
		if s.sources >= maxSources {
			key.source, key.code = others, ""
		} else {
			s.sources++
		}
	}
	s.pending[key]++
}

// sourceOf is an IPv4 address, or the network that one subscriber of IPv6 has to himself.
func sourceOf(addr netip.Addr) string {
	if !addr.IsValid() || addr.Is4() {
		return addr.String()
	}
	network, _ := addr.Prefix(64) // an IPv6 address has such a prefix
	return network.String()
}

// Totals returns how often sign-ins failed since the process started, by code.
func (s *SignIns) Totals() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	totals := make(map[string]int64, len(s.total))
	for code, n := range s.total {
		totals[code] = n
	}
	return totals
}

// Flush writes down what was counted since the last time, or keeps it for the next time.
func (s *SignIns) Flush(ctx context.Context) error {
	s.mu.Lock()
	counted := s.pending
	s.pending = map[signIn]int64{}
	s.mu.Unlock()
	if len(counted) == 0 {
		return nil
	}
	if err := s.write(ctx, counted); err != nil {
		s.giveBack(counted)
		return fmt.Errorf("count failed sign-ins: %w", err)
	}
	return nil
}

func (s *SignIns) write(ctx context.Context, counted map[signIn]int64) error {
	var minutes []time.Time
	var sources, codes []string
	var counts []int64
	for key, n := range counted {
		minutes, sources, codes, counts = append(minutes, key.minute), append(sources, key.source), append(codes, key.code), append(counts, n)
	}
	_, err := s.db.Exec(ctx, `
		INSERT INTO sign_in_failure (minute, source, code, count)
		SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::bigint[]) ORDER BY 1, 2, 3
		ON CONFLICT (minute, source, code) DO UPDATE SET count = sign_in_failure.count + excluded.count`,
		minutes, sources, codes, counts)
	return err
}

// giveBack counts again what could not be written. While the database is away for long, only the number is kept.
func (s *SignIns) giveBack(counted map[signIn]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, n := range counted {
		if len(s.pending) >= 10*maxSources {
			key = signIn{key.minute.Truncate(24 * time.Hour), others, ""}
		}
		s.pending[key] += n
	}
}

// Forget drops the counts that are too old.
func (s *SignIns) Forget(ctx context.Context) error {
	if _, err := s.db.Exec(ctx, `DELETE FROM sign_in_failure WHERE minute < $1`, s.now().Add(-SignInsKept)); err != nil {
		return fmt.Errorf("forget failed sign-ins: %w", err)
	}
	return nil
}

// FailedSignIns is what failed from one source with one code.
type FailedSignIns struct {
	Source      string // an IPv4 address, an IPv6 network, or others
	Code        string // empty for others
	Count       int64
	First, Last time.Time // minutes
}

// List returns what failed since then, the most frequent first, at most 1,000 of them.
func (s *SignIns) List(ctx context.Context, since time.Time) ([]FailedSignIns, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT source, code, sum(count)::bigint, min(minute), max(minute) FROM sign_in_failure
		WHERE minute >= $1 GROUP BY source, code ORDER BY 3 DESC, source, code LIMIT 1000`, since)
	failed, err := pgx.CollectRows(rows, pgx.RowToStructByPos[FailedSignIns])
	if err != nil {
		return nil, fmt.Errorf("list failed sign-ins: %w", err)
	}
	return failed, nil
}
