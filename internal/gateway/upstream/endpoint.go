package upstream

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	outsideDialTimeout = 5 * time.Second
	outsideIdleTimeout = time.Minute
)

// Guard decides which addresses may be dialled. It sees what a name was resolved to, so that a name cannot lead to an
// address that was not meant.
type Guard interface {
	Check(addr netip.AddrPort) error
}

// Endpoint is one address of a service that is not ours, with its connections, what it is busy with and how it is.
type Endpoint struct {
	scheme, host string
	path         string // before every path; "" or /…, without a final slash
	connections  *connections
	Load
	Health
}

// NewEndpoint returns the endpoint at an http or https URL.
func NewEndpoint(address string, guard Guard) (*Endpoint, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{scheme: u.Scheme, host: u.Host, path: strings.TrimSuffix(u.EscapedPath(), "/")}
	plain := ""
	if u.Scheme == "http" {
		plain = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80"))
	}
	e.connections = newConnections(net.Dialer{Timeout: outsideDialTimeout, ControlContext: checkedBy(guard)}, plain, outsideIdleTimeout)
	return e, nil
}

// checkedBy has every address checked just before it is dialled.
func checkedBy(guard Guard) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		addr, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return guard.Check(addr)
	}
}

// ID is where the endpoint is: host and port.
func (e *Endpoint) ID() string { return e.host }

// Send sends out to the endpoint. out's URL is Escaped of path, and is completed: out is sent to nobody else. Redirects are
// not followed, and the environment names no proxy.
func (e *Endpoint) Send(path string, out *http.Request) (*http.Response, error) {
	if e.path != "" {
		*out.URL = Escaped(e.path+path, out.URL.RawQuery)
	}
	out.URL.Scheme, out.URL.Host = e.scheme, e.host
	return e.connections.RoundTrip(out)
}

// CloseIdle closes the connections that no request uses.
func (e *Endpoint) CloseIdle() { e.connections.closeIdle() }
