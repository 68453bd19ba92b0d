//go:build hosts

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	longStreams  = 200
	wholeWithin  = 60 * time.Second // and the time an engine takes to load, which is none here
	noticeWithin = 20 * time.Second // a stream of a machine that is gone ends
)

// story is one stream as its client saw it.
type story struct {
	status       int
	text         string
	err          error
	began, ended time.Time
}

// isWhole reports whether the stream came to its own end, and brokeOff whether it ended with one error of its protocol.
func (s story) isWhole() bool {
	return s.err == nil && s.status == http.StatusOK && strings.HasSuffix(s.text, "data: [DONE]\n\n") && !strings.Contains(s.text, `"error"`)
}

func (s story) brokeOff() bool {
	events := strings.Split(strings.TrimSuffix(s.text, "\n\n"), "\n\n")
	return s.err == nil && s.status == http.StatusOK && !strings.Contains(s.text, "[DONE]") && strings.Count(s.text, `"error"`) == 1 &&
		strings.Contains(events[len(events)-1], `"upstream_cut"`)
}

// audience is clients that read streams.
type audience struct {
	url, key string
	client   http.Client
	began    atomic.Int64
	clients  sync.WaitGroup
	mu       sync.Mutex
	stories  []story
}

func newAudience(url, key string) *audience {
	return &audience{url: url, key: key, client: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: longStreams}}}
}

// listen has clients ask for a stream of so many tokens.
func (a *audience) listen(ctx context.Context, clients, tokens int) {
	for range clients {
		a.clients.Go(func() {
			s := a.read(ctx, tokens)
			a.mu.Lock()
			defer a.mu.Unlock()
			a.stories = append(a.stories, s)
		})
	}
}

// all waits for the streams to end.
func (a *audience) all() []story {
	a.clients.Wait()
	return a.stories
}

func (a *audience) read(ctx context.Context, tokens int) (s story) {
	s.began = time.Now()
	defer func() { s.ended = time.Now() }()
	body := fmt.Sprintf(`{"model":"Qwen3-8B","stream":true,"max_tokens":%d,"ignore_eos":true,"messages":[{"role":"user","content":"a story"}]}`, tokens)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/chat/completions", strings.NewReader(body))
	if err != nil {
		return story{err: err}
	}
	request.Header.Set("Authorization", "Bearer "+a.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := a.client.Do(request)
	if err != nil {
		return story{err: err}
	}
	defer response.Body.Close()
	s.status = response.StatusCode
	reader := bufio.NewReader(response.Body)
	first, err := reader.ReadString('\n')
	a.began.Add(1)
	rest, restErr := io.ReadAll(reader)
	if err == nil {
		err = restErr
	}
	s.text, s.err = first+string(rest), err
	return s
}

// knock asks for short answers, five a second, until stop is called, which returns them.
func (a *audience) knock(ctx context.Context) (stop func() []story) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			a.listen(context.WithoutCancel(ctx), 1, 2)
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	}()
	return func() []story {
		cancel()
		<-ended
		return a.all()
	}
}

// reasons collects what the service says of itself while something happens.
func (y *yard) reasons(ids map[string]string) (stop func() []string) {
	ctx, cancel := context.WithCancel(y.t.(*testing.T).Context())
	var said []string
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			now, err := y.caller.call("DescribeModelService", ids)
			if err == nil && now.text("StatusReason") != "" {
				said = append(said, now.text("StatusReason"))
			}
			select {
			case <-ctx.Done():
			case <-time.After(250 * time.Millisecond):
			}
		}
	}()
	return func() []string {
		cancel()
		<-ended
		return said
	}
}

