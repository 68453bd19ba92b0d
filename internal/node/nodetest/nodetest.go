// Package nodetest is the contract of node.Driver as a test suite; every driver passes it.
package nodetest

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/node"
	"github.com/engineshed/engineshed/internal/secret"
)

// Host is a place where a driver runs engines, as the suite needs it. One test, one Host.
type Host struct {
	// Installation and Stranger are two installations that share the host.
	Installation, Stranger string
	// NewDriver returns a driver that knows nothing, as that of a worker that has just started.
	NewDriver func(installation string) node.Driver
	// NewSpec returns an engine that becomes healthy soon. It runs until it is told to end.
	NewSpec func(replicaID string) node.Spec
	// NewBrokenDriver returns a driver of Installation whose engines cannot be started, and a text that its
	// complaint must hold.
	NewBrokenDriver func() (node.Driver, string)
	// Crash ends the engine with this pid as a crash does.
	Crash func(pid int) error
	// Engines counts the engines of a replica that run, by other means than the driver's.
	Engines func(replicaID string) int
	// Left names what is left of a replica on the host: processes and files.
	Left func(replicaID string) []string
	// CommandLine is what other users of the host see of the engine with this pid.
	CommandLine func(pid int) string
}

// BuildSim builds the stand-in engine into dir and returns its path.
func BuildSim(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "vllm-sim")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/engineshed/engineshed/cmd/vllm-sim").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build vllm-sim: %w\n%s", err, out)
	}
	return path, nil
}

const deadline = 15 * time.Second

// Run runs the suite; newHost is called once per test.
func Run(t *testing.T, newHost func(t *testing.T) Host) {
	for name, test := range map[string]func(*testing.T, Host){
		"an unknown replica is absent and its removal done": unknownReplica,
		"an engine becomes healthy":                         becomesHealthy,
		"ensured twice it is one engine":                    ensuredTwice,
		"ensured at once by many workers it is one engine":  ensuredAtOnce,
		"a fresh driver adopts the engine":                  adopted,
		"a crashed engine has exited, with a reason":        crashed,
		"a crashed engine is started again":                 startedAgain,
		"removal leaves nothing behind":                     removal,
		"a removed replica can come back":                   comesBack,
		"removal while others ensure leaves one or none":    removalRace,
		"every engine is listed":                            listed,
		"another installation is left alone":                stranger,
		"an engine that cannot be started is an error":      broken,
		"the key is in no command line":                     keyHidden,
		"what an engine prints can be read":                 logged,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newHost(t))
		})
	}
}

func unknownReplica(t *testing.T, h Host) {
	driver := h.NewDriver(h.Installation)
	id := ids.New(ids.Replica)
	seen, err := driver.Observe(t.Context(), id, "127.0.0.1:1")
	require.NoError(t, err)
	require.Equal(t, node.Observation{State: node.Absent}, seen)
	done, err := driver.Remove(t.Context(), id)
	require.NoError(t, err)
	require.True(t, done)
	require.Empty(t, h.Left(id))
}

func becomesHealthy(t *testing.T, h Host) {
	driver, spec := h.NewDriver(h.Installation), newSpec(t, h)
	spec.Generation = 7
	before := time.Now().Add(-time.Second)
	require.NoError(t, driver.Ensure(t.Context(), spec))
	seen := await(t, driver, spec, node.Healthy)
	require.Equal(t, int64(7), seen.Generation)
	require.Positive(t, seen.PID)
	require.WithinRange(t, seen.StartedAt, before, time.Now().Add(time.Second))
	require.Empty(t, seen.Reason)
}

func ensuredTwice(t *testing.T, h Host) {
	driver, spec := h.NewDriver(h.Installation), newSpec(t, h)
	require.NoError(t, driver.Ensure(t.Context(), spec))
	first := await(t, driver, spec, node.Healthy)
	spec.Generation++
	require.NoError(t, driver.Ensure(t.Context(), spec))
	second := await(t, driver, spec, node.Healthy)
	require.Equal(t, first, second)
	require.Equal(t, 1, h.Engines(spec.ReplicaID))
}

func ensuredAtOnce(t *testing.T, h Host) {
	spec := newSpec(t, h)
	const workers = 8
	drivers := make([]node.Driver, workers)
	for i := range drivers {
		drivers[i] = h.NewDriver(h.Installation)
	}
	errs := make([]error, workers)
	atOnce(workers, func(i int) {
		spec := spec
		spec.Generation = int64(i + 1)
		errs[i] = drivers[i].Ensure(t.Context(), spec)
	})
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, 1, h.Engines(spec.ReplicaID))
	first := await(t, drivers[0], spec, node.Healthy)
	for _, driver := range drivers {
		require.Equal(t, first, await(t, driver, spec, node.Healthy))
	}
}

