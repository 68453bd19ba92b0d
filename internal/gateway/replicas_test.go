package gateway_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// busyEngine holds every request until the test ends it.
func busyEngine(t *testing.T) (e *engine, finish chan struct{}) {
	t.Helper()
	finish = make(chan struct{})
	e = newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-finish:
		case <-r.Context().Done():
		}
	})
	return e, finish
}

func TestNextReplicaIsTheLeastBusy(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	engines := make([]*engine, 3)
	finish := make([]chan struct{}, 3)
	addrs := make([]string, 3)
	for i := range engines {
		engines[i], finish[i] = busyEngine(t)
		addrs[i] = engines[i].addr
	}
	s := g.service(addrs...)
	g.serve(s)

	for round := int64(1); round <= 4; round++ {
		for range engines {
			open(t, g.url(s, "/v1/chat/completions"))
		}
		for i, e := range engines {
			require.Equal(t, round, e.calls.Load(), "engine %d in round %d", i, round)
		}
	}

	close(finish[1]) // four of its requests end: the next four are its own
	g.await(func() bool { return inFlight(g, s.ID) == 8 })
	for range 4 {
		open(t, g.url(s, "/v1/chat/completions"))
	}
	require.EqualValues(t, 8, engines[1].calls.Load())
}

func TestUnreachableReplicaHandsTheRequestToTheNext(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	s := g.service(closedAddr(t), closedAddr(t), e.addr)
	g.serve(s)
	for range 50 {
		got := g.ask(s)
		require.Equal(t, http.StatusOK, got.status, got.body)
		require.Equal(t, `{"model":"demo"}`, got.body)
	}
	chunked := request(t, http.MethodPost, g.url(s, "/v1/x"), "")
	chunked.Body, chunked.ContentLength = io.NopCloser(&slowReader{text: "streamed"}), -1
	require.Equal(t, "streamed", do(t, chunked).body)
	g.awaitGauge(`engineshed_gateway_in_flight{service="`+s.ID+`"}`, 0) // an attempt that failed is not counted in for ever
}

// slowReader gives one byte at a time.
type slowReader struct{ text string }

func (r *slowReader) Read(p []byte) (int, error) {
	if r.text == "" {
		return 0, io.EOF
	}
	p[0], r.text = r.text[0], r.text[1:]
	return 1, nil
}

func TestReplicaThatComesBackIsUsedAgain(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	addr := closedAddr(t)
	s := g.service(addr)
	g.serve(s)
	require.Equal(t, http.StatusServiceUnavailable, g.ask(s).status)
	listener, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(says("back"))
	require.NoError(t, server.Listener.Close())
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	require.Equal(t, "back", g.ask(s).body, "one that is set aside is still tried when there is no other")
}

func TestLoadAndStreamsOutliveAChangeOfTheConfiguration(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	busy, finish := busyEngine(t)
	idle := newEngine(t, says("idle"))
	s := g.service(busy.addr)
	g.serve(s)
	body := open(t, g.url(s, "/v1/chat/completions"))

	both := s
	both.Replicas = append(both.Replicas, g.service(idle.addr).Replicas...)
	g.serve(both)
	for range 10 {
		require.Equal(t, "idle", g.ask(s).body, "the load of the busy replica is remembered")
	}

	only := both
	only.Replicas = both.Replicas[1:]
	g.serve(only)
	g.serve(both)
	for range 10 {
		require.Equal(t, "idle", g.ask(s).body, "even when it was gone for a while")
	}
	g.serve(only)
	close(finish)
	_, err := io.ReadAll(body)
	require.NoError(t, err, "the stream of a replica that left goes on to its end")
}

func TestReplicaThatMovesIsFollowed(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	before, after := newEngine(t, says("before")), newEngine(t, says("after"))
	s := g.service(before.addr)
	g.serve(s)
	require.Equal(t, "before", g.ask(s).body)
	s.Replicas[0].Addr = after.addr
	g.serve(s)
	require.Equal(t, "after", g.ask(s).body)
}

// Under load, with clients that leave and engines that break off, every request is counted out exactly once.
func TestInFlightReturnsToZero(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/v1/cut":
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/v1/abort":
			panic(http.ErrAbortHandler)
		case "/v1/held":
			<-r.Context().Done()
		}
	})
	s := g.service(closedAddr(t), e.addr)
	g.serve(s)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan struct{})
	call := func(path string, times int) {
		for range times {
			go func() {
				defer func() { done <- struct{}{} }()
				resp, err := client.Do(request(t, http.MethodPost, g.url(s, path), "{}").WithContext(ctx))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			}()
		}
	}
	const calls = 20
	call("/v1/held", calls) // while nobody has failed yet
	g.await(func() bool { return inFlight(g, s.ID) == calls })
	others := []string{"/v1/cut", "/v1/abort", "/v1/fine"}
	for _, path := range others {
		call(path, calls)
	}
	for range calls * len(others) {
		<-done
	}
	require.Equal(t, calls, inFlight(g, s.ID))
	leave()
	for range calls {
		<-done
	}
	g.await(func() bool { return inFlight(g, s.ID) == 0 })
}
