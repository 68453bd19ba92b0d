package gateway_test

import (
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// named is a service that answers with its name and what it was sent.
func (g *rig) named(name string) snapshot.AIService {
	e := newEngine(g.t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, name+" "+string(body))
	})
	return g.outside(e.URL)
}

func TestRequestsAreSharedOutByProportion(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	first, second, third := g.named("first"), g.named("second"), g.named("third")
	a := apiOf("", chatRoute, "OpenAI/v1 GET Exact /v1/files")
	a.Scene, a.Targets = snapshot.SceneByRatio, []snapshot.Target{
		{ServiceID: first.ID, Weight: 70, Model: "m-1"}, {ServiceID: second.ID, Weight: 20}, {ServiceID: third.ID, Weight: 10, Model: "m-3"},
	}
	twin := a // it has the same routes and services, and a count of its own
	twin.ID, twin.BasePath, twin.RemoveBasePath = ids.New(ids.HTTPAPI), "/twin", true
	g.serveAll(first, second, third, a, twin)
	got, twins, files := map[string]int{}, map[string]int{}, map[string]int{}
	for i := range 300 {
		if i < 200 {
			got[g.chat(`{"model":"asked"}`).body]++
			twins[do(t, request(t, http.MethodPost, g.at("/twin/v1/chat/completions"), `{"model":"asked"}`)).body]++
		} else {
			files[do(t, request(t, http.MethodGet, g.at("/v1/files"), "")).body]++
		}
	}
	want := map[string]int{`first {"model":"m-1"}`: 140, `second {"model":"asked"}`: 40, `third {"model":"m-3"}`: 20}
	require.Equal(t, want, got)
	require.Equal(t, want, twins)
	require.Equal(t, map[string]int{"first ": 70, "second ": 20, "third ": 10}, files)
}

func TestTheModelsNameDecidesWhoAnswers(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	qwen, gpt, ours := g.named("qwen"), g.named("gpt"), g.service(newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, "engine "+string(body))
	}).addr)
	gpt.DefaultModel = "usual"
	engines := snapshot.AIService{ID: ids.New(ids.AIService), Name: "engines", ModelServiceID: ours.ID}
	a := apiOf("", chatRoute, "OpenAI/v1 POST Exact /v1/images/edits multipart", "OpenAI/v1 GET Exact /v1/files", "OpenAI/v1 GET Exact /v1/models")
	a.Scene, a.Targets = snapshot.SceneByModelName, []snapshot.Target{
		{ServiceID: qwen.ID, Pattern: "qwen-*"},
		{ServiceID: gpt.ID, Pattern: "gpt-4?", Model: "gpt-4o"},
		{ServiceID: engines.ID, Pattern: "demo"},
		{ServiceID: qwen.ID, Pattern: "gpt-*", Model: "qwen-max"},
	}
	all := apiOf("", chatRoute)
	all.BasePath, all.RemoveBasePath, all.Scene = "/all", true, snapshot.SceneByModelName
	all.Targets = []snapshot.Target{{ServiceID: qwen.ID, Pattern: "?*"}, {ServiceID: gpt.ID, Pattern: "*"}}
	g.serveAll(qwen, gpt, ours, engines, a, all)
	for body, want := range map[string]string{
		`{"model":"qwen-long","a":1}`: `qwen {"model":"qwen-long","a":1}`,
		`{"a":[],"model":"gpt-4x"}`:   `gpt {"a":[],"model":"gpt-4o"}`,
		`{"model":"gpt-4xx"}`:         `qwen {"model":"qwen-max"}`,
		`{"model":"demo"}`:            `engine {"model":"demo"}`,
	} {
		require.Equal(t, want, g.chat(body).body, body)
	}
	for _, body := range []string{`{"model":"claude"}`, `{"model":"QWEN-long"}`, `{"a":1}`, `{"model":7}`, ``} {
		got := g.chat(body)
		require.Equal(t, []any{404, "model_not_found"}, []any{got.status, got.code(t)}, body)
	}
	for _, body := range []string{`{`, `{"model":"qwen-1","model":"demo"}`, `[]`} {
		got := g.chat(body)
		require.Equal(t, []any{400, "invalid_body"}, []any{got.status, got.code(t)}, body)
	}
	require.Equal(t, "qwen ", do(t, request(t, http.MethodGet, g.at("/v1/files"), "")).body, "what names no model goes to the first")
	unnamed := do(t, request(t, http.MethodPost, g.at("/all/v1/chat/completions"), `{"a":1}`))
	require.Equal(t, `gpt {"model":"usual","a":1}`, unnamed.body, "no name is one that * matches")

	var form strings.Builder
	w := multipart.NewWriter(&form)
	require.NoError(t, w.WriteField("prompt", "a"))
	require.NoError(t, w.WriteField("model", "gpt-4x"))
	require.NoError(t, w.Close())
	edit := request(t, http.MethodPost, g.at("/v1/images/edits"), form.String())
	edit.Header.Set("Content-Type", w.FormDataContentType())
	require.Equal(t, "gpt "+strings.Replace(form.String(), "gpt-4x", "gpt-4o", 1), do(t, edit).body)
}

