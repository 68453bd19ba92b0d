// Package balance decides which of several services a request goes to.
package balance

import "sync/atomic"

// Wheel shares requests out by weight: of as many requests as the weights sum up to, each service gets exactly its
// weight, spread as evenly as can be. It takes no lock.
type Wheel struct {
	order []uint8 // which service is next, for one turn
	turn  atomic.Uint64
}

// NewWheel returns a wheel of weights, which are 0 to 100 and sum up to at least 1. There are at most 100 services.
func NewWheel(weights []int) *Wheel {
	total := 0
	for _, weight := range weights {
		total += weight
	}
	w := &Wheel{order: make([]uint8, total)}
	// Everybody earns their weight in each step; the richest pays for all.
	earned := make([]int, len(weights))
	for step := range w.order {
		richest := 0
		for i, weight := range weights {
			if earned[i] += weight; earned[i] > earned[richest] {
				richest = i
			}
		}
		earned[richest] -= total
		w.order[step] = uint8(richest) //nolint:gosec // at most 100
	}
	return w
}

// Next returns the index of the service that is next.
func (w *Wheel) Next() int {
	return int(w.order[(w.turn.Add(1)-1)%uint64(len(w.order))])
}
