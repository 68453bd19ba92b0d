package gateway_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is promised of memory.
const (
	maxPerStream = 64 << 10 // bytes of resident memory of an idle stream
	maxGrowth    = 1.10     // of the memory after firstRequests that there may be at the end

	soakConns = 64
	ownFiles  = 5 // connections of the gateway's own, with their goroutines, which come and go
)

// soaking is how long a soak is.
type soaking struct {
	streams       int
	hold          time.Duration // of all streams
	firstRequests int           // after which memory counts
	requests      int
	time          time.Duration // for the requests, if they take longer
}

// soaked is what a soak has found.
type soaked struct {
	perStream   int
	events      int64
	looks       []look // from firstRequests on
	first, last int    // resident memory at their beginning and end
	goroutines  [2]int // before and after
	files       [2]int // likewise: connections, for the most part
}

// run opens the streams in a fresh process, holds and leaves them, then sends the requests. Nothing may be left in the end.
func (r *slowRig) run(s soaking) (found soaked) {
	r.t.Helper()
	r.sendRequests(1, time.Minute, nil) // a process that has done nothing yet opens what it always needs
	found.goroutines[0], found.files[0] = r.settled(), r.files()
	before := r.rss()
	found.events = r.holdStreams(s.streams, s.hold, func() {
		found.perStream = (r.rss() - before) / s.streams
	})
	r.settled()
	require.LessOrEqual(r.t, r.files(), found.files[0]+ownFiles, "every stream has closed both its connections")
	looks := r.sendAll(s)
	from := slices.IndexFunc(looks, func(l look) bool { return l.sent >= s.firstRequests })
	require.GreaterOrEqual(r.t, from, 0, "the first %d requests took longer than all may", s.firstRequests)
	found.looks = looks[from:]
	const window = 10
	found.first = middle(found.looks[:min(window, len(found.looks))])
	found.last = middle(found.looks[max(0, len(found.looks)-window):])
	found.goroutines[1], found.files[1] = r.settled(), r.files()
	return found
}

// middle is the median of the resident memory.
func middle(looks []look) int {
	sorted := slices.SortedFunc(slices.Values(looks), func(a, b look) int { return a.rss - b.rss })
	return sorted[len(sorted)/2].rss
}

// holdStreams opens streams and reads them. When all have begun and the time is over it calls measure and leaves.
func (r *slowRig) holdStreams(n int, hold time.Duration, measure func()) (events int64) {
	r.t.Helper()
	request := loadRequest("/v1/chat/completions", `"stream":true,`)
	conns := make([]*loadConn, n)
	var begun, read atomic.Int64
	var all sync.WaitGroup
	for i := range conns {
		conn, err := dialLoad(r.gateway.addr)
		require.NoError(r.t, err)
		conns[i] = conn
		all.Go(func() {
			resp, err := conn.ask(request)
			if err != nil || resp.StatusCode != http.StatusOK {
				return
			}
			defer resp.Body.Close()
			piece := make([]byte, 256)
			for first := true; ; first = false {
				if _, err := resp.Body.Read(piece); err != nil {
					return
				}
				if read.Add(1); first {
					begun.Add(1)
				}
			}
		})
	}
	require.Eventually(r.t, func() bool { return begun.Load() == int64(n) }, time.Minute, 10*time.Millisecond, "every stream begins")
	time.Sleep(hold)
	measure()
	events = read.Load()
	require.GreaterOrEqual(r.t, events, int64(n)*int64(hold/pace)/2, "they go on, at half their pace at least on a busy machine")
	for _, conn := range conns {
		require.NoError(r.t, conn.Close())
	}
	all.Wait()
	return events
}

// look is what is seen of the gateway at one moment, in bytes but for the counts.
type look struct {
	sent, waiting int // requests that were answered, and their usage records that are still to be written
	rss, heap     int
}

// sendAll sends requests until there were enough or the time is over, and looks every second.
func (r *slowRig) sendAll(s soaking) (looks []look) {
	r.t.Helper()
	r.sendRequests(s.requests, s.time, func(sent int) {
		looks = append(looks, look{
			sent, r.gateway.metric(r.t, "engineshed_gateway_usage_waiting"), r.rss(), r.gateway.metric(r.t, "go_memstats_heap_inuse_bytes"),
		})
	})
	return looks
}

