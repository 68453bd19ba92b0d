package stall

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/socket"
)

// Listen returns a listener whose connections are cut when their client has not read for too long, whatever is written to
// them: the head of an answer or its end, an event, a piece of a WebSocket.
func (c *Clients) Listen(l net.Listener) net.Listener {
	if c.answer == 0 {
		return l
	}
	return &listener{l, c}
}

type listener struct {
	net.Listener
	clients *Clients
}

func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, clients: l.clients, accepted: time.Now()}
	if raw, err := c.SyscallConn(); err == nil {
		c.raw, c.try = raw, c.tryWrite
	}
	return c, nil
}

// conn has a deadline for writing at any time that something is written. It has expired now and then while nothing was.
type conn struct {
	net.Conn
	clients  *Clients
	accepted time.Time
	until    atomic.Int64 // how long after accepted the deadline need not be moved; 0: there is none
	theirs   atomic.Bool  // the deadline is somebody else's, who knows better

	raw  syscall.RawConn // nil: not a socket of the system
	mu   sync.Mutex
	left []byte                // to be written to raw
	err  error                 // of that
	try  func(fd uintptr) bool // does it
}

func (c *conn) Write(p []byte) (int, error) {
	c.moveDeadline()
	n, err := c.write(p)
	if err != nil && !c.theirs.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		c.clients.answers.Add(1)
	}
	return n, err
}

func (c *conn) write(p []byte) (int, error) {
	if c.raw == nil || len(p) > socket.Small {
		return c.Conn.Write(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.err = p, nil
	err := c.raw.Write(c.try)
	n := len(p) - len(c.left)
	c.left = nil
	if err == nil && c.err != nil {
		err = &net.OpError{Op: "write", Net: "tcp", Addr: c.RemoteAddr(), Err: c.err}
	}
	return n, err
}

// tryWrite writes what there is room for and reports whether that was all, or failed.
func (c *conn) tryWrite(fd uintptr) bool {
	for len(c.left) > 0 {
		n, err := socket.Write(fd, c.left)
		switch {
		case err == nil:
			c.left = c.left[n:]
		case errors.Is(err, syscall.EAGAIN):
			return false
		case !errors.Is(err, syscall.EINTR):
			c.err = err
			return true
		}
	}
	return true
}

// moveDeadline leaves a write the time that a client has, or a little more: a deadline costs as much as ten looks at it.
func (c *conn) moveDeadline() {
	now := time.Since(c.accepted)
	if c.theirs.Load() || now < time.Duration(c.until.Load()) {
		return
	}
	slack := c.clients.answer / 8
	c.until.Store(int64(now + slack))
	_ = c.Conn.SetWriteDeadline(time.Now().Add(c.clients.answer + slack))
}

// SetDeadline sets one that is not moved until it is taken away by the zero time.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetWriteDeadline is as SetDeadline. net/http takes its deadline away after every request, where it has none.
func (c *conn) SetWriteDeadline(t time.Time) error {
	was := c.theirs.Swap(!t.IsZero())
	if t.IsZero() && !was {
		return nil
	}
	c.until.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

// SyscallConn is for who waits for reads, which are not watched.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if socket, ok := c.Conn.(syscall.Conn); ok {
		return socket.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// CloseWrite ends the writing half, where there are halves.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
