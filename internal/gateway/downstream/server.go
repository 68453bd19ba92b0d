// Package downstream serves HTTP/1.1: with one goroutine for a connection and none for a request, memory that is held only
// while something comes or goes, and requests that can be read in one way only.
//
// It is made for a gateway's clients. Over TLS it leaves connections that agreed on HTTP/2 to net/http. It does not pass
// trailers, neither way, and it always reads a request while it is answered.
package downstream

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	headTimeout = 10 * time.Second
	// tickTime is how exact the times are that a connection has.
	tickTime   = time.Second
	headTicks  = int64(headTimeout / tickTime)
	freshTicks = 5 // that a new connection has to send its request when the server shuts down
)

// Server serves one listener. Its fields are set before Serve is called.
type Server struct {
	Handler     http.Handler
	BaseContext context.Context    // ends every request
	TLS         *tls.Config        // nil: plain
	IdleTimeout time.Duration      // of a connection between requests, in whole seconds
	Refused     func(reason error) // hears of each request that could not be read, and why
	ErrorLog    *log.Logger

	http2     *http.Server
	idleTicks int64
	tick      atomic.Int64
	lastDate  atomic.Pointer[date]
	closing   atomic.Bool // no request is to follow on any connection
	watcher   *watcher

	mu       sync.Mutex
	listener net.Listener
	handover *handover // to http2; nil: without TLS
	conns    map[uint64]*conn
	given    map[uint64]*conn // that handlers took over
	last     uint64           // number of a connection
	ended    bool             // by BaseContext
	emptied  chan struct{}    // tells those who wait that there is no connection left; nil: nobody does
	forget   func() bool      // BaseContext
	stop     chan struct{}    // ends what runs beside the connections
	running  sync.WaitGroup
}

// Serve accepts connections until Shutdown or Close is called, and then returns http.ErrServerClosed.
func (s *Server) Serve(l net.Listener) error {
	if err := s.begin(l); err != nil {
		return err
	}
	for delay := time.Duration(0); ; {
		socket, err := l.Accept()
		switch {
		case err == nil:
			delay = 0
			s.add(socket)
			continue
		case s.closing.Load():
			return http.ErrServerClosed
		case !isTemporary(err):
			return err
		}
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		s.log("accept: %v; once more in %v", err, delay)
		time.Sleep(delay)
	}
}

// isTemporary reports whether there may be another connection after this failed, as when there are too many files.
func isTemporary(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

// begin prepares what runs beside the connections.
func (s *Server) begin(l net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return http.ErrServerClosed
	}
	watcher, err := newWatcher(s)
	if err != nil {
		return err
	}
	s.listener, s.watcher, s.stop = l, watcher, make(chan struct{})
	s.conns, s.given = map[uint64]*conn{}, map[uint64]*conn{}
	s.forget = context.AfterFunc(s.BaseContext, s.endAll)
	s.idleTicks = int64(s.IdleTimeout / tickTime)
	s.http2 = &http.Server{
		Handler: s.Handler, ErrorLog: s.ErrorLog, IdleTimeout: s.IdleTimeout, ReadHeaderTimeout: headTimeout, MaxHeaderBytes: maxHead,
		BaseContext:                  func(net.Listener) context.Context { return s.BaseContext },
		DisableGeneralOptionsHandler: true, // OPTIONS * is a path like any other
	}
	stop := s.stop
	s.running.Go(func() { s.count(stop) })
	s.running.Go(watcher.run)
	if s.TLS != nil {
		s.handover = &handover{addr: l.Addr(), handed: make(chan net.Conn), closed: make(chan struct{})}
		s.running.Go(func() { _ = s.http2.Serve(s.handover) })
	}
	return nil
}

// count lets time pass, and wakes connections whose time it is.
func (s *Server) count(stop <-chan struct{}) {
	ticker := time.NewTicker(tickTime)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			s.mu.Lock()
			s.tick.Add(1)
			s.wake()
			s.mu.Unlock()
		}
	}
}

