package process_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/node"
	"github.com/engineshed/engineshed/internal/node/nodetest"
	"github.com/engineshed/engineshed/internal/node/process"
	"github.com/engineshed/engineshed/internal/node/vllm"
	"github.com/engineshed/engineshed/internal/secret"
)

// sim is the stand-in engine, built once.
var sim string

// ensureVariable makes the test binary a worker that calls Ensure once, with what the variable holds.
const ensureVariable = "TEST_WORKER_ENSURES"

func TestMain(m *testing.M) {
	if job := os.Getenv(ensureVariable); job != "" {
		ensureAsWorker(job)
	}
	code := runTests(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "engineshed-process-*")
	if err == nil {
		err = os.Chmod(dir, 0o755) // the engines' user must be able to enter it
	}
	defer os.RemoveAll(dir)
	if err == nil {
		sim, err = nodetest.BuildSim(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

type workerJob struct {
	Command      []string
	Dir          string
	Installation string
	ReplicaID    string
	Args         []string
}

func ensureAsWorker(text string) {
	var job workerJob
	err := json.Unmarshal([]byte(text), &job)
	if err == nil {
		var driver *process.Driver
		driver, err = process.New(process.Config{Command: job.Command, Dir: job.Dir, Installation: job.Installation, Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			fmt.Println("ready")
			_, _ = io.ReadAll(os.Stdin) // go when told to
			err = driver.Ensure(context.Background(), node.Spec{ReplicaID: job.ReplicaID, Generation: 1, Args: job.Args})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// newWorker starts another OS process that calls Ensure when its input is closed.
func newWorker(t *testing.T, job workerJob) (cmd *exec.Cmd, start func()) {
	t.Helper()
	text, err := json.Marshal(job)
	require.NoError(t, err)
	cmd = exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), ensureVariable+"="+string(text))
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, len("ready\n")))
	require.NoError(t, err)
	return cmd, func() { in.Close() }
}

func TestContract(t *testing.T) {
	t.Parallel()
	nodetest.Run(t, newHost)
}

func newHost(t *testing.T) nodetest.Host {
	dirs := map[string]string{}
	h := nodetest.Host{Installation: newInstallation(), Stranger: newInstallation()}
	for _, installation := range []string{h.Installation, h.Stranger} {
		dirs[installation] = newDir(t)
	}
	h.NewDriver = func(installation string) node.Driver {
		return newDriver(t, process.Config{Dir: dirs[installation], Installation: installation})
	}
	h.NewSpec = func(replicaID string) node.Spec { return newSpec(t, replicaID) }
	h.NewBrokenDriver = func() (node.Driver, string) {
		return newDriver(t, process.Config{Command: []string{"no-such-engine"}, Dir: dirs[h.Installation], Installation: h.Installation}),
			`"no-such-engine" cannot be run on this host: install vLLM, or set VLLM_COMMAND`
	}
	h.Crash = func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }
	h.Engines = func(replicaID string) int { return len(engines(t, h.Installation, replicaID)) }
	h.Left = func(replicaID string) []string {
		left, _ := filepath.Glob(filepath.Join(dirs[h.Installation], replicaID+"*"))
		for _, pid := range processes(h.Installation, replicaID) {
			left = append(left, fmt.Sprint("process ", pid))
		}
		return left
	}
	h.CommandLine = func(pid int) string {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return string(line)
	}
	return h
}

func newInstallation() string { return strings.ReplaceAll(ids.New("test"), "-", "") }

// newDir makes a directory that other users may enter, unlike t.TempDir's.
func newDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "engineshed-replicas-*") //nolint:usetesting // the parent of t.TempDir is closed to other users
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o711))
	return dir
}

func newDriver(t *testing.T, c process.Config) *process.Driver {
	t.Helper()
	c.Logger = slog.New(slog.DiscardHandler)
	if c.Command == nil {
		c.Command = []string{sim}
	}
	driver, err := process.New(c)
	require.NoError(t, err)
	return driver
}

