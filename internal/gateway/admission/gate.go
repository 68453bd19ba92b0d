// Package admission bounds what a gateway takes on at once: requests, by a Gate, and the bodies it holds, by Memory.
package admission

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// ErrFull is that as many requests run and wait as may.
var ErrFull = errors.New("too many requests run and wait")

// Gate lets a limited number of requests run. Others wait in line, and go in in the order they came. The zero value has
// no limit. Use it from as many goroutines as you like; where nobody waits, no lock is taken.
type Gate struct {
	limit   atomic.Int64  // of those that run; 0: none
	queue   atomic.Int64  // how many may wait
	state   atomic.Uint64 // how many run, and above that in units of oneWaiting how many wait
	refused atomic.Uint64

	mu   sync.Mutex // of everything that changes how many wait
	line list.List  // of the channels of those who wait
}

const oneWaiting = 1 << 32

func running(state uint64) int64 { return int64(state % oneWaiting) }
func waiting(state uint64) int64 { return int64(state / oneWaiting) }

// SetLimits bounds how many may run, where 0 is no bound, and how many may wait. Who runs or waits already stays.
func (g *Gate) SetLimits(running, queued int) {
	g.limit.Store(int64(running))
	g.queue.Store(int64(queued))
	g.letIn()
}

// Running is how many run.
func (g *Gate) Running() int { return int(running(g.state.Load())) }

// Waiting is how many wait in line.
func (g *Gate) Waiting() int { return int(waiting(g.state.Load())) }

// Refused is how many were refused so far.
func (g *Gate) Refused() uint64 { return g.refused.Load() }

// Join takes a place: inside, or in line. It does not wait for its turn, and fails with ErrFull. Who has joined must leave.
func (g *Gate) Join() (Turn, error) {
	for {
		state := g.state.Load()
		if !g.open(state) {
			return g.lineUp()
		}
		if g.state.CompareAndSwap(state, state+1) {
			return Turn{gate: g}, nil
		}
	}
}

// open reports whether one more may run: there is room, and nobody came before.
func (g *Gate) open(state uint64) bool { return waiting(state) == 0 && g.hasRoom(state) }

func (g *Gate) hasRoom(state uint64) bool {
	limit := g.limit.Load()
	return limit == 0 || running(state) < limit
}

// lineUp is Join for when there was no room a moment ago.
func (g *Gate) lineUp() (Turn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		state := g.state.Load()
		switch {
		case g.open(state):
			if g.state.CompareAndSwap(state, state+1) {
				return Turn{gate: g}, nil
			}
		case waiting(state) >= g.queue.Load():
			g.refused.Add(1)
			return Turn{}, ErrFull
		case g.state.CompareAndSwap(state, state+oneWaiting): // from here on, who leaves looks into the line
			ready := make(chan struct{})
			return Turn{g, ready, g.line.PushBack(ready)}, nil
		}
	}
}

// letIn lets in who is first in line while there is room.
func (g *Gate) letIn() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		state := g.state.Load()
		if waiting(state) == 0 || !g.hasRoom(state) {
			return
		}
		if g.state.CompareAndSwap(state, state+1-oneWaiting) {
			close(g.line.Remove(g.line.Front()).(chan struct{}))
		}
	}
}

// leave ends the run of one.
func (g *Gate) leave() {
	if waiting(g.state.Add(^uint64(0))) > 0 {
		g.letIn()
	}
}

// stepOut takes one out of the line; false when its turn has come.
func (g *Gate) stepOut(t *Turn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !t.Waits() {
		return false
	}
	g.line.Remove(t.place)
	g.state.Add(^uint64(oneWaiting - 1))
	return true
}

// Turn is the place of one request at a Gate. The zero value is nowhere. It is for one goroutine.
type Turn struct {
	gate  *Gate         // nil: it has left
	ready chan struct{} // closed when its turn comes; nil: that was at once
	place *list.Element // in line
}

// Waits reports whether its turn has not come yet.
func (t *Turn) Waits() bool {
	if t.ready == nil {
		return false
	}
	select {
	case <-t.ready:
		return false
	default:
		return true
	}
}

// Wait returns when its turn has come. When ctx ends before, it leaves and returns the context's error.
func (t *Turn) Wait(ctx context.Context) error {
	if t.ready == nil {
		return nil
	}
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
		t.Leave()
		return ctx.Err()
	}
}

// Leave gives the place up, inside or in line. Who has left already may leave again.
func (t *Turn) Leave() {
	g := t.gate
	if g == nil {
		return
	}
	t.gate = nil
	if t.ready == nil || !g.stepOut(t) {
		g.leave()
	}
}
