package upstream

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// Target is who a request is sent to: a *Replica or an *Endpoint.
type Target interface {
	comparable
	ID() string
	Begin()
	End()
	InFlight() int64
	Succeeded()
	Failed() bool
	SetAside() bool
	health() *Health
}

// Choose returns the target with the fewest requests in flight that is not among tried, a random one of equals, or nil
// when all were tried. A target whose time aside is over comes before all others, for the one request that probes it. One
// that is aside is chosen only when there is no other, and of several the one with the fewest ejections in a row.
func Choose[T Target](targets, tried []T) T {
	var best T
	var least rank
	var equals uint64
	for _, t := range targets {
		if slices.Contains(tried, t) {
			continue
		}
		trouble := t.health().trouble.Load()
		if t.health().claim(trouble) {
			return t
		}
		r := rank{inFlight: t.InFlight()}
		if trouble.isAside() {
			r.late = 1 + trouble.ejections
		}
		order := r.compare(least)
		switch {
		case equals == 0 || order < 0:
			best, least, equals = t, r, 1
		case order == 0:
			if equals++; rand.Uint64N(equals) == 0 {
				best = t
			}
		}
	}
	return best
}

// rank is how late a target is chosen.
type rank struct {
	late     int // 0: it is not aside
	inFlight int64
}

func (r rank) compare(other rank) int {
	return cmp.Or(cmp.Compare(r.late, other.late), cmp.Compare(r.inFlight, other.inFlight))
}
