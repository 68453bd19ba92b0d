package modelservice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/catalog"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/node"
	"github.com/engineshed/engineshed/internal/node/nodetest"
	"github.com/engineshed/engineshed/internal/node/vllm"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	account = "1000000000000001"
	region  = "cn-hangzhou"
	host    = "host-a"
)

// world is a region with one instance of four simulated nodes.
type world struct {
	*pgtest.DB
	services *Services
	snapshot *secret.Box
	instance string
	nodes    []string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ctx := t.Context()
	db := pgtest.New(t)
	_, err := db.Owner.Exec(ctx, `INSERT INTO account (id, name) VALUES ($1, 'a')`, account)
	require.NoError(t, err)
	client, err := jobs.NewInserter(db.Control)
	require.NoError(t, err)
	bell, err := jobs.NewBell(db.Control)
	require.NoError(t, err)
	master, err := secret.NewBox()
	require.NoError(t, err)
	box, err := secret.NewBox()
	require.NoError(t, err)
	models, err := catalog.Open("")
	require.NoError(t, err)
	w := &world{DB: db, snapshot: box, services: New(Config{
		DB: db.Control, Jobs: client, Bell: bell, Master: master, Snapshot: box,
		GatewayURL: "http://127.0.0.1:8090", PublicGatewayURL: "http://127.0.0.1:8091",
		HostLostAfter: 30 * time.Second, Catalog: models,
	})}
	instances := instance.New(db.Control, region)
	require.NoError(t, instances.Beat(ctx, instance.Host{Name: host, EngineAddr: "127.0.0.1", StartedAt: time.Now()}))
	made, err := instances.Create(ctx, idempotency.Key{}, instance.Spec{
		AccountID: account, RegionID: region, Nodes: []instance.NodeSpec{{Spec: instance.DefaultNodeSpec, Count: 4}},
	})
	require.NoError(t, err)
	pools, err := instances.Pools(ctx, account, made.ID)
	require.NoError(t, err)
	for _, n := range pools[0].Nodes {
		w.nodes = append(w.nodes, n.Name)
	}
	w.instance = made.ID
	return w
}

func (w *world) spec(nodes ...string) Spec {
	return Spec{AccountID: account, RegionID: region, DBInstanceID: w.instance, ModelName: "Qwen3-0.6B", AINodes: nodes}
}

