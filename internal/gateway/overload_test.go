package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// newRigWith starts a gateway with other settings than the usual.
func newRigWith(t testing.TB, set func(*gateway.Settings)) *rig {
	t.Helper()
	g := prepareRig(t, newDB(t))
	set(&g.settings)
	g.start()
	g.awaitReady()
	return g
}

// awaitGauge waits until a metric has the value.
func (r *rig) awaitGauge(metric string, value int) {
	r.t.Helper()
	r.await(func() bool { return strings.Contains(r.metrics(), fmt.Sprintf("\n%s %d\n", metric, value)) })
}

// ticketEngine answers those who have been let go.
func ticketEngine(t *testing.T) (e *engine, letGo func()) {
	t.Helper()
	tickets := make(chan struct{}, 100)
	e = newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-tickets:
			_, _ = io.WriteString(w, "answered")
		case <-r.Context().Done():
		}
	})
	return e, func() { tickets <- struct{}{} }
}

// background asks without waiting, and sends the status when it comes.
func (r *rig) background(ctx context.Context, url string) <-chan int {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, deadline)
	ended := make(chan int, 1)
	ask := request(r.t, http.MethodPost, url, `{"model":"demo"}`).WithContext(ctx)
	go func() {
		defer close(ended)
		defer cancel()
		resp, err := client.Do(ask)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		ended <- resp.StatusCode
	}()
	return ended
}

func TestRequestBeyondTheLimitOfItsAPIIsRefusedInItsProtocol(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e, letGo := ticketEngine(t)
	s := g.outside(e.URL)
	things := []any{s}
	for protocol := range overloadCodes {
		a := apiOf(s.ID, protocol+" POST Prefix / json")
		a.BasePath, a.RemoveBasePath, a.Limits = "/"+protocol, true, &snapshot.Limits{Concurrent: 1}
		things = append(things, a)
	}
	g.serveAll(things...)
	for protocol, want := range overloadCodes {
		url := g.at("/" + protocol + "/v1/x")
		before := e.calls.Load()
		first := g.background(t.Context(), url)
		g.await(func() bool { return e.calls.Load() == before+1 })

		refused := do(t, request(t, http.MethodPost, url, `{"model":"demo"}`))
		require.Equal(t, http.StatusTooManyRequests, refused.status)
		require.Equal(t, "1", refused.header.Get("Retry-After"))
		var got struct {
			Code  string
			Error struct{ Type, Code string }
		}
		require.NoError(t, json.Unmarshal([]byte(refused.body), &got))
		require.Contains(t, []string{got.Code, got.Error.Type, got.Error.Code}, want, refused.body)
		require.Equal(t, before+1, e.calls.Load())

		letGo()
		require.Equal(t, http.StatusOK, <-first)
		letGo()
		require.Equal(t, http.StatusOK, <-g.background(t.Context(), url), "there is room again")
	}
	g.awaitGauge(`engineshed_gateway_refused_total{limit="api"}`, len(overloadCodes))
}

var overloadCodes = map[string]string{"OpenAI/v1": "concurrency_limit_exceeded", "Anthropic": "rate_limit_error", "DashScope": "Throttling"}

