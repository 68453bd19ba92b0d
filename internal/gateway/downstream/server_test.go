package downstream_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/engineshed/engineshed/internal/gateway/downstream"
)

const deadline = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is one that a test asks.
type server struct {
	*downstream.Server
	addr     string
	requests atomic.Int64
	reasons  chan error
	endAll   context.CancelFunc
	roots    *x509.CertPool
}

func serve(t testing.TB, secure bool, handler http.HandlerFunc) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	s := &server{endAll: cancel, addr: l.Addr().String(), reasons: make(chan error, 1<<10)}
	s.Server = &downstream.Server{
		BaseContext: ctx, IdleTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), Refused: func(reason error) { s.reasons <- reason },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.requests.Add(1)
			handler(w, r)
		}),
	}
	if secure {
		lender := httptest.NewTLSServer(nil) // of its certificate
		lender.Close()
		s.roots = x509.NewCertPool()
		s.roots.AddCert(lender.Certificate())
		s.TLS = &tls.Config{Certificates: lender.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		cancel()
		_ = s.Close()
		require.ErrorIs(t, <-ended, http.ErrServerClosed)
	})
	return s
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	_, _ = fmt.Fprintf(w, "%s %s %q %v", r.Method, r.RequestURI, body, err)
}

// dial returns a connection with a deadline and its reader.
func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(deadline)))
	return c, bufio.NewReader(c)
}

func read(t *testing.T, in *bufio.Reader) (status int, body string) {
	t.Helper()
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

const post = "POST /a HTTP/1.1\r\nHost: a\r\n"

func TestPipelinedRequestsAreAnsweredUpToTheOneThatIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, false, echo)
	c, in := dial(t, s.addr)
	good := post + "Content-Length: 2\r\n\r\nhi" + post + "Transfer-Encoding: chunked\r\n\r\n2\r\nho\r\n0\r\n\r\n" + "GET /b HTTP/1.1\r\nHost: a\r\n\r\n"
	_, err := io.WriteString(c, good+good+post+"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"+good)
	require.NoError(t, err)
	for range 2 {
		for _, want := range []string{`POST /a "hi" <nil>`, `POST /a "ho" <nil>`, `GET /b "" <nil>`} {
			status, body := read(t, in)
			require.Equal(t, 200, status)
			require.Equal(t, want, body)
		}
	}
	status, body := read(t, in)
	require.Equal(t, 400, status)
	require.Contains(t, body, `"code":"invalid_framing"`)
	require.Contains(t, body, "Content-Length")
	_, err = in.ReadByte()
	require.ErrorIs(t, err, io.EOF, "the connection is closed in order: the answer is not lost to a reset")
	require.EqualValues(t, 6, s.requests.Load())
	require.ErrorContains(t, <-s.reasons, "Content-Length")
}

func TestRequestThatIsRefusedDoesNotDisturbTheOneBefore(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-finish:
			echo(w, r)
		case <-r.Context().Done():
		}
	})
	c, in := dial(t, s.addr)
	_, err := io.WriteString(c, "GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.requests.Load() == 1 }, deadline, time.Millisecond)
	_, err = io.WriteString(c, "\nno request\n")
	require.NoError(t, err)
	close(finish)
	status, _ := read(t, in)
	require.Equal(t, 200, status)
	status, _ = read(t, in)
	require.Equal(t, 400, status)
}

func TestBodyThatIsFramedWrongCancelsItsRequest(t *testing.T) {
	t.Parallel()
	bodies := make(chan error, 1)
	s := serve(t, false, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		<-r.Context().Done()
		bodies <- err
	})
	c, in := dial(t, s.addr)
	_, err := io.WriteString(c, post+"Transfer-Encoding: chunked\r\n\r\n2\r\nhiGET /b HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	require.ErrorIs(t, <-bodies, downstream.ErrRefused)
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			break
		}
		_ = resp.Body.Close()
	}
	require.EqualValues(t, 1, s.requests.Load(), "what looks like another request is none")
}

func TestExpectedContinueIsSentAndAbsentBodiesAreNotMissed(t *testing.T) {
	t.Parallel()
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "/refuse" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		echo(w, r)
	})
	c, in := dial(t, s.addr)
	for range 2 {
		_, err := io.WriteString(c, post+"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		require.NoError(t, err)
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, "100 Continue")
		_, err = in.ReadString('\n')
		require.NoError(t, err)
		_, err = io.WriteString(c, "hello")
		require.NoError(t, err)
		_, body := read(t, in)
		require.Equal(t, `POST /a "hello" <nil>`, body)
	}
	_, err := io.WriteString(c, "POST /refuse HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	require.NoError(t, err)
	status, _ := read(t, in)
	require.Equal(t, 403, status)
}

