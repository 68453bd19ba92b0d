package modelservice

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/catalog"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/resourcegroup"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// ErrNotFound refuses a model service that the instance does not have.
var ErrNotFound = fault.New(fault.NotFound, "InvalidModelServiceId.NotFound",
	"The model service does not exist.", "Call ListModelServices for the ids of this DB instance.")

const (
	maxReplicas     = 1000
	maxDescription  = 256
	inferenceEngine = "vllm"
)

// Services are the model services of one region.
type Services struct {
	db         *pgxpool.Pool
	jobs       *jobs.Client
	bell       *jobs.Bell
	master     *secret.Box // opens and seals what the database holds
	snapshot   *secret.Box // seals what gateways open
	gateway    string      // base URL of the private listener
	publicGate string      // base URL of the public listener
	lostAfter  time.Duration
	catalog    *catalog.Catalog

	descriptions *postgres.Together[reference, *serviceRow]
}

// Config is what New needs.
type Config struct {
	DB               *pgxpool.Pool
	Jobs             *jobs.Client
	Bell             *jobs.Bell
	Master           *secret.Box
	Snapshot         *secret.Box
	GatewayURL       string // such as http://127.0.0.1:8090
	PublicGatewayURL string
	HostLostAfter    time.Duration // how long a host may be silent before its replicas move
	Catalog          *catalog.Catalog
}

// New returns the model services that the database of c holds.
func New(c Config) *Services {
	s := &Services{db: c.DB, jobs: c.Jobs, bell: c.Bell, master: c.Master, snapshot: c.Snapshot, gateway: c.GatewayURL, publicGate: c.PublicGatewayURL, lostAfter: c.HostLostAfter, catalog: c.Catalog}
	s.descriptions = postgres.NewTogether(s.describe)
	return s
}

// Create binds the nodes, inserts the service with its replicas and the jobs that start them, in one transaction with
// the claim of the ClientToken and the audit row. A repeated token is answered with the id of the first call; only ID
// is set then.
func (s *Services) Create(ctx context.Context, key idempotency.Key, spec Spec) (Service, error) {
	plan, err := s.plan(spec)
	if err != nil {
		return Service{}, err
	}
	entry := audit.From(ctx)
	created := Service{ID: plan.id}
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		heldBy, first, err := claimAndLock(ctx, tx, key, plan)
		if err != nil {
			return err
		}
		if !first {
			created.ID, entry.ResourceID, entry.Outcome = heldBy, heldBy, audit.Repeated
			return nil
		}
		entry.ResourceID, entry.Outcome = plan.id, audit.Done
		if err := s.insert(ctx, tx, plan, entry); err != nil {
			return err
		}
		return s.bell.InsertTx(ctx, tx, steps(plan.replicas))
	})
	if err == nil && created.ID == plan.id {
		s.ring(plan.replicas)
	}
	return created, err
}

// claimAndLock claims the ClientToken and locks the nodes, in one round trip. The nodes of a repeated call matter no more.
func claimAndLock(ctx context.Context, tx pgx.Tx, key idempotency.Key, p *plan) (heldBy string, first bool, err error) {
	batch := &pgx.Batch{}
	claim := idempotency.Queue(batch, key, p.id)
	locked := queueLock(batch, p)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return "", false, fmt.Errorf("claim the client token and lock the AI nodes: %w", err)
	}
	if heldBy, first, err = claim.Outcome(ctx, tx); err != nil || !first {
		return heldBy, first, err
	}
	if err := p.place(ctx, tx, locked); err != nil {
		return heldBy, true, err
	}
	return heldBy, true, resourcegroup.Lock(ctx, tx, p.AccountID, p.ResourceGroupID)
}

// plan is a checked Spec with everything that can be decided before the transaction.
type plan struct {
	Spec
	id           string
	model        catalog.Model
	sealedAPIKey []byte
	params       []byte
	ipEntries    []string // nil: follow the instance's array
	replicas     []plannedReplica
}

type plannedReplica struct {
	id           string
	node         string
	host         string
	sealedKey    []byte
	publishedKey []byte
}

