package instance_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

const (
	account = "1000000000000001"
	region  = "cn-hangzhou"
)

func newInstances(t *testing.T) (*instance.Instances, *pgtest.DB) {
	t.Helper()
	db := pgtest.New(t)
	_, err := db.Owner.Exec(t.Context(), `INSERT INTO account (id, name) VALUES ($1, 'a'), ('1000000000000002', 'b')`, account)
	require.NoError(t, err)
	return instance.New(db.Control, region), db
}

func beat(t *testing.T, instances *instance.Instances, name string, accelerators int) {
	t.Helper()
	h := instance.Host{Name: name, EngineAddr: "127.0.0.1", StartedAt: time.Now()}
	for i := range accelerators {
		h.Accelerators = append(h.Accelerators, instance.Accelerator{Index: i, Name: "GPU", MemoryMiB: 80 << 10})
	}
	require.NoError(t, instances.Beat(t.Context(), h))
}

func spec(nodeSpec string, count int) instance.Spec {
	return instance.Spec{AccountID: account, RegionID: region, Nodes: []instance.NodeSpec{{Spec: nodeSpec, Count: count}}}
}

func create(t *testing.T, instances *instance.Instances, s instance.Spec) error {
	t.Helper()
	_, err := instances.Create(t.Context(), idempotency.Key{}, s)
	return err
}

func TestNodesTakeWhatTheHostsHaveAndNoMore(t *testing.T) {
	t.Parallel()
	instances, _ := newInstances(t)
	beat(t, instances, "gpu-a", 2)
	require.NoError(t, create(t, instances, spec("ADB.AIMedium.1", 3)), "three halves")
	require.NoError(t, create(t, instances, spec("ADB.AIStandard.2", 2)), "two quarters in the fourth half")
	require.ErrorIs(t, create(t, instances, spec("ADB.AIStandard.2", 1)), instance.ErrInsufficientCapacity)
	beat(t, instances, "gpu-b", 4)
	require.NoError(t, create(t, instances, spec("ADB.AI2XLarge.8", 1)), "all four of the new host")
	require.ErrorIs(t, create(t, instances, spec("ADB.AILarge.1", 1)), instance.ErrInsufficientCapacity)
}

func TestTwoCallsNeverTakeTheSameAccelerator(t *testing.T) {
	t.Parallel()
	instances, db := newInstances(t)
	beat(t, instances, "gpu-a", 3)
	var wait sync.WaitGroup
	results := make([]error, 10)
	for i := range results {
		wait.Go(func() { results[i] = create(t, instances, spec("ADB.AILarge.1", 1)) })
	}
	wait.Wait()
	made := 0
	for _, err := range results {
		if err == nil {
			made++
		}
	}
	require.Equal(t, 3, made)
	var most float64
	require.NoError(t, db.Owner.QueryRow(t.Context(), `
		SELECT max(used) FROM (SELECT sum(memory_fraction) AS used FROM ai_node CROSS JOIN unnest(accelerators) a GROUP BY a) x`).Scan(&most))
	require.LessOrEqual(t, most, 1.0)
}

func TestASilentHostGetsNoNodes(t *testing.T) {
	t.Parallel()
	instances, db := newInstances(t)
	beat(t, instances, "gpu-a", 1)
	_, err := db.Owner.Exec(t.Context(), `UPDATE host SET heartbeat_at = now() - interval '11 seconds'`)
	require.NoError(t, err)
	require.ErrorIs(t, create(t, instances, spec("ADB.AILarge.1", 1)), instance.ErrInsufficientCapacity)
}

func TestAHostWithoutAcceleratorsOffersSimulatedNodesWithoutLimit(t *testing.T) {
	t.Parallel()
	instances, _ := newInstances(t)
	beat(t, instances, "laptop", 0)
	require.NoError(t, create(t, instances, spec("ADB.AI2XLarge.8", 100)))
}

func TestARepeatedCreateIsAnsweredWithTheFirst(t *testing.T) {
	t.Parallel()
	instances, _ := newInstances(t)
	beat(t, instances, "laptop", 0)
	key := idempotency.Key{AccountID: account, RegionID: region, Action: "gpdb:CreateDBInstance", Token: "t", Fingerprint: []byte("f")}
	first, err := instances.Create(t.Context(), key, spec("ADB.AILarge.1", 2))
	require.NoError(t, err)
	second, err := instances.Create(t.Context(), key, spec("ADB.AILarge.1", 2))
	require.NoError(t, err)
	require.Equal(t, first.ID, second.ID)
	_, total, err := instances.List(t.Context(), account, instance.Filter{Page: instance.Page{Number: 1, Size: 10}})
	require.NoError(t, err)
	require.Equal(t, 1, total)
}

func TestBadSpecsAreRefused(t *testing.T) {
	t.Parallel()
	instances, _ := newInstances(t)
	beat(t, instances, "laptop", 0)
	for name, c := range map[string]struct {
		change func(*instance.Spec)
		want   string
	}{
		"another region":    {func(s *instance.Spec) { s.RegionID = "mars" }, "InvalidRegionId.NotFound"},
		"another group":     {func(s *instance.Spec) { s.ResourceGroupID = "rg-x" }, "InvalidResourceGroupId.NotFound"},
		"unknown node spec": {func(s *instance.Spec) { s.Nodes[0].Spec = "ADB.AIHuge.1" }, "AINodeSpec"},
		"unknown number":    {func(s *instance.Spec) { s.Nodes[0].Spec = "ADB.AILarge.7" }, "AINodeSpec"},
		"no nodes":          {func(s *instance.Spec) { s.Nodes[0].Count = 0 }, "AINodeNum"},
		"too many nodes":    {func(s *instance.Spec) { s.Nodes[0].Count = 1001 }, "AINodeNum"},
		"IP garbage":        {func(s *instance.Spec) { s.SecurityIPList = "x" }, "InvalidSecurityIPList.Malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec("ADB.AILarge.1", 1)
			c.change(&s)
			require.ErrorContains(t, create(t, instances, s), c.want)
		})
	}
}