// wake wakes connections whose time it is. The lock is held.
func (s *Server) wake() {
	for _, c := range s.conns {
		c.wake(s.tick.Load(), s.closing.Load())
	}
}

// add serves a connection.
func (s *Server) add(socket net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		_ = socket.Close()
		return
	}
	s.last++
	c := &conn{server: s, id: s.last, socket: socket, under: socket, remote: socket.RemoteAddr().String(), since: s.tick.Load()}
	c.gone.Store(s.ended)
	s.conns[c.id] = c
	s.watcher.add(c)
	go c.run()
}

// remove forgets a connection.
func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.id)
	delete(s.given, c.id)
	s.tellIfEmpty()
}

// give takes note that a handler took a connection over: whether its client is there is the handler's business, and so is
// its end.
func (s *Server) give(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.id)
	s.given[c.id] = c
	s.tellIfEmpty()
}

// tellIfEmpty tells who waits for the last connection.
func (s *Server) tellIfEmpty() {
	if s.emptied != nil && len(s.conns) == 0 {
		close(s.emptied)
		s.emptied = nil
	}
}

// byID is the connection of a number; nil: it has ended, or is somebody else's.
func (s *Server) byID(id uint64) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns[id]
}

// endAll ends every request, and those that come.
func (s *Server) endAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, of := range []map[uint64]*conn{s.conns, s.given} {
		for _, c := range of {
			c.left()
		}
	}
}

// isClosing reports whether no request is to follow on any connection.
func (s *Server) isClosing() bool { return s.closing.Load() }

// isDraining is isClosing for who was woken: it waits for whoever did that.
func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing.Load()
}

// Shutdown accepts no more, closes connections on which nothing is asked, and waits until all have ended, or ctx. It may be
// called again.
func (s *Server) Shutdown(ctx context.Context) error {
	emptied, server := s.drain()
	http2 := make(chan error, 1)
	go func() { http2 <- server.Shutdown(ctx) }()
	var err error
	select {
	case <-emptied:
	case <-ctx.Done():
		err = ctx.Err()
	}
	err = errors.Join(err, <-http2)
	if err == nil {
		s.halt()
	}
	return err
}

// drain has connections end when they have nothing to do, and returns what tells when all have.
func (s *Server) drain() (emptied <-chan struct{}, http2 *http.Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing.Store(true)
	if s.http2 == nil { // it never served
		s.http2 = new(http.Server)
	}
	if s.listener != nil {
		_ = s.listener.Close()
	}
	if s.emptied == nil {
		s.emptied = make(chan struct{})
	}
	emptied = s.emptied
	s.tellIfEmpty()
	s.wake()
	return emptied, s.http2
}

// Close ends all connections at once, but those that handlers took over.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closing.Store(true)
	var err error
	if s.listener != nil {
		err = s.listener.Close()
	}
	for _, c := range s.conns {
		_ = c.under.Close()
		c.left()
	}
	http2 := s.http2
	s.mu.Unlock()
	if http2 != nil {
		_ = http2.Close()
	}
	s.halt()
	return err
}

// halt ends what runs beside the connections.
func (s *Server) halt() {
	s.mu.Lock()
	stop := s.stop
	s.stop = nil
	s.mu.Unlock()
	if stop == nil {
		return
	}
	close(stop)
	s.forget()
	if s.handover != nil {
		_ = s.handover.Close()
	}
	s.watcher.close()
	s.running.Wait()
}

func (s *Server) refused(reason error) {
	if s.Refused != nil {
		s.Refused(reason)
	}
}

func (s *Server) log(format string, args ...any) {
	if s.ErrorLog != nil {
		s.ErrorLog.Printf(format, args...)
	}
}

// date is a second as it is written in a header.
type date struct {
	second int64
	text   string
}

func (s *Server) date() string {
	now := time.Now()
	d := s.lastDate.Load()
	if d == nil || d.second != now.Unix() {
		d = &date{now.Unix(), now.UTC().Format(http.TimeFormat)}
		s.lastDate.Store(d)
	}
	return d.text
}
