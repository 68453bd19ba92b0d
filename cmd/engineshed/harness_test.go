package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/up"
	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

// How long tests wait for a condition, and how often they look.
const (
	patience = 60 * time.Second
	interval = 20 * time.Millisecond
)

// programs is the folder of the built programs.
var programs string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "engineshed-programs-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	out, err := exec.Command("go", "build", "-o", dir, "../...").CombinedOutput()
	if err != nil {
		panic(string(out))
	}
	programs = dir
	return m.Run()
}

// command prepares a verb. The environment is the test's own, less what would steer it.
func command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(programs, "engineshed"), args...)
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "ENGINESHED_") && name != "DATABASE_URL" && name != "VLLM_COMMAND" {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd
}

// dataDir is a folder that Postgres and the engines can enter, which t.TempDir is not when the test runs as root.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "engineshed-test-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o711))
	return filepath.Join(dir, "data")
}

// output collects what a process prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// installation is a running `engineshed up`.
type installation struct {
	t           *testing.T
	dir         string
	marker      string
	cmd         *exec.Cmd
	out         *output
	ended       chan struct{}
	credentials up.Credentials
	client      *sdk.Client
}

// startUp starts `engineshed up` and returns when it says that it is ready.
func startUp(t *testing.T, dir string, args []string, env ...string) *installation {
	t.Helper()
	i := launchUp(t, dir, args, env...)
	i.await("up is ready", func() bool { return strings.Contains(i.out.String(), "Ctrl-C stops everything.") })
	text, err := os.ReadFile(filepath.Join(dir, "credentials.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &i.credentials))
	i.client, err = sdk.New(sdk.Config{
		Endpoint: i.credentials.Endpoint, AccessKeyID: i.credentials.AccessKeyID, AccessKeySecret: i.credentials.AccessKeySecret,
	})
	require.NoError(t, err)
	return i
}

func launchUp(t *testing.T, dir string, args []string, env ...string) *installation {
	t.Helper()
	i := &installation{t: t, dir: dir, out: &output{}, ended: make(chan struct{})}
	i.cmd = command(append([]string{"up", "--data-dir", dir}, args...)...)
	i.cmd.Env = append(i.cmd.Env, env...)
	i.cmd.Stdout, i.cmd.Stderr = i.out, i.out
	require.NoError(t, i.cmd.Start())
	go func() {
		_ = i.cmd.Wait()
		close(i.ended)
	}()
	t.Cleanup(i.stop)
	return i
}

// freePorts are the flags for an installation beside others.
func freePorts(t *testing.T) []string {
	t.Helper()
	flags := []string{"--api-addr", "--gateway-addr", "--public-addr"}
	addrs, err := up.FreeAddrs(len(flags))
	require.NoError(t, err)
	var args []string
	for n, flag := range flags {
		args = append(args, flag, addrs[n])
	}
	return args
}

// stop ends up as Ctrl-C does, and waits for it.
func (i *installation) stop() {
	_ = i.cmd.Process.Signal(syscall.SIGTERM)
	i.await("up has ended", func() bool {
		select {
		case <-i.ended:
			return true
		default:
			return false
		}
	})
}

func (i *installation) kill() {
	require.NoError(i.t, i.cmd.Process.Kill())
	<-i.ended
}

func (i *installation) await(what string, done func() bool) {
	i.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(interval) {
		if time.Now().After(deadline) {
			i.t.Fatalf("not within %s: %s\n%s", patience, what, i.out)
		}
	}
}

// deploy makes a service on one node and waits until the gateway serves it.
func (i *installation) deploy() *gpdb.DescribeModelServiceResponse {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), patience)
	defer cancel()
	nodes, err := i.client.FreeAINodes(ctx, i.credentials.DBInstanceID, 1)
	require.NoError(i.t, err)
	created, err := i.client.CreateModelService(ctx, gpdb.CreateModelServiceRequest{
		DBInstanceId: i.credentials.DBInstanceID, ModelName: "Qwen3-0.6B", AiNodes: nodes,
	})
	require.NoError(i.t, err)
	return i.served(created.ModelServiceId)
}

// served waits until the service is active and answers.
func (i *installation) served(id string) *gpdb.DescribeModelServiceResponse {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), patience)
	defer cancel()
	var service *gpdb.DescribeModelServiceResponse
	i.await("the service is active", func() bool {
		var err error
		service, err = i.client.DescribeModelService(ctx, gpdb.DescribeModelServiceRequest{
			DBInstanceId: i.credentials.DBInstanceID, ModelServiceId: id,
		})
		return err == nil && service.Status == gpdb.Active
	})
	i.await("the service answers", func() bool { return i.answers(service) })
	return service
}

func (i *installation) answers(service *gpdb.DescribeModelServiceResponse) bool {
	request, err := http.NewRequestWithContext(i.t.Context(), http.MethodGet, service.PrivateConnectUrl+"/models", nil)
	require.NoError(i.t, err)
	request.Header.Set("Authorization", "Bearer "+service.ApiKey)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// engines are the engines of an installation, by the marker in their environment. It needs the installation to run.
func (i *installation) engines() []int {
	i.t.Helper()
	if i.marker == "" {
		password, err := os.ReadFile(filepath.Join(i.dir, "postgres.password"))
		require.NoError(i.t, err)
		conn, err := pgx.Connect(i.t.Context(), "host="+filepath.Join(i.dir, "run")+" user=postgres dbname=engineshed password="+string(password))
		require.NoError(i.t, err)
		defer func() { _ = conn.Close(context.Background()) }()
		var id string
		require.NoError(i.t, conn.QueryRow(i.t.Context(), `SELECT id FROM installation`).Scan(&id))
		i.marker = "ENGINESHED_REPLICA=" + id + "/"
	}
	return pidsWhose(i.t, "environ", i.marker)
}

// children are the processes of up with the name that work on its data directory.
func (i *installation) children(name string) []int {
	i.t.Helper()
	return pidsWhose(i.t, "cmdline", name+"\x00", i.dir+"/")
}

// pidsWhose are the processes whose file in /proc holds every word.
func pidsWhose(t *testing.T, file string, words ...string) []int {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/" + file)
	require.NoError(t, err)
	var pids []int
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended, or is another user's
		}
		if !slices.ContainsFunc(words, func(word string) bool { return !bytes.Contains(text, []byte(word)) }) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}
