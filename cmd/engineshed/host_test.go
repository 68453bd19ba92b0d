package main

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/up"
)

func TestHostsAreListedDrainedAndForgotten(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	_, err := db.Owner.Exec(t.Context(), `
		INSERT INTO account (id, name) VALUES ('1000000000000001', 'a');
		INSERT INTO host (name, engine_addr, started_at, heartbeat_at)
			VALUES ('gpu-a', '10.0.0.2', now(), now() + interval '1 hour'), ('gpu-b', '10.0.0.3', now(), now() - interval '1 hour');
		INSERT INTO db_instance (id, account_id, region_id, resource_group_id) VALUES ('gp-1', '1000000000000001', 'r', 'rg-default');
		INSERT INTO ai_node_pool (id, db_instance_id) VALUES ('p', 'gp-1');
		INSERT INTO model_service (id, account_id, db_instance_id, region_id, resource_group_id, model_name, replicas, api_key_sealed, status)
			VALUES ('ms-1', '1000000000000001', 'gp-1', 'r', 'rg-default', 'm', 1, '', 'active');
		INSERT INTO ai_node (name, pool_id, db_instance_id, host, node_spec, model_service_id)
			VALUES ('ai-1', 'p', 'gp-1', 'gpu-a', 'x', 'ms-1'), ('ai-2', 'p', 'gp-1', 'gpu-b', 'x', NULL);
		INSERT INTO replica (id, model_service_id, ordinal, node_name, host, status, engine_key_sealed, published_key)
			VALUES ('re-1', 'ms-1', 0, 'ai-1', 'gpu-a', 'active', '', '')`)
	require.NoError(t, err)
	host := func(args ...string) (string, error) {
		cmd := command(append([]string{"host"}, args...)...)
		cmd.Env = append(cmd.Env, "DATABASE_URL="+db.ControlURL)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	refused := func(says string, args ...string) {
		t.Helper()
		out, err := host(args...)
		require.Error(t, err)
		require.Contains(t, out, says)
	}
	done := func(args ...string) string {
		t.Helper()
		out, err := host(args...)
		require.NoError(t, err, out)
		return out
	}

	require.Equal(t, [][]string{
		{"gpu-a", "alive", "10.0.0.2", "0", "1", "1", "1"},
		{"gpu-b", "silent", "for", "60", "min", "10.0.0.3", "0", "1", "0", "0"},
	}, lines(done("list")))
	var found []struct {
		Name     string
		Replicas int
	}
	require.NoError(t, json.Unmarshal([]byte(done("list", "-o", "json")), &found))
	require.Len(t, found, 2)
	require.Equal(t, 1, found[0].Replicas)

	refused("what is left on gpu-a stays until its model services have AI nodes on other hosts:\n  replica 0 of ms-1 on ai-1: add 1 AI nodes", "drain", "gpu-a")
	require.Contains(t, done("list"), "alive, drained")
	require.Empty(t, done("undrain", "gpu-a"))
	require.NotContains(t, done("list"), "drained")
	require.Empty(t, done("drain", "gpu-a", "--no-wait"))
	require.Contains(t, done("drain", "gpu-b"), "empty")

	refused("the host is alive: drain gpu-a, stop its worker", "remove", "gpu-a")
	refused("there is no such host: gpu-x", "drain", "gpu-x")
	require.Equal(t, "gpu-b is forgotten.\n", done("remove", "gpu-b"))
	require.Len(t, lines(done("list")), 1)

	dir := t.TempDir()
	out, err := command("host", "list", "--data-dir", dir).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "set DATABASE_URL")
	require.NoError(t, os.WriteFile(up.DatabaseURLFile(dir), []byte(db.ControlURL+"\n"), 0o600))
	out, err = command("host", "list", "--data-dir", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Len(t, lines(string(out)), 1, "beside engineshed up the directory says where the database is")
}