// count returns how many rows the tables that a create touches hold.
func (w *world) count(t *testing.T) string {
	t.Helper()
	var counts string
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT format('services %s, replicas %s, bound %s, arrays %s, tokens %s, jobs %s, audit %s',
			(SELECT count(*) FROM model_service), (SELECT count(*) FROM replica),
			(SELECT count(*) FROM ai_node WHERE model_service_id IS NOT NULL), (SELECT count(*) FROM ip_array),
			(SELECT count(*) FROM client_token), (SELECT count(*) FROM river_job), (SELECT count(*) FROM audit_event))`).Scan(&counts))
	return counts
}

func key(token string) idempotency.Key {
	return idempotency.Key{AccountID: account, RegionID: region, Action: "gpdb:CreateModelService", Token: token, Fingerprint: []byte("f")}
}

func TestBadInputIsRefusedByNameAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other, err := instance.New(w.Control, region).Create(t.Context(), idempotency.Key{}, instance.Spec{
		AccountID: account, RegionID: region, Nodes: []instance.NodeSpec{{Spec: instance.DefaultNodeSpec, Count: 1}},
	})
	require.NoError(t, err)
	pools, err := instance.New(w.Control, region).Pools(t.Context(), account, other.ID)
	require.NoError(t, err)
	_, err = w.services.Create(t.Context(), key("bound"), w.spec(w.nodes[3]))
	require.NoError(t, err)
	before := w.count(t)

	number := func(n int) *int { return &n }
	text := func(s string) *string { return &s }
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"unknown model":           {func(s *Spec) { s.ModelName = "nope" }, "InvalidModelName.NotFound"},
		"unknown instance":        {func(s *Spec) { s.DBInstanceID = ids.New(ids.DBInstance) }, "InvalidDBInstanceId.NotFound"},
		"another account":         {func(s *Spec) { s.AccountID = "1000000000000002" }, "InvalidDBInstanceId.NotFound"},
		"unknown node":            {func(s *Spec) { s.AINodes = []string{ids.New(ids.AINode)} }, "InvalidAiNode.NotFound"},
		"node of another":         {func(s *Spec) { s.AINodes = []string{pools[0].Nodes[0].Name} }, "InvalidAiNode.NotFound"},
		"empty node name":         {func(s *Spec) { s.AINodes = []string{""} }, "InvalidAiNode.NotFound"},
		"bound node":              {func(s *Spec) { s.AINodes = []string{w.nodes[0], w.nodes[3]} }, "OperationDenied.AiNodeBound"},
		"no nodes":                {func(s *Spec) { s.AINodes = nil }, "InvalidParameter: The parameter AiNodes"},
		"a node twice":            {func(s *Spec) { s.AINodes = []string{w.nodes[0], w.nodes[0]} }, "InvalidParameter: The parameter AiNodes"},
		"replicas 0":              {func(s *Spec) { s.Replicas = number(0) }, "InvalidParameter: The parameter Replicas"},
		"replicas -1":             {func(s *Spec) { s.Replicas = number(-1) }, "InvalidParameter: The parameter Replicas"},
		"replicas 10^9":           {func(s *Spec) { s.Replicas = number(1_000_000_000) }, "InvalidParameter: The parameter Replicas"},
		"more replicas than room": {func(s *Spec) { s.Replicas = number(2) }, "OperationDenied.InsufficientCapacity"},
		"another engine":          {func(s *Spec) { s.InferenceEngine = "sglang" }, "InvalidParameter: The parameter InferenceEngine"},
		"unknown group":           {func(s *Spec) { s.ResourceGroupID = "rg-x" }, "InvalidResourceGroupId.NotFound"},
		"IP garbage":              {func(s *Spec) { s.SecurityIPList = text("10.0.0.0/33") }, "InvalidSecurityIPList.Malformed"},
		"IP twice":                {func(s *Spec) { s.SecurityIPList = text("10.0.0.1,10.0.0.1/32") }, "InvalidSecurityIPList.Duplicate"},
		"too many IPs":            {func(s *Spec) { s.SecurityIPList = text(strings.Repeat("10.0.0.1,", 1000) + "10.0.0.1") }, "InvalidSecurityIPListLength.Malformed"},
		"unknown argument":        {func(s *Spec) { s.ModelParams = map[string]any{"nope": 1} }, "InvalidParameter: The parameter ModelParams.nope"},
		"dangerous argument":      {func(s *Spec) { s.ModelParams = map[string]any{"trust_remote_code": true} }, "InvalidParameter: The parameter ModelParams.trust_remote_code"},
		"middleware":              {func(s *Spec) { s.ModelParams = map[string]any{"--middleware": "os.system"} }, "InvalidParameter: The parameter ModelParams.--middleware"},
		"config":                  {func(s *Spec) { s.ModelParams = map[string]any{"config": "/etc/passwd"} }, "InvalidParameter: The parameter ModelParams.config"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := w.spec(w.nodes[0])
			c.change(&spec)
			_, err := w.services.Create(t.Context(), key("bad"), spec)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, before, w.count(t))
		})
	}
}

func TestOneTokenMakesOneService(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const calls = 50
	made := make([]string, calls)
	var wait sync.WaitGroup
	for i := range calls {
		wait.Go(func() {
			svc, err := w.services.Create(t.Context(), key("token"), w.spec(w.nodes[0], w.nodes[1]))
			if err == nil {
				made[i] = svc.ID
			}
		})
	}
	wait.Wait()
	for _, id := range made {
		require.Equal(t, made[0], id)
	}
	require.Equal(t, "services 1, replicas 1, bound 2, arrays 1, tokens 1, jobs 1, audit 2", w.count(t))

	other := key("token")
	other.Fingerprint = []byte("other")
	_, err := w.services.Create(t.Context(), other, w.spec(w.nodes[2]))
	require.ErrorIs(t, err, idempotency.ErrMismatch)
}

func TestANodeIsBoundOnceUnderConcurrency(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	results := make([]error, 20)
	var wait sync.WaitGroup
	for i := range results {
		wait.Go(func() {
			_, results[i] = w.services.Create(t.Context(), key(fmt.Sprint(i)), w.spec(w.nodes[i%2], w.nodes[(i+1)%2]))
		})
	}
	wait.Wait()
	made := 0
	for _, err := range results {
		if err == nil {
			made++
			continue
		}
		require.ErrorIs(t, err, instance.ErrNodeBound)
	}
	require.Equal(t, 1, made)
}

// fakeHost is a driver whose engines are a map.
type fakeHost struct {
	mu      sync.Mutex
	engines map[string]node.Observation
	load    vllm.Load
	says    prognosis // zero: they do well
}

func (f *fakeHost) Ensure(_ context.Context, spec node.Spec) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if seen, ok := f.engines[spec.ReplicaID]; !ok || seen.State == node.Exited {
		f.engines[spec.ReplicaID] = node.Observation{State: node.Starting, Generation: spec.Generation}
	}
	return nil
}

func (f *fakeHost) Observe(_ context.Context, id, _ string) (node.Observation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if seen, ok := f.engines[id]; ok {
		return seen, nil
	}
	return node.Observation{State: node.Absent}, nil
}

func (f *fakeHost) Remove(_ context.Context, id string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.engines, id)
	return true, nil
}

func (f *fakeHost) Log(_ context.Context, id string, _ int) (node.Log, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return node.Log{Generation: f.engines[id].Generation, Offset: 12, Text: "hello world\n"}, nil
}

func (f *fakeHost) List(context.Context) (found []node.Found, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.engines {
		found = append(found, node.Found{ReplicaID: id, PID: 1})
	}
	return found, nil
}

func (f *fakeHost) become(state node.State, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, seen := range f.engines {
		seen.State, seen.Reason = state, reason
		f.engines[id] = seen
	}
}

func (f *fakeHost) Load(context.Context, string) (vllm.Load, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.load, nil
}

func (f *fakeHost) Try(context.Context, string, string, secret.Secret) error { return nil }

func (f *fakeHost) work(l vllm.Load) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.load = l
}

// stepper steps the host's replicas; its engines have answered a request and do well, unless f says otherwise.
func (w *world) stepper(f *fakeHost) *Stepper {
	h := Host{
		Services: w.services, Driver: f, Engines: f, Name: host, DrainLimit: time.Minute, HungAfter: 30 * time.Second,
		FreeAddr: func() (string, error) { return "127.0.0.1:40001", nil }, Log: slog.New(slog.DiscardHandler),
	}
	s := NewStepper(h, NewWatcher(h))
	s.prognosis = func(string, int64) prognosis { return cmp.Or(f.says, prognosis{answered: true, health: well}) }
	return s
}

// steps takes steps of the replica until it is gone or holds.
func (w *world) steps(t *testing.T, s *Stepper, id string, holds func() bool) {
	t.Helper()
	nodetest.Eventually(t, func() bool {
		_, err := s.Step(t.Context(), id)
		require.NoError(t, err)
		return holds()
	}, "steps of %s lead nowhere", id)
}

func (w *world) replica(t *testing.T, serviceID string) (id string) {
	t.Helper()
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT id FROM replica WHERE model_service_id = $1`, serviceID).Scan(&id))
	return id
}

