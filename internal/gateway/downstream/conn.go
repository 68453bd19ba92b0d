package downstream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/wire"
)

// phase is what a connection is doing and until when it may, in ticks of its server. What has no end is busy.
type phase int64

const (
	busy  phase = 0  // with a request
	woken phase = -1 // it did what it was doing for too long, or the server shuts down

	inHead phase = 1 // reads a head
	idle   phase = 2 // waits for another request
	fresh  phase = 3 // waits for its first request
	kinds  phase = 3
)

// conn is a client's connection, served by one goroutine.
type conn struct {
	server  *Server
	id      uint64
	socket  net.Conn // or what is spoken over it
	under   net.Conn // the socket
	tls     *tls.ConnectionState
	remote  string
	in      *wire.Reader
	out     out
	phase   atomic.Int64
	current atomic.Pointer[exchange] // that is answered; nil: none
	gone    atomic.Bool              // the client, or the server
	dated   atomic.Bool              // a handler has set a deadline
	taken   atomic.Bool              // a handler has taken the connection over
	since   int64                    // tick in which it was accepted
	soon    guess
}

var past = time.Unix(1, 0)

// run serves the connection until it ends.
func (c *conn) run() {
	defer c.leave()
	if c.server.TLS != nil && !c.shakeHands() {
		return
	}
	c.in = wire.NewReader(c.socket)
	for next := fresh; c.await(next); next = idle {
		ex := c.readRequest()
		if ex == nil || !c.answer(ex) {
			return
		}
	}
}

// leave ends the connection, unless it is somebody else's now.
func (c *conn) leave() {
	if reason := recover(); reason != nil && reason != http.ErrAbortHandler { //nolint:errorlint // a panic with this very value
		stack := make([]byte, 64<<10)
		stack = stack[:runtime.Stack(stack, false)]
		c.server.log("panic while %s was served: %v\n%s", c.remote, reason, stack)
	}
	if ex := c.current.Swap(nil); ex != nil {
		ex.abort()
	}
	if !c.taken.Load() {
		_ = c.socket.Close()
	}
	c.server.remove(c)
}

// enter begins a phase and reports whether the one before had not been ended.
func (c *conn) enter(next phase) bool {
	switch next {
	case inHead, fresh:
		next |= phase(c.server.tick.Load()+headTicks) << 2
	case idle:
		next |= phase(c.server.tick.Load()+c.server.idleTicks) << 2
	}
	return phase(c.phase.Swap(int64(next))) != woken || c.goesOn()
}

// goesOn reports whether a connection that was woken is so only because the server shuts down, which still answers a
// request that has begun to come.
func (c *conn) goesOn() bool {
	if !c.server.isDraining() { // waits for whoever woke it
		return false
	}
	return c.under.SetReadDeadline(time.Time{}) == nil
}

// wake ends the phase if that is to be. The server's lock is held.
func (c *conn) wake(tick int64, draining bool) {
	now := phase(c.phase.Load())
	if now == busy || now == woken {
		return
	}
	kind := now & kinds
	late := tick > int64(now>>2) || draining && (kind == idle || kind == fresh && tick > c.since+freshTicks)
	if late && c.phase.CompareAndSwap(int64(now), int64(woken)) {
		_ = c.under.SetReadDeadline(past)
	}
}

// await waits until a request begins to come.
func (c *conn) await(kind phase) bool {
	if c.dated.CompareAndSwap(true, false) {
		_ = c.under.SetDeadline(time.Time{})
	}
	if len(c.in.Buffered()) > 0 {
		return true
	}
	if c.server.isClosing() && kind == idle || !c.enter(kind) {
		return false
	}
	err := c.fill(kind == idle)
	if errors.Is(err, os.ErrDeadlineExceeded) && c.enter(inHead) { // it may have come in this moment
		err = c.in.FillNow()
	}
	return err == nil
}

// fill waits until something comes. Where another request is likely to be there once the goroutines that are ready have had
// their turn, they have it first: to look for it in vain and be woken takes longer.
func (c *conn) fill(again bool) error {
	if !again || !c.soon.isYes() {
		return c.in.Fill()
	}
	runtime.Gosched()
	err := c.in.Fill()
	c.soon.was(!c.in.Waited())
	return err
}

// guess is whether something will happen, by how it went before. A wrong yes is dear on a machine that is not busy, as it
// wakes a thread: after one too many only every so many-th time is a yes. The zero value tries.
type guess int8

const (
	surest   guess = 4
	doubtful guess = -16
)

func (g *guess) isYes() bool {
	if *g < 0 {
		*g++
		return false
	}
	return true
}

// was is how it went after a yes.
func (g *guess) was(right bool) {
	switch {
	case right:
		*g = min(*g+1, surest)
	case *g <= 1:
		*g = doubtful
	default:
		*g -= 2
	}
}

// readRequest reads a head; nil: the connection is to be closed.
func (c *conn) readRequest() *exchange {
	h := heads.Get().(*head)
	defer h.release()
	for waits := false; ; {
		whole, err := h.follow(c.in.Buffered())
		switch {
		case err != nil:
			c.refuse(http.StatusBadRequest, err)
			return nil
		case h.at > maxHead:
			c.refuse(http.StatusRequestHeaderFieldsTooLarge, errLongHead)
			return nil
		case whole:
			return c.begin(h)
		}
		if !waits && !c.enter(inHead) {
			return nil
		}
		waits = true
		if c.in.Fill() != nil {
			return nil
		}
	}
}

// begin makes a request of a head.
func (c *conn) begin(h *head) *exchange {
	if !c.enter(busy) {
		return nil
	}
	ex := &exchange{scope: scope{conn: c}}
	status, err := ex.read(h, c.in.Buffered()[:h.at])
	c.in.Discard(h.at)
	if err != nil {
		c.refuse(status, err)
		return nil
	}
	c.current.Store(ex)
	if c.gone.Load() {
		ex.end()
	}
	return ex
}

// answer has a request answered and reports whether another may follow.
func (c *conn) answer(ex *exchange) bool {
	w := &ex.response
	c.server.Handler.ServeHTTP(w, &ex.request)
	if c.taken.Load() {
		return false
	}
	sent := w.finish()
	read := ex.finish()
	c.current.Store(nil)
	switch {
	case sent && read:
		return !w.closes
	case sent:
		c.lingerOn()
	}
	return false
}

// client has gone: nobody is left to be answered.
func (c *conn) left() {
	c.gone.Store(true)
	if ex := c.current.Load(); ex != nil {
		ex.end()
	}
}

// interrupt ends a read that waits.
func (c *conn) interrupt() {
	c.dated.Store(true)
	_ = c.under.SetReadDeadline(past)
}

const (
	answerTimeout = 5 * time.Second
	// lingerTime and lingerBytes bound what is still read when the connection is about to be closed: one that is closed
	// with unread data is reset, and the client would not see its answer.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 1 << 20
)

// lingerOn says that nothing more will come, and reads on for a moment.
func (c *conn) lingerOn() {
	if half, ok := c.socket.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = c.socket.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.in, lingerBytes)
}
