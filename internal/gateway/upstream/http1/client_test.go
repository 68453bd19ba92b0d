package http1_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/engineshed/engineshed/internal/gateway/upstream/http1"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http's Transport, with which answers are compared, talks
	goleak.VerifyTestMain(m)
}

// clientOf returns a client of a server that listens at addr, and how often it dialled.
func clientOf(t testing.TB, addr string) (*http1.Client, *atomic.Int64) {
	t.Helper()
	dialled := new(atomic.Int64)
	c := http1.New(http1.Config{
		MaxIdle: 16, IdleTimeout: time.Minute,
		Dial: func(ctx context.Context) (net.Conn, error) {
			dialled.Add(1)
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	})
	t.Cleanup(c.CloseIdle)
	return c, dialled
}

func serve(t testing.TB, handler http.HandlerFunc) (*http1.Client, *atomic.Int64) {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return clientOf(t, s.Listener.Addr().String())
}

// scripted answers each connection's requests, whatever they are, with what script writes. It returns when all is over.
func scripted(t testing.TB, script func(conn net.Conn, n int64)) (*http1.Client, *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := int64(0); ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			script(conn, n)
			conn.Close()
		}
	}()
	c, dialled := clientOf(t, l.Addr().String())
	t.Cleanup(func() { c.CloseIdle(); l.Close(); <-done })
	return c, dialled
}

func request(t testing.TB, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://engine.example"+path, body)
	require.NoError(t, err)
	return r
}

// answer is one that has come to its end.
type answer struct {
	status int
	length int64
	header http.Header
	body   string
}

func send(t testing.TB, c *http1.Client, r *http.Request) answer {
	t.Helper()
	response, err := c.RoundTrip(r)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return answer{response.StatusCode, response.ContentLength, response.Header, string(body)}
}

// failure is why a request has no answer.
func failure(c *http1.Client, r *http.Request) error {
	response, err := c.RoundTrip(r)
	if err == nil {
		response.Body.Close()
	}
	return err
}

func TestRequestsReachTheServerAsTheyAre(t *testing.T) {
	t.Parallel()
	c, dialled := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Seen", strings.Join([]string{r.Method, r.RequestURI, r.Host, r.Header.Get("A"), r.Header.Get("Content-Type")}, " "))
		_, _ = w.Write(body)
	})
	long := strings.Repeat("long ", 300_000)
	for name, body := range map[string]struct {
		of     func() io.Reader
		length int64
		want   string
	}{
		"nothing":                    {func() io.Reader { return nil }, 0, ""},
		"bytes":                      {func() io.Reader { return http1.Lent(nil, []byte("one "), nil, []byte("two")) }, 7, "one two"},
		"many bytes":                 {func() io.Reader { return http1.Lent(nil, []byte(long), []byte(long)) }, int64(2 * len(long)), long + long},
		"a stream of a known length": {func() io.Reader { return io.LimitReader(strings.NewReader(long), 100) }, 100, long[:100]},
		"a stream":                   {func() io.Reader { return io.MultiReader(strings.NewReader(long), strings.NewReader("!")) }, -1, long + "!"},
	} {
		r := request(t, "POST", "/v1/chat%2Fx?a=b%20c", body.of())
		r.ContentLength = body.length
		r.Header = http.Header{"A": {"1"}, "Content-Type": {"application/json"}, "Connection": {"close"}, "Transfer-Encoding": {"gzip"}}
		got := send(t, c, r)
		require.Equal(t, body.want, got.body, name)
		require.Equal(t, "POST /v1/chat%2Fx?a=b%20c engine.example 1 application/json", got.header.Get("Seen"), name)
	}
	require.EqualValues(t, 1, dialled.Load(), "one connection did all of it")
}

func TestAnswersAreRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		method, answer, body string
		length               int64
		reused               bool
	}{
		"of a length":               {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", 5, true},
		"of no length":              {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 0, true},
		"the same length twice":     {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "ok", 2, true},
		"in chunks":                 {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nTrailer: x\r\n\r\n", "hello!", -1, true},
		"to the end":                {"GET", "HTTP/1.1 200 OK\r\n\r\nhello", "hello", -1, false},
		"of HTTP/1.0":               {"GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", 5, false},
		"without a reason":          {"GET", "HTTP/1.1 299\r\nContent-Length: 1\r\n\r\nx", "x", 1, true},
		"and the connection closed": {"GET", "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\nx", "x", 1, false},
		"after interim ones":        {"GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "x", 1, true},
		"to a HEAD":                 {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "", 5, true},
		"no content":                {"GET", "HTTP/1.1 204 No Content\r\n\r\n", "", 0, true},
		"not modified":              {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, dialled := scripted(t, func(conn net.Conn, _ int64) {
				for head := make([]byte, 4096); ; {
					if _, err := conn.Read(head); err != nil {
						return
					}
					_, _ = conn.Write([]byte(test.answer))
					if !test.reused {
						return
					}
				}
			})
			for range 2 {
				got := send(t, c, request(t, test.method, "/", nil))
				require.Equal(t, test.body, got.body)
				require.Equal(t, test.length, got.length)
				require.Empty(t, got.header["Transfer-Encoding"])
			}
			if test.reused {
				require.EqualValues(t, 1, dialled.Load())
			} else {
				require.EqualValues(t, 2, dialled.Load())
			}
		})
	}
}

func TestAnswersThatCanBeReadInTwoWaysAreRefused(t *testing.T) {
	t.Parallel()
	const ok, text = "HTTP/1.1 200 OK\r\n", "\r\n\r\nx"
	for _, answer := range []string{
		"\r\n" + ok + "Content-Length: 1" + text, "HTTP/1.1 200 OK\nContent-Length: 1\n\nx", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n",
		"HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 099 OK\r\n\r\n", "ICY 200 OK\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		ok + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ok + "Content-Length: 1\r\nContent-Length: 2" + text,
		ok + "Content-Length: +1" + text, ok + "Content-Length: 1, 1" + text, ok + "Content-Length: 0x1" + text, ok + "Content-Length:" + text,
		ok + "Content-Length: 9999999999999999999" + text, ok + "Transfer-Encoding: gzip, chunked" + text, ok + "Transfer-Encoding: identity" + text,
		ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked" + text, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		ok + "A: b\r\n c: d" + text, ok + "A : b" + text, ok + ": b" + text, ok + "nothing" + text, ok + "A: \x00" + text, ok + "A\x80: b" + text,
		ok + "A: " + strings.Repeat("x", 100_000) + text, ok + strings.Repeat("A: b\r\n", 20_000) + "\r\n",
		strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 20) + ok + "Content-Length: 1" + text,
	} {
		c, _ := scripted(t, func(conn net.Conn, _ int64) {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, answer)
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
		})
		var broken *http1.ProtocolError
		require.ErrorAs(t, failure(c, request(t, "GET", "/", nil)), &broken, "%.60q", answer)
	}
}

func TestBodiesThatEndWrongAreErrors(t *testing.T) {
	t.Parallel()
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", head + "5\r\nhell", head + "5\r\nhello", head + "5\r\nhello\r\n", head + "5\r\nhello\r\n0\r\n",
		head + "4\r\nhello\r\n0\r\n\r\n", head + "5\nhello\r\n0\r\n\r\n", head + "-1\r\n", head + "0x5\r\nhello\r\n", head + "\r\n", head + " 5\r\nhello\r\n0\r\n\r\n",
		head + "fffffffffffffffff\r\n", head + "5;" + strings.Repeat("x", 10_000) + "\r\nhello\r\n0\r\n\r\n", head + "5\r\nhello\r\n0\r\nbad\r\n\r\n",
	} {
		c, _ := scripted(t, func(conn net.Conn, _ int64) {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, answer)
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
		})
		response, err := c.RoundTrip(request(t, "GET", "/", nil))
		require.NoError(t, err)
		_, err = io.ReadAll(response.Body)
		require.Error(t, err, "%.80q", answer)
		_, again := response.Body.Read(make([]byte, 1))
		require.Equal(t, err, again)
		response.Body.Close()
	}
}

