package route_test

import (
	"testing"

	"github.com/stretchr/testify/require"

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
		r := &route.Route{Route: snapshot.Route{Model: c.place, Targets: []snapshot.Target{{Model: c.written}}}}
		require.Equal(t, c.want, r.Meant(c.named, service), "%+v", c)
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
