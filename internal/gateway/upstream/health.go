package upstream

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	// tolerated is how many failures in a row eject a target.
	tolerated = 5
	// ejection is how long a target is ejected, times the ejections in a row.
	ejection        = 10 * time.Second
	longestEjection = 5 * time.Minute
	// setAside is how long a target that could not be dialled is left alone.
	setAside = time.Second
	// probeTime is how long the one request that probes a target has it to itself. One that does not tell how it went
	// keeps the target from others no longer than that.
	probeTime = 10 * time.Second
)

// Health is how the latest requests to a target went, as far as this gateway knows. A target that fails five times in a
// row is ejected: others are chosen instead of it for 10 s, 20 s after the next ejection in a row and so on up to 5 min,
// a little less at random. Then one request probes it, and the others wait for how that goes. The zero value is a
// healthy target.
//
// Every request tells how it went once: with Succeeded as soon as the target answers with anything but a 5xx, with Failed
// when it does not. What says nothing about the target, such as a client that leaves, is not told.
type Health struct {
	trouble atomic.Pointer[trouble] // nil: the last request went well
}

// trouble never changes: another takes its place.
type trouble struct {
	failures  int       // in a row
	ejections int       // in a row
	until     time.Time // when the target may be probed; zero: it is asked as any other
	probed    bool      // a request probes it, and has until then to tell how it went
}

// Succeeded says that the target answered.
func (h *Health) Succeeded() {
	if h.trouble.Load() != nil {
		h.trouble.Store(nil)
	}
}

// Failed says that the target did not answer, broke off before it did, or answered with a 5xx. It reports whether the
// target is ejected for that.
func (h *Health) Failed() (ejected bool) { return h.failed(0) }

// SetAside is Failed of a target that could not be dialled: it is left alone for a second, too.
func (h *Health) SetAside() (ejected bool) { return h.failed(setAside) }

func (h *Health) failed(aside time.Duration) bool {
	for {
		before := h.trouble.Load()
		if before.isEjected() && !before.probed {
			return false // it was asked before, or for want of another
		}
		after := before.failedAgain(aside)
		if h.trouble.CompareAndSwap(before, after) {
			return after.isEjected()
		}
	}
}

// failedAgain is the trouble after another failure.
func (t *trouble) failedAgain(aside time.Duration) *trouble {
	after := &trouble{failures: 1}
	if t != nil {
		after.failures, after.ejections = t.failures+1, t.ejections
	}
	if after.failures >= tolerated {
		after.ejections++
		aside = min(time.Duration(after.ejections)*ejection, longestEjection)
		aside -= rand.N(aside / 5) // so that not all gateways come back at once
	}
	if aside > 0 {
		after.until = time.Now().Add(aside)
	}
	return after
}

// Ejected reports whether the target was ejected and has not answered since.
func (h *Health) Ejected() bool { return h.trouble.Load().isEjected() }

func (t *trouble) isEjected() bool { return t != nil && t.ejections > 0 }

// Aside reports whether another is to be chosen instead, unless Probe says that the caller probes the target.
func (h *Health) Aside() bool { return h.trouble.Load().isAside() }

func (t *trouble) isAside() bool { return t != nil && !t.until.IsZero() }

// Probe reports whether the target's time aside is over and the caller is the one request that asks it.
func (h *Health) Probe() bool { return h.claim(h.trouble.Load()) }

// claim is Probe of a target that had this trouble.
func (h *Health) claim(t *trouble) bool {
	if !t.isAside() || time.Now().Before(t.until) {
		return false
	}
	probed := *t
	probed.until, probed.probed = time.Now().Add(probeTime), true
	return h.trouble.CompareAndSwap(t, &probed)
}

func (h *Health) health() *Health { return h }
