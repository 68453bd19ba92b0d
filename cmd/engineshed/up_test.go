package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/postgres/embedded"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

func TestUpKeepsServicesOverARestart(t *testing.T) {
	t.Parallel()
	dir, ports := dataDir(t), freePorts(t)
	first := startUp(t, dir, ports)
	require.Contains(t, first.out.String(), first.credentials.AccessKeySecret, "shown on the first start")
	for _, name := range []string{"credentials.json", "master.key", "snapshot.key", "state.json", "root-key.json", "postgres.password"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
	service := first.deploy()
	require.Len(t, first.engines(), 1)
	first.stop()
	require.Empty(t, first.engines())
	require.Empty(t, pidsWhose(t, "cmdline", dir+"/"), "Postgres and the programs")

	second := startUp(t, dir, ports)
	require.Equal(t, first.credentials, second.credentials)
	require.NotContains(t, second.out.String(), first.credentials.AccessKeySecret, "not shown again")
	again := second.served(service.ModelServiceId)
	require.Equal(t, service.ApiKey, again.ApiKey)
	require.Equal(t, service.PrivateConnectUrl, again.PrivateConnectUrl)
}

func TestUpIsAloneOnItsDataDirectoryAndItsPorts(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	first := startUp(t, dir, freePorts(t))
	out, err := command(append([]string{"up", "--data-dir", dir}, freePorts(t)...)...).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "in use by another engineshed (process "+strconv.Itoa(first.cmd.Process.Pid))

	addr := strings.TrimPrefix(first.credentials.Endpoint, "http://")
	out, err = command("up", "--data-dir", dataDir(t), "--api-addr", addr).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), addr+" is in use by another program: stop it, or give another address with --api-addr")
}

func TestUpStartsItsChildrenAgain(t *testing.T) {
	t.Parallel()
	i := startUp(t, dataDir(t), freePorts(t))
	service := i.deploy()
	for _, child := range []string{"controlplane", "gateway", "postgres"} {
		pids := i.children(child)
		require.Len(t, pids, 1, child)
		require.NoError(t, syscall.Kill(pids[0], syscall.SIGKILL))
		i.await(child+" runs again", func() bool {
			now := i.children(child)
			return len(now) == 1 && now[0] != pids[0]
		})
		i.served(service.ModelServiceId)
	}
	require.Len(t, i.engines(), 1)
}

func TestAKilledUpLeavesOnlyEnginesAndTheNextAdoptsThem(t *testing.T) {
	t.Parallel()
	dir, ports := dataDir(t), freePorts(t)
	first := startUp(t, dir, ports)
	service := first.deploy()
	engines := first.engines()
	require.Len(t, engines, 1)

	first.kill()
	first.await("the children have ended", func() bool {
		return len(first.children("controlplane"))+len(first.children("gateway"))+len(first.children("postgres")) == 0
	})
	require.Equal(t, engines, first.engines(), "the engine runs on")

	second := startUp(t, dir, ports)
	second.served(service.ModelServiceId)
	require.Equal(t, engines, second.engines(), "the same engine")

	second.kill()
	third := startUp(t, dir, ports) // at once, while the children of the killed one end
	third.served(service.ModelServiceId)
	require.Equal(t, engines, third.engines())
}

func TestDetachedEnginesAreAdopted(t *testing.T) {
	t.Parallel()
	dir, ports := dataDir(t), freePorts(t)
	first := startUp(t, dir, append(ports, "--detach-replicas"))
	service := first.deploy()
	engines := first.engines()
	require.Len(t, engines, 1)
	first.stop()
	require.Equal(t, engines, first.engines())

	second := startUp(t, dir, ports)
	second.served(service.ModelServiceId)
	require.Equal(t, engines, second.engines())
}

func TestTheRootKeyCanBeGiven(t *testing.T) {
	t.Parallel()
	const secret = "a-secret-of-the-user"
	i := startUp(t, dataDir(t), freePorts(t), "ENGINESHED_ACCESS_KEY_ID=LTAIgivenbytheuser", "ENGINESHED_ACCESS_KEY_SECRET="+secret)
	require.Equal(t, "LTAIgivenbytheuser", i.credentials.AccessKeyID)
	require.NotContains(t, i.out.String(), secret)
	_, err := i.client.DescribeDBInstances(t.Context(), gpdb.DescribeDBInstancesRequest{})
	require.NoError(t, err)

	half := command("up", "--data-dir", dataDir(t), "--api-addr", "127.0.0.1:0", "--gateway-addr", "127.0.0.1:0", "--public-addr", "127.0.0.1:0")
	half.Env = append(half.Env, "ENGINESHED_ACCESS_KEY_ID=LTAIgivenbytheuser")
	out, err := half.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "belong together")
}