// sendRequests sends so many over soakConns connections, each answered, and calls look every second.
func (r *slowRig) sendRequests(n int, within time.Duration, look func(sent int)) {
	r.t.Helper()
	request := loadRequest("/v1/chat/completions", `"user":"at once",`)
	var sent, answered atomic.Int64
	var all sync.WaitGroup
	until := time.Now().Add(within)
	failures := make(chan error, soakConns)
	for range soakConns {
		all.Go(func() {
			failures <- func() error {
				conn, err := dialLoad(r.gateway.addr)
				if err != nil {
					return err
				}
				defer conn.Close()
				want := []byte(slowText)
				for sent.Add(1) <= int64(n) && time.Now().Before(until) {
					if _, err := conn.Write(request); err != nil {
						return err
					}
					if err := expect(conn.in, want); err != nil {
						return err
					}
					answered.Add(1)
				}
				return nil
			}()
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for running := true; running; {
		select {
		case <-ended:
			running = false
		case <-second.C:
		}
		if look != nil {
			look(int(answered.Load()))
		}
	}
	for range soakConns {
		require.NoError(r.t, <-failures)
	}
}

// String is the table that `make soak` prints: a benchmark's log ends after ten lines.
func (s soaked) String() string {
	var table strings.Builder
	const mib = 1 << 20
	fmt.Fprintf(&table, "memory of an idle stream     %6.1f KiB, promised %d\n", float64(s.perStream)/1024, maxPerStream>>10)
	fmt.Fprintf(&table, "events read                  %6d\n", s.events)
	fmt.Fprintf(&table, "%10s %16s %16s %16s\n", "requests", "resident, MiB", "heap, MiB", "records waiting")
	for i := 0; i < len(s.looks); i += max(1, len(s.looks)/10) {
		l := s.looks[i]
		fmt.Fprintf(&table, "%10d %16.1f %16.1f %16d\n", l.sent, float64(l.rss)/mib, float64(l.heap)/mib, l.waiting)
	}
	fmt.Fprintf(&table, "requests answered           %7d\n", s.looks[len(s.looks)-1].sent)
	fmt.Fprintf(&table, "memory after the first ones  %6.1f MiB\n", float64(s.first)/mib)
	fmt.Fprintf(&table, "memory at the end            %6.1f MiB, ratio %.3f, promised %.2f\n", float64(s.last)/mib, s.growth(), maxGrowth)
	fmt.Fprintf(&table, "goroutines before and after  %6d %d\n", s.goroutines[0], s.goroutines[1])
	fmt.Fprintf(&table, "open files before and after  %6d %d\n", s.files[0], s.files[1])
	return table.String()
}

// leaves reports whether something is left that was not there before, but for idle connections to the engine.
func (s soaked) leaves() bool {
	return s.goroutines[1] > s.goroutines[0]+ownFiles || s.files[1] > s.files[0]+soakConns+ownFiles
}

func (s soaked) growth() float64 { return float64(s.last) / float64(s.first) }

// TestStreamsAndRequestsLeaveNothingBehind is BenchmarkSoak for a few seconds, too few to judge the growth of memory.
func TestStreamsAndRequestsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	r := newSlowRig(t)
	found := r.run(soaking{streams: 1000, hold: 2 * pace, requests: 10_000, time: 10 * time.Second})
	t.Logf("\n%s", found)
	require.LessOrEqual(t, found.perStream, maxPerStream)
	require.False(t, found.leaves())
}

// BenchmarkSoak judges what is promised of memory: SOAK_REQUESTS (a million) within SOAK_TIME (3m).
func BenchmarkSoak(b *testing.B) {
	s := soaking{streams: 5000, hold: 10 * pace, firstRequests: 100_000, requests: 1_000_000, time: 3 * time.Minute}
	if text := os.Getenv("SOAK_REQUESTS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(b, err)
		s.requests = n
	}
	if text := os.Getenv("SOAK_TIME"); text != "" {
		d, err := time.ParseDuration(text)
		require.NoError(b, err)
		s.time = d
	}
	r := newSlowRig(b)
	found := r.run(s)
	fmt.Printf("\n%s\n", found)
	b.ReportMetric(float64(found.perStream), "B/stream")
	b.ReportMetric(found.growth(), "growth")
	b.ReportMetric(0, "ns/op")
	if found.perStream > maxPerStream {
		b.Errorf("an idle stream takes %d bytes, at most %d are promised", found.perStream, maxPerStream)
	}
	if found.growth() > maxGrowth {
		b.Errorf("memory has grown %.3f times, at most %.2f is promised", found.growth(), maxGrowth)
	}
	if found.leaves() {
		b.Errorf("%d goroutines and %d open files were there before, %d and %d after",
			found.goroutines[0], found.files[0], found.goroutines[1], found.files[1])
	}
}
