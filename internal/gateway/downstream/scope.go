package downstream

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

// scope is the context of a request. It ends when the client leaves, when the request has been answered, and with the
// server's own. What is to happen then costs little to add and to take away: most requests end before anything else does.
type scope struct {
	conn *conn

	mu    sync.Mutex
	err   error
	done  chan struct{} // nil: nobody has asked for it
	after []afterwards
	few   [2]afterwards // memory for after
	last  int
}

// afterwards is what is done at the end of a scope.
type afterwards struct {
	number int
	do     func()
}

var over = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Deadline is part of context.Context.
func (s *scope) Deadline() (time.Time, bool) { return s.conn.server.BaseContext.Deadline() }

// Done is part of context.Context.
func (s *scope) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done == nil {
		if s.err != nil {
			s.done = over
		} else {
			s.done = make(chan struct{})
		}
	}
	return s.done
}

// Err is part of context.Context.
func (s *scope) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Value is part of context.Context. It knows what net/http's contexts know.
func (s *scope) Value(key any) any {
	switch key {
	case http.ServerContextKey:
		return s.conn.server.http2
	case http.LocalAddrContextKey:
		return s.conn.socket.LocalAddr()
	}
	return nil
}

// AfterFunc has f called in a goroutine of its own when the scope ends, unless stop is called before. It is what
// package context looks for, and cheaper than context.AfterFunc.
func (s *scope) AfterFunc(f func()) (stop func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		go f()
		return func() bool { return false }
	}
	if s.after == nil {
		s.after = s.few[:0]
	}
	s.last++
	number := s.last
	s.after = append(s.after, afterwards{number, f})
	return func() bool { return s.forget(number) }
}

// forget reports whether what was to be done at the end has not been begun.
func (s *scope) forget(number int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, one := range s.after {
		if one.number == number {
			s.after = slices.Delete(s.after, i, i+1)
			return true
		}
	}
	return false
}

// end ends the scope. Once more it does nothing.
func (s *scope) end() {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = context.Canceled
	if s.done != nil {
		close(s.done)
	}
	after := s.after
	s.after = nil
	s.mu.Unlock()
	for _, a := range after {
		go a.do()
	}
}