func TestHijackedConnectionSpeaksWhatItLikes(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		s := serve(t, secure, func(w http.ResponseWriter, _ *http.Request) {
			conn, buffered, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			_, _ = io.Copy(conn, buffered)
		})
		c, in := dial(t, s.addr)
		if secure {
			c = tls.Client(c, &tls.Config{RootCAs: s.roots, ServerName: "example.com"})
			in = bufio.NewReader(c)
		}
		_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(in, nil) //nolint:bodyclose // the connection is what is closed
		require.NoError(t, err)
		require.Equal(t, 101, resp.StatusCode)
		for _, text := range []string{"\x00\x01\n", "GET\n\n\n", "\r\n"} {
			_, err = io.WriteString(c, text)
			require.NoError(t, err)
			back := make([]byte, len(text))
			_, err = io.ReadFull(in, back)
			require.NoError(t, err)
			require.Equal(t, text, string(back))
		}
		require.Empty(t, s.reasons)
	}
}

func TestRequestThatIsNotUpgradedIsFollowedByCheckedOnes(t *testing.T) {
	t.Parallel()
	s := serve(t, false, echo)
	c, in := dial(t, s.addr)
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\nHost: a\r\n\r\n")
	require.NoError(t, err)
	status, _ := read(t, in)
	require.Equal(t, 200, status)
	status, _ = read(t, in)
	require.Equal(t, 400, status)
}

func TestTLSIsCheckedInsideAndHTTP2PassesAsItIs(t *testing.T) {
	t.Parallel()
	s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%d %v %s", r.ProtoMajor, r.TLS != nil && r.TLS.HandshakeComplete, r.TLS.ServerName)
	})
	for version, http2 := range map[string]bool{"1": false, "2": true} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots, ServerName: "example.com"}, ForceAttemptHTTP2: http2}
		t.Cleanup(transport.CloseIdleConnections)
		for range 3 {
			resp, err := (&http.Client{Transport: transport, Timeout: deadline}).Get("https://" + s.addr) //nolint:noctx // it has a timeout
			require.NoError(t, err)
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			require.NoError(t, err)
			require.Equal(t, version+" true example.com", string(text))
		}
	}
	c, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: s.roots, ServerName: "example.com", NextProtos: []string{"http/1.1"}}) //nolint:noctx // local
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nX:\x00\r\n\r\n")
	require.NoError(t, err)
	status, body := read(t, bufio.NewReader(c))
	require.Equal(t, 400, status)
	require.Contains(t, body, "control character")

	plain, in := dial(t, s.addr)
	_, err = io.WriteString(plain, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	text, err := io.ReadAll(in)
	require.NoError(t, err)
	require.Contains(t, string(text), "HTTP request to an HTTPS server")
}

func TestClosedServerLeavesNoHandshakeBehind(t *testing.T) {
	t.Parallel()
	s := serve(t, true, echo)
	for range 3 {
		c, _ := dial(t, s.addr)
		_, err := io.WriteString(c, "\x16\x03\x01")
		require.NoError(t, err)
	}
} // and TestMain looks

// It sends what a usual client sends, in all sizes, over connections that are kept.
func TestUsualClientsSeeNoDifference(t *testing.T) {
	t.Parallel()
	s := serve(t, false, echo)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: deadline}
	defer client.CloseIdleConnections()
	for i := range 60 {
		body := strings.Repeat("x\n\r\n", i*i*5)
		var reader io.Reader = strings.NewReader(body)
		if i%2 == 1 {
			reader = io.MultiReader(reader) // of unknown length: chunked
		}
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+s.addr+"/x", reader)
		require.NoError(t, err)
		resp, err := client.Do(r)
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("POST /x %q <nil>", body), string(text))
	}
	require.Empty(t, s.reasons)
}

func ask(t *testing.T, c net.Conn, in *bufio.Reader, text string) (status int, body string) {
	t.Helper()
	_, err := io.WriteString(c, text)
	require.NoError(t, err)
	return read(t, in)
}

const plain = "GET /b HTTP/1.1\r\nHost: a\r\n\r\n"