func (w *world) describe(t *testing.T, id string) Service {
	t.Helper()
	svc, err := w.services.Describe(t.Context(), account, w.instance, id)
	require.NoError(t, err)
	return svc
}

func (w *world) published(t *testing.T, id string) *snapshot.ModelService {
	t.Helper()
	require.NoError(t, w.services.Publish(t.Context(), id))
	var body []byte
	var deleted bool
	err := w.Gateway.QueryRow(t.Context(), `SELECT body, deleted FROM published_item WHERE id = $1`, id).Scan(&body, &deleted)
	require.NoError(t, err)
	if deleted {
		return nil
	}
	view, err := snapshot.DecodeModelService(body)
	require.NoError(t, err)
	return view
}

func TestAServiceLivesFromCreateToDelete(t *testing.T) {
	t.Parallel()
	w, f := newWorld(t), &fakeHost{engines: map[string]node.Observation{}}
	s := w.stepper(f)
	ctx := t.Context()
	svc, err := w.services.Create(ctx, key("t"), w.spec(w.nodes[0]))
	require.NoError(t, err)
	id := w.replica(t, svc.ID)
	step := func() {
		t.Helper()
		_, err := s.Step(ctx, id)
		require.NoError(t, err)
	}

	step()
	require.Equal(t, Deploying, w.describe(t, svc.ID).Status)
	require.Equal(t, starting, w.describe(t, svc.ID).Replicas[0].Status)
	f.become(node.Healthy, "")
	step()
	shown := w.describe(t, svc.ID)
	require.Equal(t, Active, shown.Status)
	require.Equal(t, "http://127.0.0.1:8090/services/"+svc.ID+"/v1", shown.PrivateURL)
	require.Empty(t, shown.PublicURL)
	require.Equal(t, "127.0.0.1", shown.SecurityIPList)
	view := w.published(t, svc.ID)
	require.Equal(t, snapshot.HashKey(shown.APIKey.Reveal()), view.KeyHash)
	require.Equal(t, "127.0.0.1:40001", view.Replicas[0].Addr)
	_, err = w.snapshot.Open(snapshot.EngineKeyPurpose(id), view.Replicas[0].SealedKey)
	require.NoError(t, err)

	f.become(node.Exited, "exited 1: out of memory")
	step()
	shown = w.describe(t, svc.ID)
	require.Equal(t, Degraded, shown.Status)
	require.Contains(t, shown.StatusReason, "exited 1: out of memory")
	require.Empty(t, w.published(t, svc.ID).Replicas)

	require.NoError(t, w.services.Delete(ctx, account, w.instance, svc.ID))
	require.NoError(t, w.services.Delete(ctx, account, w.instance, svc.ID), "deleting twice is as good as once")
	w.steps(t, s, id, func() bool {
		_, err = w.services.Describe(ctx, account, w.instance, svc.ID)
		return err != nil
	})
	require.ErrorIs(t, err, ErrNotFound)
	require.Nil(t, w.published(t, svc.ID))
	require.Empty(t, f.engines)
	require.Contains(t, w.count(t), "services 0, replicas 0, bound 0, arrays 1, tokens 1")

	again, err := w.services.Create(ctx, key("t"), w.spec(w.nodes[0]))
	require.NoError(t, err)
	require.Equal(t, svc.ID, again.ID, "the claim outlives the service")
}

