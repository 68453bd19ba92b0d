package downstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
)

// shakeHands begins to speak TLS, and reports whether the connection is to be served here: one that agreed on HTTP/2 is
// handed over.
func (c *conn) shakeHands() bool {
	t := tls.Server(c.under, c.server.TLS)
	c.enter(fresh)
	if err := t.HandshakeContext(context.Background()); err != nil {
		c.handshakeFailed(err)
		return false
	}
	if !c.enter(busy) {
		return false
	}
	state := t.ConnectionState()
	if state.NegotiatedProtocol == "h2" {
		c.taken.Store(c.server.handOver(t))
		return false
	}
	c.socket, c.tls = t, &state
	return true
}

func (c *conn) handshakeFailed(err error) {
	var header tls.RecordHeaderError
	if errors.As(err, &header) && header.Conn != nil && looksLikeHTTP(header.RecordHeader) {
		_, _ = io.WriteString(header.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		err = errors.New("it was an HTTP request")
	}
	c.server.log("TLS handshake with %s: %v", c.remote, err)
}

// looksLikeHTTP reports whether the first bytes are a method's and not those of TLS.
func looksLikeHTTP(begin [5]byte) bool {
	switch string(begin[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH":
		return true
	}
	return false
}

// handOver leaves a connection to net/http, unless that takes no more.
func (s *Server) handOver(c net.Conn) bool {
	select {
	case s.handover.handed <- c:
		return true
	case <-s.handover.closed:
		return false
	}
}

// handover is the listener of net/http's server.
type handover struct {
	addr   net.Addr
	handed chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.handed:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handover) Addr() net.Addr { return h.addr }