func adopted(t *testing.T, h Host) {
	spec := newSpec(t, h)
	driver := h.NewDriver(h.Installation)
	require.NoError(t, driver.Ensure(t.Context(), spec))
	first := await(t, driver, spec, node.Healthy)
	fresh := h.NewDriver(h.Installation)
	require.NoError(t, fresh.Ensure(t.Context(), spec))
	require.Equal(t, first, await(t, fresh, spec, node.Healthy))
	require.Equal(t, 1, h.Engines(spec.ReplicaID))
	remove(t, h.NewDriver(h.Installation), spec.ReplicaID)
	require.Empty(t, h.Left(spec.ReplicaID))
}

func crashed(t *testing.T, h Host) {
	driver, spec := h.NewDriver(h.Installation), newSpec(t, h)
	spec.Generation = 3
	require.NoError(t, driver.Ensure(t.Context(), spec))
	alive := await(t, driver, spec, node.Healthy)
	require.NoError(t, h.Crash(alive.PID))
	for _, driver := range []node.Driver{driver, h.NewDriver(h.Installation)} {
		seen := await(t, driver, spec, node.Exited)
		require.NotEmpty(t, seen.Reason)
		require.Equal(t, int64(3), seen.Generation)
		require.Zero(t, seen.PID)
		require.Equal(t, alive.StartedAt, seen.StartedAt)
	}
	require.Zero(t, h.Engines(spec.ReplicaID))
	remove(t, driver, spec.ReplicaID)
	require.Empty(t, h.Left(spec.ReplicaID))
}

func startedAgain(t *testing.T, h Host) {
	driver, spec := h.NewDriver(h.Installation), newSpec(t, h)
	require.NoError(t, driver.Ensure(t.Context(), spec))
	first := await(t, driver, spec, node.Healthy)
	require.NoError(t, h.Crash(first.PID))
	await(t, driver, spec, node.Exited)
	spec.Generation++
	require.NoError(t, driver.Ensure(t.Context(), spec))
	second := await(t, driver, spec, node.Healthy)
	require.NotEqual(t, first.PID, second.PID)
	require.Equal(t, spec.Generation, second.Generation)
	require.Equal(t, 1, h.Engines(spec.ReplicaID))
}

func removal(t *testing.T, h Host) {
	driver, spec := h.NewDriver(h.Installation), newSpec(t, h)
	require.NoError(t, driver.Ensure(t.Context(), spec))
	await(t, driver, spec, node.Healthy)
	require.NotEmpty(t, h.Left(spec.ReplicaID))
	remove(t, driver, spec.ReplicaID)
	require.Empty(t, h.Left(spec.ReplicaID))
	seen, err := driver.Observe(t.Context(), spec.ReplicaID, spec.Addr)
	require.NoError(t, err)
	require.Equal(t, node.Observation{State: node.Absent}, seen)
	done, err := driver.Remove(t.Context(), spec.ReplicaID)
	require.NoError(t, err)
	require.True(t, done)
}

func comesBack(t *testing.T, h Host) {
	driver, spec := h.NewDriver(h.Installation), newSpec(t, h)
	for range 3 {
		require.NoError(t, driver.Ensure(t.Context(), spec))
		await(t, driver, spec, node.Healthy)
		remove(t, driver, spec.ReplicaID)
		require.Empty(t, h.Left(spec.ReplicaID))
	}
}

func removalRace(t *testing.T, h Host) {
	spec := newSpec(t, h)
	most := 0
	var mu sync.Mutex
	for range 5 {
		atOnce(6, func(i int) {
			driver := h.NewDriver(h.Installation)
			if i%2 == 0 {
				_ = driver.Ensure(t.Context(), spec) // may complain that another worker is at it
			} else {
				_, _ = driver.Remove(t.Context(), spec.ReplicaID)
			}
			mu.Lock()
			defer mu.Unlock()
			most = max(most, h.Engines(spec.ReplicaID))
		})
	}
	require.LessOrEqual(t, most, 1)
	driver := h.NewDriver(h.Installation)
	remove(t, driver, spec.ReplicaID)
	require.Empty(t, h.Left(spec.ReplicaID))
}

func listed(t *testing.T, h Host) {
	driver := h.NewDriver(h.Installation)
	found, err := driver.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, found)
	var want []node.Found
	for generation := range 3 {
		spec := newSpec(t, h)
		spec.Generation = int64(generation + 1)
		require.NoError(t, driver.Ensure(t.Context(), spec))
		seen := await(t, driver, spec, node.Healthy)
		want = append(want, node.Found{ReplicaID: spec.ReplicaID, Generation: spec.Generation, PID: seen.PID})
	}
	found, err = h.NewDriver(h.Installation).List(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, want, found)
}

