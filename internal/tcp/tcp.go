// Package tcp notices that the machine at the other end of a connection is gone.
package tcp

import (
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Silence is how long a machine may leave what it was sent unacknowledged. A machine that lost its network or its power
// closes nothing: without a limit, whoever waits for it waits for many minutes. Programs that are only busy are no matter:
// the kernel acknowledges for them.
const Silence = 15 * time.Second

// asks is how often a machine that has said nothing is asked whether it is there.
const asks = 5 * time.Second

// Dialer returns a dialer that gives up an attempt after timeout, and a TCP connection when its other end has been silent
// for Silence. Its Control is set.
func Dialer(timeout time.Duration) net.Dialer {
	return net.Dialer{
		Timeout:         timeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: asks, Interval: asks, Count: int(Silence / asks)},
		Control:         Bound,
	}
}

// Bound is the Control of a dialer whose connections are given up when what they sent is not acknowledged for Silence.
// Connections within the machine are left as they are.
func Bound(network, _ string, socket syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var failed error
	err := socket.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(Silence.Milliseconds())) //nolint:gosec // a descriptor
	})
	if err != nil {
		return err
	}
	return failed
}
