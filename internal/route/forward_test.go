package route_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/route"
	"github.com/engineshed/engineshed/internal/snapshot"
)

func TestTheModelThatIsMeant(t *testing.T) {
	t.Parallel()
	service := &snapshot.AIService{DefaultModel: "usual"}
	for _, c := range []struct{ place, written, named, want string }{
		{"json", "written", "named", "written"},
		{"json", "", "named", "named"},
		{"json", "", "", "usual"},
		{"multipart", "written", "", "written"},
		{"multipart", "", "", ""}, // nobody looks whether a form names one
		{"", "written", "named", ""},
	} {
		r := &route.Route{Route: snapshot.Route{Model: c.place}}
		require.Equal(t, c.want, r.Meant(snapshot.Target{Model: c.written}, c.named, service), "%+v", c)
	}
}

func TestTheFirstPatternThatMatchesPicksTheTarget(t *testing.T) {
	t.Parallel()
	targets := []snapshot.Target{
		{ServiceID: "exact", Pattern: "qwen-max"},
		{ServiceID: "one", Pattern: "qwen-?"},
		{ServiceID: "any", Pattern: "qwen-*"},
		{ServiceID: "both", Pattern: "gpt-4?-*"},
	}
	r := &route.Route{Route: snapshot.Route{Model: "json", Scene: snapshot.SceneByModelName, Targets: targets}}
	for model, want := range map[string]string{
		"qwen-max": "exact", "qwen-7": "one", "qwen-": "any", "qwen-long": "any", "gpt-4o-mini": "both", "gpt-4-mini": "", "Qwen-max": "", "": "",
	} {
		picked, ok := r.Pick("POST", model)
		require.Equal(t, []any{want, want != ""}, []any{picked.ServiceID, ok}, model)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom([]rune("ab*?")), 0, 4, -1)
		var all []snapshot.Target
		for i, pattern := range rapid.SliceOfN(text, 1, 5).Draw(t, "patterns") {
			all = append(all, snapshot.Target{ServiceID: strconv.Itoa(i), Pattern: pattern})
		}
		r, model := &route.Route{Route: snapshot.Route{Model: "json", Scene: snapshot.SceneByModelName, Targets: all}}, text.Draw(t, "model")
		want := ""
		for i := len(all) - 1; i >= 0; i-- {
			if naive(all[i].Pattern, model) {
				want = all[i].ServiceID
			}
		}
		picked, _ := r.Pick("POST", model)
		require.Equal(t, want, picked.ServiceID)
	})
	for method, want := range map[string]bool{"GET": true, "DELETE": true, "HEAD": true, "POST": false, "PUT": false, "PATCH": false} {
		picked, ok := r.Pick(method, "")
		require.Equal(t, []any{want, want}, []any{ok, picked.ServiceID == "exact"}, method)
	}
	for _, other := range []snapshot.Route{
		{Scene: snapshot.SceneByModelName, Targets: targets}, // its requests name no model
		{Model: "json", Scene: snapshot.SceneByRatio, Targets: targets}, {Model: "json", Scene: snapshot.SceneSingle, Targets: targets[:1]},
	} {
		picked, ok := (&route.Route{Route: other}).Pick("POST", "anything")
		require.True(t, ok)
		require.Equal(t, targets[0], picked)
	}
}

// naive is what a pattern means.
func naive(pattern, name string) bool {
	switch {
	case pattern == "":
		return name == ""
	case pattern[0] == '*':
		return naive(pattern[1:], name) || name != "" && naive(pattern, name[1:])
	}
	return name != "" && (pattern[0] == '?' || pattern[0] == name[0]) && naive(pattern[1:], name[1:])
}

func TestRoutesKnowTheSceneOfTheirTargets(t *testing.T) {
	t.Parallel()
	published := &snapshot.ModelAPI{
		ID: "api-1", BasePath: "/", AnyHost: true, Scene: snapshot.SceneByRatio, Targets: []snapshot.Target{{ServiceID: "a", Weight: 40}, {ServiceID: "b", Weight: 60}},
		Routes: []snapshot.Route{
			{Name: "the API's", PathType: "Exact", Path: "/a"},
			{Name: "folded", PathType: "Exact", Path: "/b", IgnoreCase: true},
			{Name: "template", PathType: "Template", Path: "/c/{d}"},
			{Name: "prefix", PathType: "Prefix", Path: "/e"},
			{Name: "regex", PathType: "Regex", Path: "/f.*"},
			{Name: "its own", PathType: "Exact", Path: "/g", Scene: snapshot.SceneByModelName, Targets: []snapshot.Target{{ServiceID: "c", Pattern: "*"}}},
		},
	}
	alone, err := route.Compile(published)
	require.NoError(t, err)
	shared, err := new(route.Shared).Compile(published)
	require.NoError(t, err)
	for _, api := range []*route.API{alone, shared} {
		scenes := map[string]string{}
		for r := range api.All {
			scenes[r.Name] = r.Scene
		}
		ratio := snapshot.SceneByRatio
		require.Equal(t, map[string]string{
			"the API's": ratio, "folded": ratio, "template": ratio, "prefix": ratio, "regex": ratio, "its own": snapshot.SceneByModelName,
		}, scenes)
	}
}

func TestWhatAServiceIsAskedFor(t *testing.T) {
	t.Parallel()
	api, err := route.Compile(&snapshot.ModelAPI{
		ID: "api-1", BasePath: "/team", RemoveBasePath: true, AnyHost: true, Targets: []snapshot.Target{{}}, Routes: []snapshot.Route{
			{Name: "chat", PathType: "Exact", Path: "/v1/chat/completions"},
			{Name: "files", PathType: "Prefix", Path: "/v1/files"},
			{Name: "else", PathType: "Exact", Path: "/metrics"},
		},
	})
	require.NoError(t, err)
	keeps, err := route.Compile(&snapshot.ModelAPI{
		ID: "api-2", BasePath: "/kept", AnyHost: true, Targets: []snapshot.Target{{}}, Routes: []snapshot.Route{
			{Name: "chat", PathType: "Exact", Path: "/v1/chat/completions"},
		},
	})
	require.NoError(t, err)
	table := route.NewTable(func(yield func(*route.API) bool) { _ = yield(api) && yield(keeps) }, nil)
	provider := &snapshot.AIService{Paths: map[string]string{"/v1/files": "/compatible/files"}}
	ours := &snapshot.AIService{ModelServiceID: "ms-1"}
	for _, c := range []struct {
		path string
		of   *snapshot.AIService
		want string
		ok   bool
	}{
		{"/team/v1/chat/completions", provider, "/v1/chat/completions", true},
		{"/kept/v1/chat/completions", provider, "/kept/v1/chat/completions", true},
		{"/kept/v1/chat/completions", ours, "/v1/chat/completions", true},
		{"/team/v1/files/a%2Fb", provider, "/compatible/files/a%2Fb", true},
		{"/team/metrics", provider, "/metrics", true},
		{"/team/metrics", ours, "/metrics", false},
	} {
		asked, ok := table.Find(&route.Request{Scheme: "http", Method: "POST", Path: c.path}).Asked(c.path, c.of)
		require.Equal(t, []any{c.want, c.ok}, []any{asked, ok}, c.path)
	}
	for path, want := range map[string]bool{"/services": true, "/services/x": true, "/servicesx": false, "/operator": true, "/public/": true, "/": false} {
		require.Equal(t, want, route.Reserved(path), path)
	}
}
