package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// open starts a call and returns the body of its answer, which is still to come.
func open(t *testing.T, url string) io.Reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*deadline)
	t.Cleanup(cancel)
	resp, err := client.Do(request(t, http.MethodPost, url, `{"stream":true}`).WithContext(ctx))
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp.Body
}

func TestChunkReachesTheClientBeforeTheNextIsSent(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	for _, contentType := range []string{"text/event-stream", "text/event-stream; charset=utf-8", "application/x-ndjson", "audio/wav"} {
		t.Run(contentType, func(t *testing.T) {
			received := make(chan struct{}) // the client has the chunk: the engine may send the next
			e := newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", contentType)
				for k := range 20 {
					_, _ = fmt.Fprintf(w, "data: %d\n\n", k)
					_ = http.NewResponseController(w).Flush()
					<-received
				}
			})
			s := g.service(e.addr)
			g.serve(s)
			lines := bufio.NewScanner(open(t, g.url(s, "/v1/chat/completions")))
			for k := range 20 {
				require.True(t, lines.Scan(), "chunk %d: %v", k, lines.Err())
				require.Equal(t, fmt.Sprintf("data: %d", k), lines.Text())
				require.True(t, lines.Scan())
				received <- struct{}{}
			}
			require.False(t, lines.Scan())
			require.NoError(t, lines.Err(), "a whole stream ends cleanly")
		})
	}
}

func TestStreamThatBreaksOffEndsWithAnError(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {}\n\ndata: half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	s := g.service(e.addr)
	g.serve(s)
	body := open(t, g.url(s, "/v1/chat/completions"))
	text, err := io.ReadAll(body)
	require.NoError(t, err)
	require.Equal(t, "data: {}\n\n"+`data: {"error":{"message":"The service broke off in the middle of its answer, of which this is the end. `+
		`Send the request again.","type":"server_error","param":null,"code":"upstream_cut"}}`+"\n\n", string(text))
	g.await(func() bool {
		return strings.Contains(g.metrics(), `engineshed_gateway_requests_total{outcome="cut",service="`+s.ID+`"} 1`)
	})
	require.Contains(t, g.logs.String(), "engine broke off in the middle of its answer")
}

func TestEngineThatBreaksOffBeforeItAnswersIs502(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	s := g.service(e.addr)
	g.serve(s)
	got := g.ask(s)
	require.Equal(t, http.StatusBadGateway, got.status)
	require.Equal(t, "engine_failed", got.code(t))
	require.EqualValues(t, 1, e.calls.Load(), "what an engine may have worked on is not asked twice")
}

// Not parallel: it counts goroutines.
func TestClientThatLeavesEndsItsUpstreamRequest(t *testing.T) {
	g := newRig(t)
	const streams = 100
	var running, left atomic.Int64
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		running.Add(1)
		if strings.HasSuffix(r.URL.Path, "/streamed") {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		left.Add(1)
	})
	s := g.service(e.addr)
	g.serve(s)
	baseline := goleak.IgnoreCurrent()

	ctx, leave := context.WithCancel(t.Context())
	for i := range streams {
		path := "/v1/streamed"
		if i%2 == 1 {
			path = "/v1/silent"
		}
		body := `{"stream":true}`
		if i%4 > 1 {
			body = strings.Repeat("x", 100<<10) // not read at once
		}
		go func() {
			resp, err := client.Do(request(t, http.MethodPost, g.url(s, path), body).WithContext(ctx))
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}()
	}
	g.await(func() bool { return running.Load() == streams })
	require.Contains(t, g.metrics(), `engineshed_gateway_in_flight{service="`+s.ID+`"} 100`)

	leave()
	require.Eventually(t, func() bool { return left.Load() == streams }, time.Second, time.Millisecond,
		"every engine stops within a second")
	g.await(func() bool {
		return strings.Contains(g.metrics(), `engineshed_gateway_in_flight{service="`+s.ID+`"} 0`)
	})
	g.awaitGauge(`engineshed_gateway_requests_total{outcome="gone",service="`+s.ID+`"}`, 100)
	client.CloseIdleConnections()
	goleak.VerifyNone(t, baseline)
}

func TestDrainLetsStreamsFinish(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	finish := make(chan struct{})
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		<-finish
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	s := g.service(e.addr)
	g.serve(s)
	body := open(t, g.url(s, "/v1/chat/completions"))

	g.stop()
	g.await(func() bool { return g.ready() == http.StatusServiceUnavailable })
	close(finish)

	text, err := io.ReadAll(body)
	require.NoError(t, err)
	require.Equal(t, "data: 1\n\ndata: [DONE]\n\n", string(text))
	g.halt()
}

func TestDrainEndsInTime(t *testing.T) {
	t.Parallel()
	g := prepareRig(t, newDB(t))
	g.settings.DrainTimeout = 50 * time.Millisecond
	g.start()
	g.awaitReady()
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	s := g.service(e.addr)
	g.serve(s)
	body := open(t, g.url(s, "/v1/chat/completions"))
	g.halt()
	_, err := io.ReadAll(body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "a stream that is cut has no clean end")
}
