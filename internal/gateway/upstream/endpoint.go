package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
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

// Endpoint is one address of a service that is not ours, with its connections.
type Endpoint struct {
	scheme, host string
	path         string // before every path; "" or /…, without a final slash
	guard        Guard
	transport    atomic.Pointer[http.Transport]
}

// NewEndpoint returns the endpoint at an http or https URL.
func NewEndpoint(address string, guard Guard) (*Endpoint, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	return &Endpoint{scheme: u.Scheme, host: u.Host, path: strings.TrimSuffix(u.EscapedPath(), "/"), guard: guard}, nil
}

// URL is the address of a path, as it was escaped, at the endpoint.
func (e *Endpoint) URL(path, query string) *url.URL {
	u := Escaped(e.path+path, query)
	u.Scheme, u.Host = e.scheme, e.host
	return u
}

// Send sends out, whose URL is of this endpoint. Redirects are not followed, and the environment names no proxy.
func (e *Endpoint) Send(out *http.Request) (*http.Response, error) {
	return e.connections().RoundTrip(out)
}

func (e *Endpoint) connections() *http.Transport {
	if t := e.transport.Load(); t != nil {
		return t
	}
	e.transport.CompareAndSwap(nil, &http.Transport{
		Proxy:               nil,
		DialContext:         (&net.Dialer{Timeout: outsideDialTimeout, ControlContext: e.check}).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: outsideDialTimeout,
		ForceAttemptHTTP2:   true,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 1024,
		IdleConnTimeout:     outsideIdleTimeout,
	})
	return e.transport.Load()
}

// check runs for every address just before it is dialled.
func (e *Endpoint) check(_ context.Context, _, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	return e.guard.Check(addr)
}

// CloseIdle closes the connections that no request uses.
func (e *Endpoint) CloseIdle() {
	if t := e.transport.Load(); t != nil {
		t.CloseIdleConnections()
	}
}
