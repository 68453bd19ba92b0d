package modelservice

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/node"
)

func TestADrainedHostIsEmptiedAndNothingIsInterrupted(t *testing.T) {
	t.Parallel()
	w, f, s, id := running(t, 2, 2)
	ctx, hosts := t.Context(), NewHosts(w.Control)
	require.ErrorIs(t, hosts.Drain(ctx, "nobody", true), ErrHostNotFound)
	require.NoError(t, hosts.Drain(ctx, host, true))
	require.NoError(t, w.services.Reconcile(ctx))
	left, err := hosts.Remaining(ctx, host)
	require.NoError(t, err)
	require.Len(t, left, 2)
	require.Equal(t, 2, left[0].Missing)
	svc := w.describe(t, id)
	require.Equal(t, Active, svc.Status, "they stay where they are")
	require.Contains(t, svc.StatusReason, "its host host-a is drained, and it moves as soon as an AI node on another host is free for it")
	versions := w.versions(t)
	require.NoError(t, w.services.Reconcile(ctx))
	require.Equal(t, versions, w.versions(t))

	nodes := w.addHost(t, "host-b", 2)
	other := &fakeHost{engines: map[string]node.Observation{}}
	b := w.stepper(other)
	b.Name = "host-b"
	require.NoError(t, w.services.Modify(ctx, modifyKey("n"), w.change(id, func(c *Change) { c.AINodes = append(w.nodes[:2:2], nodes...) })))
	left, err = hosts.Remaining(ctx, host)
	require.NoError(t, err)
	require.Zero(t, left[0].Missing)
	moved := func(svc Service) bool {
		for _, r := range svc.Replicas {
			if r.Host != "host-b" || r.Status != active {
				return false
			}
		}
		return len(svc.Replicas) == 2
	}
	for round := 0; !moved(w.describe(t, id)); round++ {
		require.Less(t, round, 1000)
		require.NoError(t, w.services.Reconcile(ctx))
		w.round(t, s, f, id)
		w.round(t, b, other, id)
		require.GreaterOrEqual(t, serving(w.describe(t, id)), 2)
	}
	left, err = hosts.Remaining(ctx, host)
	require.NoError(t, err)
	require.Empty(t, left)
	require.Empty(t, w.describe(t, id).StatusReason)

	instances := instance.New(w.Control, region)
	added, err := instances.AddNodes(ctx, account, w.instance, "", []instance.NodeSpec{{Spec: instance.DefaultNodeSpec, Count: 3}})
	require.NoError(t, err)
	var on string
	require.NoError(t, w.Owner.QueryRow(ctx, `SELECT string_agg(DISTINCT host, ' ') FROM ai_node WHERE name = ANY ($1)`, added).Scan(&on))
	require.Equal(t, "host-b", on, "nothing new is placed on a drained host")
	require.NoError(t, hosts.Drain(ctx, host, false))
	listed, err := hosts.List(ctx)
	require.NoError(t, err)
	require.False(t, listed[0].Draining)
	require.Equal(t, [3]int{4, 2, 0}, [3]int{listed[0].AINodes, listed[0].Bound, listed[0].Replicas})
	require.Equal(t, [3]int{5, 2, 2}, [3]int{listed[1].AINodes, listed[1].Bound, listed[1].Replicas})
}

func TestAMachineThatLostItsNameTakesNoStep(t *testing.T) {
	t.Parallel()
	w, f, s, id := running(t, 1, 1)
	ctx := t.Context()
	_, err := w.Owner.Exec(ctx, `UPDATE host SET machine = 'new'`)
	require.NoError(t, err)
	f.become(node.Exited, "ended")
	s.Machine = "old"
	_, err = s.Step(ctx, w.replica(t, id))
	require.NoError(t, err)
	require.Equal(t, Active, w.describe(t, id).Status)
	s.Machine = "new"
	_, err = s.Step(ctx, w.replica(t, id))
	require.NoError(t, err)
	require.Equal(t, Degraded, w.describe(t, id).Status)
}

func TestANewServiceBeginsOnHostsThatTakeIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	nodes := slices.Concat(w.addHost(t, "host-b", 1), w.addHost(t, "host-c", 1), w.addHost(t, "host-d", 2))
	require.NoError(t, NewHosts(w.Control).Drain(ctx, "host-b", true))
	_, err := w.Owner.Exec(ctx, `UPDATE host SET heartbeat_at = now() - interval '11 seconds' WHERE name = 'host-c'`)
	require.NoError(t, err)
	two := 2
	spec := w.spec(nodes...)
	spec.Replicas = &two
	svc, err := w.services.Create(ctx, key("t"), spec)
	require.NoError(t, err)
	replicas := w.describe(t, svc.ID).Replicas
	require.Equal(t, nodes[2:], []string{replicas[0].NodeName, replicas[1].NodeName})
}

