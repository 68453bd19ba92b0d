package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// Not parallel: it measures. It judges what even a busy machine can keep, and prints the rest. Under the race detector
// it has fewer APIs.
func TestTenThousandModelAPIs(t *testing.T) {
	const changes, unannounced = 20, 2
	apis := 10_000
	if raceDetector {
		apis = 1000
	}
	one, two := prepareRig(t, newDB(t)), (*rig)(nil)
	e := newEngine(t, says("hello"))
	s := one.outside(e.URL)
	all := make([]snapshot.ModelAPI, apis)
	body, err := snapshot.Encode(s)
	require.NoError(t, err)
	items := []item{{kind: snapshot.KindAIService, id: s.ID, body: body}}
	for i := range all {
		a := apiOf(s.ID, "OpenAI/v1 POST Exact /v1/chat/completions", "OpenAI/v1 POST Exact /v1/completions")
		a.AnyHost, a.Hosts, a.BasePath = false, []string{fmt.Sprintf("env-%d.engineshed.localhost", i/2)}, fmt.Sprint("/", i)
		all[i] = a
		body, err := snapshot.Encode(a)
		require.NoError(t, err)
		items = append(items, item{kind: snapshot.KindModelAPI, id: a.ID, body: body})
	}
	one.publishMany(items)

	start := func(g *rig) (wall, cpu time.Duration) {
		began, used := time.Now(), cpuTime(t)
		g.start()
		g.awaitReady()
		return time.Since(began), cpuTime(t) - used
	}
	first, firstCPU := start(one)
	again := *one
	two = &again
	two.settings.DataDir = t.TempDir()
	second, secondCPU := start(two)
	t.Logf("ready with %d Model APIs of two routes, read from the database, after %v and %v (promised: 3s), with %v and %v of a CPU",
		apis, first.Round(time.Millisecond), second.Round(time.Millisecond), firstCPU.Round(time.Millisecond), secondCPU.Round(time.Millisecond))
	require.Less(t, min(firstCPU, secondCPU), 3*time.Second)
	status := func(g *rig, a snapshot.ModelAPI) int {
		r := request(t, http.MethodPost, g.at(a.BasePath+a.Routes[0].Path), "{}")
		r.Host = a.Hosts[0]
		return do(t, r).status
	}
	for i := 0; i < apis; i += 997 {
		require.Equal(t, 200, status(one, all[i]))
		require.Equal(t, 200, status(two, all[i]))
	}
	change := func(k int, announce bool) time.Duration {
		a := all[k*7919%apis]
		a.Routes = slices.Clone(a.Routes)
		a.Routes[0].Path = fmt.Sprint("/v1/changed/", k)
		body, err := snapshot.Encode(a)
		require.NoError(t, err)
		require.Equal(t, 404, status(one, a))
		one.publishItems(announce, item{kind: snapshot.KindModelAPI, id: a.ID, body: body})
		began := time.Now()
		for status(one, a) != 200 || status(two, a) != 200 {
			require.Less(t, time.Since(began), deadline, "not served")
			time.Sleep(5 * time.Millisecond)
		}
		return time.Since(began)
	}
	var took []time.Duration
	for k := range changes {
		took = append(took, change(k, true))
	}
	slices.Sort(took)
	half, last := took[len(took)/2], took[len(took)-1]
	t.Logf("%d publications are served by both gateways after p50 %v, at most %v (promised: 200ms, 1s)",
		changes, half.Round(time.Millisecond), last.Round(time.Millisecond))
	require.Less(t, half, time.Second)
	require.Less(t, last, 5*time.Second)
	for k := range unannounced {
		without := change(changes+k, false)
		t.Logf("without NOTIFY after %v (promised: 5s)", without.Round(time.Millisecond))
		require.Less(t, without, 5*time.Second)
	}
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// publishMany makes the items one revision with few round trips.
func (r *rig) publishMany(items []item) {
	r.t.Helper()
	kinds, ids, bodies := make([]string, len(items)), make([]string, len(items)), make([][]byte, len(items))
	for i, item := range items {
		kinds[i], ids[i], bodies[i] = item.kind, item.id, item.body
	}
	_, err := r.owner.Exec(context.Background(), `
		WITH next AS (UPDATE publication SET revision = revision + 1 RETURNING revision)
		INSERT INTO published_item (kind, id, revision, deleted, body)
		SELECT i.kind, i.id, next.revision, false, i.body
		FROM next, unnest($1::text[], $2::text[], $3::bytea[]) AS i (kind, id, body)`, kinds, ids, bodies)
	require.NoError(r.t, err)
}
