package embedded

import (
	"bufio"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// childDir makes TestMain run a server on that folder, to be killed.
const childDir = "EMBEDDED_TEST_DATA_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		serveForEver(dir)
	}
	os.Exit(m.Run())
}

func serveForEver(dir string) {
	binaries, err := Find(context.Background())
	if err == nil {
		var server *Server
		if server, err = Start(context.Background(), testConfig(dir, binaries)); err == nil {
			fmt.Println(server.PID())
			select {}
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

func TestDataSurviveARestart(t *testing.T) {
	t.Parallel()
	config := testConfig(enterable(t), binaries(t))
	server := start(t, config)
	require.NoError(t, server.EnsureDatabase(t.Context(), "kept"))
	require.NoError(t, server.EnsureDatabase(t.Context(), "kept"))
	require.NoError(t, server.Stop(t.Context()))

	server = start(t, config)
	require.Equal(t, "kept", query(t, server.URL("kept"), `SELECT current_database()`))
	require.Empty(t, query(t, server.URL("kept"), `SHOW listen_addresses`))
	require.Equal(t, "on on", query(t, server.URL("kept"),
		`SELECT current_setting('fsync') || ' ' || current_setting('synchronous_commit')`))
}

func TestNobodyElseGetsIn(t *testing.T) {
	t.Parallel()
	server := start(t, testConfig(enterable(t), binaries(t)))
	for path, mode := range map[string]os.FileMode{
		server.config.DataDir: 0o700, server.config.DataDir + ".password": 0o600, server.config.SocketDir: 0o700,
	} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), path)
	}
	wrong, err := url.Parse(server.URL("postgres"))
	require.NoError(t, err)
	wrong.User = url.UserPassword(Superuser, "wrong")
	_, err = pgx.Connect(t.Context(), wrong.String())
	require.ErrorContains(t, err, "password authentication failed")
}

func TestAKilledServerRecovers(t *testing.T) {
	t.Parallel()
	config := testConfig(enterable(t), binaries(t))
	server := start(t, config)
	require.NoError(t, server.EnsureDatabase(t.Context(), "kept"))
	server.Kill()
	require.Equal(t, "kept", query(t, start(t, config).URL("kept"), `SELECT current_database()`))
}

func TestAServerEndsWithItsParent(t *testing.T) {
	t.Parallel()
	parent, pid := startInChild(t, enterable(t))
	require.NoError(t, parent.Process.Kill())
	require.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil }, 10*time.Second, 10*time.Millisecond)
}

func TestTheServerOfAKilledParentIsReplaced(t *testing.T) {
	t.Parallel()
	dir := enterable(t)
	parent, _ := startInChild(t, dir)
	require.NoError(t, parent.Process.Kill())
	start(t, testConfig(dir, binaries(t))) // at once, while the old one may still be stopping
}

func TestAServerThatNobodyStoppedIsReplaced(t *testing.T) {
	t.Parallel()
	dir := enterable(t)
	_, pid := startInChild(t, dir)
	server := start(t, testConfig(dir, binaries(t)))
	require.NotEqual(t, pid, server.PID())
	require.Error(t, syscall.Kill(pid, 0))
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	config := testConfig(enterable(t), binaries(t))
	config.Settings = []string{"no_such_setting=1"}
	_, err := Start(t.Context(), config)
	require.ErrorContains(t, err, "no_such_setting")
}

func TestDataOfAnotherMajorVersionAreRefused(t *testing.T) {
	t.Parallel()
	config := testConfig(enterable(t), binaries(t))
	require.NoError(t, os.Mkdir(config.DataDir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(config.DataDir, "PG_VERSION"), []byte("9\n"), 0o600))
	_, err := Start(t.Context(), config)
	require.ErrorContains(t, err, "written by Postgres 9")
	require.ErrorContains(t, err, "pg_upgrade")
}

func TestAFolderThatPostgresCannotEnterIsRefused(t *testing.T) {
	t.Parallel()
	closed := t.TempDir()
	require.NoError(t, os.Chmod(closed, 0o700))
	stranger := User{Name: "stranger", UID: 4_000_000, GID: 4_000_000}
	err := stranger.CanEnter(filepath.Join(closed, "not", "there", "yet"))
	require.ErrorContains(t, err, closed)
	require.ErrorContains(t, err, "chmod o+x")
	require.NoError(t, stranger.CanEnter(os.TempDir()))
}

func TestALongPathHasItsSocketInTheTemporaryFolder(t *testing.T) {
	t.Parallel()
	long := filepath.Join(enterable(t), strings.Repeat("long", 30))
	require.NoError(t, os.Mkdir(long, 0o711))
	server := start(t, testConfig(long, binaries(t)))
	t.Cleanup(func() { os.RemoveAll(server.config.SocketDir) })
	require.True(t, strings.HasPrefix(server.config.SocketDir, os.TempDir()))
}

func TestASocketFolderOfSomebodyElseIsRefused(t *testing.T) {
	t.Parallel()
	config := testConfig(enterable(t), binaries(t))
	require.NoError(t, os.Mkdir(filepath.Join(filepath.Dir(config.DataDir), "run"), 0o700))
	require.NoError(t, os.Chmod(filepath.Join(filepath.Dir(config.DataDir), "run"), 0o777))
	_, err := Start(t.Context(), config)
	require.ErrorContains(t, err, "mode 0700")
}

func testConfig(dir, binaries string) Config {
	return Config{DataDir: filepath.Join(dir, "data"), Binaries: binaries, Log: filepath.Join(dir, "log")}
}

// enterable is a folder that the server's user can enter, which t.TempDir is not when the test runs as root.
func enterable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "embedded-") //nolint:usetesting // see above
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func binaries(t *testing.T) string {
	t.Helper()
	dir, err := Find(t.Context())
	require.NoError(t, err)
	return dir
}

func start(t *testing.T, config Config) *Server {
	t.Helper()
	server, err := Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(server.Kill)
	return server
}

// startInChild runs a server under a process that can be killed.
func startInChild(t *testing.T, dir string) (*exec.Cmd, int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err, line)
	return cmd, pid
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	var value string
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&value))
	return value
}