func TestAHostThatIsGoneForGoodIsForgotten(t *testing.T) {
	t.Parallel()
	w, _, _, id := running(t, 2, 2)
	ctx, hosts := t.Context(), NewHosts(w.Control)
	require.ErrorIs(t, hosts.Remove(ctx, host), ErrHostAlive)
	require.ErrorIs(t, hosts.Remove(ctx, "nobody"), ErrHostNotFound)
	w.addHost(t, "host-b", 1)
	_, err := w.Owner.Exec(ctx, `UPDATE host SET heartbeat_at = now() - interval '11 seconds' WHERE name = $1`, host)
	require.NoError(t, err)
	require.NoError(t, hosts.Remove(ctx, host))
	listed, err := hosts.List(ctx)
	require.NoError(t, err)
	require.Len(t, listed, 1)
	require.Equal(t, "host-b", listed[0].Name)

	require.NoError(t, w.services.Reconcile(ctx))
	svc := w.describe(t, id)
	require.Equal(t, Degraded, svc.Status)
	require.Equal(t, "No replica answers: no AI node on a host that is alive is free for the others.", svc.StatusReason)
	require.Empty(t, svc.AINodes)
	require.NoError(t, w.services.Publish(ctx, id))
	require.Empty(t, w.published(t, id).Replicas, "no gateway asks what is gone")
	versions := w.versions(t)
	require.NoError(t, w.services.Reconcile(ctx))
	require.Equal(t, versions, w.versions(t))
}

func TestManyReadsTellWhatIsKnownAndWhatIsNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	const hosts, services, replicas, nodesOnEach = 40, 100, 10, 25
	var nodes []string
	for n := range hosts {
		nodes = append(nodes, w.addHost(t, fmt.Sprintf("h-%d", n), nodesOnEach)...)
	}
	ids := make([]string, services)
	for n := range ids {
		count := replicas
		spec := w.spec()
		spec.Replicas = &count
		for i := n * replicas; i < (n+1)*replicas; i++ { // on ten hosts each
			spec.AINodes = append(spec.AINodes, nodes[i%hosts*nodesOnEach+i/hosts])
		}
		svc, err := w.services.Create(ctx, key(fmt.Sprint(n)), spec)
		require.NoError(t, err)
		ids[n] = svc.ID
	}
	_, err := w.Owner.Exec(ctx, `
		UPDATE replica SET status = 'active', status_reason = '';
		UPDATE model_service SET status = 'active', status_reason = '';
		UPDATE host SET heartbeat_at = CASE WHEN name ~ '[37]$' THEN now() - interval '15 seconds' ELSE now() + interval '1 hour' END`)
	require.NoError(t, err)
	began := time.Now()
	seen := 0
	for page := 1; seen < services; page++ {
		listed, total, err := w.services.List(ctx, account, w.instance, instance.Page{Number: page, Size: 50})
		require.NoError(t, err)
		require.Equal(t, services, total)
		for _, svc := range listed {
			requireHonest(t, svc)
			requireHonest(t, w.describe(t, svc.ID))
		}
		seen += len(listed)
	}
	t.Logf("%d replicas were read twice in %s", services*replicas, time.Since(began).Round(time.Millisecond))
}

// requireHonest holds that exactly the replicas on hosts named …3 and …7 are unknown, and that the service says so.
func requireHonest(t *testing.T, svc Service) {
	t.Helper()
	silent := 0
	for _, r := range svc.Replicas {
		isSilent := strings.HasSuffix(r.Host, "3") || strings.HasSuffix(r.Host, "7")
		if isSilent {
			silent++
			require.Regexp(t, "^host "+r.Host+" last reported [0-9ms]+ ago$", r.Reason)
		}
		require.Equal(t, isSilent, r.Status == unknown)
	}
	if silent == 0 {
		require.Equal(t, Active, svc.Status)
		require.Empty(t, svc.StatusReason)
		return
	}
	require.Equal(t, Degraded, svc.Status)
	require.Contains(t, svc.StatusReason, "unknown: host h-")
}

func TestAReasonNamesAFewSilentHosts(t *testing.T) {
	t.Parallel()
	var silent []Replica
	for n := range 7 {
		silent = append(silent, Replica{Ordinal: n, NodeName: "ai", Reason: fmt.Sprintf("host h%d last reported 12s ago", n/2+1)})
	}
	require.Equal(t, "The state of replica 0 on ai is unknown: host h1 last reported 12s ago; check that its worker runs and reaches the database.",
		whyUnknown(silent[:1], 9))
	require.Equal(t, "The states of 3 of 9 replicas are unknown: host h1 last reported 12s ago, host h2 last reported 12s ago; "+
		"check that the workers run and reach the database.", whyUnknown(silent[:3], 9))
	require.Contains(t, whyUnknown(silent, 9), "host h3 last reported 12s ago, and so for 1 other host; check")
}
