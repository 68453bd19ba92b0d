package gateway

import (
	"bufio"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"
)

// tunnelGrace is how long one end of a WebSocket may stay when the other has gone. Both protocol and proxy allow it to
// stay for ever, and there are clients that forget to leave.
const tunnelGrace = 5 * time.Second

var errTunnelEnd = errors.New("the other end of the WebSocket has gone")

func (c *call) asksForWebSocket() bool {
	return c.in.Method == http.MethodGet && strings.EqualFold(c.in.Header.Get("Upgrade"), "websocket")
}

// tunnel passes a WebSocket's handshake, and then what both ends say.
func (c *call) tunnel(w http.ResponseWriter) (refused *refusal) {
	proxy := httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { p.Out.Host, p.Out.Trailer = "", nil; c.address(p.Out) },
		Transport:      c,
		ModifyResponse: c.accept,
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { refused = c.failed(err) },
		ErrorLog:       silent,
	}
	proxy.ServeHTTP(tunnelWriter{w}, c.in)
	return refused
}

var silent = log.New(io.Discard, "", 0) // the call reports its own errors

// tunnelWriter gives away a client's connection that ends some time after the service's has.
type tunnelWriter struct{ http.ResponseWriter }

func (w tunnelWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	return clientEnd{conn}, buffered, err
}

type clientEnd struct{ net.Conn }

// CloseWrite tells the client that nothing more will come, and gives it a moment to say the same.
func (e clientEnd) CloseWrite() error {
	if err := e.SetReadDeadline(time.Now().Add(tunnelGrace)); err != nil {
		return err
	}
	if half, ok := e.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errTunnelEnd
}

type serviceEnd struct{ io.ReadWriteCloser }

// CloseWrite tells the service that nothing more will come, and gives it a moment to say the same.
func (e serviceEnd) CloseWrite() error {
	time.AfterFunc(tunnelGrace, func() { _ = e.Close() })
	if half, ok := e.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errTunnelEnd
}