func TestShutdownAnswersWhatHasBegunAndClosesTheRest(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		finish := make(chan struct{})
		s := serve(t, secure, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-finish
			}
			echo(w, r)
		})
		dial := func() (net.Conn, *bufio.Reader) {
			c, in := dial(t, s.addr)
			if secure {
				c = tls.Client(c, &tls.Config{RootCAs: s.roots, ServerName: "example.com"})
				in = bufio.NewReader(c)
			}
			return c, in
		}
		idle, idleIn := dial()
		status, _ := ask(t, idle, idleIn, plain)
		require.Equal(t, 200, status)
		half, halfIn := dial()
		status, _ = ask(t, half, halfIn, plain)
		require.Equal(t, 200, status)
		slow, slowIn := dial()
		_, err := io.WriteString(slow, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"+plain)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return s.requests.Load() == 3 }, deadline, time.Millisecond)
		fresh, freshIn := dial()
		if secure { // or it would not have said a word
			require.NoError(t, fresh.(*tls.Conn).Handshake()) //nolint:noctx // it has a deadline
		}
		_, err = io.WriteString(half, plain[:10])
		require.NoError(t, err)
		require.Eventually(t, func() bool { return s.Reading() == 1 && s.Open() == 4 }, deadline, time.Millisecond)

		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(context.Background()) }()
		_, err = idleIn.ReadByte()
		require.ErrorIs(t, err, io.EOF)
		status, _ = ask(t, half, halfIn, plain[10:])
		require.Equal(t, 200, status, "it had begun to come")
		status, _ = ask(t, fresh, freshIn, plain)
		require.Equal(t, 200, status, "who has connected will ask")
		require.Empty(t, ended)
		close(finish)
		status, _ = read(t, slowIn)
		require.Equal(t, 200, status)
		_, err = slowIn.ReadByte()
		require.ErrorIs(t, err, io.EOF, "the request behind it is for another server")
		require.NoError(t, <-ended)
		_, err = net.Dial("tcp", s.addr)
		require.Error(t, err)
		require.NoError(t, s.Shutdown(context.Background()), "once more it is over at once")
	}
}

func TestShutdownThatLastsTooLongLeavesTheRequestsRunning(t *testing.T) {
	t.Parallel()
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		_, _ = io.WriteString(w, "goodbye")
	})
	c, in := dial(t, s.addr)
	_, err := io.WriteString(c, plain)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.requests.Load() == 1 }, deadline, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
	s.endAll()
	_, body := read(t, in)
	require.Equal(t, "goodbye", body)
	require.NoError(t, s.Shutdown(context.Background()))
}

func TestRequestEndsWhenItsClientLeaves(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		ends := make(chan time.Duration, 3)
		s := serve(t, secure, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			switch r.URL.Path {
			case "/stream":
				_, _ = io.WriteString(w, "an event")
				_ = http.NewResponseController(w).Flush()
			case "/after":
				context.AfterFunc(r.Context(), func() { ends <- 0 })
			}
			<-r.Context().Done()
			ends <- 0
		})
		for _, path := range []string{"/silent", "/stream", "/after"} {
			c, in := dial(t, s.addr)
			end := c.Close
			if secure {
				c = tls.Client(c, &tls.Config{RootCAs: s.roots, ServerName: "example.com"})
				in = bufio.NewReader(c)
			}
			before := s.requests.Load()
			_, err := io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
			require.NoError(t, err)
			if path == "/stream" {
				_, err := in.Peek(1)
				require.NoError(t, err)
			}
			require.Eventually(t, func() bool { return s.requests.Load() == before+1 }, deadline, time.Millisecond)
			require.Empty(t, ends)
			left := time.Now()
			require.NoError(t, end())
			<-ends
			require.Less(t, time.Since(left), time.Second)
			if path == "/after" {
				<-ends
			}
		}
	}
}

func TestPanicCutsTheAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/later" {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	})
	for path, want := range map[string]string{"/at-once": "", "/later": "half"} {
		c, in := dial(t, s.addr)
		_, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(in, nil)
		if want == "" {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			continue
		}
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Equal(t, want, string(body))
	}
}

func TestUnreadBodyIsPassedOverOrEndsTheConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, false, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "no, thanks") })
	for _, chunked := range []bool{false, true} {
		for size, goesOn := range map[int]bool{1: true, 100 << 10: true, 1 << 20: false} {
			c, in := dial(t, s.addr)
			body := strings.Repeat("x", size)
			head := post + fmt.Sprintf("Content-Length: %d\r\n\r\n", size)
			if chunked {
				head, body = post+"Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, body)
			}
			go func() { _, _ = io.WriteString(c, head+body+plain) }()
			status, text := read(t, in)
			require.Equal(t, 200, status)
			require.Equal(t, "no, thanks", text)
			if !goesOn {
				_, err := in.ReadByte()
				require.Error(t, err)
				continue
			}
			status, _ = read(t, in)
			require.Equal(t, 200, status)
		}
	}
}