func TestServiceIsChosenByWhatIsObserved(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	release := make(chan struct{})
	held := make(chan struct{}, 8)
	slow := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		held <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "slow")
	})
	quick, failing := newEngine(t, says("quick")), newEngine(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	one, two, three := g.outside(slow.URL), g.outside(quick.URL), g.outside(failing.URL)
	busy := apiOf("", chatRoute)
	busy.Scene, busy.Targets = snapshot.SceneLeastBusy, []snapshot.Target{{ServiceID: one.ID}, {ServiceID: two.ID}}
	latency := apiOf("", chatRoute)
	latency.BasePath, latency.RemoveBasePath = "/latency", true
	latency.Scene, latency.Targets = snapshot.SceneLeastTotal, []snapshot.Target{{ServiceID: three.ID}, {ServiceID: two.ID}}
	g.serveAll(one, two, three, busy, latency)

	ended := make(chan string, 100)
	ask := func() { ended <- g.chat("{}").body }
	for waiting := true; waiting; { // until one is held
		go ask()
		select {
		case <-held:
			waiting = false
		case got := <-ended:
			require.Equal(t, "quick", got)
		}
	}
	for range 20 {
		require.Equal(t, "quick", g.chat("{}").body, "the other one is busy")
	}
	close(release)
	require.Equal(t, "slow", <-ended)

	statuses := map[int]int{}
	for range 50 {
		statuses[do(t, request(t, http.MethodPost, g.at("/latency/v1/chat/completions"), "{}")).status]++
	}
	require.LessOrEqual(t, statuses[500], 3, "who fails is taken for slow: %v", statuses)
}

func TestConversationStaysAtTheReplicaThatHasSeenItsBeginning(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	var addrs []string
	for i := range 4 {
		addrs = append(addrs, newEngine(t, says(string(rune('a'+i)))).addr)
	}
	service := g.service(addrs...)
	target := snapshot.AIService{ID: ids.New(ids.AIService), ModelServiceID: service.ID}
	a := apiOf(target.ID, chatRoute)
	a.Limits = &snapshot.Limits{ReplicaChoice: snapshot.PrefixAware}
	g.serveAll(service, target, a)
	replicas := map[string]bool{}
	for i := range 20 {
		begins := `{"messages":[{"role":"user","content":"conversation ` + string(rune('A'+i)) + `"}`
		first := g.chat(begins + `]}`).body
		for range 3 {
			begins += `,{"role":"assistant","content":"x"},{"role":"user","content":"and?"}`
			require.Equal(t, first, g.chat(begins+`]}`).body)
		}
		replicas[first] = true
	}
	require.Greater(t, len(replicas), 2, "conversations are spread")
}
