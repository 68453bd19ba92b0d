package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// installed is an installation that `engineshed up` runs.
type installed struct {
	*shed
	up          *process
	addresses   []string
	Endpoint    string `json:"endpoint"`
	Gateway     string `json:"gateway"`
	AccountID   string `json:"accountId"`
	AccessKeyID string `json:"accessKeyId"`
	Secret      string `json:"accessKeySecret"`
	Region      string `json:"regionId"`
	Instance    string `json:"dbInstanceId"`
}

func newInstalled(t *testing.T) *installed {
	t.Helper()
	dir, err := os.MkdirTemp("", "up-") //nolint:usetesting // Postgres and engines run as other users: t.TempDir's parent is closed to them
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // Postgres and engines enter it as other users
	t.Cleanup(func() { os.RemoveAll(dir) })
	i := &installed{shed: &shed{t: t, dir: dir}}
	for range 3 {
		i.addresses = append(i.addresses, freeAddr(t))
	}
	t.Cleanup(i.endEngines)
	return i
}

// start runs `up` until it has written credentials.json.
func (i *installed) start(flags ...string) {
	i.t.Helper()
	credentials := i.path("credentials.json")
	require.NoError(i.t, os.RemoveAll(credentials))
	i.up = start(i.t, []string{"DATABASE_URL=", "VLLM_COMMAND="}, "engineshed", append([]string{
		"up", "--data-dir", i.dir, "--api-addr", i.addresses[0], "--gateway-addr", i.addresses[1], "--public-addr", i.addresses[2],
	}, flags...)...)
	eventually(i.t, 60*time.Second, "up is ready", func() bool {
		select {
		case <-i.up.done:
			require.FailNow(i.t, "up ended", "%v\n%s", i.up.err, i.up.log)
		default:
		}
		text, err := os.ReadFile(credentials)
		return err == nil && json.Unmarshal(text, i) == nil
	})
	info, err := os.Stat(credentials)
	require.NoError(i.t, err)
	require.Equal(i.t, os.FileMode(0o600), info.Mode().Perm())
}

func (i *installed) client(t *testing.T) caller {
	t.Helper()
	endpoint, err := url.Parse(i.Endpoint)
	require.NoError(t, err)
	return newDarabonba(t, endpoint.Host, credentials{i.AccessKeyID, i.Secret})
}

func TestUpKeepsItsServicesOverKillsAndRestarts(t *testing.T) {
	t.Parallel()
	i := newInstalled(t)
	i.start()
	i.installation = i.marker()
	c := i.client(t)
	nodes := nodesOf(t, c, i.Instance)
	require.Len(t, nodes, 4, "simulated nodes of the first start")
	service := deploy(t, c, i.Instance, nodes[:2]...)
	before := waitActive(t, c, i.Instance, service, 20*time.Second)
	i.installation = i.marker()
	engines := i.pids()
	require.Len(t, engines, 2)
	said := i.mustChat(before)

	same := func() {
		t.Helper()
		after := waitActive(t, i.client(t), i.Instance, service, 30*time.Second)
		for _, field := range []string{"ApiKey", "PrivateConnectUrl", "CreateTime", "ModelName", "AiNodes"} {
			require.Equal(t, before[field], after[field], field)
		}
		require.Equal(t, said, i.mustChat(after))
	}
	// A crash of everything but the engines: the next start adopts them.
	i.up.kill()
	require.Equal(t, engines, i.pids())
	i.start()
	same()
	require.Equal(t, engines, i.pids())

	// The children alone are killed: up starts them again.
	for _, name := range []string{"controlplane", "gateway"} {
		require.NoError(t, syscall.Kill(childOf(t, i.up.cmd.Process.Pid, name), syscall.SIGKILL))
	}
	eventually(t, 20*time.Second, "the control plane is back", func() bool {
		_, err := c.call("ListSupportModels", nil)
		return err == nil
	})
	same()

	// Left in order, with the engines and then without.
	i.up.stop()
	i.expectEngines(time.Second, 0)
	i.start()
	same()
	require.NotEqual(t, engines, i.pids())
	i.up.stop()
	i.expectEngines(time.Second, 0)
	i.start("--detach-replicas")
	same()
	engines = i.pids()
	i.up.stop()
	require.Equal(t, engines, i.pids())
	i.start()
	same()
	require.Equal(t, engines, i.pids())

	_, err := i.client(t).call("DeleteModelService", map[string]string{"DBInstanceId": i.Instance, "ModelServiceId": service})
	require.NoError(t, err)
	i.expectEngines(20*time.Second, 0)
	i.up.stop()
}

