package http1_test

import (
	"bytes"
	"io"
	"io/fs"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway/upstream/http1"
)

// spoiled is memory that others use as soon as it is released.
type spoiled struct {
	bytes    []byte
	released atomic.Int64
}

func (s *spoiled) Lend() {}

func (s *spoiled) Release() {
	clear(s.bytes)
	s.released.Add(1)
}

// await waits until the memory has been released. A goroutine that sends may do so after the answer.
func (s *spoiled) await(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return s.released.Load() == 1 }, 10*time.Second, time.Millisecond)
}

func lent(size int) (*spoiled, *http1.Bytes) {
	s := &spoiled{bytes: bytes.Repeat([]byte("prompt. "), size/8)}
	return s, http1.Lent(s, s.bytes[:size/2], s.bytes[size/2:])
}

func TestLentMemoryIsReleasedOnceWhenItHasBeenSent(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(got, bytes.Repeat([]byte("prompt. "), len(got)/8)) {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	for _, size := range []int{8, 64 << 10, 8 << 20} {
		owner, body := lent(size)
		r := request(t, http.MethodPost, "/", body)
		r.ContentLength = body.Len()
		require.Equal(t, http.StatusOK, send(t, c, r).status, size)
		owner.await(t)
	}
}

func TestLentMemoryIsNotReleasedWhileItIsBeingSent(t *testing.T) {
	t.Parallel()
	answered, read := make(chan struct{}), make(chan []byte, 1)
	c, _ := scripted(t, func(conn net.Conn, _ int64) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // before the body is read
		<-answered
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		got, _ := io.ReadAll(conn)
		read <- got
	})
	owner, body := lent(64 << 20) // more than buffers hold
	r := request(t, http.MethodPost, "/", body)
	require.Equal(t, http.StatusOK, send(t, c, r).status)
	close(answered)
	_, sent, _ := bytes.Cut(<-read, []byte("\r\n\r\n"))
	require.NotContains(t, string(sent), "\x00", "what was sent is what was asked")
	owner.await(t)
}

func TestLentMemoryIsReleasedThoughNothingCouldBeSent(t *testing.T) {
	t.Parallel()
	c, _ := clientOf(t, "127.0.0.1:1")
	owner, body := lent(8)
	require.Error(t, failure(c, request(t, http.MethodPost, "/", body)))
	require.EqualValues(t, 1, owner.released.Load())
	require.NoError(t, body.Close())
	require.EqualValues(t, 1, owner.released.Load())
	_, err := body.Read(make([]byte, 1))
	require.ErrorIs(t, err, fs.ErrClosed)
}
