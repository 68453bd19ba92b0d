package http1

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/socket"
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
	reused    bool                  // for another request than its first
	end       func()                // closes it
	begin     func(fd uintptr) bool // begins current
	current   *use
}

func newConn(c *Client, socket net.Conn) *conn {
	cn := &conn{Conn: socket, client: c, read: wire.NewReader(socket)}
	if s, ok := socket.(syscall.Conn); ok {
		cn.raw, _ = s.SyscallConn()
	}
	cn.end, cn.begin = func() { _ = cn.Close() }, cn.ask
	return cn
}

// ask sends the current request as far as the system takes it, unless that would be no answer to it that comes.
func (cn *conn) ask(fd uintptr) bool {
	if cn.reused && !socket.IsQuiet(fd) {
		return false
	}
	cn.current.sending.begin(cn, fd)
	return true
}

// roundTrip sends a request and reads the head of its answer. On an error the connection is closed.
func (cn *conn) roundTrip(r *http.Request) (*http.Response, error) {
	// The end of the context ends the connection, which wakes whoever waits for it. No goroutine waits for that.
	u := &use{conn: cn, stop: AfterFunc(r.Context(), cn.end)}
	u.sending.prepare(r)
	response, err := u.readHead(r)
	if err != nil {
		u.abandon()
		return nil, err
	}
	u.reusable = !response.Close
	response.Body = u.bodyOf(response)
	return response, nil
}

// AfterFunc is context.AfterFunc, for less where the context itself knows how.
func AfterFunc(ctx context.Context, f func()) (stop func() bool) {
	if able, ok := ctx.(interface{ AfterFunc(func()) func() bool }); ok {
		return able.AfterFunc(f)
	}
	return context.AfterFunc(ctx, f)
}

// use is one request's use of a connection, until its answer has been read.
type use struct {
	*conn
	stop     func() bool // ends the watch over the context; false: that has ended, and the connection with it
	sending  sending
	body     body
	reusable bool
}

// readHead sends the request and reads the head of the final answer. A server that refuses a request before it has read all
// of it answers and closes, so that an answer may have come though the sending failed.
func (u *use) readHead(r *http.Request) (*http.Response, error) {
	failed, err := u.await()
	switch {
	case errors.Is(err, errStale):
		return nil, err
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

// await sends the request and waits for the first byte of an answer. failed is why not all of it could be sent, if that is
// known before.
func (u *use) await() (failed, err error) {
	if u.raw != nil && u.sending.known {
		return nil, u.askAndAwait()
	}
	if u.reused && u.raw != nil && !u.looksQuiet() {
		u.sending.drop()
		return nil, errStale
	}
	u.sending.goOn(u.conn)
	if failed = u.sending.failed(); failed != nil {
		_ = u.SetReadDeadline(time.Now().Add(lastWords))
	}
	return failed, u.read.Fill()
}

// askAndAwait sends as much as the system takes at once when it is told to tell of the answer: otherwise that would have to
// be looked for in vain first.
func (u *use) askAndAwait() error {
	u.current = u
	err := u.read.FillAnswer(u.begin, !u.reused) // a server may refuse a new connection before it is asked anything
	u.current = nil
	if !u.sending.drop() {
		return err
	}
	if errors.Is(err, wire.ErrNotAsked) {
		return errStale
	}
	closeBody(u.sending.of.Body)
	return err
}

func (cn *conn) looksQuiet() (quiet bool) {
	err := cn.raw.Control(func(fd uintptr) { quiet = socket.IsQuiet(fd) })
	return err == nil && quiet
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
