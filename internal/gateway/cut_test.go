package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

// TestEveryKindOfStreamIsPassedOnInLockStep prints what the gateway adds to a chunk: the time from the upstream's write
// to the client's read, beside the same without the gateway.
func TestEveryKindOfStreamIsPassedOnInLockStep(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	const chunks = 100
	kinds := []struct{ route, contentType, chunk string }{
		{chatRoute, "text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"%d\"}}]}\n\n"},
		{"Anthropic POST Exact /v1/messages json", "text/event-stream", "data: {\"type\":\"content_block_delta\",\"index\":%d}\n\n"},
		{"DashScope POST Exact /api/v1/services/x json", "text/event-stream;charset=UTF-8", "data:{\"output\":{\"text\":\"%d\"}}\n\n"},
		{"OpenAI/v1 POST Exact /v1/completions json", "application/json", "{\"part\":%d}\n"},
		{"OpenAI/v1 POST Exact /v1/audio/speech json", "audio/mpeg", "sound %d\n"},
		{"OpenAI/v1 GET Prefix /v1/files", "application/octet-stream", "file %d\n"},
	}
	type sent struct {
		at       atomic.Pointer[time.Time]
		received chan struct{} // the client has the chunk: the upstream may send the next
	}
	var flights sync.Map // of a stream, by what its request carries
	var next atomic.Int64
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		found, _ := flights.Load(r.URL.Query().Get("flight"))
		flight := found.(*sent)
		kind, _ := strconv.Atoi(r.URL.Query().Get("kind"))
		w.Header().Set("Content-Type", kinds[kind].contentType)
		for k := range chunks {
			now := time.Now()
			flight.at.Store(&now)
			_, _ = fmt.Fprintf(w, kinds[kind].chunk, k)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-flight.received:
			case <-r.Context().Done():
				return
			}
		}
	})
	s := g.outside(e.URL)
	things := []any{s}
	for _, k := range kinds {
		a := apiOf(s.ID, k.route)
		a.BasePath, a.RemoveBasePath = "/"+strconv.Itoa(len(things)-1), true
		if strings.HasSuffix(k.route, "json") {
			a.Targets[0].Model = "written over"
		}
		things = append(things, a)
	}
	g.serveAll(things...)
	stream := func(base string, kind int) (took []time.Duration) {
		flight, id := &sent{received: make(chan struct{})}, fmt.Sprint(next.Add(1))
		flights.Store(id, flight)
		fields := strings.Fields(kinds[kind].route)
		ctx, cancel := context.WithTimeout(t.Context(), 2*deadline)
		defer cancel()
		resp, err := client.Do(request(t, fields[1], fmt.Sprintf("%s%s?kind=%d&flight=%s", base, fields[3], kind, id), `{"stream":true}`).WithContext(ctx))
		require.NoError(t, err)
		defer resp.Body.Close()
		lines := bufio.NewReader(resp.Body)
		for k := range chunks {
			want := fmt.Sprintf(kinds[kind].chunk, k)
			got := make([]byte, len(want))
			_, err := io.ReadFull(lines, got)
			require.NoError(t, err)
			took = append(took, time.Since(*flight.at.Load()))
			require.Equal(t, want, string(got))
			flight.received <- struct{}{}
		}
		if strings.HasPrefix(kinds[kind].contentType, "text/event-stream") {
			return took // which ends as the next test says
		}
		_, err = lines.ReadByte()
		require.ErrorIs(t, err, io.EOF, "a whole stream ends cleanly")
		return took
	}
	var direct, through []time.Duration
	for kind := range kinds {
		for range 3 {
			direct = append(direct, stream(e.URL, kind)...)
			through = append(through, stream(g.at("/"+strconv.Itoa(kind)), kind)...)
		}
	}
	quantile := func(all []time.Duration, q float64) time.Duration {
		slices.Sort(all)
		return all[int(q*float64(len(all)-1))]
	}
	t.Logf("%d chunks: direct p50 %v p99 %v; through the gateway p50 %v p99 %v; added p99 %v (promised: 5ms)", len(through),
		quantile(direct, .5), quantile(direct, .99), quantile(through, .5), quantile(through, .99), quantile(through, .99)-quantile(direct, .99))
}

// cutUpstream streams and waits until its client leaves, or leaves itself after as many bytes as the request says. It
// counts what it has open.
type cutUpstream struct {
	*httptest.Server
	streams     atomic.Int64
	connections atomic.Int64
	began       atomic.Int64
}

func newCutUpstream(t *testing.T, secure bool) *cutUpstream {
	t.Helper()
	u := new(cutUpstream)
	u.Server = httptest.NewUnstartedServer(http.HandlerFunc(u.serve))
	u.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			u.connections.Add(1)
		case http.StateClosed, http.StateHijacked:
			u.connections.Add(-1)
		}
	}
	if secure {
		certificate, err := tls.X509KeyPair(trustedCertificate())
		require.NoError(t, err)
		u.TLS, u.EnableHTTP2 = &tls.Config{Certificates: []tls.Certificate{certificate}}, true
		u.StartTLS()
	} else {
		u.Start()
	}
	t.Cleanup(func() {
		u.CloseClientConnections()
		u.Close()
	})
	return u
}

var cutEvent = "data: " + strings.Repeat("x", 300) + "\n\n"

