package gateway_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway"
)

func TestBodyThatStopsComingIs408AndFreesEverything(t *testing.T) {
	t.Parallel()
	g := newRigWith(t, func(s *gateway.Settings) {
		s.BodyIdleTimeout, s.MaxConcurrency = 200*time.Millisecond, 100
	})
	var asked atomic.Int64
	e := newEngine(t, func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		defer asked.Add(-1)
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	s, direct := g.outside(e.URL), g.service(e.addr)
	g.serveAll(s, direct, apiOf(s.ID, chatRoute, "OpenAI/v1 POST Exact /v1/files"))
	for name, c := range map[string]struct {
		path         string
		length, sent int
	}{
		"of a Model API":            {"/v1/chat/completions", 1000, 10},
		"of a Model API, large":     {"/v1/chat/completions", 1 << 20, 200 << 10},
		"that passes as it comes":   {"/v1/files", 1 << 20, 200 << 10},
		"small, to a model service": {"/services/" + direct.ID + "/v1/chat/completions", 1000, 0},
		"large, to a model service": {"/services/" + direct.ID + "/v1/chat/completions", 1 << 20, 200 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			conn, in := sendHead(t, g.Addr(), c.path, c.length)
			_, err := io.WriteString(conn, strings.Repeat("a", c.sent))
			require.NoError(t, err)
			status, code := readStatus(t, in)
			require.Equal(t, http.StatusRequestTimeout, status)
			require.Equal(t, "body_timeout", code)
		})
	}
	g.awaitGauge("engineshed_gateway_running", 0)
	g.awaitGauge("engineshed_gateway_body_bytes", 0)
	g.awaitGauge(`engineshed_gateway_stalled_total{what="body"}`, 5)
	g.await(func() bool { return asked.Load() == 0 })
}

func TestAnswerThatIsNotReadIsCutAndItsServiceIsLeft(t *testing.T) {
	t.Parallel()
	g := newRigWith(t, func(s *gateway.Settings) { s.WriteIdleTimeout = 200 * time.Millisecond })
	var under atomic.Int64
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		under.Add(1)
		defer under.Add(-1)
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		event := "data: " + strings.Repeat("x", 8<<10) + "\n\n"
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, event)
		}
	})
	s := g.outside(e.URL)
	domain, roots := g.domain("one.example.com")
	domain.HTTP2 = true
	a := apiOf(s.ID, chatRoute)
	a.Hosts = []string{domain.Name}
	g.serveAll(s, domain, a)

	conn, _ := sendHead(t, g.Addr(), "/v1/chat/completions", 2)
	_, err := io.WriteString(conn, "{}")
	require.NoError(t, err)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: domain.Name}, ForceAttemptHTTP2: true,
	}
	defer transport.CloseIdleConnections()
	overH2 := request(t, http.MethodPost, "https://"+g.HTTPSAddr()+"/v1/chat/completions", "{}")
	overH2.Host = domain.Name
	resp, err := transport.RoundTrip(overH2)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, 2, resp.ProtoMajor)

	g.await(func() bool { return under.Load() == 2 })
	g.await(func() bool { return under.Load() == 0 })
	g.awaitGauge("engineshed_gateway_running", 0)
	g.awaitGauge(`engineshed_gateway_stalled_total{what="answer"}`, 2)
	g.awaitGauge(`engineshed_gateway_api_requests_total{api="`+a.ID+`",outcome="gone"}`, 2)
}

func TestWebSocketThatIsNotReadIsCut(t *testing.T) {
	t.Parallel()
	g := newRigWith(t, func(s *gateway.Settings) { s.WriteIdleTimeout = 200 * time.Millisecond })
	e, conns := socketEngine(t)
	s := g.outside(e.URL)
	g.serveAll(s, apiOf(s.ID, "ComfyUI GET Exact /ws"))
	_, _, status := dialWebSocket(t, g.Addr(), "/ws")
	require.Equal(t, http.StatusSwitchingProtocols, status)
	service := <-conns
	defer service.Close()
	require.NoError(t, service.SetDeadline(time.Now().Add(deadline)))
	piece := make([]byte, 64<<10)
	var err error
	for err == nil {
		_, err = service.Write(piece)
	}
	var late net.Error
	require.False(t, errors.As(err, &late) && late.Timeout(), "the gateway ends it before: %v", err)
	g.awaitGauge("engineshed_gateway_running", 0)
	g.awaitGauge(`engineshed_gateway_stalled_total{what="answer"}`, 1)
}

func TestStreamMayPauseForLongerThanAClientMay(t *testing.T) {
	t.Parallel()
	const patience = 100 * time.Millisecond
	g := newRigWith(t, func(s *gateway.Settings) { s.WriteIdleTimeout, s.BodyIdleTimeout = patience, patience })
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		time.Sleep(3 * patience) // the model thinks
		_, _ = io.WriteString(w, "data: 2\n\n")
		_ = http.NewResponseController(w).Flush()
		time.Sleep(3 * patience) // and the stream only ends
	})
	s := g.service(e.addr)
	g.serve(s)
	again := &http.Client{Transport: new(http.Transport)}
	defer again.CloseIdleConnections()
	for range 2 { // on one connection
		got := doWith(t, again, request(t, http.MethodPost, g.url(s, "/v1/chat/completions"), "{}"))
		require.Equal(t, "data: 1\n\ndata: 2\n\n", got.body)
	}
}
