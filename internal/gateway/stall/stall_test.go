package stall_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"

	"github.com/engineshed/engineshed/internal/gateway/stall"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 200 * time.Millisecond
	deadline = 10 * time.Second
)

// serve serves with clients of the patience, over TLS with HTTP/2 if that is asked for.
func serve(t *testing.T, c *stall.Clients, http2 bool, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(c.Handler(h))
	s.Listener = c.Listen(s.Listener)
	s.EnableHTTP2 = http2
	if http2 {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// versions runs a test over HTTP/1.1 and over HTTP/2.
func versions(t *testing.T, test func(t *testing.T, http2 bool)) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, http2)
		})
	}
}

func TestBodyThatStopsComingIsGivenUp(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, http2 bool) {
		c := stall.New(patience, 0)
		failed := make(chan error, 1)
		s := serve(t, c, http2, func(w http.ResponseWriter, r *http.Request) {
			read, err := io.ReadAll(c.Body(w, r.Body))
			failed <- err
			_, _ = fmt.Fprintf(w, "%d bytes", len(read))
		})
		body, client := io.Pipe()
		defer client.Close()
		go func() { _, _ = io.WriteString(client, "hello") }()
		resp, err := s.Client().Post(s.URL, "", body)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.ErrorIs(t, <-failed, stall.ErrBody)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "5 bytes", string(text), "it can still be answered")
		require.EqualValues(t, 1, c.Bodies())
	})
}

func TestSlowBodyAndSlowReaderOfItAreLeftAlone(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, http2 bool) {
		c := stall.New(patience, patience)
		s := serve(t, c, http2, func(w http.ResponseWriter, r *http.Request) {
			body := c.Body(w, r.Body)
			_, _ = io.CopyN(io.Discard, body, 1)
			time.Sleep(2 * patience) // nobody waits for the body
			n, err := io.Copy(io.Discard, body)
			_, _ = fmt.Fprintf(w, "%d %v", n+1, err)
		})
		body, client := io.Pipe()
		go func() {
			for range 20 { // twice the patience in all
				_, _ = io.WriteString(client, "x")
				time.Sleep(patience / 10)
			}
			_ = client.Close()
		}()
		resp, err := s.Client().Post(s.URL, "", body)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "20 <nil>", string(text))
		require.Zero(t, c.Bodies())
	})
}

// floods writes until that fails, and says how it did.
func floods(failed chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		piece := make([]byte, 32<<10)
		for {
			if _, err := w.Write(piece); err != nil {
				<-r.Context().Done() // whoever is asked for the answer learns of it
				failed <- err
				return
			}
		}
	}
}

func TestAnswerThatIsNotReadIsCut(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, http2 bool) {
		c := stall.New(0, patience)
		failed := make(chan error, 1)
		s := serve(t, c, http2, floods(failed))
		resp, err := s.Client().Get(s.URL)
		require.NoError(t, err)
		defer resp.Body.Close()
		select {
		case err := <-failed:
			require.Error(t, err)
		case <-time.After(deadline):
			require.Fail(t, "it is still written")
		}
		require.EqualValues(t, 1, c.Answers())
	})
}

func TestConnectionOfHTTP2ThatIsNotReadIsCut(t *testing.T) {
	t.Parallel()
	c := stall.New(0, patience)
	failed := make(chan error, 1)
	s := serve(t, c, true, floods(failed))
	conn, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	defer conn.Close()
	request := []byte(http2.ClientPreface)
	var frames bytes.Buffer
	framer := http2.NewFramer(&frames, nil)
	require.NoError(t, framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
	require.NoError(t, framer.WriteWindowUpdate(0, 1<<30))
	// GET https / of the static table, and :authority a
	require.NoError(t, framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: []byte{0x82, 0x87, 0x84, 0x41, 0x01, 'a'}, EndStream: true, EndHeaders: true,
	}))
	_, err = conn.Write(append(request, frames.Bytes()...))
	require.NoError(t, err)
	select {
	case err := <-failed:
		require.Error(t, err)
	case <-time.After(deadline):
		require.Fail(t, "it is still written")
	}
	require.Positive(t, c.Answers())
}

