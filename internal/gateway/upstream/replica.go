// Package upstream keeps the engines a gateway sends requests to: their connections, their load, and which is next.
package upstream

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/engineshed/engineshed/internal/secret"
)

const (
	dialTimeout = 2 * time.Second
	// setAside is how long a replica that could not be dialled is left alone.
	setAside = time.Second
	// Engines (uvicorn) close a connection that was idle for 5 s; a request sent at that moment would be lost.
	idleTimeout = 4 * time.Second
)

// Replica is one engine: its address, its key, its connections and what it is busy with. Everything but the load is
// fixed; a replica that moves is another Replica with the same load.
type Replica struct {
	id            string
	addr          string
	key           secret.Secret
	authorization []string // the header's value, made once
	connections   *connections
	load          *load
}

// load outlives a change of the configuration.
type load struct {
	inFlight   atomic.Int64
	asideUntil atomic.Int64 // Unix nanoseconds; 0: not set aside
}

func newReplica(id, addr string, key secret.Secret, l *load) *Replica {
	return &Replica{
		id:            id,
		addr:          addr,
		key:           key,
		authorization: []string{"Bearer " + key.Reveal()},
		connections:   newConnections(net.Dialer{Timeout: dialTimeout}, addr, idleTimeout),
		load:          l,
	}
}

func (r *Replica) closeIdle() { r.connections.closeIdle() }

// ID is the replica's id.
func (r *Replica) ID() string { return r.id }

// InFlight is how many requests the replica is busy with, as far as this gateway knows.
func (r *Replica) InFlight() int64 { return r.load.inFlight.Load() }

// Begin counts a request in. The caller calls End exactly once when the answer has been passed on or given up.
func (r *Replica) Begin() { r.load.inFlight.Add(1) }

// End counts a request out.
func (r *Replica) End() { r.load.inFlight.Add(-1) }

// Send sends out to the replica, with the replica's own key. out's URL needs a path and a query only; its header map
// must belong to the caller, because the key is written into it. Redirects are not followed.
func (r *Replica) Send(out *http.Request) (*http.Response, error) {
	target := *out.URL
	target.Scheme, target.Host = "http", r.addr
	out.URL, out.Host = &target, ""
	out.Header["Authorization"] = r.authorization
	return r.connections.RoundTrip(out)
}

// SetAside leaves the replica alone for a second, unless there is no other.
func (r *Replica) SetAside() { r.load.asideUntil.Store(time.Now().Add(setAside).UnixNano()) }

func (r *Replica) isAside() bool {
	until := r.load.asideUntil.Load()
	return until != 0 && time.Now().UnixNano() < until
}

// Undelivered reports whether err of Send says that the replica was never reached, so that another may be asked.
func Undelivered(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// Path returns a URL of a path as it was written and a query, for Send to complete.
func Path(decoded, raw, query string) *url.URL {
	return &url.URL{Path: decoded, RawPath: raw, RawQuery: query}
}

// Escaped is Path of a canonical path.
func Escaped(path, query string) *url.URL {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		decoded = path
	}
	return Path(decoded, path, query)
}
