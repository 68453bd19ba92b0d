package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
)

func TestComplaintsComeTogether(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), []string{
		"--addr", "0.0.0.0:0", "--allow-upstream", "anywhere", "--otlp-endpoint", "collector",
		"--max-queue", "-1", "--max-body-memory", "1", "--body-idle-timeout", "-1s",
	}, func(string) string { return "" }, io.Discard)
	require.ErrorContains(t, err, "GATEWAY_DATABASE_URL")
	require.ErrorContains(t, err, "--snapshot-key-file")
	require.ErrorContains(t, err, "--insecure")
	require.ErrorContains(t, err, "--allow-upstream")
	require.ErrorContains(t, err, "--otlp-endpoint")
	require.ErrorContains(t, err, "--max-queue")
	require.ErrorContains(t, err, "--max-body-memory")
	require.ErrorContains(t, err, "--body-idle-timeout")
}

func TestVariableOfTheWrongKindIsNamed(t *testing.T) {
	t.Parallel()
	getenv := func(name string) string { return map[string]string{"ENGINESHED_DRAIN_TIMEOUT": "soon"}[name] }
	require.ErrorContains(t, run(t.Context(), nil, getenv, io.Discard), "ENGINESHED_DRAIN_TIMEOUT")
}

// Not parallel: the limit is the process's.
func TestBodiesMayTakeAQuarterOfTheMemory(t *testing.T) {
	before := debug.SetMemoryLimit(1 << 30)
	defer debug.SetMemoryLimit(before)
	require.EqualValues(t, 256<<20, bodyMemory(10<<20))
	require.EqualValues(t, 512<<20, bodyMemory(512<<20), "one has room in any case")
	debug.SetMemoryLimit(math.MaxInt64)
	require.Greater(t, bodyMemory(1), int64(16<<20), "of what the machine has")
}

func TestHelpNamesTheFlags(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"--help"}, func(string) string { return "" }, &out))
	require.Contains(t, out.String(), "--snapshot-key-file")
}

func TestSIGTERMEndsTheProgramCleanly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "snapshot.key")
	require.NoError(t, secret.CreateKeyFile(keyFile))
	binary := filepath.Join(dir, "gateway")
	built, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", built)
	cmd := exec.CommandContext(t.Context(), binary, "--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
	cmd.Env = append(cmd.Environ(), "GATEWAY_DATABASE_URL="+pgtest.New(t).GatewayURL,
		"ENGINESHED_SNAPSHOT_KEY_FILE="+keyFile, "ENGINESHED_DATA_DIR="+filepath.Join(dir, "data"))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())

	var listening struct{ Msg, Addr, AdminAddr string }
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	require.NoError(t, json.Unmarshal(lines.Bytes(), &listening))
	require.Equal(t, "gateway listening", listening.Msg)
	status := func(url string) int {
		resp, err := http.Get(url) //nolint:noctx // the test's own deadline does
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	require.Eventually(t, func() bool { return status("http://"+listening.AdminAddr+"/readyz") == 200 }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, 404, status("http://"+listening.Addr+"/"))

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	var last string
	for lines.Scan() {
		last = lines.Text()
	}
	require.NoError(t, cmd.Wait(), last)
	require.Contains(t, last, "gateway draining")
}
