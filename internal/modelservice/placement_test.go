package modelservice

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/node"
	"github.com/engineshed/engineshed/internal/node/nodetest"
)

// misplaced names what must never be, in one snapshot of the rows.
const misplaced = `
	SELECT 'the node ' || node_name || ' has several replicas' FROM replica GROUP BY node_name HAVING count(*) > 1
	UNION ALL
	SELECT 'the replica ' || r.id || ' is on ' || n.name || ', which its service has not bound'
	FROM replica r JOIN ai_node n ON n.name = r.node_name WHERE n.model_service_id IS DISTINCT FROM r.model_service_id
	UNION ALL
	SELECT 'the replica ' || r.id || ' is not on the host of its node'
	FROM replica r JOIN ai_node n ON n.name = r.node_name WHERE n.host <> r.host
	UNION ALL
	SELECT 'the service ' || s.id || ' should have more replicas than nodes'
	FROM model_service s WHERE s.status <> 'deleting'
		AND s.replicas > (SELECT count(*) FROM ai_node n WHERE n.model_service_id = s.id AND NOT n.leaving)
	UNION ALL
	SELECT 'the node ' || name || ' leaves no service' FROM ai_node WHERE leaving AND model_service_id IS NULL`

func (w *world) misplaced(ctx context.Context) ([]string, error) {
	rows, err := w.Owner.Query(ctx, misplaced)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// contender creates, changes and deletes services on the nodes that everybody wants.
type contender struct {
	*world
	name   int
	random *rand.Rand
	mine   []string
	done   map[string]int // by what came of it

	accepted int
}

// refusals are what may come of a call that others were faster than.
var refusals = []error{
	instance.ErrNodeBound, instance.ErrInsufficientCapacity, ErrStatus, ErrNotFound, ErrInterruption,
}

func (c *contender) act(ctx context.Context, n int) error {
	what, err := c.once(ctx, fmt.Sprintf("%d/%d", c.name, n))
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			c.done[what+" refused"]++
			return nil
		}
	}
	if f, ok := errors.AsType[*fault.Fault](err); ok {
		return fmt.Errorf("%s: %s: %w", what, f.Code, err)
	}
	c.done[what]++
	c.accepted++
	return err
}

func (c *contender) once(ctx context.Context, token string) (what string, err error) {
	some := c.some()
	replicas := 1 + c.random.IntN(len(some))
	if len(c.mine) == 0 || c.random.IntN(3) == 0 {
		spec := c.spec(some...)
		spec.Replicas = &replicas
		svc, err := c.services.Create(ctx, key(token), spec)
		if err == nil {
			c.mine = append(c.mine, svc.ID)
		}
		return "create", err
	}
	at := c.random.IntN(len(c.mine))
	id := c.mine[at]
	if c.random.IntN(2) == 0 {
		c.mine = append(c.mine[:at], c.mine[at+1:]...)
		return "delete", c.services.Delete(ctx, account, c.instance, id)
	}
	return "modify", c.services.Modify(ctx, modifyKey(token), c.change(id, func(change *Change) {
		change.AINodes, change.Replicas, change.AllowInterruption = some, &replicas, true
	}))
}

// some are a few of the nodes, in any order.
func (c *contender) some() []string {
	nodes := append([]string{}, c.nodes...)
	c.random.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	return nodes[:1+c.random.IntN(3)]
}

