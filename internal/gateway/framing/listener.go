package framing

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

const handshakeTimeout = 10 * time.Second

// Listen returns a listener for an http.Server whose HTTP/1 connections are checked; refused hears why a request was
// not let through. With a config it speaks TLS, and connections that agreed on HTTP/2, whose framing is in one way, pass
// as they are. The server's ConnState must be Follow.
func Listen(l net.Listener, config *tls.Config, refused func(reason error)) net.Listener {
	if config == nil {
		return &plain{l, refused}
	}
	t := &secure{Listener: l, config: config, refused: refused, accepted: make(chan accepted)}
	t.open, t.close = context.WithCancel(context.Background())
	t.running.Go(t.run)
	return t
}

// Follow is for http.Server.ConnState: it says when requests are answered, and that a hijacked connection speaks
// something else from then on.
func Follow(nc net.Conn, state http.ConnState) {
	var c *conn
	switch nc := nc.(type) {
	case *conn:
		c = nc
	case *tlsConn:
		c = &nc.conn
	default:
		return
	}
	c.busy.Store(state == http.StateActive)
	if state == http.StateHijacked {
		c.free = true // nobody reads at this moment, as may be at the others
	}
}

type plain struct {
	net.Listener
	refused func(error)
}

func (l *plain) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, refused: l.refused}, nil
}

// tlsConn shows net/http that it is one.
type tlsConn struct {
	conn
	state tls.ConnectionState
}

// ConnectionState becomes Request.TLS.
func (c *tlsConn) ConnectionState() tls.ConnectionState { return c.state }

// secure accepts what has shaken hands: only then is it known which protocol a connection speaks.
type secure struct {
	net.Listener
	config   *tls.Config
	refused  func(error)
	accepted chan accepted
	open     context.Context
	close    context.CancelFunc
	running  sync.WaitGroup
}

type accepted struct {
	conn net.Conn
	err  error
}

func (l *secure) Accept() (net.Conn, error) {
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-l.open.Done():
		return nil, net.ErrClosed
	}
}

// Close ends the handshakes that are under way, too.
func (l *secure) Close() error {
	l.close()
	err := l.Listener.Close()
	l.running.Wait()
	return err
}

func (l *secure) run() {
	for l.open.Err() == nil {
		c, err := l.Listener.Accept()
		if err != nil {
			l.hand(accepted{err: err})
			continue
		}
		l.running.Go(func() { l.hand(accepted{conn: l.shakeHands(c)}) })
	}
}

// hand waits until somebody accepts, or nobody will.
func (l *secure) hand(a accepted) {
	select {
	case l.accepted <- a:
	case <-l.open.Done():
		if a.conn != nil {
			a.conn.Close()
		}
	}
}

// shakeHands returns a connection that failed as it is: net/http reports the failure, which is remembered.
func (l *secure) shakeHands(c net.Conn) net.Conn {
	t := tls.Server(c, l.config)
	_ = c.SetDeadline(time.Now().Add(handshakeTimeout))
	if t.HandshakeContext(l.open) != nil {
		return t
	}
	_ = c.SetDeadline(time.Time{})
	state := t.ConnectionState()
	if state.NegotiatedProtocol == "h2" {
		return t
	}
	return &tlsConn{conn: conn{Conn: t, refused: l.refused}, state: state}
}