func newSpec(t *testing.T, replicaID string) node.Spec {
	t.Helper()
	addr, err := process.FreeAddr("127.0.0.1")
	require.NoError(t, err)
	args, err := vllm.Serve{Model: "test/model", Addr: addr}.Args()
	require.NoError(t, err)
	return node.Spec{ReplicaID: replicaID, Generation: 1, Addr: addr, Args: args, Key: secret.New("key-of-" + replicaID)}
}

// start starts one engine with a driver of its own installation, and removes it when the test ends.
func start(t *testing.T, c process.Config, change func(*node.Spec)) (*process.Driver, node.Spec) {
	t.Helper()
	if c.Dir == "" {
		c.Dir = newDir(t)
	}
	c.Installation = newInstallation()
	driver := newDriver(t, c)
	spec := newSpec(t, ids.New(ids.Replica))
	if change != nil {
		change(&spec)
	}
	t.Cleanup(func() { remove(t, driver, spec.ReplicaID) })
	require.NoError(t, driver.Ensure(t.Context(), spec))
	return driver, spec
}

func await(t *testing.T, driver node.Driver, spec node.Spec, state node.State) (seen node.Observation) {
	t.Helper()
	nodetest.Eventually(t, func() bool {
		var err error
		seen, err = driver.Observe(t.Context(), spec.ReplicaID, spec.Addr)
		require.NoError(t, err)
		return seen.State == state
	}, "not %s; last seen: %+v", state, &seen)
	return seen
}

func remove(t *testing.T, driver node.Driver, replicaID string) {
	t.Helper()
	nodetest.Eventually(t, func() bool {
		done, err := driver.Remove(context.WithoutCancel(t.Context()), replicaID)
		require.NoError(t, err)
		return done
	}, "%s is not removed", replicaID)
}