func TestLimitOfAnAPIIsItsOwnAndChangesWhileRequestsAreUnderWay(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e, letGo := ticketEngine(t)
	s := g.outside(e.URL)
	a, other := apiOf(s.ID, chatRoute), apiOf(s.ID, chatRoute)
	a.Limits, other.BasePath, other.RemoveBasePath = &snapshot.Limits{Concurrent: 1, Queued: 1}, "/other", true
	g.serveAll(s, a, other)
	url := g.at("/v1/chat/completions")
	label := `{api="` + a.ID + `"}`

	first, second := g.background(t.Context(), url), g.background(t.Context(), url)
	g.awaitGauge("engineshed_gateway_api_queued"+label, 1)
	g.awaitGauge("engineshed_gateway_api_running"+label, 1)
	g.awaitGauge("engineshed_gateway_running", 1) // who waits at the one takes no room at the other
	require.Equal(t, http.StatusTooManyRequests, g.chat("{}").status)
	letGo()
	letGo()
	letGo()
	require.Equal(t, http.StatusOK, <-g.background(t.Context(), g.at("/other/v1/chat/completions")))
	require.Equal(t, http.StatusOK, <-first)
	require.Equal(t, http.StatusOK, <-second)

	first, second = g.background(t.Context(), url), g.background(t.Context(), url)
	g.awaitGauge("engineshed_gateway_api_queued"+label, 1)
	a.Limits.Concurrent = 2
	g.serveAll(a)
	g.awaitGauge("engineshed_gateway_api_running"+label, 2)
	a.Limits = nil
	g.serveAll(a)
	third := g.background(t.Context(), url)
	g.awaitGauge("engineshed_gateway_api_running"+label, 3)
	for range 3 {
		letGo() // whichever of them comes first
	}
	for _, ended := range []<-chan int{first, second, third} {
		require.Equal(t, http.StatusOK, <-ended)
	}
	g.awaitGauge("engineshed_gateway_api_running"+label, 0)
	g.awaitGauge("engineshed_gateway_api_refused_total"+label, 1)
}

func TestClientThatLeavesWhileItWaitsGivesItsPlaceUp(t *testing.T) {
	t.Parallel()
	g := newRigWith(t, func(s *gateway.Settings) { s.MaxConcurrency, s.MaxQueue = 1, 1 })
	e, letGo := ticketEngine(t)
	s := g.service(e.addr)
	g.serve(s)
	url := g.url(s, "/v1/chat/completions")
	first := g.background(t.Context(), url)
	g.await(func() bool { return e.calls.Load() == 1 })
	ctx, leave := context.WithCancel(t.Context())
	second := g.background(ctx, url)
	g.awaitGauge("engineshed_gateway_queued", 1)
	leave()
	require.Zero(t, <-second)
	g.awaitGauge("engineshed_gateway_queued", 0)
	third := g.background(t.Context(), url)
	g.awaitGauge("engineshed_gateway_queued", 1)
	letGo()
	letGo()
	require.Equal(t, http.StatusOK, <-first)
	require.Equal(t, http.StatusOK, <-third)
	require.EqualValues(t, 2, e.calls.Load())
	g.awaitGauge("engineshed_gateway_running", 0)
	g.awaitGauge("engineshed_gateway_body_bytes", 0)
}

func TestRequestBeyondTheLimitOfTheGatewayIs503(t *testing.T) {
	t.Parallel()
	g := newRigWith(t, func(s *gateway.Settings) { s.MaxConcurrency = 1 })
	e, conns := socketEngine(t)
	s, direct := g.outside(e.URL), g.service(e.addr)
	g.serveAll(s, direct, apiOf(s.ID, "ComfyUI GET Exact /ws", chatRoute))
	socket, _, status := dialWebSocket(t, g.Addr(), "/ws")
	require.Equal(t, http.StatusSwitchingProtocols, status)
	service := <-conns
	defer service.Close()
	for _, refused := range []answer{g.chat("{}"), g.ask(direct)} {
		require.Equal(t, http.StatusServiceUnavailable, refused.status, "a WebSocket counts")
		require.Equal(t, "gateway_overloaded", refused.code(t))
		require.Equal(t, "1", refused.header.Get("Retry-After"))
	}
	require.Equal(t, http.StatusUnauthorized, get(t, g.url(direct, "/v1/models")).status, "who has no key is told that")
	g.awaitGauge(`engineshed_gateway_refused_total{limit="gateway"}`, 2)
	require.NoError(t, socket.Close())
	g.awaitGauge("engineshed_gateway_running", 0)
}

func TestRequestThatWaitsIsToldOfAShutdown(t *testing.T) {
	t.Parallel()
	g := newRigWith(t, func(s *gateway.Settings) {
		s.MaxConcurrency, s.MaxQueue, s.DrainTimeout = 1, 1, 50*time.Millisecond
	})
	e, _ := ticketEngine(t)
	s := g.service(e.addr)
	g.serve(s)
	url := g.url(s, "/v1/chat/completions")
	_ = g.background(t.Context(), url)
	g.await(func() bool { return e.calls.Load() == 1 })
	waits := g.background(t.Context(), url)
	g.awaitGauge("engineshed_gateway_queued", 1)
	g.halt()
	require.Equal(t, http.StatusServiceUnavailable, <-waits)
}