func stranger(t *testing.T, h Host) {
	ours, theirs := h.NewDriver(h.Installation), h.NewDriver(h.Stranger)
	spec := newSpec(t, h)
	require.NoError(t, theirs.Ensure(t.Context(), spec))
	alive := await(t, theirs, spec, node.Healthy)
	t.Cleanup(func() { remove(t, theirs, spec.ReplicaID) })

	found, err := ours.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, found)
	remove(t, ours, spec.ReplicaID)
	require.Equal(t, alive, await(t, theirs, spec, node.Healthy))
}

func broken(t *testing.T, h Host) {
	driver, names := h.NewBrokenDriver()
	spec := newSpec(t, h)
	require.ErrorContains(t, driver.Ensure(t.Context(), spec), names)
	seen, err := driver.Observe(t.Context(), spec.ReplicaID, spec.Addr)
	require.NoError(t, err)
	require.Equal(t, node.Absent, seen.State)
	remove(t, driver, spec.ReplicaID)
	require.Empty(t, h.Left(spec.ReplicaID))
}

func keyHidden(t *testing.T, h Host) {
	driver, spec := h.NewDriver(h.Installation), newSpec(t, h)
	spec.Key = secret.New("canary-of-the-engine-key")
	require.NoError(t, driver.Ensure(t.Context(), spec))
	seen := await(t, driver, spec, node.Healthy)
	line := h.CommandLine(seen.PID)
	require.NotEmpty(t, line)
	require.NotContains(t, line, spec.Key.Reveal())
	require.NotContains(t, fmt.Sprintf("%+v", spec), spec.Key.Reveal())
}

func logged(t *testing.T, h Host) {
	driver, spec := h.NewDriver(h.Installation), newSpec(t, h)
	log, err := driver.Log(t.Context(), spec.ReplicaID, 1<<10)
	require.NoError(t, err)
	require.Equal(t, node.Log{}, log)

	require.NoError(t, driver.Ensure(t.Context(), spec))
	first := await(t, driver, spec, node.Healthy)
	log, err = h.NewDriver(h.Installation).Log(t.Context(), spec.ReplicaID, 1<<10)
	require.NoError(t, err)
	require.Equal(t, spec.Generation, log.Generation)
	require.NotEmpty(t, log.Text)
	require.Empty(t, log.Previous)
	require.GreaterOrEqual(t, log.Offset, int64(len(log.Text)))
	end, err := driver.Log(t.Context(), spec.ReplicaID, 5)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(log.Text, end.Text))
	require.LessOrEqual(t, len(end.Text), 5)

	require.NoError(t, h.Crash(first.PID))
	await(t, driver, spec, node.Exited)
	spec.Generation++
	require.NoError(t, driver.Ensure(t.Context(), spec))
	await(t, driver, spec, node.Healthy)
	again, err := driver.Log(t.Context(), spec.ReplicaID, 1<<10)
	require.NoError(t, err)
	require.Equal(t, spec.Generation, again.Generation)
	require.Equal(t, log.Text, again.Previous)
}

// newSpec returns a spec of a new replica that is removed when the test ends.
func newSpec(t *testing.T, h Host) node.Spec {
	spec := h.NewSpec(ids.New(ids.Replica))
	if spec.Generation == 0 {
		spec.Generation = 1
	}
	t.Cleanup(func() { remove(t, h.NewDriver(h.Installation), spec.ReplicaID) })
	return spec
}

func await(t *testing.T, driver node.Driver, spec node.Spec, state node.State) node.Observation {
	t.Helper()
	var seen node.Observation
	Eventually(t, func() bool {
		var err error
		seen, err = driver.Observe(t.Context(), spec.ReplicaID, spec.Addr)
		require.NoError(t, err)
		return seen.State == state
	}, "the replica is not %s; last seen: %+v", state, &seen)
	return seen
}

// remove takes steps until the replica is gone. It may run when the test's context has ended.
func remove(t *testing.T, driver node.Driver, replicaID string) {
	t.Helper()
	Eventually(t, func() bool {
		done, err := driver.Remove(context.WithoutCancel(t.Context()), replicaID)
		require.NoError(t, err)
		return done
	}, "the replica %s is not removed", replicaID)
}

// Eventually waits for a condition, and fails the test when it does not come.
func Eventually(t testing.TB, condition func() bool, message string, args ...any) {
	t.Helper()
	end := time.Now().Add(deadline)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ; !condition(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf(message, args...)
		}
	}
}

// atOnce runs f n times at the same moment and waits for all.
func atOnce(n int, f func(i int)) {
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	all.Wait()
}