func TestPolicyFilesAreReadAgainOnSIGHUP(t *testing.T) {
	t.Parallel()
	policies := t.TempDir()
	i := startUp(t, dataDir(t), append(freePorts(t), "--policy-dir", writePolicies(t, policies, "ESAKbefore01")))
	require.Eventually(t, func() bool { return keyWorks(t, i, "ESAKbefore01") }, patience, interval)
	require.False(t, keyWorks(t, i, "ESAKafter01"))

	writePolicies(t, policies, "ESAKafter01")
	require.NoError(t, i.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return keyWorks(t, i, "ESAKafter01") }, patience, interval)
	require.False(t, keyWorks(t, i, "ESAKbefore01"))
}

func TestAProgramThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	out, err := command(append([]string{"up", "--data-dir", dataDir(t), "--policy-dir", empty}, freePorts(t)...)...).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "controlplane ended while it started")
	require.Contains(t, string(out), empty)
}

const keySecret = "a-secret-of-sixteen"

// writePolicies makes a policy directory with one root key of an account.
func writePolicies(t *testing.T, dir, key string) string {
	t.Helper()
	text := `
accounts:
  - id: "1000000000000009"
    name: filed
    accessKeys:
      - {id: ` + key + `, secret: "` + keySecret + `"}
`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "accounts.yaml"), []byte(text), 0o600))
	return dir
}

func keyWorks(t *testing.T, i *installation, key string) bool {
	t.Helper()
	client, err := sdk.New(sdk.Config{Endpoint: i.credentials.Endpoint, AccessKeyID: key, AccessKeySecret: keySecret})
	require.NoError(t, err)
	_, err = client.DescribeDBInstances(t.Context(), gpdb.DescribeDBInstancesRequest{})
	return err == nil
}

func TestUpOnAPostgresOfTheUser(t *testing.T) {
	t.Parallel()
	url := installerURL(t)
	first := startUp(t, dataDir(t), freePorts(t), "DATABASE_URL="+url)
	first.served(first.deploy().ModelServiceId)
	require.Empty(t, first.children("postgres"))
	first.stop()

	out, err := withDatabase(url, append(freePorts(t), "--data-dir", dataDir(t))...).CombinedOutput()
	require.Error(t, err, "another data directory, which does not know the passwords")
	require.Contains(t, string(out), "exists in this Postgres with another password")
	require.NotContains(t, string(out), "installer-password")
}

func withDatabase(url string, args ...string) *exec.Cmd {
	cmd := command(append([]string{"up"}, args...)...)
	cmd.Env = append(cmd.Env, "DATABASE_URL="+url)
	return cmd
}

// installerURL is a database of a role that is no superuser and may create roles.
func installerURL(t *testing.T) string {
	t.Helper()
	binaries, err := embedded.Find(t.Context())
	require.NoError(t, err)
	dir := dataDir(t)
	server, err := embedded.Start(t.Context(), embedded.Config{DataDir: dir, Binaries: binaries, Log: dir + ".log"})
	require.NoError(t, err)
	t.Cleanup(server.Kill)
	admin, err := pgx.Connect(t.Context(), server.URL("postgres"))
	require.NoError(t, err)
	defer func() { _ = admin.Close(context.Background()) }()
	for _, statement := range []string{
		`CREATE ROLE installer LOGIN CREATEROLE PASSWORD 'installer-password'`, `CREATE DATABASE product OWNER installer`,
	} {
		_, err := admin.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	url, err := postgres.WithUser(server.URL("product"), "installer", secret.New("installer-password"))
	require.NoError(t, err)
	return url
}

func TestADirectoryThatCannotBeEnteredIsRefused(t *testing.T) {
	t.Parallel()
	closed := t.TempDir()
	require.NoError(t, os.Chmod(closed, 0))
	out, err := command("up", "--data-dir", filepath.Join(closed, "data")).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), closed)
	require.Contains(t, string(out), "cannot enter")
}
