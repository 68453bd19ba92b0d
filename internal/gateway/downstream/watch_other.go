//go:build !linux

package downstream

import (
	"syscall"
	"time"
)

// watchTime is how often it is looked which clients have left.
const watchTime = 250 * time.Millisecond

// watcher looks now and then which clients have left.
type watcher struct {
	server *Server
	stop   chan struct{}
}

func newWatcher(s *Server) (*watcher, error) { return &watcher{s, make(chan struct{})}, nil }

func (w *watcher) add(*conn) {}

func (w *watcher) run() {
	ticker := time.NewTicker(watchTime)
	defer ticker.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
		}
		w.server.mu.Lock()
		for _, c := range w.server.conns {
			if c.current.Load() != nil && hasLeft(c) {
				c.left()
			}
		}
		w.server.mu.Unlock()
	}
}

// hasLeft reports whether the client of a connection has ended it, and nothing else came before.
func hasLeft(c *conn) bool {
	socket, ok := c.under.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	left := false
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		left = n == 0 && err == nil || err == syscall.ECONNRESET
	})
	return left || err != nil
}

func (w *watcher) close() { close(w.stop) }
