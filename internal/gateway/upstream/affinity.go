package upstream

import (
	"hash/fnv"
	"slices"
)

const (
	// Others get what is for a replica that has this many times as many requests in flight as the average, and at least so
	// many: an engine computes a few together at no cost.
	overload      = 5.0 / 4
	alwaysAllowed = 8
)

// ChooseFor is Choose for requests that are best sent to the same replica: those with the same key are, whichever gateway
// they come to, unless it has 5/4 as many requests in flight as the average, and more than a few. Then another is, for the
// same key again the same. A replica that comes or goes takes only its own share of the keys with it.
func ChooseFor(replicas, tried []*Replica, key uint64) *Replica {
	var well int
	var inFlight int64
	for _, r := range replicas {
		if slices.Contains(tried, r) {
			continue
		}
		trouble := r.trouble.Load()
		if r.claim(trouble) {
			return r
		}
		if !trouble.isAside() {
			well++
			inFlight += r.InFlight()
		}
	}
	limit := max(alwaysAllowed, overload*float64(inFlight+1)/float64(max(well, 1)))
	var best *Replica
	var highest uint64
	for _, r := range replicas {
		if r.Aside() || float64(r.InFlight()) >= limit || slices.Contains(tried, r) {
			continue
		}
		if score := mix(key ^ r.place); best == nil || score > highest { // rendezvous hashing
			best, highest = r, score
		}
	}
	if best == nil {
		return Choose(replicas, tried)
	}
	return best
}

// placeOf is a replica's id as a number.
func placeOf(id string) uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(id)) // never fails
	return mix(hash.Sum64())
}

// mix has every bit of x decide about every bit of the result: the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
