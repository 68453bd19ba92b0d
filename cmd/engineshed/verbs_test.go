package main

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/up"
)

func TestDemoDoesTheMainJobAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	out, err := command("demo", "--data-dir", dir).CombinedOutput()
	require.NoError(t, err, string(out))
	for _, shown := range []string{
		"Postgres", "Database schema", "Control plane and gateway", "CreateModelService", "the same service, not a second one",
		"active; engine process", "[simulated]", "no row and no engine process left", "Everything stopped", "Done in",
	} {
		require.Contains(t, string(out), "✓")
		require.Contains(t, string(out), shown)
	}
	require.NotContains(t, string(out), "{", "no log lines")
	require.Empty(t, pidsWhose(t, "cmdline", dir+"/"))
}

func TestDemoRemovesItsTemporaryDirectory(t *testing.T) {
	t.Parallel()
	temporary := filepath.Dir(dataDir(t))
	demo := command("demo")
	demo.Env = append(demo.Env, "TMPDIR="+temporary)
	out, err := demo.CombinedOutput()
	require.NoError(t, err, string(out))
	left, err := os.ReadDir(temporary)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestDoctorSaysWhatToDo(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer busy.Close()
	healthy := command(append([]string{"doctor", "-o", "json", "--data-dir", dataDir(t)}, freePorts(t)...)...)
	out, err := healthy.Output()
	require.NoError(t, err, string(out))
	requireStatus(t, out, "Postgres", up.OK)
	requireStatus(t, out, "data directory", up.OK)

	unwell := command(append([]string{"doctor", "-o", "json", "--data-dir", dataDir(t)}, append(freePorts(t), "--api-addr", busy.Addr().String())...)...)
	unwell.Env = append(unwell.Env, "DATABASE_URL=postgres://u:canary@127.0.0.1:1/d", "VLLM_COMMAND=/does/not/exist serve")
	out, err = unwell.Output()
	require.Error(t, err)
	require.NotContains(t, string(out), "canary")
	requireStatus(t, out, busy.Addr().String(), up.Fail)
	requireStatus(t, out, "Postgres", up.Fail)
	requireStatus(t, out, "engine", up.Fail)

	table, err := command(append([]string{"doctor", "--data-dir", dataDir(t)}, freePorts(t)...)...).Output()
	require.NoError(t, err)
	require.Contains(t, string(table), "ok    data directory")
}

func TestDoctorKnowsARunningInstallation(t *testing.T) {
	t.Parallel()
	dir, ports := dataDir(t), freePorts(t)
	startUp(t, dir, ports)
	out, err := command(append([]string{"doctor", "--data-dir", dir}, ports...)...).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, 3, strings.Count(string(out), "in use by this installation"), string(out))
}

func TestMigrateMakesTheRoles(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	again := command("migrate")
	again.Env = append(again.Env, "MIGRATE_DATABASE_URL="+server.OwnerURL)
	out, err := again.CombinedOutput()
	require.NoError(t, err, string(out))

	admin, err := pgx.Connect(t.Context(), server.AdminURL)
	require.NoError(t, err)
	defer func() { _ = admin.Close(context.Background()) }()
	for _, statement := range []string{`CREATE DATABASE another`, `ALTER ROLE engineshed_gateway RENAME TO away`} {
		_, err := admin.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	fresh := command("migrate")
	fresh.Env = append(fresh.Env, "MIGRATE_DATABASE_URL="+strings.Replace(server.AdminURL, "/engineshed?", "/another?", 1))
	out, err = fresh.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "engineshed_gateway is missing and there is no password")

	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("a password\n"), 0o600))
	fresh = command("migrate", "--gateway-password-file", file)
	fresh.Env = append(fresh.Env, "MIGRATE_DATABASE_URL="+strings.Replace(server.AdminURL, "/engineshed?", "/another?", 1))
	out, err = fresh.CombinedOutput()
	require.NoError(t, err, string(out))

	out, err = command("migrate").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "MIGRATE_DATABASE_URL is not set")
}

func TestAServiceIsChangedAndTellsWhatHappened(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	i := startUp(t, dir, freePorts(t))
	id := i.deploy().ModelServiceId
	verb := func(args ...string) string {
		t.Helper()
		out, err := command(append([]string{"model-service", "--data-dir", dir}, args...)...).CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	refused, err := command("model-service", "--data-dir", dir, "modify", id, "--param", "max-model-len=4096").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(refused), "AllowInterruption")
	changed := verb("modify", id, "--param", "max-model-len=4096", "--allow-interruption")
	require.Contains(t, changed, "1 of 1 replicas are as asked for")
	require.Contains(t, changed, "Replica 0 on ai-")
	require.Contains(t, verb("describe", id, "-o", "json"), `"max-model-len": 4096`)
	require.Contains(t, verb("logs", id), "vllm-sim: listening on")
	require.Contains(t, verb("events", id), `changed it: ModelParams {"max-model-len":4096}.`)
	require.Contains(t, verb("modify", id, "--replicas", "2"), "2 of 2 replicas are as asked for", "on a free node")

	watching := command("model-service", "--data-dir", dir, "watch", id)
	var watched output
	watching.Stdout, watching.Stderr = &watched, &watched
	require.NoError(t, watching.Start())
	i.await("watch shows what there is", func() bool { return strings.Contains(watched.String(), "The service was") })
	require.Contains(t, verb("delete", id), "deleted")
	require.NoError(t, watching.Wait(), "it ends with the service")
	require.Contains(t, watched.String(), "The service is gone.")
}

func requireStatus(t *testing.T, report []byte, check string, status up.Status) {
	t.Helper()
	var findings []up.Finding
	require.NoError(t, json.Unmarshal(report, &findings))
	for _, finding := range findings {
		if finding.Check == check {
			require.Equal(t, status, finding.Status, finding.Detail)
			if status == up.Fail {
				require.NotEmpty(t, finding.Advice)
			}
			return
		}
	}
	t.Fatalf("no check %q in %s", check, report)
}
