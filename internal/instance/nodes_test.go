package instance_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

const neighbour = "1000000000000002"

// made is a fresh instance of the account with so many nodes on a host that has no accelerators.
func made(t *testing.T, instances *instance.Instances, nodes int) (id string) {
	t.Helper()
	beat(t, instances, "laptop", 0)
	s := instance.Spec{AccountID: account, RegionID: region}
	if nodes > 0 {
		s.Nodes = []instance.NodeSpec{{Spec: instance.DefaultNodeSpec, Count: nodes}}
	}
	inst, err := instances.Create(t.Context(), idempotency.Key{}, s)
	require.NoError(t, err)
	return inst.ID
}

func nodesOf(t *testing.T, instances *instance.Instances, id string) (names []string) {
	t.Helper()
	pools, err := instances.Pools(t.Context(), account, id)
	require.NoError(t, err)
	for _, pool := range pools {
		for _, n := range pool.Nodes {
			names = append(names, n.Name)
		}
	}
	return names
}

// bind has a model service use the node.
func bind(t *testing.T, db *pgtest.DB, id, node string) (service string) {
	t.Helper()
	service = ids.New(ids.ModelService)
	_, err := db.Owner.Exec(t.Context(), `
		INSERT INTO model_service (id, account_id, db_instance_id, region_id, resource_group_id, model_name, replicas, api_key_sealed, status)
		VALUES ($1, $2, $3, $4, 'rg-default', 'm', 1, '', 'deploying')`, service, account, id, region)
	require.NoError(t, err)
	_, err = db.Owner.Exec(t.Context(), `UPDATE ai_node SET model_service_id = $1 WHERE name = $2`, service, node)
	require.NoError(t, err)
	return service
}

func TestNodesAreAddedToAPool(t *testing.T) {
	t.Parallel()
	instances, _ := newInstances(t)
	id, other := made(t, instances, 1), made(t, instances, 1)
	two := []instance.NodeSpec{{Spec: "ADB.AILarge.1", Count: 1}, {Spec: "ADB.AIMedium.2", Count: 1}}
	added, err := instances.AddNodes(t.Context(), account, id, "", two)
	require.NoError(t, err)
	require.Len(t, added, 2)
	pools, err := instances.Pools(t.Context(), account, id)
	require.NoError(t, err)
	require.Len(t, pools, 1, "the instance's own pool is taken")
	require.Subset(t, nodesOf(t, instances, id), added)
	_, err = instances.AddNodes(t.Context(), account, id, pools[0].ID, two)
	require.NoError(t, err)
	require.Len(t, nodesOf(t, instances, id), 5)

	bare := made(t, instances, 0)
	_, err = instances.AddNodes(t.Context(), account, bare, "", two)
	require.NoError(t, err)
	require.Len(t, nodesOf(t, instances, bare), 2, "an instance without a pool gets one")

	theirs, err := instances.Pools(t.Context(), account, other)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		account, id, pool string
		specs             []instance.NodeSpec
		want              string
	}{
		"a pool of another instance": {account, id, theirs[0].ID, two, "InvalidAINodePoolId.NotFound"},
		"no such pool":               {account, id, ids.New(ids.AINodePool), two, "InvalidAINodePoolId.NotFound"},
		"another account":            {neighbour, id, "", two, "InvalidDBInstanceId.NotFound"},
		"no such instance":           {account, ids.New(ids.DBInstance), "", two, "InvalidDBInstanceId.NotFound"},
		"an unknown kind":            {account, id, "", []instance.NodeSpec{{Spec: "ADB.AIHuge.1", Count: 1}}, "The parameter NodeSpec"},
		"too many":                   {account, id, "", []instance.NodeSpec{{Spec: "ADB.AILarge.1", Count: 999}, {Spec: "ADB.AILarge.1", Count: 2}}, "The parameter NodeNum"},
	} {
		_, err := instances.AddNodes(t.Context(), c.account, c.id, c.pool, c.specs)
		require.ErrorContains(t, err, c.want, name)
	}
	require.Len(t, nodesOf(t, instances, id), 5)
}

