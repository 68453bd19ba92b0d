package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// deploy creates a service on the nodes and returns its id.
func deploy(t *testing.T, c caller, instance string, nodes ...string) (service string) {
	t.Helper()
	params := createParams(instance, nodes...)
	params["Replicas"] = fmt.Sprint(len(nodes))
	made, err := c.call("CreateModelService", params)
	require.NoError(t, err)
	return made.text("ModelServiceId")
}

// pids are the engines' process ids.
func (s *shed) pids() map[int]bool {
	pids := map[int]bool{}
	for _, of := range s.engines() {
		for _, pid := range of {
			pids[pid] = true
		}
	}
	return pids
}

func TestAControlPlaneKilledIsFollowedByOneThatAdoptsTheEngines(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	instance, nodes := newInstance(t, c, 2)
	service := deploy(t, c, instance, nodes...)
	described := waitActive(t, c, instance, service, 20*time.Second)
	before := s.pids()
	require.Len(t, before, 2)

	control.kill()
	eventually(t, 5*time.Second, "the gateway answers without a control plane", func() bool {
		_, err := chat(t.Context(), described.text("PrivateConnectUrl"), described.text("ApiKey"), "hello", true)
		return err == nil
	})
	control = s.controlPlane("both")
	waitActive(t, newDarabonba(t, control.addr, rootKey), instance, service, 10*time.Second)
	require.Equal(t, before, s.pids())
}

func TestAnEngineKilledIsStartedAgain(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	instance, nodes := newInstance(t, c, 1)
	service := deploy(t, c, instance, nodes...)
	described := waitActive(t, c, instance, service, 20*time.Second)

	for pid := range s.pids() {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	ids := map[string]string{"DBInstanceId": instance, "ModelServiceId": service}
	eventually(t, 10*time.Second, "the state says that the engine was killed", func() bool {
		now, err := c.call("DescribeModelService", ids)
		return err == nil && now.text("Status") == "degraded" && now.text("StatusReason") != ""
	})
	waitActive(t, c, instance, service, 30*time.Second)
	s.expectEngines(5*time.Second, 1)
	eventually(t, 5*time.Second, "an answer over the gateway", func() bool {
		_, err := chat(t.Context(), described.text("PrivateConnectUrl"), described.text("ApiKey"), "hello", true)
		return err == nil
	})
}

func TestAWorkerThatWakesUpLateDuplicatesNothing(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	s.vllm += " --sim-startup-delay=500ms"
	api, sleeper := s.controlPlane("api"), s.controlPlane("worker")
	c := newDarabonba(t, api.addr, rootKey)
	instance, nodes := newInstance(t, c, 6)
	service := deploy(t, c, instance, nodes[:3]...)
	require.NoError(t, sleeper.cmd.Process.Signal(syscall.SIGSTOP))
	other := deploy(t, c, instance, nodes[3:]...)
	s.controlPlane("worker")
	waitActive(t, c, instance, service, 60*time.Second)
	waitActive(t, c, instance, other, 60*time.Second)
	require.NoError(t, sleeper.cmd.Process.Signal(syscall.SIGCONT))
	before := s.pids()
	s.expectEngines(5*time.Second, 6)
	// Two workers of one host: whatever both do, the world stays as it is.
	for range 100 {
		require.Equal(t, before, s.pids())
		time.Sleep(20 * time.Millisecond)
	}
	waitActive(t, c, instance, service, time.Second)
}

func TestWhatAHandChangesIsPutRight(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	c := newDarabonba(t, control.addr, rootKey)
	instance, nodes := newInstance(t, c, 3)
	service := deploy(t, c, instance, nodes...)
	waitActive(t, c, instance, service, 20*time.Second)
	before := s.engines()
	_, err := s.db.Owner.Exec(t.Context(), `
		DELETE FROM replica WHERE ordinal = 0;
		UPDATE replica SET status = 'pending', engine_generation = 0 WHERE ordinal = 1;
		DELETE FROM river_job; DELETE FROM published_item`)
	require.NoError(t, err)
	waitReplaced := func() bool {
		now, same := s.engines(), 0
		for replica, pids := range now {
			if old, ok := before[replica]; ok && old[0] == pids[0] {
				same++
			}
		}
		return len(now) == 3 && same == 1
	}
	eventually(t, 30*time.Second, "the lost replica has a successor, the forgotten engine is replaced", waitReplaced)
	waitActive(t, c, instance, service, 30*time.Second)
	s.expectEngines(10*time.Second, 3)
	eventually(t, 10*time.Second, "the service is published again", func() bool {
		var replicas int
		err := s.db.Owner.QueryRow(t.Context(), `
			SELECT jsonb_array_length(convert_from(body, 'UTF8')::jsonb -> 'replicas') FROM published_item WHERE id = $1`, service).Scan(&replicas)
		return err == nil && replicas == 3
	})
}

func TestPostgresAwayForFiveSeconds(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	s := newShed(t, server.DB)
	api, worker := s.controlPlane("api"), s.controlPlane("worker")
	gateway := s.startGateway()
	c := newDarabonba(t, api.addr, rootKey)
	instance, nodes := newInstance(t, c, 2)
	described := waitActive(t, c, instance, deploy(t, c, instance, nodes[0]), 20*time.Second)
	ask := func() error {
		_, err := chat(t.Context(), described.text("PrivateConnectUrl"), described.text("ApiKey"), "hello", true)
		return err
	}
	eventually(t, 5*time.Second, "the service is served", func() bool { return ask() == nil })

	server.Stop()
	_, err := c.call("ListSupportModels", nil)
	refused(t, err, 503, "ServiceUnavailable")
	for back := time.Now().Add(5 * time.Second); time.Now().Before(back); time.Sleep(50 * time.Millisecond) {
		require.NoError(t, ask(), "the gateway does not need the database")
	}
	server.Start()
	returned := time.Now()
	var service string
	eventually(t, 5*time.Second, "the first write succeeds", func() bool {
		made, err := c.call("CreateModelService", createParams(instance, nodes[1]))
		service = made.text("ModelServiceId")
		return err == nil
	})
	t.Logf("first write %s after Postgres was back", time.Since(returned).Round(time.Millisecond))
	waitActive(t, c, instance, service, 20*time.Second)
	for _, p := range []*process{api.process, worker.process, gateway} {
		select {
		case <-p.done:
			require.Fail(t, "a process ended", "%s: %v", p.cmd.Path, p.err)
		default:
		}
	}
}
