package e2e

import (
	"strings"
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
func waitReason(t *testing.T, c caller, ids map[string]string, limit time.Duration, text string) (now answer) {
	t.Helper()
	eventually(t, limit, "the reason says: "+text, func() bool {
		var err error
		now, err = c.call("DescribeModelService", ids)
		return err == nil && strings.Contains(now.text("StatusReason"), text)
	})
	return now
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

func TestAnEngineThatIsStoppedIsStartedAgainWithinItsLimit(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	s.flags = []string{"--hung-after", "6s"}
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	ids, _ := served(t, c, 1)
	before := s.pids()
	for pid := range before {
		require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	now := waitReason(t, c, ids, 6*time.Second, "the engine has not answered since")
	require.Equal(t, "degraded", now.text("Status"))
	waitReason(t, c, ids, 10*time.Second, "the engine did not answer for")
	waitActive(t, c, ids["DBInstanceId"], ids["ModelServiceId"], 20*time.Second)
	s.expectEngines(5*time.Second, 1)
	require.NotEqual(t, before, s.pids())
}

func TestAnEngineWithAllSlotsTakenIsBusyAndNotEnded(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	s.flags = []string{"--hung-after", "2s"}
	s.vllm += " --sim-time-to-first-token=10s"
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	instance, nodes := newInstance(t, c, 1)
	params := createParams(instance, nodes...)
	params["ModelParams"] = `{"max-num-seqs": 1}`
	made, err := c.call("CreateModelService", params)
	require.NoError(t, err)
	ids := map[string]string{"DBInstanceId": instance, "ModelServiceId": made.text("ModelServiceId")}
	described := waitActive(t, c, instance, ids["ModelServiceId"], 30*time.Second)
	before := s.pids()
	for range 2 {
		go func() {
			for t.Context().Err() == nil { // until the gateway serves it
				if _, err := chat(t.Context(), described.text("PrivateConnectUrl"), described.text("ApiKey"), "hello", true); err == nil {
					return
				}
			}
		}()
	}
	now := waitReason(t, c, ids, 20*time.Second, "busy: all its slots are taken and requests wait")
	require.Equal(t, "active", now.text("Status"))
	eventually(t, 30*time.Second, "it has nothing to say once it is not busy", func() bool {
		now, err = c.call("DescribeModelService", ids)
		return err == nil && now.text("StatusReason") == ""
	})
	require.Equal(t, "active", now.text("Status"))
	require.Equal(t, before, s.pids())
}
