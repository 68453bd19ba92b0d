package instance

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/resourcegroup"
)

// The refusals of this package.
var (
	ErrNotFound = fault.New(fault.NotFound, "InvalidDBInstanceId.NotFound",
		"The DB instance does not exist.", "Call DescribeDBInstances for the ids of this account.")
	ErrRegion = fault.New(fault.NotFound, "InvalidRegionId.NotFound",
		"The region is not served here.", "Send the region that the message names, or none.")
	// ErrResourceGroup refuses a resource group that the account does not have.
	ErrResourceGroup = resourcegroup.ErrNotFound
	// ErrInsufficientCapacity refuses what the hosts, or the listed nodes, have no room for.
	ErrInsufficientCapacity = fault.New(fault.Conflict, "OperationDenied.InsufficientCapacity",
		"There is not enough room: too few AI nodes or hosts, or a model that does not fit.",
		"Add AI nodes or hosts, ask for fewer replicas, or choose a smaller model; the message says which.")
)

// DefaultResourceGroup is the group of everything until an account has groups of its own.
const DefaultResourceGroup = resourcegroup.Default

const (
	maxTags  = 20
	maxNodes = 1000 // of one call
)

// Instances are the DB instances of one region.
type Instances struct {
	db     *pgxpool.Pool
	region string
}

// New returns the instances of the region that db holds.
func New(db *pgxpool.Pool, region string) *Instances {
	return &Instances{db, region}
}

// Create makes an instance with its node pool, AI nodes and the IP array "default", in one transaction. A repeated
// ClientToken is answered with the id of the first call.
func (i *Instances) Create(ctx context.Context, key idempotency.Key, spec Spec) (Instance, error) {
	entries, err := i.check(&spec)
	if err != nil {
		return Instance{}, err
	}
	inst := Instance{
		ID: ids.New(ids.DBInstance), AccountID: spec.AccountID, RegionID: i.region, Description: spec.Description,
		ResourceGroupID: spec.ResourceGroupID, Tags: spec.Tags,
	}
	entry := audit.From(ctx)
	err = pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		heldBy, first, err := idempotency.Claim(ctx, tx, key, inst.ID)
		if err != nil || !first {
			inst.ID, entry.ResourceID, entry.Outcome = heldBy, heldBy, audit.Repeated
			return err
		}
		if err := i.insert(ctx, tx, &inst, entries); err != nil {
			return err
		}
		if err := addPool(ctx, tx, inst.ID, spec.Nodes); err != nil {
			return err
		}
		entry.ResourceID, entry.Outcome = inst.ID, audit.Done
		return audit.Insert(ctx, tx, entry)
	})
	return inst, err
}

func (i *Instances) check(spec *Spec) (entries []string, err error) {
	if spec.RegionID != i.region {
		return nil, ErrRegion.Withf("The region %s does not exist here; this endpoint serves %s.", spec.RegionID, i.region)
	}
	if spec.ResourceGroupID == "" {
		spec.ResourceGroupID = DefaultResourceGroup
	}
	if len(spec.Tags) > maxTags {
		return nil, fault.InvalidParameter("Tag", fmt.Sprintf("%d tags are given; at most %d are allowed.", len(spec.Tags), maxTags))
	}
	if err := checkNodes(spec.Nodes, "AINode"); err != nil {
		return nil, err
	}
	if spec.SecurityIPList == "" {
		spec.SecurityIPList = DefaultIPList
	}
	return ParseIPList(spec.SecurityIPList)
}

func (i *Instances) insert(ctx context.Context, tx pgx.Tx, inst *Instance, entries []string) error {
	if err := resourcegroup.Lock(ctx, tx, inst.AccountID, inst.ResourceGroupID); err != nil {
		return err
	}
	err := tx.QueryRow(ctx, `
		INSERT INTO db_instance (id, account_id, region_id, description, resource_group_id)
		VALUES ($1, $2, $3, $4, $5)
		RETURNING created_at`,
		inst.ID, inst.AccountID, inst.RegionID, inst.Description, inst.ResourceGroupID).Scan(&inst.CreatedAt)
	if err != nil {
		return fmt.Errorf("insert the DB instance: %w", err)
	}
	for key, value := range inst.Tags {
		if _, err := tx.Exec(ctx, `
			INSERT INTO db_instance_tag (db_instance_id, key, value) VALUES ($1, $2, $3)`, inst.ID, key, value); err != nil {
			return fmt.Errorf("insert the tag %s: %w", key, err)
		}
	}
	return InsertIPArray(ctx, tx, inst.ID, DefaultIPArray, entries)
}

