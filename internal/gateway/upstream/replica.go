// Package upstream keeps the engines and providers a gateway sends requests to: their connections, their load, their health,
// and which is next.
package upstream

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/tcp"
)

const (
	dialTimeout = 2 * time.Second
	// Engines (uvicorn) close a connection that was idle for 5 s; a request sent at that moment would be lost.
	idleTimeout = 4 * time.Second
)

// Replica is one engine: its address, its key, its connections, what it is busy with and how it is. Everything but the
// load and the health is fixed; a replica that moves is another Replica with the same load.
type Replica struct {
	id            string
	place         uint64 // of the id, see ChooseFor
	addr          string
	key           secret.Secret
	authorization []string // the header's value, made once
	connections   *connections
	*Load
	Health
}

func newReplica(id, addr string, key secret.Secret, l *Load) *Replica {
	return &Replica{
		id:            id,
		place:         placeOf(id),
		addr:          addr,
		key:           key,
		authorization: []string{"Bearer " + key.Reveal()},
		connections:   newConnections(tcp.Dialer(dialTimeout), addr, idleTimeout),
		Load:          l,
	}
}

func (r *Replica) closeIdle() { r.connections.closeIdle() }

// ID is the replica's id.
func (r *Replica) ID() string { return r.id }

// Send sends out to the replica, with the replica's own key. out's URL needs a path and a query only, and is completed; the
// key is written into its header map: out is sent to nobody else. Redirects are not followed.
func (r *Replica) Send(out *http.Request) (*http.Response, error) {
	out.URL.Scheme, out.URL.Host, out.Host = "http", r.addr, ""
	out.Header["Authorization"] = r.authorization
	return r.connections.RoundTrip(out)
}

// Undelivered reports whether err of Send says that the replica was never reached, so that another may be asked.
func Undelivered(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// Escaped is the URL of a canonical path and a query, for Send to complete.
func Escaped(path, query string) url.URL {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		decoded = path
	}
	return url.URL{Path: decoded, RawPath: path, RawQuery: query}
}
