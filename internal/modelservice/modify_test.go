package modelservice

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/node"
	"github.com/engineshed/engineshed/internal/node/nodetest"
)

func modifyKey(token string) idempotency.Key {
	k := key(token)
	k.Action = "gpdb:ModifyModelService"
	return k
}

// running returns a service of so many replicas on the first nodes of the world, all of them active, and its stepper.
func running(t *testing.T, replicas, nodes int) (w *world, f *fakeHost, s *Stepper, id string) {
	t.Helper()
	w, f = newWorld(t), &fakeHost{engines: map[string]node.Observation{}}
	s = w.stepper(f)
	spec := w.spec(w.nodes[:nodes]...)
	spec.Replicas = &replicas
	svc, err := w.services.Create(t.Context(), key("t"), spec)
	require.NoError(t, err)
	w.converge(t, s, f, svc.ID, nil)
	return w, f, s, svc.ID
}

// converge takes steps of all replicas, publishes, and has engines answer as they start, until the service has what it
// should. each is called after every round.
func (w *world) converge(t *testing.T, s *Stepper, f *fakeHost, id string, each func(Service)) {
	t.Helper()
	nodetest.Eventually(t, func() bool {
		w.round(t, s, f, id)
		svc := w.describe(t, id)
		if each != nil {
			each(svc)
		}
		return isConverged(svc)
	}, "the service does not become what it should be")
}

func isConverged(svc Service) bool {
	for _, r := range svc.Replicas {
		if r.Status != active || !r.UpToDate {
			return false
		}
	}
	return len(svc.Replicas) == svc.ReplicaCount && svc.Status == Active
}

func (w *world) round(t *testing.T, s *Stepper, f *fakeHost, id string) {
	t.Helper()
	f.become(node.Healthy, "")
	rows, err := w.Owner.Query(t.Context(), `SELECT id FROM replica WHERE model_service_id = $1 ORDER BY ordinal`, id)
	require.NoError(t, err)
	replicas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, r := range replicas {
		_, err := s.Step(t.Context(), r)
		require.NoError(t, err)
	}
	require.NoError(t, w.services.Publish(t.Context(), id))
}

func (w *world) change(id string, change func(*Change)) Change {
	c := Change{AccountID: account, DBInstanceID: w.instance, ID: id}
	change(&c)
	return c
}

func serving(svc Service) (n int) {
	for _, r := range svc.Replicas {
		if serves(r.Status) {
			n++
		}
	}
	return n
}

func params(n int) map[string]any { return map[string]any{"max-model-len": n} }

func TestAServiceGrowsAndShrinks(t *testing.T) {
	t.Parallel()
	w, f, s, id := running(t, 1, 3)
	ctx := t.Context()
	three, one := 3, 1
	require.NoError(t, w.services.Modify(ctx, modifyKey("up"), w.change(id, func(c *Change) { c.Replicas = &three })))
	require.Equal(t, Deploying, w.describe(t, id).Status)
	w.converge(t, s, f, id, func(svc Service) { require.GreaterOrEqual(t, serving(svc), 1) })
	require.Len(t, f.engines, 3)
	first := w.describe(t, id).Replicas[0]

	require.NoError(t, w.services.Modify(ctx, modifyKey("down"), w.change(id, func(c *Change) { c.Replicas = &one })))
	require.Equal(t, Active, w.describe(t, id).Status, "one is enough now")
	w.converge(t, s, f, id, func(svc Service) { require.GreaterOrEqual(t, serving(svc), 1) })
	require.Equal(t, first, w.describe(t, id).Replicas[0], "the oldest stays")
	require.Len(t, f.engines, 1)
	require.Len(t, w.describe(t, id).AINodes, 3, "the nodes stay bound")
}

func TestOtherParametersAreRolledOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ replicas, nodes, least int }{
		"with a spare node":      {2, 3, 2},
		"without a spare node":   {3, 3, 2},
		"one, with a spare node": {1, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, f, s, id := running(t, c.replicas, c.nodes)
			before := map[string]bool{}
			for _, r := range w.describe(t, id).Replicas {
				before[r.ID] = true
			}
			require.NoError(t, w.services.Modify(t.Context(), modifyKey("p"), w.change(id, func(c *Change) { c.ModelParams = params(512) })))
			w.converge(t, s, f, id, func(svc Service) {
				require.GreaterOrEqual(t, serving(svc), c.least)
				require.NotEqual(t, Degraded, svc.Status, svc.StatusReason)
			})
			svc := w.describe(t, id)
			for _, r := range svc.Replicas {
				require.False(t, before[r.ID])
			}
			require.Equal(t, map[string]any{"max-model-len": float64(512)}, svc.ModelParams)
			require.Len(t, w.published(t, id).Replicas, c.replicas)
		})
	}
}

func TestAChangeThatFailsLeavesTheOldReplicas(t *testing.T) {
	t.Parallel()
	w, f, s, id := running(t, 1, 2)
	old := w.describe(t, id).Replicas[0]
	require.NoError(t, w.services.Modify(t.Context(), modifyKey("bad"), w.change(id, func(c *Change) { c.ModelParams = params(1) })))
	fail := func() {
		for engine := range f.engines {
			if engine != old.ID {
				f.engines[engine] = node.Observation{State: node.Exited, Generation: f.engines[engine].Generation, Reason: "the engine ended with status 1: too small"}
			}
		}
		for _, r := range w.describe(t, id).Replicas {
			_, err := s.Step(t.Context(), r.ID)
			require.NoError(t, err)
		}
	}
	for range 4 {
		fail()
	}
	svc := w.describe(t, id)
	require.Equal(t, Active, svc.Status)
	require.Contains(t, svc.StatusReason, "too small")
	require.Equal(t, old, Replica{svc.Replicas[0].ID, 0, old.NodeName, old.Host, active, "", true}, "it serves on")
	require.False(t, svc.Replicas[0].UpToDate)

	require.NoError(t, w.services.Modify(t.Context(), modifyKey("back"), w.change(id, func(c *Change) { c.ModelParams = map[string]any{} })))
	w.converge(t, s, f, id, nil)
	require.Equal(t, old.ID, w.describe(t, id).Replicas[0].ID)
}

func TestANodeIsGivenBackWhenItsReplicaHasMoved(t *testing.T) {
	t.Parallel()
	w, f, s, id := running(t, 1, 1)
	require.NoError(t, w.services.Modify(t.Context(), modifyKey("n"), w.change(id, func(c *Change) { c.AINodes = w.nodes[1:2] })))
	require.Len(t, w.describe(t, id).AINodes, 2, "until the replica has moved")
	w.converge(t, s, f, id, func(svc Service) { require.GreaterOrEqual(t, serving(svc), 1) })
	svc := w.describe(t, id)
	require.Equal(t, w.nodes[1:2], svc.AINodes)
	require.Equal(t, w.nodes[1], svc.Replicas[0].NodeName)
	_, err := w.services.Create(t.Context(), key("another"), w.spec(w.nodes[0]))
	require.NoError(t, err, "the node is free")
}

