package modelapi

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/snapshot"
)

func TestTimeoutsAndLimitsAreServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.spec("chat")
	spec.TrafficConfig = TrafficConfig{ReplicaSelection: LeastInFlight}
	api := w.create(t, spec)
	require.Nil(t, w.served(t, api.ID).Limits, "all are the gateway's own")

	update := func(u UpdateSpec) *snapshot.Limits {
		t.Helper()
		u.BasePath, u.DeployConfigs = "/chat", []DeployConfig{w.config()}
		_, err := w.apis.Update(t.Context(), account, api.ID, u)
		require.NoError(t, err)
		return w.served(t, api.ID).Limits
	}
	require.Equal(t, &snapshot.Limits{FirstContent: 3_600_000}, update(UpdateSpec{FirstByteTimeout: to(3_600_000)}))
	all := TrafficConfig{60_000, 86_400_000, 1_000_000, 100_000, PrefixAware}
	want := &snapshot.Limits{
		FirstContent: 3_600_000, Connect: 60_000, Idle: 86_400_000, Concurrent: 1_000_000, Queued: 100_000, ReplicaChoice: snapshot.PrefixAware,
	}
	require.Equal(t, want, update(UpdateSpec{TrafficConfig: &all}))
	require.Equal(t, want, update(UpdateSpec{}), "what is not named stays")
	stored, err := w.apis.Get(t.Context(), account, api.ID)
	require.NoError(t, err)
	require.Equal(t, []any{all, Deployed}, []any{stored.TrafficConfig, stored.DeployStatus})
	require.Equal(t, &snapshot.Limits{FirstContent: 3_600_000, Concurrent: 5}, update(UpdateSpec{TrafficConfig: &TrafficConfig{MaxConcurrency: 5}}))
	require.Nil(t, update(UpdateSpec{FirstByteTimeout: to(0), TrafficConfig: &TrafficConfig{}}))
	_, err = w.apis.Rollback(t.Context(), account, api.ID, 3)
	require.NoError(t, err)
	require.Equal(t, want, w.served(t, api.ID).Limits)
}

func TestLimitsThatAreNoneAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first   int
		traffic TrafficConfig
		want    string
	}{
		"an hour and more":       {first: 3_600_001, want: "firstByteTimeout is not valid: it is 0 to 3600000."},
		"less than nothing":      {first: -1, want: "firstByteTimeout"},
		"a long connect":         {traffic: TrafficConfig{ConnectTimeout: 60_001}, want: "trafficConfig.connectTimeout is not valid: it is 0 to 60000."},
		"a negative connect":     {traffic: TrafficConfig{ConnectTimeout: -1}, want: "trafficConfig.connectTimeout"},
		"a day and more":         {traffic: TrafficConfig{IdleTimeout: 86_400_001}, want: "trafficConfig.idleTimeout"},
		"millions":               {traffic: TrafficConfig{MaxConcurrency: 1_000_001}, want: "trafficConfig.maxConcurrency"},
		"a long queue":           {traffic: TrafficConfig{MaxConcurrency: 1, MaxQueue: 100_001}, want: "trafficConfig.maxQueue"},
		"a queue for nothing":    {traffic: TrafficConfig{MaxQueue: 1}, want: "without maxConcurrency no request ever waits"},
		"an unknown selection":   {traffic: TrafficConfig{ReplicaSelection: "RoundRobin"}, want: "it is LeastInFlight or PrefixAware."},
		"a selection in its way": {traffic: TrafficConfig{ReplicaSelection: "prefixaware"}, want: "trafficConfig.replicaSelection"},
	} {
		d := Definition{FirstByteTimeout: c.first, TrafficConfig: c.traffic}
		require.ErrorContains(t, d.checkTraffic(), c.want, name)
	}
}
