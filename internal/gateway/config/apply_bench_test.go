package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway/upstream"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

func apiItem(b testing.TB, i int, revision int64) Item {
	b.Helper()
	id := fmt.Sprintf("api-%020d", i)
	route := func(path string) snapshot.Route {
		return snapshot.Route{
			ID: id + path, Name: path, PathType: "Exact", Path: path, Methods: []string{"POST"}, Protocol: "OpenAI/v1", Model: "json",
		}
	}
	body, err := snapshot.Encode(snapshot.ModelAPI{
		ID: id, Name: id, AccountID: "1", GatewayID: "gw", EnvironmentID: "env", Revision: revision, BasePath: fmt.Sprint("/", i),
		Hosts: []string{fmt.Sprintf("env-%d.engineshed.localhost", i)}, AnyHost: true, Schemes: []string{"http", "https"},
		Protocols: []string{"OpenAI/v1"}, Category: "Text", Routes: []snapshot.Route{route("/v1/chat/completions"), route("/v1/completions")},
		Targets: []snapshot.Target{{ServiceID: "svc"}}, Scene: "SingleService",
	})
	require.NoError(b, err)
	return Item{Kind: snapshot.KindModelAPI, ID: id, Revision: revision, Body: body}
}

// BenchmarkApply is one publication, among more and more APIs of two routes each, and what the APIs take.
func BenchmarkApply(b *testing.B) {
	box, err := secret.NewBox()
	require.NoError(b, err)
	log := slog.New(slog.DiscardHandler)
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			builder := &builder{box: box, fleet: upstream.NewFleet(), guard: snapshot.AllowedUpstream{}}
			before := heap()
			all := change{revision: 1, all: true}
			for i := range n {
				all.items = append(all.items, apiItem(b, i, 1))
			}
			cfg := builder.apply(log, new(Config), all)
			all.items = nil
			perAPI := float64(heap()-before) / float64(n)
			changed := change{revision: 2, items: []Item{apiItem(b, n/2, 2)}}
			for b.Loop() {
				if next := builder.apply(log, cfg, changed); next.table == cfg.table {
					b.Fatal("not applied")
				}
			}
			b.ReportMetric(perAPI, "B/API")
			runtime.KeepAlive(cfg)
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // no machine has that much
}

// encoding/json keeps the buffer of what it encoded as long as there is something to encode now and then. Not parallel: it
// measures the heap, on the one processor that has the buffer.
func TestTheSnapshotFileLeavesNoMemoryBehind(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	box, err := secret.NewBox()
	require.NoError(t, err)
	const n = 10_000
	builder := &builder{box: box, fleet: upstream.NewFleet(), guard: snapshot.AllowedUpstream{}}
	all := change{revision: 7, all: true}
	for i := range n {
		all.items = append(all.items, apiItem(t, i, 1))
	}
	cfg := builder.apply(slog.New(slog.DiscardHandler), new(Config), all)
	before := heap()
	_, err = contents{cfg.Revision, cfg.items()}.encode()
	require.NoError(t, err)
	for range 3 {
		_, err := json.Marshal(cfg.health())
		require.NoError(t, err)
		require.Less(t, heap()-before, int64(n*100), "bytes left behind")
	}

	f := file{filepath.Join(t.TempDir(), "snapshot"), box}
	require.NoError(t, f.save(cfg))
	saved, err := f.load()
	require.NoError(t, err)
	require.Equal(t, all.revision, saved.revision)
	slices.SortFunc(saved.items, func(a, b Item) int { return strings.Compare(a.ID, b.ID) })
	require.Equal(t, all.items, saved.items)
	runtime.KeepAlive(cfg)
}

// Not parallel: it measures the heap.
func TestMinimalAPITakesAtMostAKibibyte(t *testing.T) {
	box, err := secret.NewBox()
	require.NoError(t, err)
	const n = 10_000
	builder := &builder{box: box, fleet: upstream.NewFleet(), guard: snapshot.AllowedUpstream{}}
	before := heap()
	all := change{revision: 1, all: true}
	for i := range n {
		all.items = append(all.items, apiItem(t, i, 1))
	}
	cfg := builder.apply(slog.New(slog.DiscardHandler), new(Config), all)
	all.items = nil
	each := (heap() - before) / n
	t.Logf("%d bytes for each of %d Model APIs of two routes", each, n)
	require.LessOrEqual(t, each, int64(1024))
	require.Zero(t, cfg.Bad())
	runtime.KeepAlive(builder)
	runtime.KeepAlive(cfg)
}

// BenchmarkTraffic is what a request costs to be counted, when all processors count requests of one Model API (shared) and when
// each has one of its own, as counters per core would be.
func BenchmarkTraffic(b *testing.B) {
	count := func(t *Traffic) {
		t.Begin()
		t.Ended(Success)
		t.End()
	}
	b.Run("shared", func(b *testing.B) {
		var all Traffic
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				count(&all)
			}
		})
	})
	b.Run("own", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			own := new(struct {
				Traffic
				_ [2 * 64]byte // so that no other's is on the same line of a cache
			})
			for pb.Next() {
				count(&own.Traffic)
			}
		})
	})
}
