// Package socket makes the small system calls of sockets that do not block: they are over in microseconds.
//
// Those of packages syscall and unix tell Go's scheduler of each, in case it takes long. A process that had nothing to do
// then wakes the thread that watches over the others for every request, which takes longer than the call. And they read and
// write files, of which a socket is one: its own calls spare the way through that layer.
package socket

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Small is how many bytes are read or written at once at most without the scheduler's knowledge.
const Small = 32 << 10

// Read is unix.Read of a socket.
func Read(fd uintptr, p []byte) (int, error) {
	if len(p) == 0 || len(p) > Small {
		return unix.Read(int(fd), p) //nolint:gosec // descriptors are small
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0, 0, 0)
	return result(n, errno)
}

// Write is unix.Write to a socket.
func Write(fd uintptr, p []byte) (int, error) {
	if len(p) == 0 || len(p) > Small {
		return unix.Write(int(fd), p) //nolint:gosec // descriptors are small
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
	return result(n, errno)
}

// Writev is unix.Writev to a socket. Few pieces are written without being copied to the heap.
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
	message := unix.Msghdr{Iov: &few[0]}
	message.SetIovlen(n)
	written, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&message)), unix.MSG_NOSIGNAL)
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
	var b byte
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	return errno == unix.EAGAIN
}