// InsertIPArray adds an IP array with checked entries in the caller's transaction.
func InsertIPArray(ctx context.Context, tx pgx.Tx, dbInstanceID, name string, entries []string) error {
	if _, err := tx.Exec(ctx, `
		INSERT INTO ip_array (db_instance_id, name, entries) VALUES ($1, $2, $3)`, dbInstanceID, name, entries); err != nil {
		return fmt.Errorf("insert the IP array %s: %w", name, err)
	}
	return nil
}

// placementLock makes two calls that look for free accelerators go one after the other.
const placementLock = 7052

// addPool gives an instance that has no nodes a pool with these.
func addPool(ctx context.Context, tx pgx.Tx, dbInstanceID string, specs []NodeSpec) error {
	if len(specs) == 0 {
		return nil
	}
	poolID, err := newPool(ctx, tx, dbInstanceID)
	if err != nil {
		return err
	}
	_, err = addNodes(ctx, tx, dbInstanceID, poolID, specs)
	return err
}

func addNodes(ctx context.Context, tx pgx.Tx, dbInstanceID, poolID string, specs []NodeSpec) (names []string, err error) {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, placementLock); err != nil {
		return nil, fmt.Errorf("take the placement lock: %w", err)
	}
	for _, spec := range specs {
		added, err := addNodesOf(ctx, tx, dbInstanceID, poolID, spec)
		if err != nil {
			return nil, err
		}
		names = append(names, added...)
	}
	return names, nil
}