func TestAConnectionThatTheServerClosedIsNotUsed(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 10)
	c, dialled := scripted(t, func(conn net.Conn, _ int64) {
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		conn.Close()
		closed <- struct{}{}
	})
	for range 3 {
		r := request(t, "POST", "/", http1.Lent(nil, []byte("x")))
		require.Equal(t, "ok", send(t, c, r).body)
		<-closed
	}
	require.EqualValues(t, 3, dialled.Load())
}

func TestBytesThatNobodyAskedForSpoilAConnection(t *testing.T) {
	t.Parallel()
	smuggled := make(chan struct{})
	c, dialled := scripted(t, func(conn net.Conn, n int64) {
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		if n == 0 {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
			close(smuggled)
		}
		_, _ = io.Copy(io.Discard, conn)
	})
	require.Equal(t, "ok", send(t, c, request(t, "GET", "/", nil)).body)
	<-smuggled
	require.Equal(t, "ok", send(t, c, request(t, "GET", "/", nil)).body)
	require.EqualValues(t, 2, dialled.Load())
}

func TestWhatFailsOnAUsedConnectionIsRepeatedOnlyIfHarmless(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		method     string
		body       io.Reader
		repeatable bool // the body, by GetBody
		again      bool
	}{
		{"GET", nil, false, true},
		{"POST", nil, false, false},
		{"PUT", http1.Lent(nil, []byte("x")), false, true},
		{"POST", http1.Lent(nil, []byte("x")), false, false},
		{"PUT", strings.NewReader("x"), true, true},
		{"PUT", strings.NewReader("x"), false, false},
		{"POST", strings.NewReader("x"), true, false},
	} {
		var asked atomic.Int64
		c, _ := scripted(t, func(conn net.Conn, n int64) {
			in := bufio.NewReader(conn)
			for i := 0; ; i++ {
				r, err := http.ReadRequest(in) // which may come in several pieces
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				asked.Add(1)
				if n == 0 && i == 1 { // it dies of the second request
					return
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		send(t, c, request(t, "GET", "/", nil))
		r := request(t, test.method, "/", test.body)
		r.GetBody = nil
		if test.repeatable {
			r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }
		}
		if test.again {
			send(t, c, r)
			require.EqualValues(t, 3, asked.Load())
		} else {
			require.Error(t, failure(c, r))
			require.EqualValues(t, 2, asked.Load(), "it may have been done")
		}
	}
}

func TestBodyThatIsSentAgainIsNotTheOneBefore(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	whole := make(chan int64, 1)
	c, _ := scripted(t, func(conn net.Conn, n int64) {
		in := bufio.NewReader(conn)
		for i := 0; ; i++ {
			if n == 0 && i == 1 { // it dies of the second request, with most of it unsent
				return
			}
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			read, _ := io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if read > 0 {
				whole <- read
			}
		}
	})
	send(t, c, request(t, "GET", "/", nil))
	r := request(t, "PUT", "/", http1.Lent(nil, make([]byte, size)))
	r.ContentLength = size
	send(t, c, r)
	require.EqualValues(t, size, <-whole)
}

func TestTheEndOfTheContextEndsARequest(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 1)
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			w.WriteHeader(200)
			_, _ = io.WriteString(w, "first")
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
		gone <- struct{}{}
	})
	why := errors.New("enough")

	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	require.ErrorIs(t, failure(c, request(t, "GET", "/silent", nil).WithContext(ctx)), why)
	<-gone

	ctx, cancel = context.WithCancelCause(t.Context())
	response, err := c.RoundTrip(request(t, "GET", "/stream", nil).WithContext(ctx))
	require.NoError(t, err)
	first := make([]byte, 5)
	_, err = io.ReadFull(response.Body, first)
	require.NoError(t, err)
	time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	_, err = response.Body.Read(first)
	require.ErrorIs(t, err, why)
	require.NoError(t, response.Body.Close())
	<-gone
}