func TestALateStepWritesNothing(t *testing.T) {
	t.Parallel()
	w, f := newWorld(t), &fakeHost{engines: map[string]node.Observation{}}
	s := w.stepper(f)
	ctx := t.Context()
	svc, err := w.services.Create(ctx, key("t"), w.spec(w.nodes[0]))
	require.NoError(t, err)
	id := w.replica(t, svc.ID)

	late, err := s.claim(ctx, id)
	require.NoError(t, err)
	_, err = s.claim(ctx, id)
	require.Error(t, err, "the lease is held")
	_, err = w.Owner.Exec(ctx, `UPDATE replica SET lease_until = now() - interval '1 second'`)
	require.NoError(t, err)
	_, err = s.Step(ctx, id)
	require.NoError(t, err)

	require.ErrorIs(t, s.write(ctx, late, change{status: active}), errFenced)
	require.Equal(t, starting, w.describe(t, svc.ID).Replicas[0].Status)
}

func TestReconcileFindsWhatWasLostAndThenWritesNothing(t *testing.T) {
	t.Parallel()
	w, f := newWorld(t), &fakeHost{engines: map[string]node.Observation{}}
	s := w.stepper(f)
	ctx := t.Context()
	svc, err := w.services.Create(ctx, key("t"), w.spec(w.nodes[0]))
	require.NoError(t, err)
	_, err = w.Owner.Exec(ctx, `DELETE FROM replica; DELETE FROM river_job`)
	require.NoError(t, err)

	require.NoError(t, w.services.Reconcile(ctx))
	id := w.replica(t, svc.ID)
	_, err = s.Step(ctx, id)
	require.NoError(t, err)
	f.become(node.Healthy, "")
	_, err = s.Step(ctx, id)
	require.NoError(t, err)
	_, err = w.Owner.Exec(ctx, `DELETE FROM river_job`)
	require.NoError(t, err)
	require.NoError(t, w.services.Reconcile(ctx))
	require.Contains(t, w.count(t), "jobs 1", "the lost publication")
	require.Len(t, w.published(t, svc.ID).Replicas, 1)

	before := w.versions(t)
	require.NoError(t, w.services.Reconcile(ctx))
	require.Equal(t, before, w.versions(t))
}

