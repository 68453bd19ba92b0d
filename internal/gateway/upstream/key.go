package upstream

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// refusedKey is how long a key is set aside that its service refuses, doubled each time in a row.
	refusedKey        = time.Minute
	longestRefusedKey = 15 * time.Minute

	// limitedKey is how long a key is set aside that has reached a limit of a service that does not say for how long.
	limitedKey         = 10 * time.Second
	shortestLimitedKey = time.Second
	longestLimitedKey  = 5 * time.Minute
)

// Key is one of the keys of a service, and what the service said to it of late. One that is refused is set aside for
// 1 min, 2 min and so on up to 15 min, one that has reached a limit as long as the service says. Then one request
// probes it.
type Key struct {
	header []string
	health Health
}

// Header is the key as the values of the header that carries it.
func (k *Key) Header() []string { return k.header }

// Answered takes note of how the service answered a request with the key, and reports whether the key is set aside for
// that.
func (k *Key) Answered(status int, header http.Header) (setAside bool) {
	refused := status == http.StatusUnauthorized || status == http.StatusForbidden
	if !refused && status != http.StatusTooManyRequests {
		if status < http.StatusInternalServerError { // a service in trouble says nothing about its keys
			k.health.Succeeded()
		}
		return false
	}
	before := k.health.trouble.Load()
	after := new(trouble)
	if before != nil {
		after.failures = before.failures
	}
	if refused {
		after.failures++
		after.until = time.Now().Add(refusedFor(after.failures))
	} else {
		after.until = time.Now().Add(limitedFor(header.Get("Retry-After")))
	}
	if before.isAside() && !before.probed {
		return false // the request was sent before, or for want of another key
	}
	return k.health.trouble.CompareAndSwap(before, after)
}

func refusedFor(times int) time.Duration {
	return min(refusedKey<<min(times-1, 4), longestRefusedKey)
}

// limitedFor reads a Retry-After: seconds or a date.
func limitedFor(retryAfter string) time.Duration {
	limited := limitedKey
	if seconds, err := strconv.ParseUint(retryAfter, 10, 31); err == nil {
		limited = time.Duration(seconds) * time.Second //nolint:gosec // 31 bits
	} else if date, err := http.ParseTime(retryAfter); err == nil {
		limited = time.Until(date)
	}
	return min(max(limited, shortestLimitedKey), longestLimitedKey)
}

// Keys are the keys of a service, which take turns.
type Keys struct {
	keys []*Key
	turn atomic.Uint64
}

// NewKeys returns the keys that are sent as these values of a header. What old has among them is kept; it may be nil.
func NewKeys(values []string, old *Keys) *Keys {
	k := new(Keys)
	for _, value := range values {
		k.keys = append(k.keys, old.key(value))
	}
	return k
}

func (k *Keys) key(value string) *Key {
	if k != nil {
		for _, key := range k.keys {
			if key.header[0] == value {
				return key
			}
		}
	}
	return &Key{header: []string{value}}
}

// Next returns the key whose turn it is among those that are not set aside, or the one whose time is over first when all
// are. It returns nil when there are none.
func (k *Keys) Next() *Key {
	var first *Key // of those set aside
	var until time.Time
	well := uint64(0)
	for _, key := range k.keys {
		t := key.health.trouble.Load()
		switch {
		case !t.isAside():
			well++
		case len(k.keys) > 1 && key.health.claim(t):
			return key
		case first == nil || t.until.Before(until):
			first, until = key, t.until
		}
	}
	if well == 0 {
		return first
	}
	turn := k.turn.Add(1) % well
	for _, key := range k.keys {
		if key.health.Aside() {
			continue
		}
		if turn == 0 {
			return key
		}
		turn--
	}
	return k.keys[0] // the rest was set aside a moment ago
}

// AnyWell reports whether one of the keys is not set aside.
func (k *Keys) AnyWell() bool { return k.SetAside() < len(k.keys) }

// SetAside is how many of the keys are set aside.
func (k *Keys) SetAside() (n int) {
	for _, key := range k.keys {
		if key.health.Aside() {
			n++
		}
	}
	return n
}