func TestListFiltersAndPages(t *testing.T) {
	t.Parallel()
	instances, _ := newInstances(t)
	var made []instance.Instance
	for _, description := range []string{"prod one", "prod two", "test"} {
		inst, err := instances.Create(t.Context(), idempotency.Key{}, instance.Spec{
			AccountID: account, RegionID: region, Description: description, Tags: map[string]string{"team": description},
		})
		require.NoError(t, err)
		made = append(made, inst)
	}
	list := func(account string, f instance.Filter) (ids []string, total int) {
		if f.Page.Size == 0 {
			f.Page = instance.Page{Number: 1, Size: 20}
		}
		found, total, err := instances.List(context.Background(), account, f)
		require.NoError(t, err)
		for _, inst := range found {
			ids = append(ids, inst.ID)
		}
		return ids, total
	}
	all, total := list(account, instance.Filter{})
	require.Equal(t, []string{made[0].ID, made[1].ID, made[2].ID}, all)
	require.Equal(t, 3, total)
	found, _ := list(account, instance.Filter{Description: "prod"})
	require.Len(t, found, 2)
	found, _ = list(account, instance.Filter{Tags: map[string]string{"team": "test"}})
	require.Equal(t, []string{made[2].ID}, found)
	found, _ = list(account, instance.Filter{IDs: []string{made[1].ID, "gp-unknown"}})
	require.Equal(t, []string{made[1].ID}, found)
	found, _ = list(account, instance.Filter{RegionID: "mars"})
	require.Empty(t, found)
	found, total = list(account, instance.Filter{Page: instance.Page{Number: 2, Size: 2}})
	require.Equal(t, []string{made[2].ID}, found)
	require.Equal(t, 3, total)
	found, total = list(account, instance.Filter{Page: instance.Page{Number: 9, Size: 2}})
	require.Empty(t, found)
	require.Equal(t, 3, total, "a page beyond the last still says how many there are")
	found, _ = list("1000000000000002", instance.Filter{})
	require.Empty(t, found)
}

func TestPoolsShowAnInstanceOfTheAccountOnly(t *testing.T) {
	t.Parallel()
	instances, _ := newInstances(t)
	beat(t, instances, "laptop", 0)
	inst, err := instances.Create(t.Context(), idempotency.Key{}, spec("ADB.AILarge.1", 3))
	require.NoError(t, err)
	pools, err := instances.Pools(t.Context(), account, inst.ID)
	require.NoError(t, err)
	require.Len(t, pools, 1)
	require.Len(t, pools[0].Nodes, 3)
	require.True(t, ids.Valid(ids.AINode, pools[0].Nodes[0].Name))

	_, stranger := instances.Pools(t.Context(), "1000000000000002", inst.ID)
	require.ErrorIs(t, stranger, instance.ErrNotFound)
	_, unknown := instances.Pools(t.Context(), "1000000000000002", ids.New(ids.DBInstance))
	require.ErrorIs(t, unknown, instance.ErrNotFound)
}

func TestSeedMakesOneInstanceOnce(t *testing.T) {
	t.Parallel()
	instances, _ := newInstances(t)
	host := instance.Host{Name: "laptop", EngineAddr: "127.0.0.1", StartedAt: time.Now()}
	require.NoError(t, instances.Beat(t.Context(), host))
	require.NoError(t, instances.Seed(t.Context(), account, host, 4))
	require.NoError(t, instances.Seed(t.Context(), account, host, 4))
	found, total, err := instances.List(t.Context(), account, instance.Filter{Page: instance.Page{Number: 1, Size: 10}})
	require.NoError(t, err)
	require.Equal(t, 1, total)
	pools, err := instances.Pools(t.Context(), account, found[0].ID)
	require.NoError(t, err)
	require.Len(t, pools[0].Nodes, 4)
}

func TestIPListsAreChecked(t *testing.T) {
	t.Parallel()
	entries, err := instance.ParseIPList("10.0.0.1, 192.0.2.0/24,2001:db8::/32,::1")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.1", "192.0.2.0/24", "2001:db8::/32", "::1"}, entries)
	prefixes, err := instance.Prefixes(entries)
	require.NoError(t, err)
	require.Equal(t, "10.0.0.1/32", prefixes[0].String())
	for list, want := range map[string]*struct{ error }{
		"":                                {instance.ErrIPListMalformed},
		"10.0.0.1,":                       {instance.ErrIPListMalformed},
		"10.0.0.256":                      {instance.ErrIPListMalformed},
		"10.0.0.0/33":                     {instance.ErrIPListMalformed},
		"fe80::1%eth0":                    {instance.ErrIPListMalformed},
		"10.0.0.0/8,10.1.2.3/8":           {instance.ErrIPListDuplicate},
		strings.Repeat("10.0.0.1,", 1000): {instance.ErrIPListLength},
	} {
		_, err := instance.ParseIPList(list)
		require.ErrorIs(t, err, want.error, list)
	}
}