func addNodesOf(ctx context.Context, tx pgx.Tx, dbInstanceID, poolID string, spec NodeSpec) (names []string, err error) {
	want, err := sizeOf("AINodeSpec", spec.Spec)
	if err != nil {
		return nil, err
	}
	slots, err := freeSlots(ctx, tx, want, spec.Count)
	if err != nil {
		return nil, err
	}
	batch := &pgx.Batch{}
	for _, s := range slots {
		name := ids.New(ids.AINode)
		batch.Queue(`
			INSERT INTO ai_node (name, pool_id, db_instance_id, host, node_spec, accelerators, memory_fraction)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			name, poolID, dbInstanceID, s.host, spec.Spec, s.accelerators, s.fraction)
		names = append(names, name)
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("insert AI nodes: %w", err)
	}
	return names, nil
}

// List returns one page of the account's instances, oldest first, and how many there are in all.
func (i *Instances) List(ctx context.Context, accountID string, f Filter) ([]Instance, int, error) {
	tags := f.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	args := []any{accountID, f.RegionID, append([]string{}, f.IDs...), f.Description, f.ResourceGroupID, tags}
	const matching = `
		FROM db_instance i
		WHERE i.account_id = $1
			AND ($2 = '' OR i.region_id = $2)
			AND (cardinality($3::text[]) = 0 OR i.id = ANY ($3))
			AND ($4 = '' OR strpos(i.description, $4) > 0)
			AND ($5 = '' OR i.resource_group_id = $5)
			AND NOT EXISTS (SELECT FROM jsonb_each_text($6) w WHERE NOT EXISTS (
				SELECT FROM db_instance_tag t WHERE t.db_instance_id = i.id AND t.key = w.key AND t.value = w.value))`
	total := 0
	if err := i.db.QueryRow(ctx, `SELECT count(*)`+matching, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count the DB instances: %w", err)
	}
	rows, err := i.db.Query(ctx, selectInstances+matching+`
		ORDER BY i.created_at, i.id
		OFFSET $7 LIMIT $8`, append(args, (f.Page.Number-1)*f.Page.Size, f.Page.Size)...)
	if err != nil {
		return nil, 0, err
	}
	instances, err := pgx.CollectRows(rows, scanInstance)
	return instances, total, err
}

const selectInstances = `
	SELECT i.id, i.account_id, i.region_id, i.description, i.resource_group_id, i.created_at,
		coalesce((SELECT jsonb_object_agg(key, value) FROM db_instance_tag t WHERE t.db_instance_id = i.id), '{}')`

func scanInstance(row pgx.CollectableRow) (inst Instance, err error) {
	return inst, row.Scan(&inst.ID, &inst.AccountID, &inst.RegionID, &inst.Description, &inst.ResourceGroupID,
		&inst.CreatedAt, &inst.Tags)
}

// Describe returns the account's instance and its IP array "default", or ErrNotFound.
func (i *Instances) Describe(ctx context.Context, accountID, dbInstanceID string) (inst Instance, allowed string, err error) {
	rows, err := i.db.Query(ctx, selectInstances+` FROM db_instance i WHERE i.id = $1 AND i.account_id = $2`, dbInstanceID, accountID)
	if err != nil {
		return inst, "", err
	}
	inst, err = pgx.CollectExactlyOneRow(rows, scanInstance)
	if errors.Is(err, pgx.ErrNoRows) {
		return inst, "", NotFound(dbInstanceID)
	}
	if err != nil {
		return inst, "", fmt.Errorf("read the DB instance: %w", err)
	}
	err = i.db.QueryRow(ctx, `
		SELECT array_to_string(entries, ',') FROM ip_array WHERE db_instance_id = $1 AND name = $2`,
		dbInstanceID, DefaultIPArray).Scan(&allowed)
	return inst, allowed, err
}

// Pools returns the instance's AI node pools with their nodes, in the order they were made.
func (i *Instances) Pools(ctx context.Context, accountID, dbInstanceID string) ([]Pool, error) {
	if err := Exists(ctx, i.db, accountID, dbInstanceID); err != nil {
		return nil, err
	}
	rows, err := i.db.Query(ctx, `
		SELECT p.id, coalesce(n.name, ''), coalesce(n.node_spec, ''), coalesce(n.host, ''), coalesce(n.model_service_id, ''),
			coalesce(n.created_at, p.created_at), coalesce(n.updated_at, p.created_at)
		FROM ai_node_pool p LEFT JOIN ai_node n ON n.pool_id = p.id
		WHERE p.db_instance_id = $1
		ORDER BY p.created_at, p.id, n.created_at, n.name`, dbInstanceID)
	if err != nil {
		return nil, err
	}
	var pools []Pool
	var poolID string
	var n Node
	_, err = pgx.ForEachRow(rows, []any{&poolID, &n.Name, &n.Spec, &n.Host, &n.ModelServiceID, &n.CreatedAt, &n.UpdatedAt}, func() error {
		if len(pools) == 0 || pools[len(pools)-1].ID != poolID {
			pools = append(pools, Pool{ID: poolID})
		}
		if last := &pools[len(pools)-1]; n.Name != "" {
			last.Nodes = append(last.Nodes, n)
		}
		return nil
	})
	return pools, err
}

// Queryer runs a query that returns one row: a transaction or a pool.
type Queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Exists returns ErrNotFound unless the account has the instance.
func Exists(ctx context.Context, db Queryer, accountID, dbInstanceID string) error {
	var found bool
	err := db.QueryRow(ctx, `
		SELECT true FROM db_instance WHERE id = $1 AND account_id = $2`, dbInstanceID, accountID).Scan(&found)
	if errors.Is(err, pgx.ErrNoRows) {
		return NotFound(dbInstanceID)
	}
	return err
}

// NotFound is ErrNotFound with the id that was asked for.
func NotFound(dbInstanceID string) error {
	return ErrNotFound.Withf("The DB instance %s does not exist. Call DescribeDBInstances for the ids of this account.",
		strings.Trim(strconv.QuoteToASCII(dbInstanceID), `"`))
}

// Seed makes the first instance of an account that has none: one AI node per accelerator of the host, or simulated ones.
func (i *Instances) Seed(ctx context.Context, accountID string, h Host, simulated int) error {
	count := len(h.Accelerators)
	if count == 0 {
		count = simulated
	}
	inst := Instance{
		ID: ids.New(ids.DBInstance), AccountID: accountID, RegionID: i.region,
		Description: "made by the first start", ResourceGroupID: DefaultResourceGroup,
	}
	return pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, placementLock); err != nil {
			return err
		}
		var seeded bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM db_instance WHERE account_id = $1)`, accountID).Scan(&seeded); err != nil || seeded {
			return err
		}
		if err := i.insert(ctx, tx, &inst, []string{DefaultIPList}); err != nil {
			return err
		}
		return addPool(ctx, tx, inst.ID, []NodeSpec{{DefaultNodeSpec, count}})
	})
}
