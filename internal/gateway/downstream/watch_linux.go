package downstream

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher learns from the system which clients leave, one goroutine for all connections: a request costs nothing.
type watcher struct {
	server *Server
	file   *os.File // of epoll
	fd     int
}

func newWatcher(s *Server) (*watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &watcher{s, os.NewFile(uintptr(fd), "epoll"), fd}, nil //nolint:gosec // descriptors are not negative
}

// add watches a connection until it is closed.
func (w *watcher) add(c *conn) {
	socket, ok := c.under.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{ //nolint:gosec // descriptors are small
			Events: unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(c.id), Pad: int32(c.id >> 32), //nolint:gosec // halves of a number
		})
	})
}

// run tells connections that their clients have left, until close is called.
func (w *watcher) run() {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	var events [64]unix.EpollEvent
	for n := 0; ; {
		err := raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events[:], 0) //nolint:gosec // descriptors are small
			return n > 0
		})
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			if c := w.server.byID(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32); c != nil { //nolint:gosec // halves of a number
				c.left()
			}
		}
	}
}

func (w *watcher) close() { _ = w.file.Close() }