func TestClosingABodyEndsTheRequest(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 1)
	c, dialled := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	})
	for range 2 {
		response, err := c.RoundTrip(request(t, "GET", "/", nil)) //nolint:bodyclose // what is closed is the test
		require.NoError(t, err)
		reading := make(chan error, 1)
		go func() {
			_, err := io.ReadAll(response.Body)
			reading <- err
		}()
		require.NoError(t, response.Body.Close())
		require.Error(t, <-reading)
		<-gone
		require.NoError(t, response.Body.Close())
	}
	require.EqualValues(t, 2, dialled.Load())
}

func TestAServerThatRefusesALongRequestIsHeard(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]func() (io.Reader, int64){
		"bytes":    func() (io.Reader, int64) { return http1.Lent(nil, bytes.Repeat([]byte("x"), 32<<20)), 32 << 20 },
		"a stream": func() (io.Reader, int64) { return io.LimitReader(endless{}, 32<<20), -1 },
	} {
		for _, closes := range []bool{true, false} {
			c, _ := scripted(t, func(conn net.Conn, _ int64) {
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
				if closes {
					_ = conn.(*net.TCPConn).CloseWrite()
				}
				_, _ = io.CopyN(io.Discard, conn, 1<<20) // it reads no further
			})
			reader, length := body()
			r := request(t, "POST", "/", reader)
			r.ContentLength = length
			got := send(t, c, r)
			require.Equal(t, 413, got.status, name)
			require.Equal(t, "big", got.body)
		}
	}
}

// A server that is overloaded may say so before it is asked.
func TestAnAnswerThatIsThereBeforeTheRequestIsRead(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	server := make(chan net.Conn, 1)
	c := http1.New(http1.Config{MaxIdle: 1, IdleTimeout: time.Minute, Dial: func(context.Context) (net.Conn, error) {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		accepted, err := l.Accept()
		require.NoError(t, err)
		server <- accepted
		raw, err := conn.(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		said := false
		require.NoError(t, raw.Read(func(uintptr) bool { // returns when the system has told of the answer, which it does once
			defer func() { said = true }()
			if !said {
				_, err = io.WriteString(accepted, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")
			}
			return said
		}))
		require.NoError(t, err)
		return conn, nil
	}})
	defer c.CloseIdle()
	defer func() { (<-server).Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got := send(t, c, request(t, "POST", "/", http1.Lent(nil, []byte("x"))).WithContext(ctx))
	require.Equal(t, []any{503, "busy"}, []any{got.status, got.body})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestAnUploadThatBreaksOffIsNoWholeRequest(t *testing.T) {
	t.Parallel()
	why := errors.New("the client left")
	for _, length := range []int64{-1, 1000} {
		seen := make(chan error, 1)
		c, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			seen <- err
		})
		r := request(t, "POST", "/", io.MultiReader(strings.NewReader("half"), broken{why}))
		r.ContentLength = length
		require.ErrorIs(t, failure(c, r), why)
		require.Error(t, <-seen)
	}
	c, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	r := request(t, "POST", "/", io.MultiReader(strings.NewReader("longer than it says")))
	r.ContentLength = 3
	require.ErrorContains(t, failure(c, r), "longer")
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

func TestWhatWouldBeAnotherRequestIsNotSent(t *testing.T) {
	t.Parallel()
	c, dialled := serve(t, func(http.ResponseWriter, *http.Request) {})
	for name, spoil := range map[string]func(*http.Request){
		"a line break in a value": func(r *http.Request) { r.Header["A"] = []string{"b\r\nC: d"} },
		"a line break in a name":  func(r *http.Request) { r.Header["A\r\nC"] = []string{"d"} },
		"a space in the method":   func(r *http.Request) { r.Method = "GET / HTTP/1.1\r\n" },
		"a line break in a host":  func(r *http.Request) { r.Host = "a\r\nb: c" },
	} {
		r := request(t, "GET", "/", nil)
		spoil(r)
		require.ErrorContains(t, failure(c, r), "cannot be sent", name)
	}
	require.Zero(t, dialled.Load())
}

func TestAServerThatIsNotThereWasNotAsked(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	c, _ := clientOf(t, l.Addr().String())
	var op *net.OpError
	require.ErrorAs(t, failure(c, request(t, "POST", "/", nil)), &op)
	require.Equal(t, "dial", op.Op)
}

// Chunk k is read before the server sends chunk k+1.
func TestAStreamIsReadAsItComes(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	c, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 100 {
			_, _ = io.WriteString(w, "data: x\n\n")
			w.(http.Flusher).Flush()
			<-next
		}
	})
	response, err := c.RoundTrip(request(t, "POST", "/", nil))
	require.NoError(t, err)
	buffer := make([]byte, 32<<10)
	for range 100 {
		n, err := response.Body.Read(buffer)
		require.NoError(t, err)
		require.Equal(t, "data: x\n\n", string(buffer[:n]))
		next <- struct{}{}
	}
	_, err = response.Body.Read(buffer)
	require.Equal(t, io.EOF, err)
	require.NoError(t, response.Body.Close())
}

func TestIdleConnectionsAreBoundedAndForgotten(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config  http1.Config
		dialled int64
	}{
		"there is room for all":  {http1.Config{MaxIdle: 2, IdleTimeout: time.Minute}, 2},
		"there is room for one":  {http1.Config{MaxIdle: 1, IdleTimeout: time.Minute}, 3},
		"they are not kept long": {http1.Config{MaxIdle: 2, IdleTimeout: 1}, 4},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
		var dialled atomic.Int64
		test.config.Dial = func(ctx context.Context) (net.Conn, error) {
			dialled.Add(1)
			return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
		}
		c := http1.New(test.config)
		for range 2 {
			var open [2]io.ReadCloser
			for i := range open {
				response, err := c.RoundTrip(request(t, "GET", "/", nil)) //nolint:bodyclose // it is below
				require.NoError(t, err)
				open[i] = response.Body
			}
			for _, body := range open {
				_, err := io.ReadAll(body)
				require.NoError(t, err)
				body.Close()
			}
		}
		require.Equal(t, test.dialled, dialled.Load(), name)
		c.CloseIdle()
		s.Close()
	}
}