// sendHead sends a request whose body is still to come.
func sendHead(t *testing.T, addr, path string, length int) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(deadline)))
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		path, callerKey, length)
	require.NoError(t, err)
	return conn, bufio.NewReader(conn)
}

// readStatus reads an answer and returns its status and the code of its error.
func readStatus(t *testing.T, in *bufio.Reader) (status int, code string) {
	t.Helper()
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, answer{resp.StatusCode, resp.Header, string(body)}.code(t)
}

func TestRefusalDoesNotWaitForTheBody(t *testing.T) {
	t.Parallel()
	g := newRigWith(t, func(s *gateway.Settings) { s.MaxConcurrency = 1 })
	e, letGo := ticketEngine(t)
	s := g.service(e.addr)
	g.serve(s)
	url := g.url(s, "/v1/chat/completions")
	first := g.background(t.Context(), url)
	g.await(func() bool { return e.calls.Load() == 1 })
	path := strings.TrimPrefix(url, "http://"+g.Addr())
	conn, in := sendHead(t, g.Addr(), path, 10)
	status, code := readStatus(t, in)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "gateway_overloaded", code)

	letGo()
	require.Equal(t, http.StatusOK, <-first)
	letGo()
	_, err := io.WriteString(conn, `{"model":1}`[:10]+"POST "+path+" HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "+callerKey+"\r\nContent-Length: 2\r\n\r\n{}")
	require.NoError(t, err)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode, "the connection serves on")
}

func TestWhoHasHeardTheWholeAnswerMayAskAgainAtOnce(t *testing.T) {
	t.Parallel()
	g := newRigWith(t, func(s *gateway.Settings) { s.MaxConcurrency = 1 })
	e := newEngine(t, says("answered"))
	s := g.service(strings.TrimPrefix(e.URL, "http://"))
	g.serve(s)
	path := strings.TrimPrefix(g.url(s, "/v1/chat/completions"), "http://"+g.Addr())
	for range 200 {
		conn, in := sendHead(t, g.Addr(), path, 2) // a connection each: one and the same waits for its own turn
		_, err := io.WriteString(conn, "{}")
		require.NoError(t, err)
		resp, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		_, err = io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.NoError(t, conn.Close())
	}
}

func TestBodiesBeyondTheMemoryForThemAreRefusedUnread(t *testing.T) {
	t.Parallel()
	g := newRigWith(t, func(s *gateway.Settings) { s.MaxBodyMemory = s.MaxBody })
	e := newEngine(t, says("answered"))
	s := g.outside(e.URL)
	g.serveAll(s, apiOf(s.ID, chatRoute, "OpenAI/v1 POST Exact /v1/files"))
	const size = 600 << 10
	conn, in := sendHead(t, g.Addr(), "/v1/chat/completions", size)
	body := []byte(`{"model":"demo","messages":"` + strings.Repeat("a", size-30) + `"}`)
	_, err := conn.Write(body[:size-1])
	require.NoError(t, err)
	g.awaitGauge("engineshed_gateway_body_bytes", size)

	_, second := sendHead(t, g.Addr(), "/v1/chat/completions", size)
	status, code := readStatus(t, second)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "gateway_overloaded", code)
	require.Equal(t, http.StatusOK, g.chat("{}").status, "a small one has room")
	upload := do(t, request(t, http.MethodPost, g.at("/v1/files"), strings.Repeat("a", 2*size)))
	require.Equal(t, http.StatusOK, upload.status, "what passes as it comes is not held")

	_, err = conn.Write(bytes.Repeat([]byte{' '}, 1))
	require.NoError(t, err)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	g.awaitGauge("engineshed_gateway_body_bytes", 0)
	g.awaitGauge(`engineshed_gateway_refused_total{limit="body_memory"}`, 1)
}
