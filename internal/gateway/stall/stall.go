// Package stall gives up clients that stand still: that stop sending a body that is waited for, or stop reading an answer.
//
// A body is watched by a timer while a read of it waits. Answers are watched on the connection, by a deadline that moves on
// now and then rather than with every write; in HTTP/2, where each stream may stand still by itself, by a timer too.
package stall

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// ErrBody is that a client stopped sending a body.
var ErrBody = errors.New("the client stopped sending the body")

// Clients are those of one gateway.
type Clients struct {
	body, answer    time.Duration
	bodies, answers atomic.Uint64 // given up
}

// New returns Clients that are given up after so long without a byte of a body that is waited for, and without room for
// what is written of an answer at once. 0 is never.
func New(body, answer time.Duration) *Clients { return &Clients{body: body, answer: answer} }

// Bodies is how many requests were given up because their body stopped coming.
func (c *Clients) Bodies() uint64 { return c.bodies.Load() }

// Answers is how many answers were cut because their client stopped reading. A whole connection of HTTP/2 counts beside
// its streams.
func (c *Clients) Answers() uint64 { return c.answers.Load() }

// Body returns the body of a request that w answers. Reading it fails with ErrBody when nothing has come for too long; no
// more of it can be read then.
func (c *Clients) Body(w http.ResponseWriter, of io.ReadCloser) io.ReadCloser {
	if c.body == 0 || of == http.NoBody {
		return of
	}
	return &body{ReadCloser: of, clients: c, answer: w}
}

type body struct {
	io.ReadCloser
	clients *Clients
	answer  http.ResponseWriter
	timer   *time.Timer // runs while a read waits
}

func (b *body) Read(p []byte) (int, error) {
	if here, ok := b.ReadCloser.(interface{ Ready() bool }); ok && here.Ready() {
		return b.ReadCloser.Read(p)
	}
	if b.timer == nil {
		b.timer = time.AfterFunc(b.clients.body, b.giveUp)
	} else {
		b.timer.Reset(b.clients.body)
	}
	n, err := b.ReadCloser.Read(p)
	if !b.timer.Stop() {
		b.clients.bodies.Add(1)
		return n, ErrBody
	}
	return n, err
}

// giveUp ends the read that waits.
func (b *body) giveUp() {
	end := func() { _ = http.NewResponseController(b.answer).SetReadDeadline(past) }
	if s, ok := b.answer.(*stream); ok {
		s.whileAnswered(end)
		return
	}
	end()
}

var past = time.Unix(1, 0)

// Handler watches over the answers of HTTP/2: a stream may stand still while others of its connection go on. The
// connections themselves are watched by Listen.
func (c *Clients) Handler(h http.Handler) http.Handler {
	if c.answer == 0 {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor < 2 {
			h.ServeHTTP(w, r)
			return
		}
		s := &stream{ResponseWriter: w, control: http.NewResponseController(w), clients: c}
		defer s.finish()
		h.ServeHTTP(s, r)
	})
}

// stream is an answer in HTTP/2.
type stream struct {
	http.ResponseWriter
	control *http.ResponseController
	clients *Clients
	timer   *time.Timer // runs while a write waits

	mu   sync.Mutex
	over bool // the handler has returned: net/http knows the answer no more
}

// Unwrap is for http.ResponseController.
func (s *stream) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *stream) Write(p []byte) (int, error) {
	defer s.watch()()
	return s.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController.
func (s *stream) FlushError() error {
	defer s.watch()()
	return s.control.Flush()
}

// watch has the stream cut after a while unless what it returns is called before.
func (s *stream) watch() (stop func()) {
	if s.timer == nil {
		s.timer = time.AfterFunc(s.clients.answer, s.cut)
	} else {
		s.timer.Reset(s.clients.answer)
	}
	return func() { s.timer.Stop() }
}

func (s *stream) cut() {
	s.whileAnswered(func() {
		s.clients.answers.Add(1)
		_ = s.control.SetWriteDeadline(past)
	})
}

// whileAnswered calls do unless the handler has returned: net/http would fall over a deadline then. A timer that has
// fired is not to be stopped any more, so that it may come late.
func (s *stream) whileAnswered(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		do()
	}
}

// finish bounds what the server still writes when the handler has returned.
func (s *stream) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	_ = s.control.SetWriteDeadline(time.Now().Add(s.clients.answer))
}