// processes finds a replica's processes on its own account, so that the driver does not vouch for itself.
func processes(installation, replicaID string) (pids []int) {
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environments {
		environment, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(environment), "ENGINESHED_REPLICA="+installation+"/"+replicaID+"/") {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// engines are the processes of a replica that lead a session.
func engines(t *testing.T, installation, replicaID string) (pids []int) {
	t.Helper()
	for _, pid := range processes(installation, replicaID) {
		if sid, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0); errno == 0 && int(sid) == pid {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestManyWorkerProcessesStartOneEngine(t *testing.T) {
	t.Parallel()
	spec := newSpec(t, ids.New(ids.Replica))
	job := workerJob{Command: []string{sim}, Dir: newDir(t), Installation: newInstallation(), ReplicaID: spec.ReplicaID, Args: spec.Args}
	driver := newDriver(t, process.Config{Dir: job.Dir, Installation: job.Installation})
	t.Cleanup(func() { remove(t, driver, spec.ReplicaID) })
	var workers []*exec.Cmd
	var starts []func()
	for range 6 {
		worker, start := newWorker(t, job)
		workers, starts = append(workers, worker), append(starts, start)
	}
	for _, start := range starts {
		start()
	}
	for _, worker := range workers {
		require.NoError(t, worker.Wait())
	}
	require.Len(t, engines(t, job.Installation, spec.ReplicaID), 1)
	await(t, driver, spec, node.Healthy)
}

func TestWorkerKilledInsideEnsureLeavesAtMostOneEngine(t *testing.T) {
	t.Parallel()
	dir, installation := newDir(t), newInstallation()
	driver := newDriver(t, process.Config{Dir: dir, Installation: installation})
	for i := range 25 {
		spec := newSpec(t, ids.New(ids.Replica))
		job := workerJob{Command: []string{sim}, Dir: dir, Installation: installation, ReplicaID: spec.ReplicaID, Args: spec.Args}
		t.Cleanup(func() { remove(t, driver, spec.ReplicaID) })
		worker, start := newWorker(t, job)
		start()
		delay := time.NewTimer(time.Duration(i) * 300 * time.Microsecond) // the moment of the kill is the point
		<-delay.C
		_ = worker.Process.Kill()
		_ = worker.Wait()
		require.NoError(t, driver.Ensure(t.Context(), spec))
		require.Len(t, engines(t, installation, spec.ReplicaID), 1)
		await(t, driver, spec, node.Healthy)
	}
}

// The kernel holds the lock for the engine: it outlives every worker, and ends with the engine.
func TestEngineHoldsTheLockAsLongAsItLives(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	driver, spec := start(t, process.Config{Dir: dir}, nil)
	seen := await(t, driver, spec, node.Healthy)
	lock, err := os.Open(filepath.Join(dir, spec.ReplicaID, "lock"))
	require.NoError(t, err)
	defer lock.Close()
	take := func() error { return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
	require.ErrorIs(t, take(), syscall.EWOULDBLOCK)
	require.NoError(t, syscall.Kill(seen.PID, syscall.SIGKILL))
	nodetest.Eventually(t, func() bool { return take() == nil }, "the lock outlives the engine")
}

func TestEngineWhoseRecordIsLostIsFoundByItsMarker(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	driver, spec := start(t, process.Config{Dir: dir}, nil)
	before := await(t, driver, spec, node.Healthy)
	require.NoError(t, os.Remove(filepath.Join(dir, spec.ReplicaID, "engine.json")))
	after := await(t, driver, spec, node.Healthy)
	require.Equal(t, before.PID, after.PID)
	require.Equal(t, before.Generation, after.Generation)
	require.WithinDuration(t, before.StartedAt, after.StartedAt, time.Second)
	require.NoError(t, driver.Ensure(t.Context(), spec))
	require.FileExists(t, filepath.Join(dir, spec.ReplicaID, "engine.json"))
}

func TestReusedPidIsNotTheEngine(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	driver, spec := start(t, process.Config{Dir: dir}, nil)
	alive := await(t, driver, spec, node.Healthy)
	require.NoError(t, syscall.Kill(alive.PID, syscall.SIGKILL))
	await(t, driver, spec, node.Exited)

	// The record now names a process that runs and is not the engine.
	path := filepath.Join(dir, spec.ReplicaID, "engine.json")
	record, err := os.ReadFile(path)
	require.NoError(t, err)
	other := exec.CommandContext(t.Context(), "sleep", "600")
	require.NoError(t, other.Start())
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	forged := strings.Replace(string(record), fmt.Sprintf(`"pid":%d`, alive.PID), fmt.Sprintf(`"pid":%d`, other.Process.Pid), 1)
	require.NotEqual(t, string(record), forged)
	require.NoError(t, os.WriteFile(path, []byte(forged), 0o600))

	await(t, driver, spec, node.Exited)
	remove(t, driver, spec.ReplicaID)
	require.NoError(t, other.Process.Signal(syscall.Signal(0)))
}

func TestEndOfAnEngineTellsStatusAndLog(t *testing.T) {
	t.Parallel()
	script := `echo first; printf 'bad \377 byte \033[31m\000\n'; for i in 1 2 3 4 5; do echo line $i; done; exit 3`
	driver, spec := start(t, process.Config{Command: []string{"sh", "-c", script}}, nil)
	seen := await(t, driver, spec, node.Exited)
	require.Equal(t, "the engine ended with status 3: line 5", seen.Reason)
	require.Equal(t, "line 1\nline 2\nline 3\nline 4\nline 5", seen.Log)

	driver, spec = start(t, process.Config{Command: []string{"sh", "-c", "kill -9 $$"}}, nil)
	require.Equal(t, "the engine was ended by signal 9 (killed)", await(t, driver, spec, node.Exited).Reason)

	driver, spec = start(t, process.Config{Command: []string{"sh", "-c", `head -c 100000 /dev/zero | tr '\000' x; printf 'a \377\033[31m\000b\n'`}}, nil)
	seen = await(t, driver, spec, node.Exited)
	require.Less(t, len(seen.Reason), 400)
	require.LessOrEqual(t, len(seen.Log), 2048)
	require.True(t, strings.HasSuffix(seen.Log, "xa [31mb"), seen.Log[len(seen.Log)-20:])
}

func TestAStoppedEngineEndsWithoutTheGracePeriod(t *testing.T) {
	t.Parallel()
	driver, spec := start(t, process.Config{Grace: time.Hour}, nil)
	engine := await(t, driver, spec, node.Healthy)
	require.NoError(t, syscall.Kill(engine.PID, syscall.SIGSTOP))
	remove(t, driver, spec.ReplicaID)
}

func TestALogIsLegibleAndKeepsItsLength(t *testing.T) {
	t.Parallel()
	driver, spec := start(t, process.Config{Command: []string{"sh", "-c", `printf 'bad \377 byte \033[31m\000 gr\303\274n\n'`}}, nil)
	await(t, driver, spec, node.Exited)
	log, err := driver.Log(t.Context(), spec.ReplicaID, 1<<10)
	require.NoError(t, err)
	require.Equal(t, "bad   byte  [31m  grün\n", log.Text)
	require.Equal(t, int64(len(log.Text)), log.Offset)
}

func TestEngineThatRefusesItsFlagsTellsWhy(t *testing.T) {
	t.Parallel()
	driver, spec := start(t, process.Config{}, func(spec *node.Spec) { spec.Args = append(spec.Args, "--no-such-flag=1") })
	require.Contains(t, await(t, driver, spec, node.Exited).Reason, "unrecognized arguments: --no-such-flag=1")
}

func TestLastLogIsKept(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	driver, spec := start(t, process.Config{Command: []string{"sh", "-c", "echo run $RUN"}, Dir: dir}, func(spec *node.Spec) { spec.Env = map[string]string{"RUN": "1"} })
	await(t, driver, spec, node.Exited)
	spec.Env["RUN"] = "2"
	require.NoError(t, driver.Ensure(t.Context(), spec))
	require.Contains(t, await(t, driver, spec, node.Exited).Reason, "run 2")
	last, err := os.ReadFile(filepath.Join(dir, spec.ReplicaID, "engine.log.1"))
	require.NoError(t, err)
	require.Equal(t, "run 1\n", string(last))
}

func TestLogOfARunningEngineIsBounded(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	script := `head -c 17000000 /dev/zero; echo full; read wait < pipe; echo after; sleep 600 & wait`
	driver, spec := start(t, process.Config{Command: []string{"sh", "-c", "mkfifo pipe; " + script}, Dir: dir}, nil)
	log := filepath.Join(dir, spec.ReplicaID, "engine.log")
	size := func() int64 {
		_, err := driver.Observe(t.Context(), spec.ReplicaID, spec.Addr)
		require.NoError(t, err)
		info, err := os.Stat(log)
		require.NoError(t, err)
		return info.Size()
	}
	nodetest.Eventually(t, func() bool {
		last, err := os.Stat(log + ".1")
		return size() < 1<<20 && err == nil && last.Size() > 16<<20
	}, "the log is not cut")
	require.NoError(t, os.WriteFile(filepath.Join(dir, spec.ReplicaID, "home", "pipe"), []byte("go\n"), 0o600))
	nodetest.Eventually(t, func() bool {
		text, _ := os.ReadFile(log)
		return strings.HasSuffix(string(text), "after\n")
	}, "the engine does not append after the cut")
	require.Less(t, size(), int64(1<<20))
}

func TestStubbornEngineIsKilledAfterTheGrace(t *testing.T) {
	t.Parallel()
	// The child does without the marker: only the group reaches it.
	script := `trap '' TERM; env -i sleep 601.5 & echo $! > child; while :; do sleep 600; done`
	dir := newDir(t)
	driver, spec := start(t, process.Config{Command: []string{"sh", "-c", script}, Grace: 300 * time.Millisecond, Dir: dir}, nil)
	var child int
	nodetest.Eventually(t, func() bool {
		text, _ := os.ReadFile(filepath.Join(dir, spec.ReplicaID, "home", "child"))
		child, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return child > 0
	}, "no child")
	began := time.Now()
	done, err := driver.Remove(t.Context(), spec.ReplicaID)
	require.NoError(t, err)
	require.False(t, done)
	require.Equal(t, node.Starting, await(t, driver, spec, node.Starting).State, "it was asked, not killed")
	remove(t, driver, spec.ReplicaID)
	require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
	nodetest.Eventually(t, func() bool { return !runs(child) }, "the child %d runs", child)
}

func runs(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

func TestLeftoversOfAnEndedEngineAreKilled(t *testing.T) {
	t.Parallel()
	// The child inherits the lock, and outlives the engine in a session of its own.
	script := `setsid sleep 602 & sleep 602 & while [ ! -e stop ]; do sleep 0.01; done; exit 1`
	dir := newDir(t)
	driver, spec := start(t, process.Config{Command: []string{"sh", "-c", script}, Dir: dir}, nil)
	stop := filepath.Join(dir, spec.ReplicaID, "home", "stop")
	require.NoError(t, os.WriteFile(stop, nil, 0o600))
	await(t, driver, spec, node.Exited)
	found, err := driver.List(t.Context())
	require.NoError(t, err)
	require.Len(t, found, 1, "what an engine leaves running is listed")
	old := found[0].PID

	require.NoError(t, os.Remove(stop))
	spec.Generation++
	require.NoError(t, driver.Ensure(t.Context(), spec))
	nodetest.Eventually(t, func() bool { return !runs(old) }, "the leftover %d runs", old)
	require.Equal(t, int64(2), await(t, driver, spec, node.Starting).Generation)
	require.NoError(t, os.WriteFile(stop, nil, 0o600))
	await(t, driver, spec, node.Exited)
	remove(t, driver, spec.ReplicaID)
}

func TestBusyEngineIsNotDead(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	driver, spec := start(t, process.Config{Dir: dir}, nil)
	seen := await(t, driver, spec, node.Healthy)
	require.NoError(t, syscall.Kill(seen.PID, syscall.SIGSTOP)) // it answers nothing any more
	found, err := driver.List(t.Context())
	require.NoError(t, err)
	require.Len(t, found, 1)
	fresh, err := driver.Observe(t.Context(), spec.ReplicaID, spec.Addr)
	require.NoError(t, err)
	require.Equal(t, node.Healthy, fresh.State)
	require.NoError(t, syscall.Kill(seen.PID, syscall.SIGCONT))
}

func TestHealthIsRememberedAcrossWorkers(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	spec := h.NewSpec(ids.New(ids.Replica))
	first := h.NewDriver(h.Installation)
	t.Cleanup(func() { remove(t, first, spec.ReplicaID) })
	require.NoError(t, first.Ensure(t.Context(), spec))
	seen := await(t, first, spec, node.Healthy)
	require.NoError(t, syscall.Kill(seen.PID, syscall.SIGSTOP))
	after, err := h.NewDriver(h.Installation).Observe(t.Context(), spec.ReplicaID, spec.Addr)
	require.NoError(t, err)
	require.Equal(t, seen, after)
	require.NoError(t, syscall.Kill(seen.PID, syscall.SIGCONT))
}

func TestStartingUntilThePortOpens(t *testing.T) {
	t.Parallel()
	driver, spec := start(t, process.Config{Command: []string{sim, "--sim-startup-delay=10m"}}, nil)
	seen, err := driver.Observe(t.Context(), spec.ReplicaID, spec.Addr)
	require.NoError(t, err)
	require.Equal(t, node.Starting, seen.State)
	require.Positive(t, seen.PID)
}

func TestAnswerOfAnotherEngineIsNotHealth(t *testing.T) {
	t.Parallel()
	first, taken := start(t, process.Config{}, nil)
	await(t, first, taken, node.Healthy)
	second, spec := start(t, process.Config{Command: []string{sim, "--sim-startup-delay=10m"}}, func(spec *node.Spec) { spec.Addr = taken.Addr })
	seen, err := second.Observe(t.Context(), spec.ReplicaID, spec.Addr)
	require.NoError(t, err)
	require.Equal(t, node.Starting, seen.State)
}

func TestEngineKnowsNothingButItsOwn(t *testing.T) {
	dir := newDir(t)
	t.Setenv("DATABASE_URL", "postgres://canary")
	t.Setenv("HF_HOME", "")
	t.Setenv("HF_ENDPOINT", "http://mirror.example")
	models := filepath.Join(dir, "models")
	driver, spec := start(t, process.Config{Dir: dir, Models: models}, func(spec *node.Spec) {
		spec.Env = map[string]string{"CUDA_VISIBLE_DEVICES": "0,1", "ENGINESHED_REPLICA": "forged/x/1"}
	})
	seen := await(t, driver, spec, node.Healthy)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", seen.PID))
	require.NoError(t, err)
	got := map[string]string{}
	for variable := range strings.SplitSeq(strings.TrimRight(string(text), "\x00"), "\x00") {
		key, value, _ := strings.Cut(variable, "=")
		got[key] = value
	}
	home := filepath.Join(dir, spec.ReplicaID, "home")
	require.Equal(t, os.Getenv("PATH"), got["PATH"])
	require.Equal(t, home, got["HOME"])
	require.Equal(t, "0,1", got["CUDA_VISIBLE_DEVICES"])
	require.Equal(t, spec.Key.Reveal(), got["VLLM_API_KEY"])
	require.True(t, strings.HasSuffix(got["ENGINESHED_REPLICA"], "/"+spec.ReplicaID+"/1"), got["ENGINESHED_REPLICA"])
	require.NotContains(t, got, "DATABASE_URL")
	require.Equal(t, models, got["HF_HOME"], "engines share the files of models")
	require.Equal(t, "http://mirror.example", got["HF_ENDPOINT"])

	var process, directory syscall.Stat_t
	require.NoError(t, syscall.Stat(fmt.Sprintf("/proc/%d", seen.PID), &process))
	require.NotZero(t, process.Uid, "engines never run as root")
	require.NoError(t, syscall.Stat(home, &directory))
	require.Equal(t, process.Uid, directory.Uid)
	require.NoError(t, syscall.Stat(models, &directory))
	require.Equal(t, process.Uid, directory.Uid)
	require.NoError(t, syscall.Stat(filepath.Dir(home), &directory))
	require.Equal(t, os.Geteuid(), int(directory.Uid), "the records are the worker's")
}

func TestNewCollectsItsComplaints(t *testing.T) {
	t.Parallel()
	_, err := process.New(process.Config{Dir: newDir(t), Installation: "a/b", User: "no-such-user"})
	require.ErrorContains(t, err, "no engine command")
	require.ErrorContains(t, err, `installation "a/b"`)
	require.ErrorContains(t, err, "no-such-user does not exist")
}

func TestReplicaIDsStayInTheirDirectory(t *testing.T) {
	t.Parallel()
	driver := newDriver(t, process.Config{Dir: newDir(t), Installation: newInstallation()})
	for _, id := range []string{"", ".", "..", "../x", "a/b", "a\x00b"} {
		spec := newSpec(t, id)
		require.Error(t, driver.Ensure(t.Context(), spec), "%q", id)
		done, err := driver.Remove(t.Context(), id)
		require.NoError(t, err)
		require.True(t, done)
		seen, err := driver.Observe(t.Context(), id, spec.Addr)
		require.NoError(t, err)
		require.Equal(t, node.Absent, seen.State)
	}
}
