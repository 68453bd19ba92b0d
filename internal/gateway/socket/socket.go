// Package socket makes the small system calls of sockets that do not block: they are over in microseconds.
//
// Those of packages syscall and unix tell Go's scheduler of each, in case it takes long. A process that had nothing to do
// then wakes the thread that watches over the others for every request, which takes longer than the call.
package socket

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Small is how many bytes are read or written at once at most without the scheduler's knowledge.
const Small = 32 << 10

// Read is unix.Read.
func Read(fd uintptr, p []byte) (int, error) {
	if len(p) == 0 || len(p) > Small {
		return unix.Read(int(fd), p) //nolint:gosec // descriptors are small
	}
	n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return result(n, errno)
}

// Write is unix.Write.
func Write(fd uintptr, p []byte) (int, error) {
	if len(p) == 0 || len(p) > Small {
		return unix.Write(int(fd), p) //nolint:gosec // descriptors are small
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return result(n, errno)
}

// Writev is unix.Writev. Few pieces are written without being copied to the heap.
func Writev(fd uintptr, pieces [][]byte) (int, error) {
	var few [8]unix.Iovec
	size, n := 0, 0
	for _, p := range pieces {
		size += len(p)
	}
	if len(pieces) > len(few) || size > Small {
		return unix.Writev(int(fd), pieces) //nolint:gosec // descriptors are small
	}
	for _, p := range pieces {
		if len(p) > 0 {
			few[n].Base = &p[0]
			few[n].SetLen(len(p))
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	written, _, errno := unix.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&few[0])), uintptr(n))
	return result(written, errno)
}

// result is what a call returns, as package unix puts it.
func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil //nolint:gosec // at most Small
}

// IsQuiet reports whether nothing has come, not even an end.
func IsQuiet(fd uintptr) bool {
	here := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}} //nolint:gosec // descriptors are small
	var now unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&here[0])), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n == 0 && errno == 0
}
