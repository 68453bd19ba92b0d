package modelapi

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGetSaysWhichRevisionEachGatewayServes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.create(t, w.spec("chat"))
	report := func(process, gateway, revision string) {
		t.Helper()
		_, err := w.Gateway.Exec(t.Context(), `
			INSERT INTO gateway_status (process_id, revision, started_at, reported_at, gateway_id)
			VALUES ($1, (`+revision+`), now(), now(), $2)
			ON CONFLICT (process_id) DO UPDATE SET revision = excluded.revision`, process, gateway)
		require.NoError(t, err)
	}
	const newest = `SELECT revision FROM publication`
	served := func() (all bool, by map[string]any) {
		t.Helper()
		got, err := w.apis.Get(t.Context(), account, api.ID)
		require.NoError(t, err)
		by = map[string]any{}
		for _, s := range got.Serving {
			by[s.ProcessID] = "earlier"
			if s.Revision != nil {
				by[s.ProcessID] = *s.Revision
			}
			require.False(t, s.ReportedAt.IsZero())
		}
		return got.ServedEverywhere(), by
	}
	all, by := served()
	require.False(t, all, "nobody serves it")
	require.Empty(t, by)

	report("a", "", newest)
	report("b", w.gateway, newest)
	report("elsewhere", w.otherGateway, newest)
	all, by = served()
	require.Equal(t, map[string]any{"a": int64(0), "b": int64(0)}, by, "it is deployed and not published yet")
	require.False(t, all)

	w.publish(t)
	_, by = served()
	require.Equal(t, map[string]any{"a": "earlier", "b": "earlier"}, by)
	report("a", "", newest)
	all, by = served()
	require.Equal(t, map[string]any{"a": int64(1), "b": "earlier"}, by)
	require.False(t, all)
	report("b", "", newest)
	all, _ = served()
	require.True(t, all)

	_, err := w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/two"})
	require.NoError(t, err)
	all, by = served()
	require.Equal(t, map[string]any{"a": int64(1), "b": int64(1)}, by)
	require.False(t, all, "2 is deployed")
	w.publish(t)
	report("a", "", newest)
	report("b", "", newest)
	_, err = w.Gateway.Exec(t.Context(), `UPDATE gateway_status SET refused = ARRAY[$1] WHERE process_id = 'b'`, api.ID)
	require.NoError(t, err)
	all, by = served()
	require.Equal(t, map[string]any{"a": int64(2), "b": "earlier"}, by, "it could not use the newest")
	require.False(t, all)

	_, err = w.apis.Undeploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	w.publish(t)
	report("a", "", newest)
	_, err = w.Owner.Exec(t.Context(), `UPDATE gateway_status SET reported_at = now() - interval '11 seconds' WHERE process_id = 'b'`)
	require.NoError(t, err)
	all, by = served()
	require.Equal(t, map[string]any{"a": int64(0)}, by, "b is silent")
	require.True(t, all)
}