// running is how many requests the engines of the machine have.
func (y *yard) running(m *machine) (total int) {
	y.t.Helper()
	var addrs []string
	require.NoError(y.t, y.db.Owner.QueryRow(y.t.(*testing.T).Context(), `
		SELECT coalesce(array_agg(engine_addr), '{}') FROM replica WHERE host = $1 AND status = 'active'`, m.name).Scan(&addrs))
	for _, addr := range addrs {
		response, err := http.Get("http://" + addr + "/metrics")
		require.NoError(y.t, err)
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		require.NoError(y.t, err)
		found := regexp.MustCompile(`(?m)^vllm:num_requests_running\{[^}]*\} (\d+)`).FindStringSubmatch(string(text))
		require.NotNil(y.t, found)
		n, err := strconv.Atoi(found[1])
		require.NoError(y.t, err)
		total += n
	}
	return total
}

// oneSentence is what a reason is: a beginning, no other full stop than the last.
var oneSentence = regexp.MustCompile(`^[A-Z][^.]*(\.[^ ][^.]*)*\.$`)

// lose has machines disappear under streams, and holds what clients and the service say of it against what is promised.
func (y *yard) lose(ids map[string]string, described answer, lost *machine, disappear func()) {
	t := y.t.(*testing.T)
	t.Helper()
	streams, visitors := newAudience(described.text("PrivateConnectUrl"), described.text("ApiKey")), newAudience(described.text("PrivateConnectUrl"), described.text("ApiKey"))
	streams.listen(t.Context(), longStreams, 250) // fifty seconds
	eventually(t, 30*time.Second, "all streams have begun", func() bool { return streams.began.Load() == longStreams })
	total, onLost := 0, y.running(lost)
	for _, m := range y.machines {
		total += y.running(m)
	}
	require.Equal(t, longStreams, total)
	reasons, knocks := y.reasons(ids), visitors.knock(t.Context())

	gone := time.Now()
	disappear()
	eventually(t, wholeWithin, "the service is whole again", func() bool {
		now, err := y.caller.call("DescribeModelService", ids)
		on := y.replicasOn(ids)
		return err == nil && now.text("Status") == "active" && now.text("StatusReason") == "" && on[lost.name] == 0 && sum(on) == len(y.machines)
	})
	t.Logf("%s: the service is whole again after %s", lost.name, time.Since(gone).Round(100*time.Millisecond))

	var whole, broken int
	var slowest time.Duration
	for _, s := range streams.all() {
		switch {
		case s.isWhole():
			whole++
		case s.brokeOff():
			broken++
			slowest = max(slowest, s.ended.Sub(gone))
		default:
			require.Fail(t, "a stream ended in another way", "%d %v …%s", s.status, s.err, s.text[max(0, len(s.text)-500):])
		}
	}
	require.Equal(t, longStreams-onLost, whole, "streams of the others")
	require.Equal(t, onLost, broken, "streams of the machine that is lost")
	require.Less(t, slowest, noticeWithin)
	t.Logf("%s: %d of %d streams were cut, the last was told after %s", lost.name, broken, longStreams, slowest.Round(100*time.Millisecond))
	y.judgeKnocks(knocks(), gone)
	for _, said := range reasons() {
		require.Regexp(t, oneSentence, said)
	}
}

// judgeKnocks holds that short requests failed only where they were on their way to the machine as it disappeared.
func (y *yard) judgeKnocks(stories []story, gone time.Time) {
	y.t.Helper()
	var failed int
	var slowest time.Duration
	for _, s := range stories {
		if s.isWhole() {
			slowest = max(slowest, s.ended.Sub(s.began))
			continue
		}
		failed++
		require.Less(y.t, s.began.Sub(gone), 3*time.Second, "%d %s", s.status, s.text)
	}
	y.t.Logf("%d of %d short requests failed, the slowest other took %s", failed, len(stories), slowest.Round(10*time.Millisecond))
}

func sum(counts map[string]int) (total int) {
	for _, n := range counts {
		total += n
	}
	return total
}

