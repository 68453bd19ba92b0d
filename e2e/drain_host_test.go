package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// host runs a verb of the operator's on hosts.
func (s *shed) host(args ...string) (string, error) {
	cmd := exec.CommandContext(s.t.(*testing.T).Context(), filepath.Join(binaries, "engineshed"), append([]string{"host"}, args...)...)
	cmd.Env = []string{"DATABASE_URL=" + s.db.ControlURL}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestAHostIsDrainedUnderStreamsAndReplaced(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	s.vllm += " --sim-inter-token-latency=20ms" // an answer takes a second and more
	api := s.controlPlane("api")
	leaving := s.controlPlaneOn("host-a", "worker")
	s.controlPlaneOn("host-b", "worker")
	s.startGateway()
	c := newDarabonba(t, api.addr, rootKey)
	instance, nodes := newInstance(t, c, 4) // two on each
	params := createParams(instance, nodes...)
	params["Replicas"] = "2"
	made, err := c.call("CreateModelService", params)
	require.NoError(t, err)
	ids := map[string]string{"DBInstanceId": instance, "ModelServiceId": made.text("ModelServiceId")}
	described := waitActive(t, c, instance, ids["ModelServiceId"], 30*time.Second)
	url, key := described.text("PrivateConnectUrl"), described.text("ApiKey")
	eventually(t, 10*time.Second, "an answer over the gateway", func() bool {
		_, err := chat(t.Context(), url, key, "hello", false)
		return err == nil
	})

	clients := &streamers{}
	clients.start(t.Context(), 10, url, key)
	out, err := s.host("drain", "host-a", "--timeout", "60s")
	require.NoError(t, err, out)
	require.Contains(t, out, "empty")
	eventually(t, 20*time.Second, "streams go on elsewhere", func() bool { return clients.ended.Load() > 30 })
	_, failed := clients.finish()
	require.Empty(t, failed)
	waitActive(t, c, instance, ids["ModelServiceId"], 5*time.Second)

	out, err = s.host("remove", "host-a")
	require.Error(t, err)
	require.Contains(t, out, "the host is alive")
	leaving.stop()
	eventually(t, 20*time.Second, "the host is forgotten", func() bool {
		_, err := s.host("remove", "host-a")
		return err == nil
	})
	require.Len(t, nodesOf(t, c, instance), 2)
	out, err = s.host("list")
	require.NoError(t, err)
	require.NotContains(t, out, "host-a")
	waitActive(t, c, instance, ids["ModelServiceId"], 5*time.Second)
	s.expectEngines(5*time.Second, 2)
}

func TestASecondMachineCannotBeTheSameHost(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	api := s.controlPlane("api")
	first := s.controlPlaneOn("host-a", "worker")
	c := newDarabonba(t, api.addr, rootKey)
	instance, nodes := newInstance(t, c, 1)
	service := deploy(t, c, instance, nodes...)
	waitActive(t, c, instance, service, 20*time.Second)
	before := s.pids()

	launch := func() *process {
		args := append(s.controlPlaneFlags("worker", "host-a", freeAddr(t)), "--data-dir", s.path("another-machine"))
		return start(t, []string{"DATABASE_URL=" + s.db.ControlURL, "VLLM_COMMAND=" + s.vllm}, "controlplane", args...)
	}
	second := launch()
	eventually(t, 10*time.Second, "the second has ended", func() bool {
		select {
		case <-second.done:
			return true
		default:
			return false
		}
	})
	require.Error(t, second.err)
	require.Contains(t, second.log.String(), "--host host-a: the host is another machine's: the worker of host-a reported")
	require.Contains(t, second.log.String(), "Give this machine a name of its own with --host")
	waitActive(t, c, instance, service, 5*time.Second)
	require.Equal(t, before, s.pids())

	first.stop() // in order: the place is free at once, and the engine goes with the old machine
	s.endEngines()
	second = launch()
	waitActive(t, c, instance, service, 30*time.Second)
	s.expectEngines(5*time.Second, 1)
	require.NotContains(t, strings.ToLower(second.log.String()), "another machine")
}