func TestIdleConnectionsAreClosedThoughNothingIsAsked(t *testing.T) {
	t.Parallel()
	var open atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c := http1.New(http1.Config{MaxIdle: 8, IdleTimeout: 30 * time.Millisecond, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}})
	for range 2 { // and again after the first sweep
		send(t, c, request(t, "GET", "/", nil))
		require.EqualValues(t, 1, open.Load())
		require.Eventually(t, func() bool { return open.Load() == 0 }, 10*time.Second, time.Millisecond)
	}
}

func TestManyAtOnceShareThePool(t *testing.T) {
	t.Parallel()
	c, dialled := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	const clients, calls = 8, 300
	var all sync.WaitGroup
	var wrong atomic.Int64
	for i := range clients {
		all.Go(func() {
			want := strings.Repeat(string(rune('a'+i)), 100)
			for range calls {
				r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://engine.example/", http1.Lent(nil, []byte(want)))
				response, err := c.RoundTrip(r)
				if err != nil {
					wrong.Add(1)
					continue
				}
				if got, err := io.ReadAll(response.Body); err != nil || string(got) != want {
					wrong.Add(1)
				}
				response.Body.Close()
			}
		})
	}
	all.Wait()
	require.Zero(t, wrong.Load())
	require.LessOrEqual(t, dialled.Load(), int64(2*clients))
}

func TestBytesAreReadOnceByAnybody(t *testing.T) {
	t.Parallel()
	pieces := [][]byte{[]byte("one "), nil, []byte("two"), {}}
	require.EqualValues(t, 7, http1.Lent(nil, pieces...).Len())
	require.NoError(t, iotest.TestReader(http1.Lent(nil, pieces...), []byte("one two")))
	require.NoError(t, iotest.TestReader(http1.Lent(nil), nil))
}