func (u *cutUpstream) serve(w http.ResponseWriter, r *http.Request) {
	u.streams.Add(1)
	defer u.streams.Add(-1)
	_, _ = io.Copy(io.Discard, r.Body)
	u.began.Add(1)
	left, stays := int64(16<<10), true
	if after := r.URL.Query().Get("after"); after != "" {
		left, _ = strconv.ParseInt(after, 10, 64)
		stays = false
	}
	if r.URL.Query().Get("silent") != "" {
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for left > 0 && r.Context().Err() == nil {
		n, err := io.WriteString(w, cutEvent[:min(left, int64(len(cutEvent)))])
		if left -= int64(n); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
	}
	if stays {
		<-r.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

// Not parallel: it counts goroutines.
func TestStreamsCutAtAnyByteLeaveNothingBehind(t *testing.T) {
	const streams, atOnce = 2000, 64
	g := newRig(t)
	plain, secure := newCutUpstream(t, false), newCutUpstream(t, true)
	replica := newCutUpstream(t, false)
	outside, overH2 := g.outside(plain.URL), g.outside(secure.URL)
	service := g.service(replica.Listener.Addr().String())
	one, two := apiOf(outside.ID, chatRoute), apiOf(overH2.ID, chatRoute)
	one.BasePath, two.BasePath = "/one", "/two"
	g.serveAll(outside, overH2, service, one, two)
	targets := []string{g.at("/one/v1/chat/completions"), g.at("/two/v1/chat/completions"), g.url(service, "/v1/chat/completions")}
	for _, target := range targets { // connections that stay open are there before the count
		_, _ = cutStream(t, target+"?after=1", 1)
	}
	await := func(what string, holds func() bool) {
		t.Helper()
		require.Eventually(t, holds, deadline, 5*time.Millisecond, what)
	}
	settled := func() bool {
		return plain.streams.Load()+secure.streams.Load()+replica.streams.Load() == 0 &&
			plain.connections.Load()+replica.connections.Load() == 0 && secure.connections.Load() <= 1
	}
	await("the first streams are gone", settled)
	baseline := goleak.IgnoreCurrent()

	var group errgroup.Group
	group.SetLimit(atOnce)
	var mistakes atomic.Int64
	for i := range streams {
		group.Go(func() error {
			target := targets[i%len(targets)]
			n := 1 + rand.Int64N(4000)
			if i%2 == 0 {
				_, err := cutStream(t, target, n)
				return err
			}
			got, err := cutStream(t, target+"?after="+fmt.Sprint(n), 1<<40)
			events := strings.Repeat(cutEvent, int(n)/len(cutEvent)) // every whole one, and an error as the last
			last, ok := strings.CutPrefix(got, events)
			if err != nil || !ok || !strings.HasPrefix(last, `data: {"error":{`) || strings.Count(last, "\n\n") != 1 {
				mistakes.Add(1)
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.Zero(t, mistakes.Load(), "%s", g.logs)
	await("no stream and no connection is left at an upstream", settled)
	await("every call is settled", func() bool {
		metrics := g.metrics()
		return sum(metrics, `engineshed_gateway_(api_)?in_flight\{.*\} (\d+)`) == 0 &&
			sum(metrics, `engineshed_gateway_(api_)?requests_total\{.*outcome="(?:gone|cut)".*\} (\d+)`) == streams+len(targets)
	})
	client.CloseIdleConnections()
	goleak.VerifyNone(t, baseline)
}

// cutStream reads so many bytes of a stream and leaves. It returns what came, and how the stream ended if it did.
func cutStream(t *testing.T, url string, n int64) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*deadline)
	defer cancel()
	resp, err := client.Do(request(t, http.MethodPost, url, `{"stream":true}`).WithContext(ctx))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, n))
	return string(got), err
}

// sum adds up the last group of every line that matches.
func sum(metrics, expression string) (total int) {
	for _, match := range regexp.MustCompile("(?m)^"+expression+"$").FindAllStringSubmatch(metrics, -1) {
		n, _ := strconv.Atoi(match[len(match)-1])
		total += n
	}
	return total
}

func TestClientOfAModelAPIThatLeavesEndsItsUpstreamRequest(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	plain, secure := newCutUpstream(t, false), newCutUpstream(t, true)
	one, two := g.outside(plain.URL), g.outside(secure.URL)
	rewritten := apiOf(one.ID, chatRoute, "OpenAI/v1 POST Prefix /v1/files")
	rewritten.Targets[0].Model = "written over"
	overH2 := apiOf(two.ID, chatRoute)
	overH2.BasePath = "/two"
	g.serveAll(one, two, rewritten, overH2)
	for name, c := range map[string]struct {
		path, body string
		upstream   *cutUpstream
	}{
		"streaming":            {"/v1/chat/completions", "{}", plain},
		"not streaming":        {"/v1/chat/completions?silent=1", "{}", plain},
		"a large body":         {"/v1/chat/completions?silent=1", `{"a":"` + strings.Repeat("x", 200<<10) + `"}`, plain},
		"an upload":            {"/v1/files?silent=1", strings.Repeat("x", 200<<10), plain},
		"streaming HTTP/2":     {"/two/v1/chat/completions", "{}", secure},
		"not streaming HTTP/2": {"/two/v1/chat/completions?silent=1", "{}", secure},
	} {
		before := c.upstream.began.Load()
		ctx, leave := context.WithCancel(t.Context())
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			resp, err := client.Do(request(t, http.MethodPost, g.at(c.path), c.body).WithContext(ctx))
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}()
		g.await(func() bool { return c.upstream.began.Load() == before+1 })
		leave()
		began := time.Now()
		require.Eventually(t, func() bool { return c.upstream.streams.Load() == 0 }, time.Second, time.Millisecond, name)
		t.Logf("%s: the upstream's request ended %v after its client left", name, time.Since(began).Round(time.Millisecond))
		<-gone
	}
}
