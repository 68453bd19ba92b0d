package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
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

func TestAWorkerKilledInTheMiddleOfADeploymentIsFollowed(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	s.vllm += " --sim-startup-delay=1s"
	api, worker := s.controlPlane("api"), s.controlPlane("worker")
	c := newDarabonba(t, api.addr, rootKey)
	instance, nodes := newInstance(t, c, 4)
	service := deploy(t, c, instance, nodes...)
	eventually(t, 10*time.Second, "the first engine runs", func() bool { return len(s.engines()) > 0 })
	worker.kill()
	s.controlPlane("worker")
	waitActive(t, c, instance, service, 30*time.Second)
	s.expectEngines(5*time.Second, 4)

	// Killed while it takes a service down.
	deleted := time.Now()
	_, err := c.call("DeleteModelService", map[string]string{"DBInstanceId": instance, "ModelServiceId": service})
	require.NoError(t, err)
	s.expectEngines(60*time.Second-time.Since(deleted), 0)
	eventually(t, 10*time.Second, "the nodes are free", func() bool {
		var bound int
		return s.db.Owner.QueryRow(t.Context(), `SELECT count(*) FROM ai_node WHERE model_service_id IS NOT NULL`).Scan(&bound) == nil && bound == 0
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

// outcome is what a client knows of a create.
type outcome struct {
	token   string
	nodes   []string
	service string // "" until acknowledged
}

func TestNoAcknowledgedCreateIsLostUnderKills(t *testing.T) {
	t.Parallel()
	const kills, creates = 24, 48 // two creates are under way at each kill
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's choice of what to kill
	server := pgtest.NewServer(t, "fsync=on")
	s := newShed(t, server.DB)
	api, worker := s.controlPlane("api"), s.controlPlane("worker")
	var addr atomic.Value
	addr.Store(api.addr)
	instance, nodes := newInstance(t, newDarabonba(t, api.addr, rootKey), creates)

	// A client that never gives up: what is not answered is asked again with the same token.
	acknowledged := make([]outcome, creates)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	create := func(i int) {
		acknowledged[i] = outcome{token: fmt.Sprintf("create-%d", i), nodes: nodes[i : i+1]}
		clients.Go(func() {
			acknowledged[i].service = createUntilAnswered(t, &addr, instance, acknowledged[i], stop)
		})
	}
	for n := range kills {
		create(2 * n)
		create(2*n + 1)
		time.Sleep(time.Duration(random.IntN(15)) * time.Millisecond) // hits the calls at any moment
		switch random.IntN(3) {
		case 0:
			api.kill()
			api = s.controlPlane("api")
			addr.Store(api.addr)
		case 1:
			worker.kill()
			worker = s.controlPlane("worker")
		case 2:
			server.Kill()
			server.Start()
		}
		t.Logf("kill %d of %d done", n+1, kills)
	}
	finished := make(chan struct{})
	go func() { clients.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(60 * time.Second):
		close(stop)
		<-finished
	}

	c := newDarabonba(t, addr.Load().(string), rootKey)
	ids := map[string]bool{}
	for _, o := range acknowledged {
		require.NotEmpty(t, o.service, "the create with the token %s was never answered", o.token)
		require.False(t, ids[o.service], "two tokens made one service")
		ids[o.service] = true
		described := waitActive(t, c, instance, o.service, 60*time.Second)
		require.Equal(t, []any{o.nodes[0]}, described["AiNodes"])
	}
	s.expectEngines(60*time.Second, creates)
	s.requireRows(map[string]int{`SELECT count(*) FROM model_service`: creates, `SELECT count(*) FROM replica`: creates})

	for service := range ids {
		_, err := c.call("DeleteModelService", map[string]string{"DBInstanceId": instance, "ModelServiceId": service})
		require.NoError(t, err)
	}
	s.expectEngines(60*time.Second, 0)
	eventually(t, 30*time.Second, "no row and no file is left", func() bool {
		var rows int
		err := s.db.Owner.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM replica) + (SELECT count(*) FROM model_service)`).Scan(&rows)
		files, _ := os.ReadDir(s.path("worker-host-a/replicas"))
		return err == nil && rows == 0 && len(files) == 0
	})
}

// createUntilAnswered repeats a create until it is answered with an id. A refusal is a bug, but for the ones that say
// that nobody could decide.
func createUntilAnswered(t *testing.T, addr *atomic.Value, instance string, o outcome, stop <-chan struct{}) (service string) {
	params := createParams(instance, o.nodes...)
	params["ClientToken"] = o.token
	for {
		made, err := newClassic(t, addr.Load().(string), rootKey).call("CreateModelService", params)
		if err == nil {
			return made.text("ModelServiceId")
		}
		var r *refusal
		if errors.As(err, &r) && r.status < 500 && r.code != "InvalidTimeStamp.Expired" {
			t.Errorf("create %s: %v", o.token, err)
			return ""
		}
		select {
		case <-stop:
			return ""
		case <-time.After(50 * time.Millisecond):
		}
	}
}
