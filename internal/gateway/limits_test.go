package gateway_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClientThatNeverEndsItsHeadIsGivenUp(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	conn, err := net.Dial("tcp", g.Addr())
	require.NoError(t, err)
	defer conn.Close()
	began := time.Now()
	_, err = io.WriteString(conn, "GET /v1/models HTTP/1.1\r\nHost: a\r\n")
	require.NoError(t, err)
	dripping := time.NewTicker(time.Second)
	defer dripping.Stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, conn)
	}()
	for {
		select {
		case <-ended:
			require.Greater(t, time.Since(began), 5*time.Second, "it had its time")
			return
		case <-dripping.C:
			_, _ = io.WriteString(conn, "X: 1\r\n") // each line is something, but the end does not come
			require.Less(t, time.Since(began), 15*time.Second, "the connection is still open")
		}
	}
}