func TestAnswerThatPausesIsLeftAlone(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, http2 bool) {
		c := stall.New(0, patience)
		s := serve(t, c, http2, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "thinking")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(2 * patience)
			_, _ = io.WriteString(w, ", and done")
		})
		for range 2 { // the second on the connection of the first
			resp, err := s.Client().Get(s.URL)
			require.NoError(t, err)
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, "thinking, and done", string(text))
			time.Sleep(2 * patience) // idle
		}
		require.Zero(t, c.Answers())
	})
}

// TestAnswerThatIsReadSlowlyIsLeftAlone has small buffers: the system lets one write on when a third of its own is free.
func TestAnswerThatIsReadSlowlyIsLeftAlone(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, http2 bool) {
		const size, pieces = 16 << 20, 100 // more than the system holds
		c := stall.New(0, 5*patience)
		s := serve(t, c, http2, func(w http.ResponseWriter, _ *http.Request) {
			for piece := make([]byte, size/512); ; {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		})
		transport := s.Client().Transport.(*http.Transport)
		transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				err = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
			}
			return conn, err
		}
		resp, err := s.Client().Get(s.URL)
		require.NoError(t, err)
		defer resp.Body.Close()
		for range pieces {
			_, err := io.CopyN(io.Discard, resp.Body, size/pieces)
			require.NoError(t, err)
			time.Sleep(patience / 10) // twice the patience in all
		}
		require.Zero(t, c.Answers())
	})
}

func TestDeadlineOfSomebodyElseIsNotMoved(t *testing.T) {
	t.Parallel()
	c := stall.New(0, time.Hour)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := c.Listen(plain)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	conn, err := l.Accept()
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("x"))
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	for err == nil {
		_, err = conn.Write(make([]byte, 1<<20))
	}
	require.True(t, errors.Is(err, os.ErrDeadlineExceeded), err)
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Zero(t, c.Answers(), "that was not ours")
}

func TestPatienceOfZeroIsForEver(t *testing.T) {
	t.Parallel()
	c := stall.New(0, 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	require.Equal(t, l, c.Listen(l))
	body := io.NopCloser(strings.NewReader("x"))
	require.Equal(t, body, c.Body(nil, body))
}

func BenchmarkWrite(b *testing.B) {
	for name, answer := range map[string]time.Duration{"unwatched": 0, "watched": 5 * time.Minute} {
		b.Run(name, func(b *testing.B) {
			plain, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			l := stall.New(0, answer).Listen(plain)
			defer l.Close()
			client, err := net.Dial("tcp", l.Addr().String())
			require.NoError(b, err)
			go func() { _, _ = io.Copy(io.Discard, client) }()
			defer client.Close()
			conn, err := l.Accept()
			require.NoError(b, err)
			defer conn.Close()
			event := make([]byte, 300)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = conn.Write(event)
			}
		})
	}
}

func BenchmarkBody(b *testing.B) {
	for name, body := range map[string]time.Duration{"unwatched": 0, "watched": 30 * time.Second} {
		b.Run(name, func(b *testing.B) {
			c, w := stall.New(body, 0), httptest.NewRecorder()
			from := io.NopCloser(strings.NewReader(""))
			piece := make([]byte, 1)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.Body(w, from).Read(piece)
			}
		})
	}
}

// The timers of a patience like this fire as handlers return. net/http ends the process when it is asked for a deadline of
// an answer that is over.
func TestNothingIsDoneToAnAnswerThatIsOver(t *testing.T) {
	t.Parallel()
	s := serve(t, stall.New(time.Microsecond, time.Microsecond), true, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "answer")
		_ = http.NewResponseController(w).Flush()
	})
	for range 500 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
		require.NoError(t, err)
		if resp, err := s.Client().Do(r); err == nil { // most are cut
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
}
