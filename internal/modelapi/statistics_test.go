package modelapi

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/snapshot"
)

func TestStatisticsAreServedAndTheirSwitchesAudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	statistics := func(enable, request, response bool) []DeployConfig {
		config := w.spec("chat").DeployConfigs[0]
		config.AutoDeploy = true
		config.PolicyConfigs = []PolicyConfig{{
			Type: PolicyAiStatistics, Enable: enable,
			AiStatistics: &AiStatistics{LogRequestContent: request, LogResponseContent: response},
		}}
		return []DeployConfig{config}
	}
	call := func(id string, do func(*audit.Entry) error) (detail string) {
		t.Helper()
		entry := &audit.Entry{RequestID: id, AccountID: account, Principal: "p", Outcome: audit.Done}
		require.NoError(t, do(entry))
		require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT detail FROM audit_event WHERE request_id = $1`, id).Scan(&detail))
		return detail
	}
	var api API
	detail := call("create", func(e *audit.Entry) (err error) {
		spec := w.spec("chat")
		spec.DeployConfigs = statistics(true, false, false)
		api, err = w.apis.Create(audit.With(t.Context(), e), account, spec)
		return err
	})
	require.Empty(t, detail)
	require.Equal(t, &snapshot.Statistics{}, w.served(t, api.ID).Statistics)

	update := func(id string, only bool, configs []DeployConfig) string {
		t.Helper()
		return call(id, func(e *audit.Entry) error {
			_, err := w.apis.Update(audit.With(t.Context(), e), account, api.ID, UpdateSpec{BasePath: "/", DeployConfigs: configs, OnlyChangeConfig: only})
			return err
		})
	}
	require.Equal(t, "content recording turned on: stored logRequestContent", update("store", true, statistics(true, true, false)))
	require.Equal(t, &snapshot.Statistics{}, w.served(t, api.ID).Statistics, "nothing is recorded before it is deployed")
	require.Equal(t, "content recording turned on: deployed logRequestContent", call("deploy", func(e *audit.Entry) error {
		_, err := w.apis.Deploy(audit.With(t.Context(), e), account, api.ID)
		return err
	}))
	require.Equal(t, &snapshot.Statistics{LogRequestContent: true}, w.served(t, api.ID).Statistics)
	require.Equal(t, "content recording turned on: stored logResponseContent, deployed logResponseContent", update("more", false, statistics(true, true, true)))
	require.Empty(t, update("same", false, statistics(true, true, true)))
	require.Empty(t, update("off", false, statistics(false, true, true)))
	require.Nil(t, w.served(t, api.ID).Statistics)
	require.Equal(t, "content recording turned on: stored logRequestContent, stored logResponseContent, deployed logRequestContent, deployed logResponseContent",
		call("rollback", func(e *audit.Entry) error {
			_, err := w.apis.Rollback(audit.With(t.Context(), e), account, api.ID, 3)
			return err
		}))
}
