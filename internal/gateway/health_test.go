package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// health is what the gateway reports about services that are not well.
func (g *rig) health() (h snapshot.Health) {
	var text []byte
	require.NoError(g.t, g.owner.QueryRow(g.t.Context(), `SELECT health FROM gateway_status`).Scan(&text))
	require.NoError(g.t, json.Unmarshal(text, &h))
	return h
}

func (g *rig) gauge(name, service string) string {
	return metric(g, fmt.Sprintf("engineshed_gateway_%s{service=%q}", name, service))
}

func TestAServiceThatFailsIsReportedUntilItAnswers(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	var failing atomic.Bool
	failing.Store(true)
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		if failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	outside := g.outside(e.URL)
	engines := g.service(e.addr)
	ours := snapshot.AIService{ID: ids.New(ids.AIService), Name: "ours", ModelServiceID: engines.ID}
	a, b := apiOf(outside.ID, chatRoute), apiOf(ours.ID, chatRoute)
	b.BasePath, b.RemoveBasePath = "/ours", true
	g.serveAll(outside, engines, ours, a, b)
	ask := func(path string, want int) {
		require.Equal(t, want, do(t, request(t, http.MethodPost, g.at(path), `{"model":"m"}`)).status)
	}

	require.Empty(t, g.health())
	for range 4 {
		ask("/v1/chat/completions", 500)
	}
	require.Equal(t, "0", g.gauge("service_ejected", outside.ID), "four failures are not five")
	require.Empty(t, g.gauge("ejections_total", outside.ID))
	for range 5 {
		ask("/v1/chat/completions", 500)
		ask("/ours/v1/chat/completions", 500)
	}
	for _, id := range []string{outside.ID, engines.ID} {
		require.Equal(t, "1", g.gauge("service_ejected", id))
		require.Equal(t, "1", g.gauge("ejected_targets", id))
		require.Equal(t, "1", g.gauge("ejections_total", id))
	}
	g.await(func() bool { return len(g.health()) == 2 })
	require.Equal(t, snapshot.Health{
		outside.ID: {Ejected: true, Targets: 1, Outliers: []string{e.addr}, Keys: 1},
		ours.ID:    {Ejected: true, Targets: 1, Outliers: []string{engines.Replicas[0].ID}},
	}, g.health())

	failing.Store(false)
	ask("/v1/chat/completions", 200)
	ask("/ours/v1/chat/completions", 200)
	require.Equal(t, "0", g.gauge("ejected_targets", outside.ID))
	require.Equal(t, "1", g.gauge("ejections_total", outside.ID))
	g.await(func() bool { return len(g.health()) == 0 })
}

func TestKeysThatAreSetAsideAreReported(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+upstreamKey {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	s := g.outside(e.URL)
	second, err := g.box.Seal(snapshot.ServiceKeyPurpose(s.ID), secret.New("sk-second"))
	require.NoError(t, err)
	s.SealedKeys = append(s.SealedKeys, second)
	g.serveAll(s, apiOf(s.ID, chatRoute))
	require.Equal(t, "0", g.gauge("keys_set_aside", s.ID))
	for range 4 {
		g.chat(`{"model":"m"}`)
	}
	require.Equal(t, "1", g.gauge("keys_set_aside", s.ID))
	g.await(func() bool { return len(g.health()) == 1 })
	require.Equal(t, snapshot.Health{s.ID: {Targets: 1, Keys: 2, KeysSetAside: 1}}, g.health())
	require.NotContains(t, g.metrics(), "sk-second")
}
