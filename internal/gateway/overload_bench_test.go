package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// What is promised under ten times the load that can be served.
const (
	overload    = 10
	minGoodput  = 0.8                   // of the peak
	maxRefusing = 50 * time.Millisecond // p99 of what a refusal takes
)

// offered is what came of a load that does not wait for its answers.
type offered struct {
	sent, served, refused int
	took                  time.Duration   // until all were answered
	refusing              []time.Duration // from the moment that a request was due, sorted
}

// goodput is how many were served a second.
func (o *offered) goodput() float64 { return float64(o.served) / o.took.Seconds() }

// tally counts one answer, which must be whole or a refusal that says when to come back.
func (o *offered) tally(resp *http.Response, took time.Duration) error {
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusOK && string(body) == slowText:
		o.served++
	case resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests:
		if resp.Header.Get("Retry-After") == "" {
			return errors.New("a refusal does not say when to come back")
		}
		o.refused++
		o.refusing = append(o.refusing, took)
	default:
		return fmt.Errorf("answered %d: %s", resp.StatusCode, body)
	}
	return nil
}

// offer sends so many requests a second over so many connections, and takes their time from the moment they are due.
func (r *slowRig) offer(perSecond float64, conns int, d time.Duration) (total offered) {
	r.t.Helper()
	due := make(chan time.Time, int(perSecond*d.Seconds())+1)
	found, failures := make([]offered, conns), make(chan error, conns)
	var all sync.WaitGroup
	for i := range conns {
		all.Go(func() { failures <- r.askWhenDue(due, &found[i]) })
	}
	began := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for now := range tick.C {
		elapsed := min(now.Sub(began), d)
		for ; total.sent < int(perSecond*elapsed.Seconds()); total.sent++ {
			due <- began.Add(time.Duration(float64(total.sent) / perSecond * float64(time.Second)))
		}
		if elapsed == d {
			close(due)
			break
		}
	}
	all.Wait()
	total.took = time.Since(began)
	for range conns {
		require.NoError(r.t, <-failures)
	}
	for _, f := range found {
		total.served, total.refused = total.served+f.served, total.refused+f.refused
		total.refusing = append(total.refusing, f.refusing...)
	}
	slices.Sort(total.refusing)
	return total
}

func (r *slowRig) askWhenDue(due <-chan time.Time, found *offered) error {
	conn, err := dialLoad(r.gateway.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	request := loadRequest("/v1/chat/completions", "")
	for at := range due {
		resp, err := conn.ask(request)
		if err == nil {
			err = found.tally(resp, time.Since(at))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkOverload offers ten times what the engines behind a gateway can serve, which its limit is set to.
func BenchmarkOverload(b *testing.B) {
	const limit, window = 32, 20 * time.Second
	r := newSlowRig(b, fmt.Sprintf("--max-concurrency=%d", limit))
	busy := r.offer(2*limit/thinks.Seconds(), limit, 5*time.Second) // for clients that never pause, as many as may be
	peak := busy.goodput()
	r.settled()
	o := r.offer(overload*peak, 16*limit, window)
	r.settled()
	goodput := o.goodput()
	p50, p99 := o.refusing[len(o.refusing)/2], o.refusing[len(o.refusing)*99/100]
	b.Logf("peak                %8.0f requests/s with %d at once", peak, limit)
	b.Logf("offered             %8.0f requests/s for %v", float64(o.sent)/window.Seconds(), o.took.Round(time.Second/10))
	b.Logf("goodput             %8.0f requests/s, %.2f of the peak, promised %.2f", goodput, goodput/peak, minGoodput)
	b.Logf("refused             %8d, p50 %v, p99 %v, promised %v", o.refused, p50.Round(10*time.Microsecond), p99.Round(10*time.Microsecond), maxRefusing)
	b.Logf("resident memory     %8.1f MiB at most, GOMEMLIMIT 512 MiB", float64(memoryOf(r.gateway.cmd.Process.Pid, "VmHWM"))/(1<<20))
	b.ReportMetric(goodput/peak, "goodput")
	b.ReportMetric(float64(p99)/float64(time.Millisecond), "p99-ms")
	b.ReportMetric(0, "ns/op")
	require.Equal(b, o.sent, o.served+o.refused)
	if goodput < minGoodput*peak {
		b.Errorf("%.0f requests/s are served of a peak of %.0f", goodput, peak)
	}
	if p99 > maxRefusing {
		b.Errorf("one refusal in a hundred takes %v or more, at most %v is promised", p99, maxRefusing)
	}
}

// TestTooManyRequestsAreServedOrRefusedAndNothingElse judges by counts what BenchmarkOverload judges by the clock.
func TestTooManyRequestsAreServedOrRefusedAndNothingElse(t *testing.T) {
	t.Parallel()
	const limit, apiLimit, clients, each = 8, 2, 64, 40
	g := newRigWith(t, func(s *gateway.Settings) { s.MaxConcurrency, s.MaxQueue = limit, limit/2 })
	var inside, most atomic.Int64
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		now := inside.Add(1)
		defer inside.Add(-1)
		for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
		}
		time.Sleep(2 * time.Millisecond)
		_, _ = io.WriteString(w, slowText)
	})
	s := g.outside(e.URL)
	free, limited := apiOf(s.ID, chatRoute), apiOf(s.ID, chatRoute)
	limited.BasePath, limited.RemoveBasePath, limited.Limits = "/limited", true, &snapshot.Limits{Concurrent: apiLimit}
	g.serveAll(s, free, limited)

	var all sync.WaitGroup
	found, failures := make([]offered, clients), make(chan error, clients)
	for i := range clients {
		path := [2]string{"/v1/chat/completions", "/limited/v1/chat/completions"}[i%2]
		all.Go(func() {
			failures <- func() error {
				conn, err := dialLoad(g.Addr())
				if err != nil {
					return err
				}
				defer conn.Close()
				for range each {
					resp, err := conn.ask(loadRequest(path, ""))
					if err == nil {
						err = found[i].tally(resp, 0)
					}
					if err != nil {
						return err
					}
				}
				return nil
			}()
		})
	}
	all.Wait()
	var total offered
	for i := range clients {
		require.NoError(t, <-failures)
		total.served, total.refused = total.served+found[i].served, total.refused+found[i].refused
	}
	t.Logf("%d served, %d refused", total.served, total.refused)
	require.Equal(t, clients*each, total.served+total.refused)
	require.EqualValues(t, total.served, e.calls.Load())
	require.Positive(t, total.refused)
	require.Greater(t, total.served, limit)
	require.LessOrEqual(t, most.Load(), int64(limit))
	g.awaitGauge("engineshed_gateway_running", 0)
	g.awaitGauge("engineshed_gateway_queued", 0)
	g.awaitGauge("engineshed_gateway_body_bytes", 0)
	g.awaitGauge(`engineshed_gateway_api_running{api="`+limited.ID+`"}`, 0)
}
