package gateway_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// fallsTo has the API turn to the services, in their order, with these models.
func fallsTo(a snapshot.ModelAPI, targets ...snapshot.Target) snapshot.ModelAPI {
	a.Fallback = &snapshot.Fallback{Targets: targets}
	return a
}

func TestFallbackTurnsToTheNextServiceWithItsModel(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	status := http.StatusInternalServerError
	first := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		echo(w, r)
	})
	refuses := g.outside("http://" + closedAddr(t))
	second := newEngine(t, echo)
	one, two := g.outside(first.URL), g.outside(second.URL)
	a := fallsTo(apiOf(one.ID, chatRoute, "OpenAI/v1 POST Prefix /v1/files"), snapshot.Target{ServiceID: refuses.ID},
		snapshot.Target{ServiceID: two.ID, Model: "small"}, snapshot.Target{ServiceID: two.ID})
	a.Targets[0].Model = "large"
	g.serveAll(one, two, refuses, a)
	for _, status = range []int{500, 503, 429, 404, 401, 400} {
		got := g.chat(`{"model":"asked","n":1}`)
		require.Equal(t, `POST /v1/chat/completions {"model":"small","n":1}`, got.body)
		require.Equal(t, 200, got.status)
	}
	require.EqualValues(t, 6, first.calls.Load())

	turns := sum(g.metrics(), `engineshed_gateway_fallbacks_total\{api="`+a.ID+`"\} (\d+)`)
	require.True(t, turns >= 7 && turns <= 12, "%d: once to the closed one at least, which is then set aside for a moment", turns)

	second.Close()
	got := g.chat(`{"model":"asked"}`)
	require.Equal(t, "upstream_unreachable", got.code(t), "the last failure is the answer")

	status = 418
	file := do(t, request(t, http.MethodPost, g.at("/v1/files"), "{}"))
	require.Equal(t, 418, file.status, "a file belongs to one service")
}

func TestFallbackByUpstreamCodesOnlyLeavesOtherFailuresAlone(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	second := newEngine(t, says("second"))
	closed, refusing, two := g.outside("http://"+closedAddr(t)), g.outside(newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}).URL), g.outside(second.URL)
	unreachable := fallsTo(apiOf(closed.ID, chatRoute), snapshot.Target{ServiceID: two.ID})
	unreachable.Fallback.UpstreamCodesOnly = true
	refused := unreachable
	refused.ID, refused.BasePath, refused.RemoveBasePath = apiOf("").ID, "/refused", true
	refused.Targets = []snapshot.Target{{ServiceID: refusing.ID}}
	g.serveAll(closed, refusing, two, unreachable, refused)
	require.Equal(t, "upstream_unreachable", g.chat("{}").code(t))
	require.Equal(t, "second", do(t, request(t, http.MethodPost, g.at("/refused/v1/chat/completions"), "{}")).body)
}

func TestStreamWithoutContentInTimeIsGivenUp(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	const role = `data: {"choices":[{"delta":{"role":"assistant","content":""}}]}` + "\n\n"
	slow := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, role)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	fast := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": comment\n\n"+role+contentEvent+doneEvent)
	})
	one, two := g.outside(slow.URL), g.outside(fast.URL)
	alone, helped := apiOf(one.ID, chatRoute), fallsTo(apiOf(one.ID, chatRoute), snapshot.Target{ServiceID: two.ID})
	alone.BasePath, alone.RemoveBasePath = "/alone", true
	alone.Limits, helped.Limits = &snapshot.Limits{FirstContent: 100, Idle: 10}, &snapshot.Limits{FirstContent: 100}
	g.serveAll(one, two, alone, helped)

	began := time.Now()
	got := do(t, request(t, http.MethodPost, g.at("/alone/v1/chat/completions"), `{"stream":true}`))
	require.Equal(t, http.StatusGatewayTimeout, got.status)
	require.Equal(t, "first_content_timeout", got.code(t))
	require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond)

	got = g.chat(`{"stream":true}`)
	require.Equal(t, role+contentEvent+doneEvent, got.body, "nothing of the one that was given up")
	rows := g.usage(2)
	require.Equal(t, "upstream_timeout complete", rows[0].EndState+" "+rows[1].EndState)
	require.Equal(t, two.ID, rows[1].ServiceID)
}

func TestServiceThatIsEjectedIsNotAskedWhileThereIsAnother(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	failing := newEngine(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	other := newEngine(t, says("other"))
	one, two := g.outside(failing.URL), g.outside(other.URL)
	alone, helped := apiOf(one.ID, chatRoute), fallsTo(apiOf(one.ID, chatRoute), snapshot.Target{ServiceID: two.ID})
	alone.BasePath, alone.RemoveBasePath = "/alone", true
	g.serveAll(one, two, alone, helped)
	for range 20 {
		require.Equal(t, "other", g.chat("{}").body)
	}
	require.EqualValues(t, 5, failing.calls.Load(), "after five failures in a row it is left alone")
	require.Equal(t, http.StatusBadGateway, do(t, request(t, http.MethodPost, g.at("/alone/v1/chat/completions"), "{}")).status,
		"who has no other asks it")
	require.EqualValues(t, 6, failing.calls.Load())
}

func TestKeyThatIsRefusedIsSetAsideAndAnotherOneSent(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		echo(w, r)
	})
	s := g.outside(e.URL)
	s.SealedKeys = nil
	for _, key := range []string{"bad", "worse", "good"} {
		sealed, err := g.box.Seal(snapshot.ServiceKeyPurpose(s.ID), secret.New(key))
		require.NoError(t, err)
		s.SealedKeys = append(s.SealedKeys, sealed)
	}
	g.serveAll(s, apiOf(s.ID, chatRoute))
	for range 20 {
		require.Equal(t, `POST /v1/chat/completions {"model":"m"}`, g.chat(`{"model":"m"}`).body)
	}
	require.LessOrEqual(t, e.calls.Load(), int64(22), "each key was tried once at most")
}
