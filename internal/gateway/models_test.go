package gateway_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/snapshot"
)

func TestModelsAreListedWhereTheServiceCannot(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Dashscope-From", "upstream")
		switch r.URL.Path {
		case "/404/v1/models", "/404/v1/models/qwen-plus", "/404/v1/models/a%2Fb", "/404/v1/models/other", "/404/v1/files":
			http.Error(w, "page not found", http.StatusNotFound)
		case "/405/v1/models":
			w.WriteHeader(http.StatusMethodNotAllowed)
		case "/501/v1/models":
			w.WriteHeader(http.StatusNotImplemented)
		case "/401/v1/models":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			_, _ = io.WriteString(w, "its own")
		}
	})
	written, byDefault, unknown := g.outside(e.URL), g.outside(e.URL), g.outside(e.URL)
	byDefault.DefaultModel = "default-model"
	ours := g.service(newEngine(t, http.NotFound).addr)
	engines := snapshot.AIService{ID: ids.New(ids.AIService), Name: "engines", ModelServiceID: ours.ID}
	at := func(base, service, model string) snapshot.ModelAPI {
		a := apiOf(service, "OpenAI/v1 GET,DELETE Prefix /v1/models", "OpenAI/v1 GET Prefix /v1/files")
		a.BasePath, a.Targets[0].Model = base, model
		return a
	}
	own := at("/ours", engines.ID, "")
	g.serveAll(written, byDefault, unknown, ours, engines, own, at("/404", written.ID, "qwen-plus"), at("/405", byDefault.ID, ""),
		at("/501", written.ID, "a/b"), at("/unknown", unknown.ID, ""), at("/401", written.ID, "m"), at("/200", written.ID, "m"))
	ask := func(method, path string) answer { return do(t, request(t, method, g.at(path), "")) }
	list := func(id, owner string) string {
		return `{"object":"list","data":[{"id":"` + id + `","object":"model","created":0,"owned_by":"` + owner + `"}]}`
	}
	for path, want := range map[string]string{
		"/404/v1/models": list("qwen-plus", "outside"), "/404/v1/models?limit=5": list("qwen-plus", "outside"),
		"/405/v1/models": list("default-model", "outside"), "/501/v1/models": list("a/b", "outside"), "/ours/v1/models": list("demo", "engines"),
		"/404/v1/models/qwen-plus": `{"id":"qwen-plus","object":"model","created":0,"owned_by":"outside"}`,
		"/200/v1/models":           "its own",
	} {
		got := ask(http.MethodGet, path)
		require.Equal(t, 200, got.status, "%s: %s", path, got.body)
		require.Equal(t, want, got.body, path)
		if want != "its own" {
			require.Equal(t, "application/json", got.header.Get("Content-Type"))
			require.Empty(t, got.header.Get("X-Dashscope-From"))
			require.Len(t, got.header["X-Request-Id"], 1)
		}
	}
	for path, status := range map[string]int{"/404/v1/models/other": 404, "/404/v1/files": 404, "/401/v1/models": 401} {
		got := ask(http.MethodGet, path)
		require.Equal(t, status, got.status, path)
		require.Equal(t, "upstream", got.header.Get("X-Dashscope-From"), "the service answers for itself")
	}
	require.Equal(t, 404, ask(http.MethodDelete, "/404/v1/models/qwen-plus").status)
}

func TestServicesDefaultModelIsForRequestsThatNameNone(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, echo)
	s := g.outside(e.URL)
	s.DefaultModel = "default-model"
	a := apiOf(s.ID, chatRoute, "OpenAI/v1 POST Prefix /v1/files", "OpenAI/v1 POST Exact /v1/images/edits multipart")
	named := a
	named.ID, named.BasePath, named.Targets = ids.New(ids.HTTPAPI), "/named", []snapshot.Target{{ServiceID: s.ID, Model: "written"}}
	g.serveAll(s, a, named)
	for body, want := range map[string]string{
		`{ "messages": [] }`: `{"model":"default-model", "messages": [] }`, `{"model":"mine"}`: `{"model":"mine"}`, `[1]`: `[1]`, `{`: `{`,
	} {
		require.Equal(t, "POST /v1/chat/completions "+want, g.chat(body).body)
		for _, path := range []string{"/v1/files", "/v1/images/edits"} {
			require.Equal(t, "POST "+path+" "+body, do(t, request(t, http.MethodPost, g.at(path), body)).body)
		}
	}
	require.Equal(t, `POST /named/v1/chat/completions {"model":"written","a":1}`,
		do(t, request(t, http.MethodPost, g.at("/named/v1/chat/completions"), `{"a":1}`)).body)
	require.Equal(t, "POST /v1/chat/completions ", g.chat("").body)
}
