package http1

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/wire"
)

// lastWords is how long a server that stopped reading has to say why.
const lastWords = 100 * time.Millisecond

// conn is a connection. One request uses it at a time.
type conn struct {
	net.Conn
	client    *Client
	raw       syscall.RawConn // nil: not a socket of the system
	read      *wire.Reader
	idleSince time.Time
}

func newConn(c *Client, socket net.Conn) *conn {
	cn := &conn{Conn: socket, client: c, read: wire.NewReader(socket)}
	if s, ok := socket.(syscall.Conn); ok {
		cn.raw, _ = s.SyscallConn()
	}
	return cn
}

// usable reports whether a connection that was idle may be used again: it was not for too long, the server has not
// closed it, and nothing has come that nobody asked for.
func (cn *conn) usable(idleTimeout time.Duration) bool {
	if time.Since(cn.idleSince) > idleTimeout || len(cn.read.Buffered()) > 0 {
		return false
	}
	if cn.raw == nil {
		return true
	}
	quiet := false
	err := cn.raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN
		return true
	})
	return err == nil && quiet
}

// roundTrip sends a request and reads the head of its answer. On an error the connection is closed.
func (cn *conn) roundTrip(r *http.Request) (*http.Response, error) {
	// The end of the context ends the connection, which wakes whoever waits for it. No goroutine waits for that.
	u := &use{conn: cn, stop: context.AfterFunc(r.Context(), func() { _ = cn.Close() })}
	u.sending.send(cn, r)
	response, err := u.readHead(r)
	if err != nil {
		u.abandon()
		return nil, err
	}
	u.reusable = !response.Close
	response.Body = newBody(u, response)
	return response, nil
}

// use is one request's use of a connection, until its answer has been read.
type use struct {
	*conn
	stop     func() bool // ends the watch over the context; false: that has ended, and the connection with it
	sending  sending
	reusable bool
}

// readHead reads the head of the final answer. A server that refuses a request before it has read all of it answers and
// closes, so that an answer may have come though the sending failed.
func (u *use) readHead(r *http.Request) (*http.Response, error) {
	failed := u.sending.failed()
	if failed != nil {
		_ = u.SetReadDeadline(time.Now().Add(lastWords))
	}
	err := u.read.Fill()
	switch {
	case err == nil:
		response, err := readResponse(u.read, r)
		if failed != nil {
			_ = u.SetReadDeadline(time.Time{})
		}
		return response, err
	case failed != nil:
		return nil, failed
	case u.sending.upload() != nil:
		return nil, u.sending.upload()
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
		return nil, errNoAnswer
	}
	return nil, err
}

// finish gives the connection back, or closes it when it cannot be used again.
func (u *use) finish() {
	u.read.Release()
	if u.stop() && u.reusable && u.sending.complete() && len(u.read.Buffered()) == 0 {
		u.client.idle.put(u.conn)
		return
	}
	_ = u.Close()
}

// abandon closes the connection, because the answer is not wanted to its end.
func (u *use) abandon() {
	u.stop()
	_ = u.Close()
}
