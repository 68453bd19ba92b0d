package upstream

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/upstream/http1"
)

const (
	maxIdle             = 4096 // connections to one address
	tlsHandshakeTimeout = 5 * time.Second
)

// connections are those to one address: with one pool for all, every request would take its lock. Plain HTTP/1.1, which
// engines speak, goes over a client of our own; TLS, HTTP/2 and WebSockets over net/http's.
type connections struct {
	dialer net.Dialer
	idle   time.Duration // after which a connection is not used again
	plain  *http1.Client // nil: with TLS only
	other  atomic.Pointer[http.Transport]
}

// newConnections returns connections over dialer to address, host:port; "" with TLS.
func newConnections(dialer net.Dialer, address string, idle time.Duration) *connections {
	c := &connections{dialer: dialer, idle: idle}
	if address != "" {
		c.plain = http1.New(http1.Config{
			MaxIdle: maxIdle, IdleTimeout: idle,
			Dial: func(ctx context.Context) (net.Conn, error) { return c.dial(ctx, "tcp", address) },
		})
	}
	return c
}

type connectTimeoutKey struct{}

// hasty is a context in which connections are made in a time of its own.
type hasty struct {
	context.Context
	timeout time.Duration
}

// Value is part of context.Context.
func (h hasty) Value(key any) any {
	if key == (connectTimeoutKey{}) {
		return h.timeout
	}
	return h.Context.Value(key)
}

// AfterFunc is what package context looks for.
func (h hasty) AfterFunc(f func()) (stop func() bool) { return http1.AfterFunc(h.Context, f) }

// WithConnectTimeout has the connections of a request made in this time, instead of the usual one.
func WithConnectTimeout(ctx context.Context, timeout time.Duration) context.Context {
	return hasty{ctx, timeout}
}

func (c *connections) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := c.dialer
	if timeout, ok := ctx.Value(connectTimeoutKey{}).(time.Duration); ok {
		dialer.Timeout = timeout
	}
	return dialer.DialContext(ctx, network, address)
}

// RoundTrip sends a request. Redirects are not followed.
func (c *connections) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.plain != nil && r.Header["Upgrade"] == nil {
		return c.plain.RoundTrip(r)
	}
	if r.Header["User-Agent"] == nil {
		r.Header["User-Agent"] = []string{""} // or net/http's own is sent
	}
	if whole, ok := r.Body.(*http1.Bytes); ok {
		r.GetBody = func() (io.ReadCloser, error) { return whole.Again(), nil }
	}
	return c.transport().RoundTrip(r)
}

// transport is made by the first request that needs it.
func (c *connections) transport() *http.Transport {
	if t := c.other.Load(); t != nil {
		return t
	}
	c.other.CompareAndSwap(nil, &http.Transport{
		Proxy:               nil, // the environment does not decide where prompts go
		DialContext:         c.dial,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: tlsHandshakeTimeout,
		ForceAttemptHTTP2:   true,
		DisableCompression:  true,
		MaxIdleConnsPerHost: maxIdle,
		IdleConnTimeout:     c.idle,
	})
	return c.other.Load()
}

func (c *connections) closeIdle() {
	if c.plain != nil {
		c.plain.CloseIdle()
	}
	if t := c.other.Load(); t != nil {
		t.CloseIdleConnections()
	}
}