func (s *Services) plan(spec Spec) (*plan, error) {
	model, err := s.catalog.Find(spec.ModelName)
	if err != nil {
		return nil, err
	}
	replicas, err := check(&spec, model)
	if err != nil {
		return nil, err
	}
	p := &plan{Spec: spec, id: ids.New(ids.ModelService), model: model}
	if spec.SecurityIPList != nil {
		if p.ipEntries, err = instance.ParseIPList(*spec.SecurityIPList); err != nil {
			return nil, err
		}
	}
	if p.params, err = json.Marshal(spec.ModelParams); err != nil {
		return nil, fault.InvalidParameter("ModelParams", "it is not a JSON object.")
	}
	if p.sealedAPIKey, err = s.master.Seal(apiKeyPurpose(p.id), newKey()); err != nil {
		return nil, err
	}
	p.replicas = make([]plannedReplica, replicas)
	for n := range p.replicas {
		if p.replicas[n], err = s.planReplica(spec.AINodes[n]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (s *Services) planReplica(node string) (plannedReplica, error) {
	r := plannedReplica{id: ids.New(ids.Replica), node: node}
	key := newKey()
	var err error
	if r.sealedKey, err = s.master.Seal(engineKeyPurpose(r.id), key); err != nil {
		return r, err
	}
	r.publishedKey, err = s.snapshot.Seal(snapshot.EngineKeyPurpose(r.id), key)
	return r, err
}

func apiKeyPurpose(serviceID string) string    { return "model_service/" + serviceID + "/api_key" }
func engineKeyPurpose(replicaID string) string { return "replica/" + replicaID + "/engine_key" }

// newKey returns a key with 128 random bits or more.
func newKey() secret.Secret { return secret.New("sk-" + rand.Text()) }

// check applies the rules that need no database and returns the number of replicas.
func check(spec *Spec, model catalog.Model) (replicas int, err error) {
	if spec.InferenceEngine != "" && spec.InferenceEngine != inferenceEngine {
		return 0, fault.InvalidParameter("InferenceEngine", "only vllm is supported.")
	}
	if len(spec.Description) > maxDescription {
		return 0, fault.InvalidParameter("Description", fmt.Sprintf("it is longer than %d bytes.", maxDescription))
	}
	replicas = 1
	if spec.Replicas != nil {
		replicas = *spec.Replicas
	}
	if replicas < 1 || replicas > maxReplicas {
		return 0, fault.InvalidParameter("Replicas", fmt.Sprintf("it must be from 1 to %d.", maxReplicas))
	}
	if err := checkNodeNames(spec.AINodes); err != nil {
		return 0, err
	}
	if replicas > len(spec.AINodes) {
		return 0, instance.ErrInsufficientCapacity.Withf(
			"%d replicas need as many AI nodes; AiNodes names %d. A node holds one replica.", replicas, len(spec.AINodes))
	}
	if spec.ModelParams == nil {
		spec.ModelParams = map[string]any{}
	}
	return replicas, model.Arguments.Validate(spec.ModelParams)
}

func checkNodeNames(names []string) error {
	if len(names) == 0 {
		return fault.InvalidParameter("AiNodes", "name at least one AI node; ListAINodePools shows them.")
	}
	if len(names) > maxReplicas {
		return fault.InvalidParameter("AiNodes", fmt.Sprintf("it names more than %d AI nodes.", maxReplicas))
	}
	sorted := slices.Sorted(slices.Values(names))
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return fault.InvalidParameter("AiNodes", fmt.Sprintf("%q is named twice.", sorted[i]))
		}
	}
	return nil
}

// lockedNodes are the nodes of a plan that are free, as the database has them.
type lockedNodes struct {
	group  string // of the instance; "" when there is no such instance
	hosts  map[string]string
	closed map[string]int // 1 for nodes on hosts that are silent or drained: these come last
	rooms  []instance.Room
}

// queueLock locks those of the instance's named nodes that are free, in the order of their names, so that two calls
// cannot wait for each other, and looks up their hosts. A bound node is locked by nobody but who has locked its service.
func queueLock(batch *pgx.Batch, p *plan) *lockedNodes {
	locked := &lockedNodes{hosts: make(map[string]string, len(p.AINodes)), closed: map[string]int{}}
	batch.Queue(`
		SELECT i.resource_group_id, coalesce(n.name, ''), coalesce(n.host, ''),
			CASE WHEN EXISTS (SELECT FROM host h WHERE h.name = n.host AND h.heartbeat_at > now() - $4::interval AND NOT h.draining) THEN 0 ELSE 1 END,
			`+instance.SelectRoom+`
		FROM db_instance i LEFT JOIN LATERAL (
			SELECT name, host, node_spec, accelerators, memory_fraction FROM ai_node
			WHERE db_instance_id = i.id AND name = ANY ($3) AND model_service_id IS NULL ORDER BY name FOR UPDATE) n ON true
		WHERE i.id = $1 AND i.account_id = $2`, p.DBInstanceID, p.AccountID, p.AINodes, hostLease).Query(func(rows pgx.Rows) error {
		var host string
		var closed int
		var room instance.Room
		_, err := pgx.ForEachRow(rows, append([]any{&locked.group, &room.Node, &host, &closed}, room.Columns()...), func() error {
			locked.hosts[room.Node], locked.closed[room.Node] = host, closed
			locked.rooms = append(locked.rooms, room)
			return nil
		})
		return err
	})
	return locked
}

func (p *plan) place(ctx context.Context, tx pgx.Tx, locked *lockedNodes) error {
	group, hosts := locked.group, locked.hosts
	if group == "" {
		return instance.NotFound(p.DBInstanceID)
	}
	if p.ResourceGroupID == "" {
		p.ResourceGroupID = group
	}
	for _, name := range p.AINodes {
		if hosts[name] == "" {
			return nodeNotFree(ctx, tx, p.DBInstanceID, name)
		}
	}
	inOrder := slices.Clone(p.AINodes)
	slices.SortStableFunc(inOrder, func(a, b string) int { return locked.closed[a] - locked.closed[b] })
	for n := range p.replicas {
		p.replicas[n].node, p.replicas[n].host = inOrder[n], hosts[inOrder[n]]
	}
	return fits(p.model, p.ModelParams, locked.rooms)
}

// nodeNotFree says why the node could not be locked.
func nodeNotFree(ctx context.Context, tx pgx.Tx, dbInstanceID, name string) error {
	var exists bool
	if err := tx.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM ai_node WHERE db_instance_id = $1 AND name = $2)`, dbInstanceID, name).Scan(&exists); err != nil {
		return fmt.Errorf("look up the AI node: %w", err)
	}
	if !exists {
		return instance.ErrNodeNotFound.Withf("The AI node %q does not exist in this DB instance. Call ListAINodePools for its nodes.", name)
	}
	return instance.ErrNodeBound.Withf("The AI node %s is used by another model service. Name an unbound one; ListAINodePools shows BindStatus.", name)
}

// insert writes the service, binds its nodes and adds the replicas and the audit row, in one round trip.
func (s *Services) insert(ctx context.Context, tx pgx.Tx, p *plan, entry *audit.Entry) error {
	batch := &pgx.Batch{}
	batch.Queue(`
		INSERT INTO model_service (id, account_id, db_instance_id, region_id, resource_group_id, model_name, description,
			model_params, replicas, public, api_key_sealed, status)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		p.id, p.AccountID, p.DBInstanceID, p.RegionID, p.ResourceGroupID, p.ModelName, p.Description,
		p.params, len(p.replicas), p.Public, p.sealedAPIKey, Deploying)
	batch.Queue(`
		UPDATE ai_node SET model_service_id = $1, updated_at = now() WHERE name = ANY ($2)`, p.id, p.AINodes)
	for n, r := range p.replicas {
		batch.Queue(`
			INSERT INTO replica (id, model_service_id, ordinal, node_name, host, status, engine_key_sealed, published_key, model_params)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			r.id, p.id, n, r.node, r.host, pending, r.sealedKey, r.publishedKey, p.params)
	}
	if p.ipEntries != nil {
		batch.Queue(`
			INSERT INTO ip_array (db_instance_id, name, entries) VALUES ($1, $2, $3)`, p.DBInstanceID, p.id, p.ipEntries)
	}
	audit.Queue(batch, entry)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("insert the model service: %w", err)
	}
	return nil
}

// Delete marks the service as deleting: gateways are told, its engines finish what they have, jobs end them and then
// remove every row. Deleting twice is as good as once.
func (s *Services) Delete(ctx context.Context, accountID, dbInstanceID, id string) error {
	entry := audit.From(ctx)
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		status, err := lockService(ctx, tx, accountID, dbInstanceID, id)
		if err != nil {
			return err
		}
		entry.ResourceID, entry.Outcome = id, audit.Done
		if err := audit.Insert(ctx, tx, entry); err != nil {
			return err
		}
		if status == Deleting {
			return nil
		}
		return s.startDeleting(ctx, tx, id)
	})
}

func (s *Services) startDeleting(ctx context.Context, tx pgx.Tx, id string) error {
	if err := record(ctx, tx, id, EventChange, "Its deletion was asked for by %s.", audit.From(ctx).Principal); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `
		UPDATE model_service SET status = $2, status_reason = '', updated_at = now() WHERE id = $1`, id, Deleting); err != nil {
		return err
	}
	replicas, err := s.takeAway(ctx, tx, id, nil)
	if err != nil {
		return err
	}
	if err := s.enqueuePublish(ctx, tx, id); err != nil {
		return err
	}
	if len(replicas) == 0 {
		return removeService(ctx, tx, id)
	}
	return nil
}

// takeAway lets replicas of the service go, or all with nil: those that gateways are told of drain first. The caller
// publishes the service.
func (s *Services) takeAway(ctx context.Context, tx pgx.Tx, serviceID string, ids []string) ([]plannedReplica, error) {
	// The next generation fences off a step that is under way.
	rows, err := tx.Query(ctx, `
		WITH told AS (UPDATE model_service SET version = version + 1 WHERE id = $1 RETURNING version)
		UPDATE replica SET
			status = CASE WHEN status IN ('active', 'silent', 'draining') THEN 'draining' ELSE 'removing' END,
			status_reason = '', generation = generation + 1, lease_until = '-infinity', updated_at = now(),
			drain_version = told.version, draining_since = coalesce(draining_since, now())
		FROM told
		WHERE model_service_id = $1 AND ($2::text[] IS NULL OR replica.id = ANY ($2))
		RETURNING replica.id, host`, serviceID, ids)
	if err != nil {
		return nil, err
	}
	replicas, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r plannedReplica, err error) {
		return r, row.Scan(&r.id, &r.host)
	})
	if err != nil {
		return nil, fmt.Errorf("take away replicas of %s: %w", serviceID, err)
	}
	return replicas, s.enqueueSteps(ctx, tx, replicas)
}

// lockService locks the account's service and returns its status.
func lockService(ctx context.Context, tx pgx.Tx, accountID, dbInstanceID, id string) (Status, error) {
	if err := instance.Exists(ctx, tx, accountID, dbInstanceID); err != nil {
		return "", err
	}
	rows, err := tx.Query(ctx, `
		SELECT status FROM model_service WHERE id = $1 AND db_instance_id = $2 AND account_id = $3 FOR UPDATE`,
		id, dbInstanceID, accountID)
	if err != nil {
		return "", err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[Status])
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", notFound(id)
	}
	return found[0], nil
}

func notFound(id string) error {
	return ErrNotFound.Withf("The model service %.64q does not exist. Call ListModelServices for the ids of this DB instance.", id)
}

// removeService removes everything that is left of a service whose replicas are gone, and frees its nodes.
func removeService(ctx context.Context, tx pgx.Tx, id string) error {
	if err := record(ctx, tx, id, EventState, "The service is gone."); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(`UPDATE ai_node SET model_service_id = NULL, leaving = false, updated_at = now() WHERE model_service_id = $1`, id)
	batch.Queue(`DELETE FROM ip_array WHERE name = $1`, id)
	batch.Queue(`DELETE FROM model_service WHERE id = $1`, id)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("remove the model service %s: %w", id, err)
	}
	return nil
}

const hostLease = instance.HostLease

// since renders how long ago something was, to the second.
func since(t, now time.Time) string { return now.Sub(t).Round(time.Second).String() }
