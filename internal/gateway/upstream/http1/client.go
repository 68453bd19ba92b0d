// Package http1 asks one server over HTTP/1.1: with a pool of connections, one system call for a small request, no
// goroutine for it, and answers that can be read in one way only.
//
// It is made for a gateway's traffic to inference engines. It knows no redirects, proxies, cookies, compression, HTTP/2 or
// upgrades, and it does not pass trailers on.
package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"
)

// Config says whom a Client asks and how.
type Config struct {
	Dial        func(ctx context.Context) (net.Conn, error)
	MaxIdle     int           // connections kept for later
	IdleTimeout time.Duration // after which one is not used again; shorter than the server's own
}

// Client asks one server. Use it from as many goroutines as you like.
type Client struct {
	config Config
	idle   pool
}

// New returns a Client without connections.
func New(config Config) *Client {
	return &Client{config: config, idle: pool{max: int64(config.MaxIdle), maxAge: config.IdleTimeout}}
}

// RoundTrip sends a request and returns the answer once its head has come; it is an http.RoundTripper, and closes the
// request's body. The Host of the request, else of its URL, is sent as Host. The context ends the request and the
// reading of the answer. An error of Dial is returned as it is: then nothing was sent.
//
// A request that fails on a connection that was used before is repeated on a new one if its method is idempotent and it
// has no body, or a GetBody. That is all that is repeated.
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := check(r); err != nil {
		closeBody(r.Body)
		return nil, fmt.Errorf("the request cannot be sent: %w", err)
	}
	for {
		cn, err := c.connection(r.Context())
		if err != nil {
			closeBody(r.Body)
			return nil, err
		}
		response, err := cn.roundTrip(r)
		switch {
		case err == nil:
			return response, nil
		case errors.Is(err, errStale) && r.Context().Err() == nil:
			continue
		case errors.Is(err, errStale):
			closeBody(r.Body)
		case cn.reused && errors.Is(err, errNoAnswer) && r.Context().Err() == nil && rewind(r):
			continue
		}
		return nil, orCause(r.Context(), err)
	}
}

// errStale is that a connection cannot be used again. Nothing was sent.
var errStale = errors.New("the server has closed the connection, or said something unasked")

// errNoAnswer is that a connection ended before the first byte of an answer.
var errNoAnswer = errors.New("the connection ended before an answer came")

// rewind makes a request ready to be sent again, if that is harmless.
func rewind(r *http.Request) bool {
	idempotent := slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete}, r.Method)
	if !idempotent || r.Body == nil || r.Body == http.NoBody {
		return idempotent
	}
	if whole, ok := r.Body.(*Bytes); ok {
		r.Body = whole.Again()
		return true
	}
	if r.GetBody == nil {
		return false
	}
	body, err := r.GetBody()
	if err != nil {
		return false
	}
	r.Body = body
	return true
}

// orCause prefers the end of the context to what it led to.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// connection returns a connection that has not been idle for too long, or a new one.
func (c *Client) connection(ctx context.Context) (*conn, error) {
	for {
		cn := c.idle.take()
		if cn == nil {
			break
		}
		if time.Since(cn.idleSince) <= c.config.IdleTimeout && len(cn.read.Buffered()) == 0 {
			cn.reused = true
			return cn, nil
		}
		_ = cn.Close()
	}
	socket, err := c.config.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return newConn(c, socket), nil
}

// CloseIdle closes the connections that no request uses.
func (c *Client) CloseIdle() { c.idle.close() }

func closeBody(body io.Closer) {
	if body != nil {
		_ = body.Close()
	}
}

// ProtocolError is that the server did not speak HTTP/1.1 as it is written.
type ProtocolError struct{ Reason error }

func (e *ProtocolError) Error() string { return "the server broke HTTP/1.1: " + e.Reason.Error() }

// Unwrap is for package errors.
func (e *ProtocolError) Unwrap() error { return e.Reason }

func broken(format string, args ...any) error { return &ProtocolError{fmt.Errorf(format, args...)} }
