package snapshot_test

import (
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
