package probe_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/node/nodetest"
	"github.com/engineshed/engineshed/internal/node/probe"
	"github.com/engineshed/engineshed/internal/node/vllm"
	"github.com/engineshed/engineshed/internal/secret"
)

// engine starts a stand-in engine that asks for the key, with flags of vLLM and knobs of its own.
func engine(t *testing.T, key string, knobs []string, flags ...string) (addr string) {
	t.Helper()
	sim, err := nodetest.BuildSim(t.Context(), t.TempDir())
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr = listener.Addr().String()
	require.NoError(t, listener.Close())
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), sim, slices.Concat(knobs, []string{"serve", "m", "--port=" + port, "--served-model-name", "m", "ms-x"}, flags)...)
	cmd.Env = append(os.Environ(), vllm.KeyVariable+"="+key)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() })
	nodetest.Eventually(t, func() bool {
		answer, err := http.Get("http://" + addr + vllm.HealthPath)
		if err != nil {
			return false
		}
		return answer.Body.Close() == nil
	}, "the engine does not answer")
	return addr
}

func TestAnEngineSaysWhatItHasUnderWay(t *testing.T) {
	t.Parallel()
	addr := engine(t, "k", []string{"--sim-time-to-first-token=1h"})
	c := probe.New()
	load, err := c.Load(t.Context(), addr)
	require.NoError(t, err)
	require.Zero(t, load.UnderWay())

	asking, hangUp := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Try(asking, addr, "m", secret.New("k")) }()
	underWay := func(n int) func() bool {
		return func() bool {
			load, err := c.Load(t.Context(), addr)
			require.NoError(t, err)
			return load.UnderWay() == n
		}
	}
	nodetest.Eventually(t, underWay(1), "the request does not show")
	hangUp()
	require.ErrorIs(t, <-done, context.Canceled)
	nodetest.Eventually(t, underWay(0), "the request does not end")
}

func TestATrialNeedsTheKeyAndTheModel(t *testing.T) {
	t.Parallel()
	addr := engine(t, "k", nil)
	c := probe.New()
	before, err := c.Load(t.Context(), addr)
	require.NoError(t, err)
	require.NoError(t, c.Try(t.Context(), addr, "ms-x", secret.New("k")))
	after, err := c.Load(t.Context(), addr)
	require.NoError(t, err)
	require.Greater(t, after.Progress, before.Progress)
	require.ErrorContains(t, c.Try(t.Context(), addr, "ms-x", secret.New("wrong")), "401 Unauthorized")
	require.ErrorContains(t, c.Try(t.Context(), addr, "another", secret.New("k")), "404 Not Found")
}

func TestAnEngineThatDoesNotAnswerIsAnError(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	require.NoError(t, err)
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = probe.New().Load(ctx, listener.Addr().String())
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestAnEngineThatEmbedsIsTriedByScoring(t *testing.T) {
	t.Parallel()
	addr := engine(t, "k", nil, "--runner=pooling")
	require.NoError(t, probe.New().Try(t.Context(), addr, "ms-x", secret.New("k")))
	require.ErrorContains(t, probe.New().Try(t.Context(), addr, "another", secret.New("k")), "404 Not Found")
}