func TestAChangeIsRefusedByName(t *testing.T) {
	t.Parallel()
	w, _, _, id := running(t, 1, 1)
	_, err := w.services.Create(t.Context(), key("other"), w.spec(w.nodes[3]))
	require.NoError(t, err)
	number := func(n int) *int { return &n }
	before := w.count(t)
	for name, c := range map[string]struct {
		change func(*Change)
		want   string
	}{
		"unknown service":     {func(c *Change) { c.ID = ids.New(ids.ModelService) }, "InvalidModelServiceId.NotFound"},
		"another account":     {func(c *Change) { c.AccountID = "1000000000000002" }, "InvalidDBInstanceId.NotFound"},
		"too many replicas":   {func(c *Change) { c.Replicas = number(2) }, "OperationDenied.InsufficientCapacity"},
		"replicas 0":          {func(c *Change) { c.Replicas = number(0) }, "InvalidParameter: The parameter Replicas"},
		"no nodes":            {func(c *Change) { c.AINodes = []string{} }, "InvalidParameter: The parameter AiNodes"},
		"unknown node":        {func(c *Change) { c.AINodes = []string{w.nodes[0], "ai-x"} }, "InvalidAiNode.NotFound"},
		"bound node":          {func(c *Change) { c.AINodes = []string{w.nodes[0], w.nodes[3]} }, "OperationDenied.AiNodeBound"},
		"dangerous argument":  {func(c *Change) { c.ModelParams = map[string]any{"trust-remote-code": true} }, "InvalidParameter: The parameter ModelParams.trust-remote-code"},
		"it would not answer": {func(c *Change) { c.ModelParams = params(512) }, "OperationDenied.ServiceInterruption"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, w.services.Modify(t.Context(), modifyKey("bad"), w.change(id, c.change)), c.want)
			require.Equal(t, before, w.count(t))
		})
	}
	events, _, err := w.services.Events(t.Context(), account, w.instance, id, instance.Page{Number: 1, Size: 100})
	require.NoError(t, err)
	refusals := 0
	for _, e := range events {
		if strings.HasPrefix(e.Message, "A change was refused (") {
			refusals++
		}
	}
	require.Equal(t, 5, refusals, "those that only the database knows of: capacity, two nodes, interruption, an argument of the model")
	require.NoError(t, w.services.Delete(t.Context(), account, w.instance, id))
	require.ErrorIs(t, w.services.Modify(t.Context(), modifyKey("late"), w.change(id, func(c *Change) { c.Replicas = number(1) })), ErrStatus)
}

func TestTheOnlyReplicaIsReplacedIfTheServiceMayBeInterrupted(t *testing.T) {
	t.Parallel()
	w, f, s, id := running(t, 1, 1)
	require.NoError(t, w.services.Modify(t.Context(), modifyKey("p"), w.change(id, func(c *Change) {
		c.ModelParams, c.AllowInterruption = params(512), true
	})))
	w.converge(t, s, f, id, nil)
}

func TestOneTokenChangesOnce(t *testing.T) {
	t.Parallel()
	w, _, _, id := running(t, 1, 2)
	two, one := 2, 1
	up := w.change(id, func(c *Change) { c.Replicas = &two })
	require.NoError(t, w.services.Modify(t.Context(), modifyKey("k"), up))
	require.NoError(t, w.services.Modify(t.Context(), modifyKey("down"), w.change(id, func(c *Change) { c.Replicas = &one })))
	require.NoError(t, w.services.Modify(t.Context(), modifyKey("k"), up))
	require.Equal(t, 1, w.describe(t, id).ReplicaCount, "the repeated call changed nothing")
}

func TestAConvergedServiceIsNotWritten(t *testing.T) {
	t.Parallel()
	w, _, _, id := running(t, 2, 3)
	require.NoError(t, w.services.Modify(t.Context(), modifyKey("none"), w.change(id, func(c *Change) { c.ModelParams = map[string]any{} })))
	require.NoError(t, w.services.Reconcile(t.Context()))
	before := w.versions(t)
	require.NoError(t, w.services.Reconcile(t.Context()))
	require.Equal(t, before, w.versions(t))
}

