package config

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// standstill is how long a process may have stood still, stopped or on a machine that slept, before it takes what
	// it knows for old. With a poll after it this is well within the time in which what is revoked must be refused.
	standstill   = 2 * time.Second
	beatInterval = standstill / 8
	// catchUpTimeout is how long requests then wait for the database. One that is away is no reason to refuse them.
	catchUpTimeout = time.Second
	catchUpPause   = 50 * time.Millisecond // between attempts
)

// pulse notices that the process stood still. Nothing else does in time: whoever asks is answered as soon as it goes on,
// and the database only a little later.
type pulse struct {
	beat atomic.Int64           // the last one, Unix nanoseconds, by the clock on the wall; 0: nobody looks
	lag  atomic.Pointer[behind] // nil: it did not stand still, or has caught up
}

// behind is the time from when the process goes on to when it knows what was published meanwhile.
type behind struct {
	since time.Time
	over  chan struct{}
}

// run beats until ctx ends.
func (p *pulse) run(ctx context.Context) {
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	defer p.beat.Store(0)
	p.beat.Store(time.Now().UnixNano())
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.notice()
			p.beat.Store(time.Now().UnixNano()) // after it was noticed: a request sees one or the other
		}
	}
}

// notice returns what the process is behind by, and nil if it did not stand still.
func (p *pulse) notice() *behind {
	now := time.Now()
	if last := p.beat.Load(); last != 0 && now.UnixNano()-last > int64(standstill) {
		p.lag.CompareAndSwap(nil, &behind{now, make(chan struct{})})
	}
	return p.lag.Load()
}

// caughtUp ends the lag that there was when the database was asked.
func (p *pulse) caughtUp(lag *behind) {
	if lag != nil && p.lag.CompareAndSwap(lag, nil) {
		close(lag.over)
	}
}

// Serving is the configuration to serve a request with; nil before the first one. In a process that stood still it waits
// for what was published meanwhile: a key that was revoked then must not open anything now.
func (s *Store) Serving() *Config {
	if lag := s.pulse.notice(); lag != nil {
		s.catchUp(lag)
	}
	return s.Current()
}

func (s *Store) catchUp(lag *behind) {
	left := catchUpTimeout - time.Since(lag.since)
	if left <= 0 {
		return
	}
	wake(s.hints)
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-lag.over:
	case <-timer.C:
	}
}
