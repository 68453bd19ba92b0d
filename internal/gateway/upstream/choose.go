package upstream

import (
	"math/rand/v2"
	"slices"
)

// Choose returns the replica with the fewest requests in flight that is not among tried, a random one of equals, or
// nil when all were tried. One that is set aside is chosen only when there is no other.
func Choose(replicas, tried []*Replica) *Replica {
	if r := leastBusy(replicas, tried, false); r != nil {
		return r
	}
	return leastBusy(replicas, tried, true)
}

func leastBusy(replicas, tried []*Replica, aside bool) *Replica {
	var best *Replica
	var load int64
	var equals uint64
	for _, r := range replicas {
		if r.isAside() != aside || slices.Contains(tried, r) {
			continue
		}
		busy := r.InFlight()
		switch {
		case best == nil || busy < load:
			best, load, equals = r, busy, 1
		case busy == load:
			if equals++; rand.Uint64N(equals) == 0 {
				best = r
			}
		}
	}
	return best
}