func TestBodyIsReadWhileItIsAnswered(t *testing.T) {
	t.Parallel()
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(flusher{w}, r.Body)
	})
	c, in := dial(t, s.addr)
	_, err := io.WriteString(c, post+"Transfer-Encoding: chunked\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	for _, word := range []string{"one", "two"} {
		_, err := fmt.Fprintf(c, "3\r\n%s\r\n", word)
		require.NoError(t, err)
		got := make([]byte, 3)
		_, err = io.ReadFull(resp.Body, got)
		require.NoError(t, err)
		require.Equal(t, word, string(got))
	}
	_, err = io.WriteString(c, "0\r\n\r\n")
	require.NoError(t, err)
	rest, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Empty(t, rest)
}

// flusher flushes an answer after each piece.
type flusher struct{ w http.ResponseWriter }

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	return n, errors.Join(err, http.NewResponseController(f.w).Flush())
}

func TestGoroutineThatReadsTheBodyStillIsStopped(t *testing.T) {
	t.Parallel()
	read := make(chan error, 1)
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		began := make(chan struct{})
		go func() {
			var one [1]byte
			_, _ = r.Body.Read(one[:])
			close(began)
			_, err := r.Body.Read(one[:])
			read <- err
		}()
		<-began
		_, _ = io.WriteString(w, "enough")
	})
	c, in := dial(t, s.addr)
	status, body := ask(t, c, in, post+"Content-Length: 2\r\n\r\nh")
	require.Equal(t, 200, status)
	require.Equal(t, "enough", body)
	require.Error(t, <-read)
}

func TestInterimAnswersGoOutAtOnce(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	s := serve(t, false, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		<-finish
		w.WriteHeader(http.StatusNoContent)
	})
	c, in := dial(t, s.addr)
	status, _ := ask(t, c, in, plain)
	require.Equal(t, 103, status)
	close(finish)
	status, _ = read(t, in)
	require.Equal(t, 204, status)
}

func TestAnswerOfKnownLengthGoesOutWhenItIsWholeWhateverItsHandlerDoes(t *testing.T) {
	t.Parallel()
	read := make(chan struct{})
	s := serve(t, false, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4")
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "do")
		_, _ = io.WriteString(w, "ne")
		<-read
	})
	conn, in := dial(t, s.addr)
	for range 2 {
		status, body := ask(t, conn, in, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		require.Equal(t, 200, status)
		require.Equal(t, "done", body)
		read <- struct{}{}
	}
}

func TestSlowHeadsAndIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, false, echo)
	s.Pass(1) // it serves
	idle, idleIn := dial(t, s.addr)
	status, _ := ask(t, idle, idleIn, plain)
	require.Equal(t, 200, status)
	half, halfIn := dial(t, s.addr)
	_, err := io.WriteString(half, plain[:10])
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.Reading() == 1 }, deadline, time.Millisecond)
	s.Pass(12)
	_, err = halfIn.ReadByte()
	require.ErrorIs(t, err, io.EOF, "ten seconds are enough for a head")
	status, _ = ask(t, idle, idleIn, plain)
	require.Equal(t, 200, status)
	require.Eventually(t, func() bool { return s.Idling() == 1 }, deadline, time.Millisecond) // it is answered before that
	s.Pass(62)
	_, err = idleIn.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}

func TestRequestOfAConnectionThatWasTakenOverEndsWithTheBase(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, "mine")
			<-r.Context().Done()
			_ = conn.Close()
		}
		close(ended)
	})
	c, in := dial(t, s.addr)
	_, err := io.WriteString(c, plain)
	require.NoError(t, err)
	word := make([]byte, 4)
	_, err = io.ReadFull(in, word)
	require.NoError(t, err)
	require.Equal(t, "mine", string(word))
	require.NoError(t, s.Shutdown(context.Background()), "it is not waited for")
	select {
	case <-ended:
		require.Fail(t, "it is not ended by that")
	default:
	}
	s.endAll()
	<-ended
	_, err = in.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}

func TestDeadlineOfOneRequestIsNotTheNextOnes(t *testing.T) {
	t.Parallel()
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
			return
		}
		echo(w, r)
	})
	c, in := dial(t, s.addr)
	status, _ := ask(t, c, in, plain+post+"Content-Length: 5\r\n\r\nhe")
	require.Equal(t, 200, status)
	_, body := ask(t, c, in, "llo")
	require.Equal(t, `POST /a "hello" <nil>`, body)
}

func TestBodyThatMissesADeadlineDoesNotEndItsRequest(t *testing.T) {
	t.Parallel()
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := io.ReadAll(r.Body)
		_, _ = fmt.Fprint(w, errors.Is(err, os.ErrDeadlineExceeded), r.Context().Err())
	})
	c, in := dial(t, s.addr)
	status, body := ask(t, c, in, post+"Content-Length: 5\r\n\r\nhe")
	require.Equal(t, 200, status)
	require.Equal(t, "true <nil>", body)
}
