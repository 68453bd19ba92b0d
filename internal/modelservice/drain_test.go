package modelservice

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/node"
	"github.com/engineshed/engineshed/internal/node/nodetest"
	"github.com/engineshed/engineshed/internal/node/vllm"
)

func TestADrainingEngineIsHeldUntilItHasNothingToDo(t *testing.T) {
	const limit = time.Minute
	for name, c := range map[string]struct {
		seen   drainage
		reason string
		held   bool
	}{
		"the gateways were not told":     {drainage{runs: true, behind: -1}, "the gateways have not been told yet", true},
		"a gateway is behind":            {drainage{runs: true, behind: 1}, "1 gateway may still send it requests", true},
		"requests are under way":         {drainage{runs: true, load: vllm.Load{Running: 2, Waiting: 1}}, "3 requests under way", true},
		"it does not say":                {drainage{runs: true, err: errors.New("e")}, "its engine does not say what it has under way", true},
		"it is idle for the first time":  {drainage{runs: true}, "no request under way", true},
		"it was idle a moment ago":       {drainage{runs: true, idleBefore: true, idleFor: 100 * time.Millisecond}, "no request under way", true},
		"it has been idle":               {drainage{runs: true, idleBefore: true, idleFor: staysIdle}, "", false},
		"it has ended":                   {drainage{behind: -1}, "", false},
		"the limit, requests under way":  {drainage{runs: true, drains: limit, load: vllm.Load{Running: 1}}, "", false},
		"the limit, the gateways behind": {drainage{runs: true, drains: limit, behind: 2}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			c.seen.limit = limit
			reason, held, _ := c.seen.held()
			require.Equal(t, c.reason, reason)
			require.Equal(t, c.held, held)
		})
	}
}

func TestADeletedServiceDrainsBeforeItsEngineEnds(t *testing.T) {
	t.Parallel()
	w, f := newWorld(t), &fakeHost{engines: map[string]node.Observation{}}
	s := w.stepper(f)
	ctx := t.Context()
	svc, err := w.services.Create(ctx, key("t"), w.spec(w.nodes[0]))
	require.NoError(t, err)
	id := w.replica(t, svc.ID)
	reason := func() string { return w.describe(t, svc.ID).StatusReason }
	_, err = s.Step(ctx, id)
	require.NoError(t, err)
	f.become(node.Healthy, "")
	_, err = s.Step(ctx, id)
	require.NoError(t, err)
	require.NotNil(t, w.published(t, svc.ID))
	report := func(revision string) {
		_, err := w.Owner.Exec(ctx, `
			INSERT INTO gateway_status (process_id, revision, started_at, reported_at)
			SELECT 'g', `+revision+`, now(), now() FROM publication
			ON CONFLICT (process_id) DO UPDATE SET revision = excluded.revision`)
		require.NoError(t, err)
	}
	report("revision")

	f.work(vllm.Load{Running: 2, Waiting: 1})
	require.NoError(t, w.services.Delete(ctx, account, w.instance, svc.ID))
	w.steps(t, s, id, func() bool { return reason() != "" })
	require.Contains(t, reason(), "is draining: the gateways have not been told yet.")
	require.Nil(t, w.published(t, svc.ID))
	w.steps(t, s, id, func() bool { return reason() != "" })
	require.Contains(t, reason(), "1 gateway may still send it requests.")
	report("revision")
	_, err = s.Step(ctx, id)
	require.NoError(t, err)
	require.Equal(t, "Replica 0 on "+w.nodes[0]+" is draining: 3 requests under way.", reason())
	require.Len(t, f.engines, 1)

	f.work(vllm.Load{})
	_, err = s.Step(ctx, id)
	require.NoError(t, err)
	require.Contains(t, reason(), "no request under way")
	f.work(vllm.Load{Running: 1})
	_, err = s.Step(ctx, id)
	require.NoError(t, err)
	require.Contains(t, reason(), "1 request under way", "a request that was on its way starts the waiting anew")
	f.work(vllm.Load{})
	nodetest.Eventually(t, func() bool {
		_, err := s.Step(ctx, id)
		require.NoError(t, err)
		_, err = w.services.Describe(ctx, account, w.instance, svc.ID)
		return errors.Is(err, ErrNotFound)
	}, "the service is not removed")
	require.Empty(t, f.engines)
}

func TestADrainEndsAtItsLimit(t *testing.T) {
	t.Parallel()
	w, f := newWorld(t), &fakeHost{engines: map[string]node.Observation{}, load: vllm.Load{Running: 1}}
	s := w.stepper(f)
	ctx := t.Context()
	svc, err := w.services.Create(ctx, key("t"), w.spec(w.nodes[0]))
	require.NoError(t, err)
	id := w.replica(t, svc.ID)
	_, err = s.Step(ctx, id)
	require.NoError(t, err)
	f.become(node.Healthy, "")
	_, err = s.Step(ctx, id)
	require.NoError(t, err)
	require.NoError(t, w.services.Delete(ctx, account, w.instance, svc.ID))
	for range 3 {
		_, err = s.Step(ctx, id)
		require.NoError(t, err)
	}
	require.Len(t, f.engines, 1)
	_, err = w.Owner.Exec(ctx, `UPDATE replica SET draining_since = now() - interval '1 minute'`)
	require.NoError(t, err)
	w.steps(t, s, id, func() bool { return len(f.engines) == 0 })
}
