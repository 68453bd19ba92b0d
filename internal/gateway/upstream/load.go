package upstream

import "sync/atomic"

// Load is what a target is busy with, as far as this gateway knows.
type Load struct {
	inFlight atomic.Int64
}

// InFlight is how many requests the target is busy with.
func (l *Load) InFlight() int64 { return l.inFlight.Load() }

// Begin counts a request in. The caller calls End exactly once when the answer has been passed on or given up.
func (l *Load) Begin() { l.inFlight.Add(1) }

// End counts a request out.
func (l *Load) End() { l.inFlight.Add(-1) }