func TestAllNodesAreAddedOrNone(t *testing.T) {
	t.Parallel()
	gpus, _ := newInstances(t)
	beat(t, gpus, "gpu-a", 2)
	inst, err := gpus.Create(t.Context(), idempotency.Key{}, spec("ADB.AILarge.1", 1))
	require.NoError(t, err)
	_, err = gpus.AddNodes(t.Context(), account, inst.ID, "", []instance.NodeSpec{{Spec: "ADB.AIMedium.1", Count: 1}, {Spec: "ADB.AILarge.1", Count: 1}})
	require.ErrorIs(t, err, instance.ErrInsufficientCapacity)
	require.Len(t, nodesOf(t, gpus, inst.ID), 1)
	_, err = gpus.AddNodes(t.Context(), account, inst.ID, "", []instance.NodeSpec{{Spec: "ADB.AILarge.1", Count: 1}})
	require.NoError(t, err)
	deleted, err := gpus.DeleteNodes(t.Context(), instance.Deletion{AccountID: account, DBInstanceID: inst.ID, Count: 2})
	require.NoError(t, err)
	require.Len(t, deleted, 2)
	require.NoError(t, create(t, gpus, spec("ADB.AIXLarge.1", 1)), "what deleted nodes had is free again")
}

func TestFreeNodesAreDeletedAndBoundOnesAreNot(t *testing.T) {
	t.Parallel()
	instances, db := newInstances(t)
	id, other := made(t, instances, 3), made(t, instances, 1)
	nodes, theirs := nodesOf(t, instances, id), nodesOf(t, instances, other)
	bind(t, db, id, nodes[0])
	pools, err := instances.Pools(t.Context(), account, other)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		d    instance.Deletion
		want string
	}{
		"nothing said":               {instance.Deletion{}, "MissingParameter"},
		"two numbers":                {instance.Deletion{Names: nodes[1:2], Count: 2}, "AINodeNum"},
		"a node twice":               {instance.Deletion{Names: []string{nodes[1], nodes[1]}}, "NodeNames"},
		"bound":                      {instance.Deletion{Names: []string{nodes[1], nodes[0]}}, "OperationDenied.AiNodeBound"},
		"of another instance":        {instance.Deletion{Names: theirs}, "InvalidAiNode.NotFound"},
		"no such node":               {instance.Deletion{Names: []string{ids.New(ids.AINode)}}, "InvalidAiNode.NotFound"},
		"a pool of another instance": {instance.Deletion{Names: nodes[1:2], PoolID: pools[0].ID}, "InvalidAINodePoolId.NotFound"},
		"more than are free":         {instance.Deletion{Count: 3}, "OperationDenied.AiNodeBound"},
		"another account":            {instance.Deletion{Count: 1, AccountID: neighbour}, "InvalidDBInstanceId.NotFound"},
	} {
		if c.d.DBInstanceID = id; c.d.AccountID == "" {
			c.d.AccountID = account
		}
		_, err := instances.DeleteNodes(t.Context(), c.d)
		require.ErrorContains(t, err, c.want, name)
		require.ElementsMatch(t, nodes, nodesOf(t, instances, id), name)
	}
	deleted, err := instances.DeleteNodes(t.Context(), instance.Deletion{AccountID: account, DBInstanceID: id, Names: nodes[1:2], Count: 1})
	require.NoError(t, err)
	require.Equal(t, nodes[1:2], deleted)
	deleted, err = instances.DeleteNodes(t.Context(), instance.Deletion{AccountID: account, DBInstanceID: id, Count: 1})
	require.NoError(t, err)
	require.Equal(t, nodes[2:], deleted)
	require.Equal(t, nodes[:1], nodesOf(t, instances, id))
}

func TestAPoolOutlivesItsNodes(t *testing.T) {
	t.Parallel()
	instances, _ := newInstances(t)
	id := made(t, instances, 1)
	before, err := instances.Pools(t.Context(), account, id)
	require.NoError(t, err)
	_, err = instances.DeleteNodes(t.Context(), instance.Deletion{AccountID: account, DBInstanceID: id, Count: 1})
	require.NoError(t, err)
	after, err := instances.Pools(t.Context(), account, id)
	require.NoError(t, err)
	require.Equal(t, []instance.Pool{{ID: before[0].ID}}, after)
}

func TestANodeIsDeletedOnce(t *testing.T) {
	t.Parallel()
	instances, _ := newInstances(t)
	id := made(t, instances, 5)
	results := make([][]string, 10)
	var wait sync.WaitGroup
	for i := range results {
		wait.Go(func() {
			results[i], _ = instances.DeleteNodes(t.Context(), instance.Deletion{AccountID: account, DBInstanceID: id, Count: 1})
		})
	}
	wait.Wait()
	seen := map[string]bool{}
	for _, names := range results {
		for _, name := range names {
			require.False(t, seen[name], name)
			seen[name] = true
		}
	}
	require.Len(t, nodesOf(t, instances, id), 5-len(seen))
	require.NotEmpty(t, seen)
}