func TestWhatHappenedIsRecordedAndForgottenByNumberAndAge(t *testing.T) {
	t.Parallel()
	w, f, s, id := running(t, 1, 2)
	ctx := t.Context()
	two := 2
	require.NoError(t, w.services.Modify(ctx, modifyKey("up"), w.change(id, func(c *Change) { c.Replicas = &two })))
	f.become(node.Exited, "the engine ended with status 1: out of memory")
	for _, r := range w.describe(t, id).Replicas[:1] {
		_, err := s.Step(ctx, r.ID)
		require.NoError(t, err)
	}
	page := instance.Page{Number: 1, Size: 100}
	events, total, err := w.services.Events(ctx, account, w.instance, id, page)
	require.NoError(t, err)
	require.Len(t, events, total)
	var all string
	for _, e := range events {
		all = string(e.Kind) + ": " + e.Message + "\n" + all
	}
	for _, said := range []string{
		"replica: Replica 0 on " + w.nodes[0] + " was pending and is starting.", "state: The service was deploying and is active.",
		"change: system changed it: Replicas 2.", "placement: A replica is added on " + w.nodes[1] + ", host host-a.",
		"replica: Replica 0 on " + w.nodes[0] + " failed: the engine ended with status 1: out of memory. It starts again in 1s (restart 1).",
		"state: The service was deploying and is",
	} {
		require.Contains(t, all, said)
	}
	_, _, err = w.services.Events(ctx, "1000000000000002", w.instance, id, page)
	require.ErrorIs(t, err, instance.ErrNotFound)
	_, _, err = w.services.Events(ctx, account, w.instance, ids.New(ids.ModelService), page)
	require.ErrorIs(t, err, ErrNotFound)

	_, err = w.Owner.Exec(ctx, `
		UPDATE model_service_event SET at = now() - interval '8 days' WHERE id = (SELECT min(id) FROM model_service_event);
		INSERT INTO model_service_event (account_id, db_instance_id, model_service_id, kind, message)
		SELECT 'a', 'i', 'noisy', 'state', '' FROM generate_series(1, 1005)`)
	require.NoError(t, err)
	require.NoError(t, w.services.Forget(ctx))
	var noisy int
	require.NoError(t, w.Owner.QueryRow(ctx, `SELECT count(*) FROM model_service_event WHERE model_service_id = 'noisy'`).Scan(&noisy))
	require.Equal(t, 1000, noisy)
	_, after, err := w.services.Events(ctx, account, w.instance, id, page)
	require.NoError(t, err)
	require.Equal(t, total-1, after)
}

