package aiservice_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/aiservice"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// report has a gateway process report, which was started after those before it.
func (w *world) report(t *testing.T, process, gateway, health string) {
	t.Helper()
	_, err := w.Gateway.Exec(t.Context(), `
		INSERT INTO gateway_status (process_id, revision, started_at, reported_at, gateway_id, health)
		VALUES ($1, 1, clock_timestamp(), now(), $2, $3)
		ON CONFLICT (process_id) DO UPDATE SET health = excluded.health`, process, gateway, health)
	require.NoError(t, err)
}

func TestAServiceIsAsGatewaysFindIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.create(t, w.spec(qwen("one"))), w.create(t, w.spec(qwen("two")))
	get := func(id string) aiservice.Service {
		t.Helper()
		found := w.get(t, id)
		listed, _, err := w.List(t.Context(), account, aiservice.Filter{Page: instance.Page{Number: 1, Size: 10}})
		require.NoError(t, err)
		require.Contains(t, listed, found, "lists and single reads agree")
		return found
	}
	status := func(id string) string {
		found := get(id)
		return found.HealthStatus()
	}
	require.Empty(t, status(one), "nobody reports")
	w.report(t, "elsewhere", w.otherGateway, `{}`)
	require.Empty(t, status(one), "who serves another gateway says nothing about it")
	w.report(t, "a", "", `{}`)
	require.Equal(t, aiservice.Healthy, status(one))

	w.report(t, "a", "", `{"`+one+`": {"ejected": true, "targets": 2, "outliers": ["h:2"], "keys": 2, "keysSetAside": 1}}`)
	w.report(t, "b", w.gateway, `{"`+one+`": {"targets": 2, "outliers": ["h:1", "h:2"]}, "`+two+`": {"targets": 3, "outliers": ["h:3"]}, "svc-other": {"ejected": true}}`)
	found := get(one)
	require.Equal(t, aiservice.Unhealthy, found.HealthStatus())
	require.Equal(t, []string{"h:1", "h:2"}, found.Outliers())
	require.Len(t, found.Health, 2)
	require.Equal(t, "a", found.Health[0].ProcessID)
	require.False(t, found.Health[0].ReportedAt.IsZero())
	require.Equal(t, snapshot.ServiceHealth{Ejected: true, Targets: 2, Outliers: []string{"h:2"}, Keys: 2, KeysSetAside: 1}, found.Health[0].ServiceHealth)
	require.Equal(t, snapshot.ServiceHealth{Targets: 2, Outliers: []string{"h:1", "h:2"}}, found.Health[1].ServiceHealth)
	require.Equal(t, "Requests to the service failed again and again: other services are asked first, and this one now and then. "+
		"Requests to 1 of its 2 endpoints or replicas failed again and again: others are asked first, and these now and then. "+
		"1 of its 2 keys are refused by the service, or have reached a limit there: check them with the provider.", found.Health[0].Message())
	require.Equal(t, aiservice.Healthy, status(two), "two of its three endpoints are well")

	w.report(t, "a", "", `{}`)
	require.Equal(t, aiservice.Unhealthy, status(one), "all of its endpoints fail, as b finds")
	w.exec(t, `UPDATE gateway_status SET reported_at = now() - interval '11 seconds' WHERE process_id = 'b'`)
	require.Equal(t, aiservice.Healthy, status(one), "of b nothing was heard for too long")
}