func TestAnInstanceIsDeletedWithEverythingOfIt(t *testing.T) {
	t.Parallel()
	instances, db := newInstances(t)
	id, other := made(t, instances, 2), made(t, instances, 1)
	service := bind(t, db, id, nodesOf(t, instances, id)[0])
	key := idempotency.Key{AccountID: account, RegionID: region, Action: "gpdb:DeleteDBInstance", Token: "t", Fingerprint: []byte("f")}
	err := instances.Delete(t.Context(), key, account, id)
	require.ErrorIs(t, err, instance.ErrHasServices)
	require.ErrorContains(t, err, service)
	require.ErrorIs(t, instances.Delete(t.Context(), idempotency.Key{}, neighbour, id), instance.ErrNotFound)
	_, err = db.Owner.Exec(t.Context(), `UPDATE ai_node SET model_service_id = NULL`)
	require.NoError(t, err)
	_, err = db.Owner.Exec(t.Context(), `DELETE FROM model_service`)
	require.NoError(t, err)

	require.NoError(t, instances.Delete(t.Context(), key, account, id), "a refusal has left the token unused")
	require.NoError(t, instances.Delete(t.Context(), key, account, id), "repeated")
	require.ErrorIs(t, instances.Delete(t.Context(), idempotency.Key{}, account, id), instance.ErrNotFound)
	key.Fingerprint = []byte("other")
	require.ErrorIs(t, instances.Delete(t.Context(), key, account, other), idempotency.ErrMismatch)
	var left int
	require.NoError(t, db.Owner.QueryRow(t.Context(), `
		SELECT (SELECT count(*) FROM db_instance WHERE id = $1) + (SELECT count(*) FROM ai_node WHERE db_instance_id = $1)
			+ (SELECT count(*) FROM ai_node_pool WHERE db_instance_id = $1) + (SELECT count(*) FROM ip_array WHERE db_instance_id = $1)`,
		id).Scan(&left))
	require.Zero(t, left)
	require.Len(t, nodesOf(t, instances, other), 1)
}

func TestOnlyTheDefaultResourceGroupIsThere(t *testing.T) {
	t.Parallel()
	instances, _ := newInstances(t)
	id := made(t, instances, 0)
	require.NoError(t, instances.SetResourceGroup(t.Context(), account, id, instance.DefaultResourceGroup))
	require.ErrorIs(t, instances.SetResourceGroup(t.Context(), account, id, "rg-other"), instance.ErrResourceGroup)
	require.ErrorIs(t, instances.SetResourceGroup(t.Context(), neighbour, id, instance.DefaultResourceGroup), instance.ErrNotFound)
}

func TestAnInstanceIsDescribedWithItsDefaultArray(t *testing.T) {
	t.Parallel()
	instances, _ := newInstances(t)
	beat(t, instances, "laptop", 0)
	s := instance.Spec{AccountID: account, RegionID: region, Description: "d", SecurityIPList: "10.0.0.0/8,127.0.0.1", Tags: map[string]string{"a": "1"}}
	inst, err := instances.Create(t.Context(), idempotency.Key{}, s)
	require.NoError(t, err)
	described, allowed, err := instances.Describe(t.Context(), account, inst.ID)
	require.NoError(t, err)
	require.Equal(t, inst, described)
	require.Equal(t, "10.0.0.0/8,127.0.0.1", allowed)
	_, _, err = instances.Describe(t.Context(), neighbour, inst.ID)
	require.ErrorIs(t, err, instance.ErrNotFound)
	zones, err := instances.Zones(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"laptop"}, zones)
}

func TestOneTokenDeletesOneInstanceAndAllCallsSucceed(t *testing.T) {
	t.Parallel()
	instances, db := newInstances(t)
	id := made(t, instances, 3)
	key := idempotency.Key{AccountID: account, RegionID: region, Action: "gpdb:DeleteDBInstance", Token: "t", Fingerprint: []byte("f")}
	results := make([]error, 20)
	var wait sync.WaitGroup
	for i := range results {
		wait.Go(func() { results[i] = instances.Delete(t.Context(), key, account, id) })
	}
	wait.Wait()
	for _, err := range results {
		require.NoError(t, err)
	}
	var done int
	require.NoError(t, db.Owner.QueryRow(t.Context(), `SELECT count(*) FROM audit_event WHERE resource_id = $1 AND outcome = 'done'`, id).Scan(&done))
	require.Equal(t, 2, done, "the making and one deletion")
}
