package http1_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway/upstream/http1"
)

// answering returns a dialler of connections to a server that reads one request and says answer.
func answering(answer string) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			for end := ""; !strings.HasSuffix(end, "\r\n\r\n"); {
				piece := make([]byte, 4096)
				n, err := server.Read(piece)
				if end += string(piece[:n]); err != nil {
					return
				}
			}
			_, _ = io.WriteString(server, answer)
		}()
		return client, nil
	}
}

// outcome is what came of a request.
type outcome struct {
	status, length int64
	header         http.Header
	body           string
}

func ask(t *testing.T, rt http.RoundTripper, method string) (o outcome, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://engine.example/", nil)
	require.NoError(t, err)
	response, err := rt.RoundTrip(r)
	if err != nil {
		return o, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	o = outcome{int64(response.StatusCode), response.ContentLength, response.Header, string(body)}
	for _, hop := range []string{"Connection", "Trailer"} { // net/http takes some of them out
		delete(o.header, hop)
	}
	return o, err
}

// Whatever is accepted is read as net/http reads it, which in turn accepts more.
func FuzzAnswersAreReadAsNetHTTPReadsThem(f *testing.F) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n5;a=b\r\nhello\r\n01\r\n!\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;\r\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\nto the end", "HTTP/1.0 200\r\nConnection: close\r\n\r\nto the end",
		"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nxyz",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nx-y: a\r\nX-Y: b\r\nset-cookie: a=b \r\nContent-Length: 1\r\n\r\nx",
	} {
		f.Add(answer, false)
		f.Add(answer, true)
	}
	f.Fuzz(func(t *testing.T, answer string, head bool) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		dial := answering(answer)
		ours := http1.New(http1.Config{Dial: dial, IdleTimeout: time.Minute})
		got, err := ask(t, ours, method)
		if err != nil {
			return
		}
		theirs := &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }, DisableCompression: true,
		}
		defer theirs.CloseIdleConnections()
		want, err := ask(t, theirs, method)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}