func TestNodesAreNeverOvercommittedWhoeverWantsThem(t *testing.T) {
	t.Parallel()
	const contenders, accepted, tries = 8, 12, 2000 // of each
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w, f := newWorld(t), &fakeHost{engines: map[string]node.Observation{}}
	w.nodes = append(w.nodes, w.addHost(t, "host-b", 4)...)
	here, there := w.stepper(f), w.stepper(f)
	there.Name = "host-b"
	here.DrainLimit, there.DrainLimit = 0, 0
	var acting, watching sync.WaitGroup
	failures := make(chan error, 2*contenders)
	all := make([]*contender, contenders)
	for n := range all {
		all[n] = &contender{world: w, name: n, random: rand.New(rand.NewPCG(seed, uint64(n))), done: map[string]int{}} //nolint:gosec // a test's choices
		acting.Go(func() {
			for try := 0; try < tries && all[n].accepted < accepted; try++ {
				if err := all[n].act(t.Context(), try); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	watching.Go(func() { w.stepAll(ctx, f, failures, here, there) })
	looks := 0
	watching.Go(func() {
		for ; ctx.Err() == nil; looks++ {
			if wrong, err := w.misplaced(t.Context()); err != nil || len(wrong) > 0 {
				failures <- fmt.Errorf("%v %w", wrong, err)
				return
			}
		}
	})
	acting.Wait()
	stop()
	watching.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	total := map[string]int{}
	for _, c := range all {
		for what, n := range c.done {
			total[what] += n
		}
	}
	t.Logf("%v, %d looks", total, looks)
	for _, what := range []string{"create", "modify", "delete"} {
		require.NotZero(t, total[what], "%v", total)
	}
	w.endAll(t, f, all, here, there)
}

// Whoever waited for a bound node while he holds others could wait in a circle with the one who gives it back.
func TestABoundNodeIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	svc, err := w.services.Create(ctx, key("one"), w.spec(w.nodes[1]))
	require.NoError(t, err)
	other, err := w.services.Create(ctx, key("other"), w.spec(w.nodes[2]))
	require.NoError(t, err)
	tx, err := w.Owner.Begin(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(context.Background())) }()
	_, err = tx.Exec(ctx, `UPDATE ai_node SET updated_at = now() WHERE model_service_id = $1`, svc.ID)
	require.NoError(t, err)

	_, err = w.services.Create(ctx, key("both"), w.spec(w.nodes[0], w.nodes[1]))
	require.ErrorIs(t, err, instance.ErrNodeBound)
	err = w.services.Modify(ctx, modifyKey("both"), w.change(other.ID, func(c *Change) { c.AINodes = []string{w.nodes[0], w.nodes[1]} }))
	require.ErrorIs(t, err, instance.ErrNodeBound)
	_, err = instance.New(w.Control, region).DeleteNodes(ctx, instance.Deletion{
		AccountID: account, DBInstanceID: w.instance, Names: []string{w.nodes[0], w.nodes[1]},
	})
	require.ErrorIs(t, err, instance.ErrNodeBound)
}

// stepAll has every replica take steps, and gateways and engines follow, until ctx ends.
func (w *world) stepAll(ctx context.Context, f *fakeHost, failures chan<- error, hosts ...*Stepper) {
	for ctx.Err() == nil {
		if err := w.stepOnce(context.WithoutCancel(ctx), f, hosts...); err != nil {
			failures <- err
			return
		}
	}
}

func (w *world) stepOnce(ctx context.Context, f *fakeHost, hosts ...*Stepper) error {
	f.become(node.Healthy, "")
	rows, err := w.Owner.Query(ctx, `SELECT id, model_service_id FROM replica`)
	if err != nil {
		return err
	}
	type pair struct{ Replica, Service string }
	replicas, err := pgx.CollectRows(rows, pgx.RowToStructByPos[pair])
	if err != nil {
		return err
	}
	var stepping sync.WaitGroup
	errs := make([]error, len(replicas))
	for n, r := range replicas {
		stepping.Go(func() {
			for _, s := range hosts { // one of them is its host
				_, err := s.Step(ctx, r.Replica)
				errs[n] = errors.Join(errs[n], err)
			}
			errs[n] = errors.Join(errs[n], w.services.Publish(ctx, r.Service))
		})
	}
	stepping.Wait()
	return errors.Join(errs...)
}

// endAll deletes what the contenders have left. All nodes are free then, and nothing runs.
func (w *world) endAll(t *testing.T, f *fakeHost, all []*contender, hosts ...*Stepper) {
	t.Helper()
	for _, c := range all {
		for _, id := range c.mine {
			require.NoError(t, w.services.Delete(t.Context(), account, w.instance, id))
		}
	}
	nodetest.Eventually(t, func() bool {
		require.NoError(t, w.stepOnce(t.Context(), f, hosts...))
		require.NoError(t, w.services.Reconcile(t.Context()))
		var left int
		err := w.Owner.QueryRow(t.Context(), `
			SELECT (SELECT count(*) FROM model_service) + (SELECT count(*) FROM replica)
				+ (SELECT count(*) FROM ai_node WHERE model_service_id IS NOT NULL OR leaving)`).Scan(&left)
		return err == nil && left == 0
	}, "services, replicas or bound nodes are left")
	require.Empty(t, f.engines)
}
