package framing_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/engineshed/engineshed/internal/gateway/framing"
)

const deadline = 10 * time.Second

// server is an http.Server behind a checking listener.
type server struct {
	addr     string
	requests atomic.Int64
	reasons  chan error
	roots    *x509.CertPool
}

func serve(t *testing.T, secure bool, handler http.HandlerFunc) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{addr: l.Addr().String(), reasons: make(chan error, 16)}
	var config *tls.Config
	if secure {
		lender := httptest.NewTLSServer(nil) // of its certificate
		lender.Close()
		s.roots = x509.NewCertPool()
		s.roots.AddCert(lender.Certificate())
		config = &tls.Config{Certificates: lender.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
	}
	h := &http.Server{
		ConnState: framing.Follow, ReadHeaderTimeout: deadline, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.requests.Add(1)
			handler(w, r)
		}),
	}
	go func() { _ = h.Serve(framing.Listen(l, config, func(reason error) { s.reasons <- reason })) }()
	t.Cleanup(func() { h.Close() })
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
	require.ErrorIs(t, <-bodies, framing.ErrRefused)
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

// Not parallel: it counts goroutines.
func TestClosedListenerLeavesNoHandshakeBehind(t *testing.T) {
	baseline := goleak.IgnoreCurrent()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	listener := framing.Listen(l, &tls.Config{MinVersion: tls.VersionTLS12}, func(error) {})
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
	}
	require.NoError(t, listener.Close())
	_, err = listener.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	goleak.VerifyNone(t, baseline)
}

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