// mustChat waits for the gateway to answer for the service.
func (i *installed) mustChat(described answer) (said string) {
	i.t.Helper()
	eventually(i.t, 10*time.Second, "an answer over the gateway", func() bool {
		var err error
		said, err = chat(i.t.Context(), described.text("PrivateConnectUrl"), described.text("ApiKey"), "hello", true)
		return err == nil
	})
	return said
}

// marker finds the installation's id in an engine's environment; "" while none runs below this data directory.
func (i *installed) marker() string {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environs {
		environ, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(environ), i.dir) {
			continue
		}
		for _, variable := range strings.Split(string(environ), "\x00") {
			if marker, ok := strings.CutPrefix(variable, "ENGINESHED_REPLICA="); ok {
				installation, _, _ := strings.Cut(marker, "/")
				return installation
			}
		}
	}
	return ""
}

// childOf returns the child process with the name.
func childOf(t *testing.T, parent int, name string) int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var fields struct{ pid, ppid int }
		before, after, _ := strings.Cut(string(stat), ") ")
		pid, command, _ := strings.Cut(before, " (")
		rest := strings.Fields(after)
		if len(rest) < 2 || command != name {
			continue
		}
		_ = json.Unmarshal([]byte(pid), &fields.pid)
		_ = json.Unmarshal([]byte(rest[1]), &fields.ppid)
		if fields.ppid == parent {
			return fields.pid
		}
	}
	require.FailNow(t, "no child "+name)
	return 0
}

func TestASecondUpOfOneDataDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	i := newInstalled(t)
	i.start()
	second := start(t, []string{"DATABASE_URL="}, "engineshed", "up", "--data-dir", i.dir,
		"--api-addr", "127.0.0.1:0", "--gateway-addr", "127.0.0.1:0", "--public-addr", "127.0.0.1:0")
	eventually(t, 10*time.Second, "the second up ends", func() bool {
		select {
		case <-second.done:
			return true
		default:
			return false
		}
	})
	require.Error(t, second.err)
	require.Contains(t, second.log.String(), i.dir)
}

// What `up` prints is what a newcomer types.
func TestTheCommandsThatUpPrintsWork(t *testing.T) {
	t.Parallel()
	i := newInstalled(t)
	i.start()
	i.installation = i.marker()
	eventually(t, 5*time.Second, "up says what to try", func() bool { return strings.Contains(i.up.log.String(), "Ctrl-C stops everything") })
	_, text, _ := strings.Cut(i.up.log.String(), "Try in another terminal:\n")
	tries := strings.Split(text, "\n")
	require.Greater(t, len(tries), 3)
	shell := func(line string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", line)
		cmd.Dir = ".."
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", line, out)
		return string(out)
	}

	created := shell(tries[0])
	service, key := field(t, created, "Model service"), field(t, created, "ApiKey")
	words := strings.Fields(strings.NewReplacer("MODEL_SERVICE_ID", service, "API_KEY", key).Replace(tries[1]))
	require.Equal(t, "curl", words[0]) // asked by other means: not every machine has it
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, words[1], http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+strings.TrimSuffix(words[len(words)-1], "'"))
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Contains(t, shell(tries[2]), "simulated")
	shell(strings.Fields(tries[0])[0] + " model-service delete " + service + " --data-dir " + i.dir)
	i.up.stop()
}

// field finds "NAME   VALUE" in what the CLI prints for people.
func field(t *testing.T, text, name string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	require.FailNow(t, "no "+name, text)
	return ""
}

func TestADemoWhoseReaderLeavesStillCleansUp(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "demo-") //nolint:usetesting // Postgres and engines run as other users: t.TempDir's parent is closed to them
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // Postgres and engines enter it as other users
	t.Cleanup(func() { os.RemoveAll(dir) })
	i := &installed{shed: &shed{t: t, dir: dir}}
	t.Cleanup(i.endEngines)
	read, write, err := os.Pipe()
	require.NoError(t, err)
	demo := exec.CommandContext(t.Context(), filepath.Join(binaries, "engineshed"), "demo", "--data-dir", dir)
	demo.Stdout, demo.Stderr = write, write
	require.NoError(t, demo.Start())
	write.Close()
	eventually(t, 60*time.Second, "an engine runs", func() bool { i.installation = i.marker(); return i.installation != "" })
	read.Close()
	_ = demo.Wait() // it may say that it could not print
	i.expectEngines(time.Second, 0)
}
