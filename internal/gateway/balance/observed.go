package balance

import (
	"cmp"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/upstream"
)

// Mode is what a choice by observation goes by.
type Mode int

// The modes.
const (
	LeastBusy         Mode = iota // the requests under way
	LeastFirstContent             // the time to the first content of a stream
	LeastTotal                    // the time to the end of an answer
)

// Target is one of those that an Observed chooses among.
type Target struct {
	Share  float64 // of the requests that it may get at most, above 0 to 1; 0: all
	Window int     // over how many of the latest answers its latency is taken; 0: 100
}

const (
	defaultWindow = 100
	// forgottenAfter is how long a target is not chosen until its latency is found out anew, by one request of so many.
	forgottenAfter = 30 * time.Second
	forgottenOneIn = 20
	// alike is how much more latency than the least is not taken for a difference.
	alike = 0.1
	// A failure counts as an answer that took twice the slowest target's latency, within these.
	quickestFailure = time.Second
	slowestFailure  = time.Minute
)

// Observed chooses among targets by what it observes of the requests that it gave them.
//
// Latency is a moving average over the target's window. A failure counts as an answer of twice the slowest average. Among
// targets whose averages are within a tenth of the least, the one with the fewest requests under way is chosen, and a
// random one of equals. A target that was not chosen for 30 s, nor for twenty requests, gets one, whatever its average, and
// how that goes is all that counts from then on: one that has become quick is found out, at little cost.
//
// A share is kept in every stretch of requests: of any n successive ones the target gets no more than its share of n,
// rounded up, while there is another that may have them.
type Observed struct {
	mode Mode

	mu      sync.Mutex
	picks   uint64 // requests so far
	targets []observation
}

// observation is what is known of a target.
type observation struct {
	share  int64 // in parts of whole
	credit int64 // what it has earned of its share; a request costs the whole
	window float64

	busy    int     // requests under way
	average float64 // latency in seconds
	answers float64 // that the average is of; 0: none yet
	last    uint64  // the last request that it got; 0: none yet
	lastAt  time.Time

	late    lateness // these are of the choice under way
	latency float64
}

// whole is what a request costs: shares are kept in whole numbers.
const whole = 1_000_000

// NewObserved returns a choice among targets.
func NewObserved(mode Mode, targets []Target) *Observed {
	o := &Observed{mode: mode, targets: make([]observation, len(targets))}
	for i, t := range targets {
		share := int64(whole)
		if t.Share > 0 {
			share = min(int64(math.Round(t.Share*whole)), whole)
		}
		o.targets[i] = observation{share: share, credit: whole - share, window: float64(cmp.Or(t.Window, defaultWindow))}
	}
	return o
}

// Pick chooses the target of a request and counts it in. A target whose service is aside is left out unless all are:
// health returns the service's, nil when there is no such service.
func (o *Observed) Pick(health func(target int) *upstream.Health) Turn {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.picks++
	for i := range o.targets {
		o.targets[i].credit += o.targets[i].share
	}
	now := time.Now()
	chosen := o.choose(health, now)
	o.charge(chosen)
	t := &o.targets[chosen]
	turn := Turn{observed: o, target: chosen, fresh: o.isForgotten(t, now)}
	t.busy++
	t.last, t.lastAt = o.picks, now
	return turn
}

// choose returns the target that is asked the earliest, with the fewest requests under way of those that are alike.
func (o *Observed) choose(health func(target int) *upstream.Health, now time.Time) (best int) {
	earliest, least := lateAside, math.Inf(1)
	for i := range o.targets {
		t := &o.targets[i]
		h := health(i)
		if h != nil && t.hasRoom() && h.Probe() {
			return i
		}
		if t.late, t.latency = t.lateness(h), o.compared(t, now); t.late == lateShare {
			t.latency = float64(whole - t.credit) // who is the furthest below its share comes first
		}
		if t.late < earliest || t.late == earliest && t.latency < least {
			earliest, least = t.late, t.latency
		}
	}
	equals, fewest := 0, 0
	for i := range o.targets {
		t := &o.targets[i]
		switch {
		case t.late != earliest || t.latency > least*(1+alike):
		case equals == 0 || t.busy < fewest:
			best, fewest, equals = i, t.busy, 1
		case t.busy == fewest:
			if equals++; rand.IntN(equals) == 0 {
				best = i
			}
		}
	}
	return best
}

// lateness is how late a target is asked.
type lateness uint8

const (
	lateNot   lateness = iota
	lateShare          // its share is used up
	lateAside          // its service is aside
)

func (t *observation) lateness(h *upstream.Health) lateness {
	switch {
	case h == nil || h.Aside():
		return lateAside
	case !t.hasRoom():
		return lateShare
	}
	return lateNot
}

// hasRoom reports whether the target may have the request that it has just earned its share of.
func (t *observation) hasRoom() bool { return t.credit >= whole }

// charge has the chosen target pay. What others could have had and did not is not kept: they would have it at once later.
func (o *Observed) charge(chosen int) {
	for i := range o.targets {
		t := &o.targets[i]
		switch {
		case i == chosen:
			t.credit = max(t.credit-whole, -whole) // it owes at most what it got for want of another once
		case t.hasRoom():
			t.credit = whole - t.share
		}
	}
}

// compared is the latency that the target is compared by.
func (o *Observed) compared(t *observation, now time.Time) float64 {
	switch {
	case o.mode == LeastBusy || o.isForgotten(t, now):
		return 0
	case t.answers == 0: // one request is finding out
		return math.Inf(1)
	}
	return t.average
}

// isForgotten reports whether nothing is known of the target's latency that still counts.
func (o *Observed) isForgotten(t *observation, now time.Time) bool {
	return o.mode != LeastBusy &&
		(t.last == 0 || o.picks-t.last >= forgottenOneIn && now.Sub(t.lastAt) >= forgottenAfter)
}
