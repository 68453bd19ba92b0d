package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// served deploys a service on every node of a new instance and waits until the gateway serves it.
func served(t *testing.T, c caller, nodes int) (ids map[string]string, described answer) {
	t.Helper()
	instance, names := newInstance(t, c, nodes)
	service := deploy(t, c, instance, names...)
	described = waitActive(t, c, instance, service, 30*time.Second)
	eventually(t, 10*time.Second, "an answer over the gateway", func() bool {
		_, err := chat(t.Context(), described.text("PrivateConnectUrl"), described.text("ApiKey"), "hello", false)
		return err == nil
	})
	return map[string]string{"DBInstanceId": instance, "ModelServiceId": service}, described
}

// waitReason waits until the service's StatusReason holds the text.
func waitReason(t *testing.T, c caller, ids map[string]string, limit time.Duration, text string) {
	t.Helper()
	eventually(t, limit, "the reason says: "+text, func() bool {
		now, err := c.call("DescribeModelService", ids)
		return err == nil && strings.Contains(now.text("StatusReason"), text)
	})
}

func TestADeletedServiceFinishesItsStreams(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	s.vllm += " --sim-inter-token-latency=50ms" // an answer takes some three seconds
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	ids, described := served(t, c, 1)

	type said struct {
		text string
		err  error
	}
	streams := make(chan said)
	for range 5 {
		go func() {
			text, err := chat(t.Context(), described.text("PrivateConnectUrl"), described.text("ApiKey"), "a long story", true)
			streams <- said{text, err}
		}()
	}
	time.Sleep(500 * time.Millisecond) // all are under way
	_, err := c.call("DeleteModelService", ids)
	require.NoError(t, err)
	waitReason(t, c, ids, 5*time.Second, "requests under way")
	var first string
	for range 5 {
		got := <-streams
		require.NoError(t, got.err)
		if first == "" {
			first = got.text
		}
		require.Equal(t, first, got.text, "every stream is whole")
	}
	s.expectEngines(10*time.Second, 0)
	eventually(t, 5*time.Second, "the service is gone", func() bool {
		_, err := c.call("DescribeModelService", ids)
		return err != nil
	})
}

// busyFor is how long the engine's slots are all taken: a while in every run of the tests, a minute in `make chaos`.
func busyFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("ENGINESHED_BUSY")
	if text == "" {
		return 12 * time.Second
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err)
	return d
}