// versions changes when any row of any table is written.
func (w *world) versions(t testing.TB) (versions string) {
	t.Helper()
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT string_agg(v, ' ') FROM (
			SELECT xmin::text || ctid::text AS v FROM replica UNION ALL SELECT xmin::text || ctid::text FROM model_service
			UNION ALL SELECT xmin::text || ctid::text FROM river_job UNION ALL SELECT xmin::text || ctid::text FROM published_item
			UNION ALL SELECT xmin::text || ctid::text FROM ai_node) rows`).Scan(&versions))
	return versions
}

func TestASilentHostMakesTheStateUnknown(t *testing.T) {
	t.Parallel()
	w, f := newWorld(t), &fakeHost{engines: map[string]node.Observation{}}
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

	_, err = w.Owner.Exec(ctx, `UPDATE host SET heartbeat_at = now() - interval '12 seconds'`)
	require.NoError(t, err)
	shown := w.describe(t, svc.ID)
	require.Equal(t, Degraded, shown.Status)
	require.Equal(t, unknown, shown.Replicas[0].Status)
	require.Contains(t, shown.StatusReason, "host host-a last reported 12s ago")
}

func TestACallThatCannotBeAuditedFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.count(t)
	_, err := w.Owner.Exec(t.Context(), `REVOKE INSERT ON audit_event FROM engineshed_control`)
	require.NoError(t, err)
	_, err = w.services.Create(t.Context(), key("t"), w.spec(w.nodes[0]))
	require.ErrorContains(t, err, "audit")
	require.Equal(t, before, w.count(t))
}

func TestTheControlRoleCannotChangeTheAuditTrail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, statement := range []string{`UPDATE audit_event SET outcome = 'done'`, `DELETE FROM audit_event`, `TRUNCATE audit_event`} {
		_, err := w.Control.Exec(t.Context(), statement)
		require.ErrorContains(t, err, "permission denied", statement)
	}
}

// An instance goes only when nothing runs on it, and a service that is created meanwhile is never left without it.
func TestAnInstanceIsDeletedOrGetsAServiceNeverBoth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	instances := instance.New(w.Control, region)
	for range 10 {
		made, err := instances.Create(t.Context(), idempotency.Key{}, instance.Spec{
			AccountID: account, RegionID: region, Nodes: []instance.NodeSpec{{Spec: instance.DefaultNodeSpec, Count: 1}},
		})
		require.NoError(t, err)
		pools, err := instances.Pools(t.Context(), account, made.ID)
		require.NoError(t, err)
		spec := w.spec(pools[0].Nodes[0].Name)
		spec.DBInstanceID = made.ID
		var created, deleted error
		var wait sync.WaitGroup
		wait.Go(func() { _, created = w.services.Create(t.Context(), idempotency.Key{}, spec) })
		wait.Go(func() { deleted = instances.Delete(t.Context(), idempotency.Key{}, account, made.ID) })
		wait.Wait()
		if created == nil {
			require.ErrorIs(t, deleted, instance.ErrHasServices)
			continue
		}
		require.NoError(t, deleted)
		require.True(t, errors.Is(created, instance.ErrNotFound) || errors.Is(created, instance.ErrNodeNotFound), "%v", created)
	}
}
