package snapshot_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/snapshot"
)

func TestTargetsFitTheirScene(t *testing.T) {
	t.Parallel()
	one, half := snapshot.Target{ServiceID: "svc-1"}, snapshot.Target{ServiceID: "svc-1", Weight: 50}
	named := snapshot.Target{ServiceID: "svc-1", Pattern: "*"}
	for _, c := range []struct {
		scene   string
		targets []snapshot.Target
		fits    bool
	}{
		{snapshot.SceneSingle, []snapshot.Target{one}, true},
		{snapshot.SceneSingle, []snapshot.Target{one, one}, false},
		{"", []snapshot.Target{one, one}, false},
		{"NoScene", []snapshot.Target{one, one}, false},
		{snapshot.SceneByRatio, []snapshot.Target{half, half}, true},
		{snapshot.SceneByRatio, []snapshot.Target{half}, false},
		{snapshot.SceneByRatio, []snapshot.Target{{ServiceID: "svc-1", Weight: 100}}, true},
		{snapshot.SceneByRatio, []snapshot.Target{{ServiceID: "svc-1", Weight: 101}, {ServiceID: "svc-1", Weight: -1}}, false},
		{snapshot.SceneByRatio, []snapshot.Target{{ServiceID: "svc-1", Weight: 100}, one}, false},
		{snapshot.SceneByModelName, []snapshot.Target{named, named}, true},
		{snapshot.SceneByModelName, []snapshot.Target{named, one}, false},
		{snapshot.SceneLeastBusy, []snapshot.Target{one, {ServiceID: "svc-2", Share: 0.8}}, true},
		{snapshot.SceneLeastFirstContent, []snapshot.Target{one, {ServiceID: "svc-2", Share: 1.1}}, false},
	} {
		a := snapshot.ModelAPI{
			ID: "api-1", GatewayID: "gw-1", BasePath: "/", AnyHost: true, Protocols: []string{"OpenAI/v1"}, Scene: c.scene, Targets: c.targets,
			Routes: []snapshot.Route{{Name: "r", Path: "/x"}},
		}
		require.Equal(t, c.fits, a.Validate() == nil, "%+v", c)
		a.Scene, a.Targets = snapshot.SceneSingle, []snapshot.Target{one}
		a.Routes[0].Scene, a.Routes[0].Targets = c.scene, c.targets
		require.Equal(t, c.fits, a.Validate() == nil, "of a route: %+v", c)
	}
}

func TestFallbackAndLimitsAreOnesThatCanBeServed(t *testing.T) {
	t.Parallel()
	valid := func(change func(*snapshot.ModelAPI)) bool {
		a := snapshot.ModelAPI{
			ID: "api-1", GatewayID: "gw-1", BasePath: "/", AnyHost: true, Protocols: []string{"OpenAI/v1"}, Scene: snapshot.SceneSingle,
			Targets: []snapshot.Target{{ServiceID: "svc-1"}}, Routes: []snapshot.Route{{Name: "r", Path: "/x"}},
		}
		change(&a)
		return a.Validate() == nil
	}
	to := &snapshot.Fallback{Targets: []snapshot.Target{{ServiceID: "svc-2"}}}
	require.True(t, valid(func(a *snapshot.ModelAPI) { a.Fallback, a.Routes[0].Fallback = to, to }))
	require.False(t, valid(func(a *snapshot.ModelAPI) { a.Fallback = new(snapshot.Fallback) }))
	require.False(t, valid(func(a *snapshot.ModelAPI) {
		a.Routes[0].Fallback = &snapshot.Fallback{Targets: make([]snapshot.Target, 1)}
	}))
	require.True(t, valid(func(a *snapshot.ModelAPI) { a.Limits = &snapshot.Limits{Idle: 1, ReplicaChoice: snapshot.PrefixAware} }))
	require.False(t, valid(func(a *snapshot.ModelAPI) { a.Limits = &snapshot.Limits{Queued: -1} }))
	require.False(t, valid(func(a *snapshot.ModelAPI) { a.Limits = &snapshot.Limits{ReplicaChoice: "Random"} }))
}

func TestAuthTypeIsPublishedAsTextAndNoUnknownOneIsTaken(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]snapshot.AuthType{`{}`: snapshot.AuthByKey, `{"authType":"Jwt"}`: snapshot.AuthByToken, `{"authType":"AkSk"}`: snapshot.AuthBySignature} {
		var a snapshot.ModelAPI
		require.NoError(t, json.Unmarshal([]byte(text), &a))
		require.Equal(t, want, a.AuthType)
		body, err := snapshot.Encode(a)
		require.NoError(t, err)
		require.Equal(t, want != snapshot.AuthByKey, strings.Contains(string(body), "authType"))
		require.Equal(t, want != snapshot.AuthByKey, strings.Contains(string(body), text[1:len(text)-1]) && len(text) > 2)
	}
	require.ErrorContains(t, json.Unmarshal([]byte(`{"authType":"Quantum"}`), new(snapshot.ModelAPI)), "Quantum")
}
