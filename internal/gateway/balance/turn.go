package balance

import "time"

// Ending is how a request at a target ended.
type Ending int

// The endings.
const (
	Complete  Ending = iota
	Failed           // there was no answer, or it broke off, or it was a 5xx
	Abandoned        // the client left
)

// Turn is one request at the target that an Observed chose. The caller calls End when it has ended, whatever happened. The
// zero Turn is of no Observed, and its methods do nothing. It is for one goroutine.
type Turn struct {
	observed *Observed
	target   int
	fresh    bool // what is observed replaces what was observed before
	timed    bool // its latency is counted
}

// Target is the index of the target.
func (t *Turn) Target() int { return t.target }

// FirstContent says that the first content of a stream has come, after so much time.
func (t *Turn) FirstContent(after time.Duration) {
	if o := t.observed; o != nil && o.mode == LeastFirstContent && !t.timed {
		o.mu.Lock()
		defer o.mu.Unlock()
		t.count(after.Seconds())
	}
}

// End says that the request has ended, after so much time, and counts it out. Only the first call counts.
func (t *Turn) End(after time.Duration, how Ending) {
	o := t.observed
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	defer func() { t.observed = nil }()
	target := &o.targets[t.target]
	target.busy--
	seconds := after.Seconds()
	switch {
	case o.mode == LeastBusy:
	case how == Failed:
		t.count(max(seconds, o.failure()))
	case o.mode == LeastTotal && how == Complete,
		how == Abandoned && !t.timed && target.answers > 0 && seconds > target.average: // it would have taken longer still
		t.count(seconds)
	}
}

// count takes a latency into the average.
func (t *Turn) count(seconds float64) {
	target := &t.observed.targets[t.target]
	if t.fresh {
		target.answers = 0
	}
	t.fresh, t.timed = false, true
	target.answers = min(target.answers+1, (target.window+1)/2) // of an exponential average over the window
	target.average += (seconds - target.average) / target.answers
}

// failure is the least that a failure counts as.
func (o *Observed) failure() float64 {
	slowest := 0.0
	for i := range o.targets {
		if t := &o.targets[i]; t.answers > 0 {
			slowest = max(slowest, t.average)
		}
	}
	return min(max(2*slowest, quickestFailure.Seconds()), slowestFailure.Seconds())
}
