package socket

import (
	"bytes"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// pair returns the two ends of a connection that do not block.
func pair(t *testing.T) (one, other uintptr) {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, end := range ends {
			_ = unix.Close(end)
		}
	})
	return uintptr(ends[0]), uintptr(ends[1]) //nolint:gosec // descriptors are not negative
}

func TestWhatIsWrittenIsReadHoweverLongItIs(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, Small, Small + 1} {
		one, other := pair(t)
		want := bytes.Repeat([]byte("x"), size)
		n, err := Write(one, want)
		require.NoError(t, err)
		require.Equal(t, size, n)
		got := make([]byte, 2*Small)
		n, err = Read(other, got)
		if size == 0 {
			require.ErrorIs(t, err, unix.EAGAIN)
			require.Equal(t, -1, n)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, want, got[:n])
	}
}

func TestPiecesAreWrittenInTheirOrder(t *testing.T) {
	t.Parallel()
	many := make([][]byte, 20)
	for i := range many {
		many[i] = []byte{byte('a' + i)}
	}
	for _, pieces := range [][][]byte{
		nil, {nil, nil}, {[]byte("one"), nil, []byte("two")}, many, {bytes.Repeat([]byte("x"), Small), []byte("end")},
	} {
		one, other := pair(t)
		want := bytes.Join(pieces, nil)
		n, err := Writev(one, pieces)
		require.NoError(t, err)
		require.Len(t, want, n)
		got := make([]byte, len(want)+1)
		if n, _ = Read(other, got); n < 0 {
			n = 0
		}
		require.Equal(t, string(want), string(got[:n]))
	}
}

func TestErrorsAreTheSystems(t *testing.T) {
	t.Parallel()
	one, other := pair(t)
	require.NoError(t, unix.Shutdown(int(other), unix.SHUT_RDWR)) //nolint:gosec // a descriptor
	_, err := Write(one, []byte("x"))
	require.ErrorIs(t, err, unix.EPIPE)
	_, err = Writev(one, [][]byte{[]byte("x")})
	require.ErrorIs(t, err, unix.EPIPE)
	n, err := Read(one, make([]byte, 1))
	require.NoError(t, err)
	require.Zero(t, n, "the end")
}

func TestASocketIsQuietUntilSomethingComes(t *testing.T) {
	t.Parallel()
	one, other := pair(t)
	require.True(t, IsQuiet(one))
	_, err := Write(other, []byte("x"))
	require.NoError(t, err)
	require.False(t, IsQuiet(one), "a byte has come")
	_, err = Read(one, make([]byte, 1))
	require.NoError(t, err)
	require.True(t, IsQuiet(one))
	require.NoError(t, unix.Shutdown(int(other), unix.SHUT_WR)) //nolint:gosec // a descriptor
	require.False(t, IsQuiet(one), "the other end has said all")
}

// BenchmarkSendAndReceive passes 1 KB from one socket to the other and looks for more in vain, beside the calls for files.
func BenchmarkSendAndReceive(b *testing.B) {
	message, into := make([]byte, 1<<10), make([]byte, 4<<10)
	for name, calls := range map[string]struct {
		write func(fd uintptr, p []byte) (int, error)
		read  func(fd uintptr, p []byte) (int, error)
	}{
		"ours": {Write, Read},
		"file": {
			func(fd uintptr, p []byte) (int, error) { return unix.Write(int(fd), p) }, //nolint:gosec // a descriptor
			func(fd uintptr, p []byte) (int, error) { return unix.Read(int(fd), p) },  //nolint:gosec // a descriptor
		},
	} {
		b.Run(name, func(b *testing.B) {
			one, other := tcpPair(b)
			for b.Loop() {
				n, err := calls.write(one, message)
				require.NoError(b, err)
				require.Equal(b, len(message), n)
				n, err = calls.read(other, into)
				require.NoError(b, err)
				require.Equal(b, len(message), n)
				_, err = calls.read(other, into)
				require.Equal(b, unix.EAGAIN, err)
			}
		})
	}
}

// tcpPair is pair over loopback.
func tcpPair(b *testing.B) (one, other uintptr) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(b, err)
	server, err := l.Accept()
	require.NoError(b, err)
	b.Cleanup(func() { client.Close(); server.Close() })
	for conn, fd := range map[net.Conn]*uintptr{client: &one, server: &other} {
		raw, err := conn.(*net.TCPConn).SyscallConn()
		require.NoError(b, err)
		require.NoError(b, raw.Control(func(n uintptr) { *fd = n }))
	}
	return one, other
}