// expectReturned holds that a machine that is back runs what its rows say and nothing else.
func (y *yard) expectReturned(m *machine) {
	t := y.t.(*testing.T)
	t.Helper()
	back := time.Now()
	eventually(t, 60*time.Second, m.name+" is clean", func() bool { return len(m.engines()) == 0 && len(m.files()) == 0 })
	eventually(t, 60*time.Second, m.name+" is alive", func() bool {
		var alive bool
		err := y.db.Owner.QueryRow(t.Context(), `SELECT heartbeat_at > now() - interval '5 seconds' FROM host WHERE name = $1`, m.name).Scan(&alive)
		return err == nil && alive
	})
	t.Logf("%s: clean and alive %s after it was back", m.name, time.Since(back).Round(100*time.Millisecond))
}

func TestSeveralHostsServeOnWhenOneIsLostAndTakeItBack(t *testing.T) {
	y := newYard(t, "gpu-a", "gpu-b", "gpu-c")
	y.startGateway()
	ids, described := y.spread()
	eventually(t, 10*time.Second, "an answer over the gateway", func() bool {
		_, err := chat(t.Context(), described.text("PrivateConnectUrl"), described.text("ApiKey"), "hello", true)
		return err == nil
	})
	a, b := y.machines[0], y.machines[1]

	y.lose(ids, described, a, a.cutOff)
	require.NotEmpty(t, a.engines(), "nobody could tell it to end its engine")
	before := y.rows()
	a.plugIn()
	y.expectReturned(a)
	require.Equal(t, before, y.rows(), "what it did late changed nothing")

	y.lose(ids, described, b, b.powerOff)
	require.Positive(t, y.replicasOn(ids)["gpu-a"], "the machine that was lost serves again")
	b.boot()
	y.expectReturned(b)
	y.expectEngines(10*time.Second, len(y.machines))

	_, err := y.caller.call("DeleteModelService", ids)
	require.NoError(t, err)
	y.expectEngines(30*time.Second, 0)
}

// rows are the replicas as the database has them, with the generations of their engines.
func (y *yard) rows() map[string]string {
	y.t.Helper()
	rows, err := y.db.Owner.Query(y.t.(*testing.T).Context(), `SELECT id, host || ' ' || status || ' ' || engine_generation FROM replica`)
	require.NoError(y.t, err)
	defer rows.Close()
	found := map[string]string{}
	for rows.Next() {
		var id, text string
		require.NoError(y.t, rows.Scan(&id, &text))
		found[id] = text
	}
	require.NoError(y.t, rows.Err())
	return found
}

func TestSeveralHostsGiveTheNameOfOneToItsReplacement(t *testing.T) {
	y := newYard(t, "gpu-a", "gpu-b")
	y.startGateway()
	ids, described := y.spread()
	a := y.machines[0]
	a.cutOff()
	eventually(t, 20*time.Second, "the machine is silent", func() bool {
		var silent bool
		err := y.db.Owner.QueryRow(t.Context(), `SELECT heartbeat_at < now() - interval '11 seconds' FROM host WHERE name = 'gpu-a'`).Scan(&silent)
		return err == nil && silent
	})
	replacement := y.addMachine("gpu-a")
	waitActive(t, y.caller, ids["DBInstanceId"], ids["ModelServiceId"], 30*time.Second)
	eventually(t, 30*time.Second, "the replacement serves what the other served", func() bool {
		return len(replacement.engines()) == 1 && sum(y.replicasOn(ids)) == 2
	})
	before := y.rows()

	a.plugIn()
	select {
	case <-a.worker.done:
	case <-time.After(60 * time.Second):
		require.FailNow(t, "the worker of the machine that was replaced goes on")
	}
	require.Contains(t, a.worker.log.String(), "the host is another machine's")
	require.Empty(t, a.engines(), "its worker has ended them")
	require.Len(t, replacement.engines(), 1)
	require.Equal(t, before, y.rows())
	eventually(t, 10*time.Second, "an answer over the gateway", func() bool {
		_, err := chat(t.Context(), described.text("PrivateConnectUrl"), described.text("ApiKey"), "hello", false)
		return err == nil
	})
}
