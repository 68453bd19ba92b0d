package config

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway/balance"
	"github.com/engineshed/engineshed/internal/gateway/upstream"
	"github.com/engineshed/engineshed/internal/route"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// history is configurations that follow each other.
type history struct {
	t       *testing.T
	builder builder
	current *Config
}

func newHistory(t *testing.T) *history {
	box, err := secret.NewBox()
	require.NoError(t, err)
	return &history{t, builder{box: box, fleet: upstream.NewFleet(), guard: snapshot.AllowedUpstream{}}, new(Config)}
}

// publish has the thing served next.
func (h *history) publish(kind, id string, thing any) {
	body, err := snapshot.Encode(thing)
	require.NoError(h.t, err)
	item := Item{Kind: kind, ID: id, Revision: h.current.Revision + 1, Body: body}
	h.current = h.builder.apply(slog.New(slog.DiscardHandler), h.current, change{revision: item.Revision, items: []Item{item}})
	require.Zero(h.t, h.current.Bad())
}

func (h *history) service(url string, keys ...string) *Upstream {
	s := snapshot.AIService{ID: "svc-1", URLs: []string{url}, KeyHeader: "Authorization", KeyPrefix: "Bearer "}
	for _, key := range keys {
		sealed, err := h.builder.box.Seal(snapshot.ServiceKeyPurpose(s.ID), secret.New(key))
		require.NoError(h.t, err)
		s.SealedKeys = append(s.SealedKeys, sealed)
	}
	h.publish(snapshot.KindAIService, s.ID, s)
	return h.current.Upstream(s.ID)
}

func TestWhatWasFoundOutAboutAServiceOutlivesAChange(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	before := h.service("http://192.0.2.1", "a", "b")
	first := before.Key()
	first.Answered(401, nil)
	for !before.Standing.Failed() {
	}
	before.Standing.Ejections.Add(1)

	after := h.service("http://192.0.2.1", "c", "b", "a")
	require.NotSame(t, before, after)
	require.True(t, after.Standing.Ejected())
	require.Same(t, before.Endpoints[0], after.Endpoints[0])
	for range 6 {
		require.NotEqual(t, first.Header(), after.Key().Header())
	}

	moved := h.service("http://192.0.2.2", "a", "b")
	require.False(t, moved.Standing.Ejected(), "at its new address it has not failed yet")
	require.Zero(t, moved.keys.SetAside(), "and its keys have not been refused")
	require.EqualValues(t, 1, moved.Standing.Ejections.Load())
}

func (h *history) api(change func(*snapshot.ModelAPI)) *API {
	a := snapshot.ModelAPI{
		ID: "api-1", GatewayID: "gw-1", BasePath: "/", AnyHost: true, Protocols: []string{"OpenAI/v1"}, Scene: snapshot.SceneLeastBusy,
		Targets: []snapshot.Target{{ServiceID: "svc-1"}, {ServiceID: "svc-2", Share: 0.5}},
		Routes: []snapshot.Route{
			{Name: "chat", PathType: "Exact", Path: "/chat"},
			{Name: "completions", PathType: "Exact", Path: "/completions"},
			{
				Name: "own", PathType: "Exact", Path: "/own", Scene: snapshot.SceneLeastTotal,
				Targets: []snapshot.Target{{ServiceID: "svc-1"}, {ServiceID: "svc-2", Share: 0.5}},
			},
			{Name: "single", PathType: "Exact", Path: "/single", Scene: snapshot.SceneSingle, Targets: []snapshot.Target{{ServiceID: "svc-1"}}},
		},
	}
	change(&a)
	h.publish(snapshot.KindModelAPI, a.ID, a)
	return h.current.apis.find(a.ID)
}

func (a *API) route(t *testing.T, name string) *route.Route {
	for r := range a.All {
		if r.Name == name {
			return r
		}
	}
	require.Fail(t, "no such route", name)
	return nil
}

func TestWhatAnAPIHasObservedOutlivesAChange(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	before := h.api(func(*snapshot.ModelAPI) {})
	observed := func(a *API, name string) *balance.Observed { return a.Observed(a.route(t, name)) }
	chat, own := observed(before, "chat"), observed(before, "own")
	require.NotNil(t, chat)
	require.Same(t, chat, observed(before, "completions"), "routes of the same targets observe them together")
	require.NotSame(t, chat, own, "which are those of one scene")
	require.Nil(t, observed(before, "single"))

	after := h.api(func(a *snapshot.ModelAPI) { a.BasePath = "/elsewhere" })
	require.NotSame(t, before, after)
	require.Same(t, chat, observed(after, "chat"))
	require.Same(t, own, observed(after, "own"))

	other := h.api(func(a *snapshot.ModelAPI) { a.Targets[0].Model = "m-2" })
	require.NotSame(t, chat, observed(other, "chat"))
	require.Same(t, own, observed(other, "own"))
}

func TestAtMostAThousandServicesAreReported(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	for i := range maxReported + 10 {
		s := new(Standing)
		for !s.Failed() {
		}
		id := fmt.Sprintf("svc-%04d", i)
		u := &Upstream{AIService: &snapshot.AIService{ID: id}, Standing: s, keys: upstream.NewKeys(nil, nil)}
		h.current.upstreams = append(h.current.upstreams, u)
	}
	h.current.upstreamByID = h.current.upstreams.byID()
	reported := h.current.health()
	require.Len(t, reported, maxReported)
	require.Contains(t, reported, "svc-0000")
	require.NotContains(t, reported, "svc-1000", "and the same ones each time")
}

func TestWhatIsServedIsWhatWasPublishedLast(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	draw := rand.New(rand.NewPCG(1, 2))
	published := map[string]int64{} // revisions
	for revision := range int64(300) {
		ch := change{revision: revision, all: draw.IntN(10) == 0}
		if ch.all {
			clear(published)
		}
		for _, n := range draw.Perm(20)[:draw.IntN(20)] {
			id := fmt.Sprintf("dom-%02d", n)
			body, err := snapshot.Encode(snapshot.Domain{ID: id, Name: fmt.Sprintf("%d.example.com", revision)})
			require.NoError(t, err)
			item := Item{Kind: snapshot.KindDomain, ID: id, Revision: revision, Body: body, Deleted: !ch.all && draw.IntN(3) == 0}
			ch.items = append(ch.items, item)
			if published[id] = revision; item.Deleted {
				delete(published, id)
			}
		}
		h.current = h.builder.apply(slog.New(slog.DiscardHandler), h.current, ch)
		served := map[string]int64{}
		for _, d := range h.current.domains {
			served[d.ID] = d.revision
			require.Same(t, d, h.current.domains.find(d.ID))
		}
		require.Equal(t, published, served)
		require.Len(t, h.current.domains, len(published))
	}
	require.Nil(t, h.current.domains.find("dom-20"))
}

func TestAnAPIThatChangesGoesOnCounting(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	before := h.api(func(*snapshot.ModelAPI) {})
	before.Traffic.Begin()
	after := h.api(func(a *snapshot.ModelAPI) { a.Name = "renamed" })
	require.NotSame(t, before, after)
	require.EqualValues(t, 1, after.Traffic.InFlight())
}