func TestALogIsCopiedWhileSomebodyAsks(t *testing.T) {
	t.Parallel()
	w, _, s, id := running(t, 1, 1)
	ctx, stop := context.WithCancel(t.Context())
	copied := make(chan error, 1)
	watcher := NewWatcher(s.Host)
	go func() { copied <- watcher.CopyLogs(ctx) }()
	log, err := w.services.Log(ctx, account, w.instance, id, nil)
	require.NoError(t, err)
	require.Equal(t, "hello world\n", log.Text)
	require.Equal(t, int64(12), log.Offset)
	require.Equal(t, w.nodes[0], log.NodeName)
	require.NotZero(t, log.ReadAt)
	seven := 7
	_, err = w.services.Log(ctx, account, w.instance, id, &seven)
	require.ErrorIs(t, err, ErrReplicaNotFound)
	_, err = w.services.Log(ctx, account, w.instance, ids.New(ids.ModelService), nil)
	require.ErrorIs(t, err, ErrNotFound)
	stop()
	require.True(t, errors.Is(<-copied, context.Canceled))

	_, err = w.Owner.Exec(t.Context(), `UPDATE replica_log SET wanted_until = now() - interval '1 second'`)
	require.NoError(t, err)
	_, err = w.services.Log(t.Context(), account, w.instance, id, nil)
	require.ErrorContains(t, err, "ServiceUnavailable", "no host reads it, and an old one is not shown")
	_, err = w.Owner.Exec(t.Context(), `UPDATE replica_log SET wanted_until = now() - interval '1 second'`)
	require.NoError(t, err)
	require.NoError(t, w.services.Forget(t.Context()))
	var left int
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT count(*) FROM replica_log`).Scan(&left))
	require.Zero(t, left)
}

// lose makes the world's host silent and another one, with nodes of its own, alive.
func (w *world) addHost(t *testing.T, name string, nodes int) (names []string) {
	t.Helper()
	ctx := t.Context()
	_, err := w.Owner.Exec(ctx, `
		INSERT INTO host (name, engine_addr, started_at, heartbeat_at) VALUES ($1, '127.0.0.1', now(), now())`, name)
	require.NoError(t, err)
	for n := range nodes {
		node := fmt.Sprintf("zz-%s-%d", name, n)
		_, err := w.Owner.Exec(ctx, `
			INSERT INTO ai_node (name, pool_id, db_instance_id, host, node_spec)
			SELECT $1, id, db_instance_id, $2, 'x' FROM ai_node_pool WHERE db_instance_id = $3`, node, name, w.instance)
		require.NoError(t, err)
		names = append(names, node)
	}
	return names
}

func TestReplicasOfALostHostMoveToSpareNodes(t *testing.T) {
	t.Parallel()
	w, f, s, id := running(t, 2, 2)
	ctx := t.Context()
	spare := w.addHost(t, "host-b", 1)
	require.NoError(t, w.services.Modify(ctx, modifyKey("n"), w.change(id, func(c *Change) { c.AINodes = append(w.nodes[:2:2], spare...) })))
	before := w.describe(t, id).Replicas
	_, err := w.Owner.Exec(ctx, `UPDATE host SET heartbeat_at = now() - interval '20 seconds' WHERE name = $1`, host)
	require.NoError(t, err)
	require.NoError(t, w.services.Reconcile(ctx))
	require.Len(t, w.describe(t, id).Replicas, 2, "it is silent, and not lost yet")
	_, err = w.Owner.Exec(ctx, `UPDATE host SET heartbeat_at = now() - interval '31 seconds' WHERE name = $1`, host)
	require.NoError(t, err)
	require.NoError(t, w.services.Reconcile(ctx))
	svc := w.describe(t, id)
	require.Len(t, svc.Replicas, 3, "one can move")
	require.Equal(t, spare[0], svc.Replicas[2].NodeName)
	require.Equal(t, Degraded, svc.Status)

	other := &fakeHost{engines: map[string]node.Observation{}}
	b := w.stepper(other)
	b.Name = "host-b"
	step := func() {
		_, err := b.Step(ctx, svc.Replicas[2].ID)
		require.NoError(t, err)
	}
	step()
	other.become(node.Healthy, "")
	step()
	require.Len(t, w.describe(t, id).Replicas, 3, "with one of two replaced, what may still serve is kept")
	require.Len(t, w.published(t, id).Replicas, 3)

	one := 1
	require.NoError(t, w.services.Modify(ctx, modifyKey("one"), w.change(id, func(c *Change) { c.Replicas = &one })))
	svc = w.describe(t, id)
	require.Len(t, svc.Replicas, 1)
	require.Equal(t, spare[0], svc.Replicas[0].NodeName)
	require.Equal(t, Active, svc.Status)

	// The host comes back: what it does late is fenced off, and its nodes may be used again.
	for _, r := range before {
		again, err := s.Step(ctx, r.ID)
		require.NoError(t, err)
		require.Zero(t, again)
	}
	require.Len(t, f.engines, 2)
	left, err := NewWatcher(s.Host).Sweep(ctx)
	require.NoError(t, err)
	require.Equal(t, 2, left)
	require.Empty(t, f.engines)
	left, err = NewWatcher(s.Host).Sweep(ctx)
	require.NoError(t, err)
	require.Zero(t, left)
}

func TestADeletedServiceOfALostHostGoes(t *testing.T) {
	t.Parallel()
	w, _, _, id := running(t, 1, 1)
	ctx := t.Context()
	require.NoError(t, w.services.Delete(ctx, account, w.instance, id))
	_, err := w.Owner.Exec(ctx, `UPDATE host SET heartbeat_at = now() - interval '31 seconds'`)
	require.NoError(t, err)
	require.NoError(t, w.services.Reconcile(ctx))
	require.NoError(t, w.services.Reconcile(ctx))
	_, err = w.services.Describe(ctx, account, w.instance, id)
	require.ErrorIs(t, err, ErrNotFound)
}