// Neither engine answers anybody for longer than --hung-after. One of them has too much to do, the other one hangs.
func TestABusyEngineIsLeftAloneWhileAHungOneIsStartedAgain(t *testing.T) {
	t.Parallel()
	const hungAfter = 4 * time.Second
	s := newShed(t, pgtest.New(t))
	s.flags = []string{"--hung-after", hungAfter.String()}
	s.vllm += " --sim-time-to-first-token=5s"
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	instance, nodes := newInstance(t, c, 2)
	params := createParams(instance, nodes[0])
	params["ModelParams"] = `{"max-num-seqs": 1}`
	made, err := c.call("CreateModelService", params)
	require.NoError(t, err)
	busy := map[string]string{"DBInstanceId": instance, "ModelServiceId": made.text("ModelServiceId")}
	described := waitActive(t, c, instance, busy["ModelServiceId"], 30*time.Second)
	itsEngine := s.pids()
	hung := map[string]string{"DBInstanceId": instance, "ModelServiceId": deploy(t, c, instance, nodes[1])}
	waitActive(t, c, instance, hung["ModelServiceId"], 30*time.Second)
	itsOwn := s.pids()
	maps.DeleteFunc(itsOwn, func(pid int, _ bool) bool { return itsEngine[pid] })

	clients := &streamers{}
	clients.start(t.Context(), 3, described.text("PrivateConnectUrl"), described.text("ApiKey"))
	waitReason(t, c, busy, 30*time.Second, "busy: all its slots are taken and requests wait")
	began := time.Now()
	stillBusy := func() {
		now, err := c.call("DescribeModelService", busy)
		require.NoError(t, err)
		require.Equal(t, "active", now.text("Status"))
		require.Contains(t, now.text("StatusReason"), "busy: all its slots are taken and requests wait")
	}
	says := func(limit time.Duration, status, reason string) {
		t.Helper()
		eventually(t, limit, status+": "+reason, func() bool {
			stillBusy()
			now, err := c.call("DescribeModelService", hung)
			return err == nil && now.text("Status") == status && strings.Contains(now.text("StatusReason"), reason)
		})
		t.Logf("the other one is %s (%s) %s after it stopped", status, reason, time.Since(began).Round(100*time.Millisecond))
	}
	for pid := range itsOwn {
		require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	says(2*hungAfter, "degraded", "the engine has not answered since")
	says(2*hungAfter, "degraded", "the engine did not answer for")
	says(20*time.Second, "active", "")
	for time.Since(began) < busyFor(t) {
		stillBusy()
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("busy for %s", time.Since(began).Round(time.Second))
	_, failed := clients.finish()
	require.Empty(t, failed)
	var now answer
	eventually(t, 30*time.Second, "it has nothing to say once it is not busy", func() bool {
		now, err = c.call("DescribeModelService", busy)
		return err == nil && now.text("StatusReason") == ""
	})
	require.Equal(t, "active", now.text("Status"))
	after := s.pids()
	require.Len(t, after, 2)
	for pid := range itsEngine {
		require.True(t, after[pid], "the busy engine was left alone")
	}
	for pid := range itsOwn {
		require.False(t, after[pid], "the hung engine was ended")
	}
}

// streamers are clients that stream from a service, one answer after the other.
type streamers struct {
	stop    context.CancelFunc
	clients sync.WaitGroup
	ended   atomic.Int64
	mu      sync.Mutex
	failed  []error
}

func (s *streamers) start(ctx context.Context, clients int, url, key string) {
	ctx, s.stop = context.WithCancel(ctx)
	for n := range clients {
		s.clients.Go(func() {
			for ctx.Err() == nil {
				// An answer that began is read to its end, so that it shows whether it was cut.
				_, err := chat(context.WithoutCancel(ctx), url, key, fmt.Sprintf("client %d", n), true)
				s.ended.Add(1)
				if err != nil {
					s.mu.Lock()
					s.failed = append(s.failed, err)
					s.mu.Unlock()
				}
			}
		})
	}
}

// finish lets the answers under way end.
func (s *streamers) finish() (ended int64, failed []error) {
	s.stop()
	s.clients.Wait()
	return s.ended.Load(), s.failed
}

func waitChanged(t *testing.T, c caller, ids map[string]string, limit time.Duration) {
	t.Helper()
	eventually(t, limit, "the service is as asked for", func() bool { return isChanged(c, ids) })
}

// isChanged reports whether the service has all its replicas, each with the parameters that it should have.
func isChanged(c caller, ids map[string]string) bool {
	now, err := c.call("DescribeModelService", ids)
	if err != nil || now.text("Status") != "active" {
		return false
	}
	replicas := now["Replicas"].([]any)
	for _, r := range replicas {
		if replica := r.(map[string]any); replica["Status"] != "active" || replica["UpToDate"] != true {
			return false
		}
	}
	return fmt.Sprint(len(replicas)) == fmt.Sprint(now["ReplicaCount"])
}

func TestNoStreamIsCutWhileAServiceChanges(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	s.vllm += " --sim-inter-token-latency=20ms" // an answer takes a second and more
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	instance, nodes := newInstance(t, c, 3)
	service := deploy(t, c, instance, nodes[:2]...)
	described := waitActive(t, c, instance, service, 30*time.Second)
	ids := map[string]string{"DBInstanceId": instance, "ModelServiceId": service}
	url, key := described.text("PrivateConnectUrl"), described.text("ApiKey")
	eventually(t, 10*time.Second, "an answer over the gateway", func() bool {
		_, err := chat(t.Context(), url, key, "hello", false)
		return err == nil
	})

	clients := &streamers{}
	clients.start(t.Context(), 50, url, key)
	change := func(what string, params map[string]string) {
		began, before := time.Now(), clients.ended.Load()
		maps.Copy(params, ids)
		_, err := c.call("ModifyModelService", params)
		require.NoError(t, err, what)
		waitChanged(t, c, ids, 60*time.Second)
		t.Logf("%s: %s, %d streams ended meanwhile", what, time.Since(began).Round(100*time.Millisecond), clients.ended.Load()-before)
	}
	change("other parameters without a spare node", map[string]string{"ModelParams": `{"max-model-len": 4096}`})
	change("a node more, a replica more", map[string]string{"AiNodes": strings.Join(quoted(nodes), ","), "Replicas": "3"})
	change("a replica less", map[string]string{"Replicas": "2"})
	change("other parameters with a spare node", map[string]string{"ModelParams": `{"max-model-len": 8192}`})
	change("a node less", map[string]string{"AiNodes": strings.Join(quoted(nodes[1:]), ",")})
	ended, failed := clients.finish()
	require.Empty(t, failed)
	require.Greater(t, ended, int64(500))
	s.expectEngines(10*time.Second, 2)

	events, err := c.call("ListModelServiceEvents", ids)
	require.NoError(t, err)
	require.NotEmpty(t, events["Events"])
}

func TestAChangeGoesOnWhenItsWorkerIsKilledAndCutsNothing(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	s.vllm += " --sim-inter-token-latency=20ms --sim-startup-delay=500ms"
	api, worker := s.controlPlane("api"), s.controlPlane("worker")
	s.startGateway()
	c := newDarabonba(t, api.addr, rootKey)
	ids, described := served(t, c, 3)
	clients := &streamers{}
	clients.start(t.Context(), 10, described.text("PrivateConnectUrl"), described.text("ApiKey"))
	params := maps.Clone(ids)
	params["ModelParams"] = `{"max-model-len": 4096}`
	_, err := c.call("ModifyModelService", params)
	require.NoError(t, err)
	for range 5 {
		time.Sleep(700 * time.Millisecond) // at another moment of the change each time
		worker.kill()
		worker = s.controlPlane("worker")
	}
	waitChanged(t, c, ids, 60*time.Second)
	_, failed := clients.finish()
	require.Empty(t, failed)
	s.expectEngines(20*time.Second, 3)
	_, err = c.call("DeleteModelService", ids)
	require.NoError(t, err)
	s.expectEngines(30*time.Second, 0)
}

// quoted are the items of a JSON array.
func quoted(names []string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = strconv.Quote(name)
	}
	all[0], all[len(all)-1] = "["+all[0], all[len(all)-1]+"]"
	return all
}

func TestAnEnginesLogIsShownWhileItRuns(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	ids, _ := served(t, c, 1)
	log, err := c.call("GetModelServiceLogs", ids)
	require.NoError(t, err)
	require.Contains(t, log.text("Log"), "vllm-sim: listening on")
	for pid := range s.pids() {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	eventually(t, 20*time.Second, "the log of the engine before is shown", func() bool {
		log, err := c.call("GetModelServiceLogs", ids)
		return err == nil && strings.Contains(log.text("PreviousLog"), "listening") && strings.Contains(log.text("Log"), "listening")
	})
	events, err := c.call("ListModelServiceEvents", ids)
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(events["Events"]), "was ended by signal 9 (killed): vllm-sim: listening on")
}

func TestReplicasOfALostHostMoveAndItIsCleanedBeforeItServes(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	s.flags = []string{"--host-lost-after", "12s"}
	api := s.controlPlane("api")
	workerA := s.controlPlaneOn("host-a", "worker")
	s.controlPlaneOn("host-b", "worker")
	s.startGateway()
	c := newDarabonba(t, api.addr, rootKey)
	instance, nodes := newInstance(t, c, 2)
	_, err := s.db.Owner.Exec(t.Context(), `UPDATE ai_node SET host = 'host-b' WHERE name = $1`, nodes[1])
	require.NoError(t, err)
	_, err = s.db.Owner.Exec(t.Context(), `UPDATE ai_node SET host = 'host-a' WHERE name = $1`, nodes[0])
	require.NoError(t, err)
	params := createParams(instance, nodes...)
	params["Replicas"] = "1"
	made, err := c.call("CreateModelService", params)
	require.NoError(t, err)
	ids := map[string]string{"DBInstanceId": instance, "ModelServiceId": made.text("ModelServiceId")}
	described := waitActive(t, c, instance, ids["ModelServiceId"], 20*time.Second)
	old := s.pids()
	require.Equal(t, nodes[0], described["Replicas"].([]any)[0].(map[string]any)["AiNode"])

	require.NoError(t, workerA.cmd.Process.Signal(syscall.SIGSTOP))
	waitReason(t, c, ids, 15*time.Second, "host host-a last reported")
	eventually(t, 30*time.Second, "the replica has moved", func() bool {
		now, err := c.call("DescribeModelService", ids)
		replicas, _ := now["Replicas"].([]any)
		return err == nil && len(replicas) == 1 && replicas[0].(map[string]any)["AiNode"] == nodes[1] && now.text("Status") == "active"
	})
	eventually(t, 10*time.Second, "an answer over the gateway", func() bool {
		_, err := chat(t.Context(), described.text("PrivateConnectUrl"), described.text("ApiKey"), "hello", false)
		return err == nil
	})
	require.NoError(t, workerA.cmd.Process.Signal(syscall.SIGCONT))
	s.expectEngines(20*time.Second, 1)
	for pid := range s.pids() {
		require.False(t, old[pid], "the engine of the host that was lost has ended")
	}
	eventually(t, 10*time.Second, "nothing of it is left", func() bool {
		left, err := os.ReadDir(s.path("worker-host-a/replicas"))
		return err == nil && len(left) == 0
	})
	events, err := c.call("ListModelServiceEvents", ids)
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(events["Events"]), "is given up: its host is silent")
}
