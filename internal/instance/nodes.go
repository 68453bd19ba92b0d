package instance

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/ids"
)

// The refusals about AI nodes and their pools.
var (
	ErrPoolNotFound = fault.New(fault.NotFound, "InvalidAINodePoolId.NotFound",
		"The AI node pool does not exist in this DB instance.", "Call ListAINodePools for its pools.")
	ErrNodeNotFound = fault.New(fault.NotFound, "InvalidAiNode.NotFound",
		"The AI node does not exist in this DB instance.", "Call ListAINodePools for its nodes.")
	ErrNodeBound = fault.New(fault.Conflict, "OperationDenied.AiNodeBound",
		"The AI node is used by another model service, or too few nodes are free.",
		"Name an unbound one: ListAINodePools shows BindStatus. Or add one with AddAINode.")
)

// AddNodes adds AI nodes to a pool of the account's instance, "" for its oldest, and returns their names. The hosts have
// room for all of them, or none is added.
func (i *Instances) AddNodes(ctx context.Context, accountID, dbInstanceID, poolID string, specs []NodeSpec) (names []string, err error) {
	if err := checkNodes(specs, "Node"); err != nil {
		return nil, err
	}
	entry := audit.From(ctx)
	err = pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		if err := lock(ctx, tx, accountID, dbInstanceID); err != nil {
			return err
		}
		pool, err := poolFor(ctx, tx, dbInstanceID, poolID)
		if err != nil {
			return err
		}
		if names, err = addNodes(ctx, tx, dbInstanceID, pool, specs); err != nil {
			return err
		}
		entry.ResourceID, entry.Outcome = dbInstanceID, audit.Done
		entry.Detail = fmt.Sprintf("%d AI nodes added", len(names))
		return audit.Insert(ctx, tx, entry)
	})
	return names, err
}

// checkNodes applies the rules that need no database. The parameters are called Spec and Num, behind what begins both names.
func checkNodes(specs []NodeSpec, names string) error {
	nodes := 0
	for _, n := range specs {
		if _, err := sizeOf(names+"Spec", n.Spec); err != nil {
			return err
		}
		if n.Count < 1 || n.Count > maxNodes || nodes+n.Count > maxNodes {
			return fault.InvalidParameter(names+"Num", fmt.Sprintf("it must be from 1 to %d in all.", maxNodes))
		}
		nodes += n.Count
	}
	return nil
}

// lock locks the account's instance: it cannot go while the transaction adds to it.
func lock(ctx context.Context, tx pgx.Tx, accountID, dbInstanceID string) error {
	tag, err := tx.Exec(ctx, `
		SELECT FROM db_instance WHERE id = $1 AND account_id = $2 FOR NO KEY UPDATE`, dbInstanceID, accountID)
	if err == nil && tag.RowsAffected() == 0 {
		return NotFound(dbInstanceID)
	}
	return err
}

// poolFor returns the instance's pool with this id; for "" its oldest pool, and a new one when it has none.
func poolFor(ctx context.Context, tx pgx.Tx, dbInstanceID, poolID string) (string, error) {
	rows, err := tx.Query(ctx, `
		SELECT id FROM ai_node_pool
		WHERE db_instance_id = $1 AND ($2 = '' OR id = $2)
		ORDER BY created_at, id LIMIT 1`, dbInstanceID, poolID)
	if err != nil {
		return "", err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		return "", err
	case len(found) == 1:
		return found[0], nil
	case poolID != "":
		return "", ErrPoolNotFound.Withf("The AI node pool %.64q does not exist in this DB instance. Call ListAINodePools for its pools.", poolID)
	}
	return newPool(ctx, tx, dbInstanceID)
}

func newPool(ctx context.Context, tx pgx.Tx, dbInstanceID string) (string, error) {
	poolID := ids.New(ids.AINodePool)
	if _, err := tx.Exec(ctx, `
		INSERT INTO ai_node_pool (id, db_instance_id) VALUES ($1, $2)`, poolID, dbInstanceID); err != nil {
		return "", fmt.Errorf("insert the AI node pool: %w", err)
	}
	return poolID, nil
}

// Deletion says which AI nodes of an instance are deleted: those of Names, or without names the Count newest that are free.
type Deletion struct {
	AccountID    string
	DBInstanceID string
	PoolID       string // only nodes of this pool; "": of any
	Names        []string
	Count        int // beside Names their number, or 0
}

// DeleteNodes deletes AI nodes that no model service uses and returns their names. All of them are deleted, or none.
func (i *Instances) DeleteNodes(ctx context.Context, d Deletion) (names []string, err error) {
	switch {
	case len(d.Names) == 0 && d.Count == 0:
		return nil, fault.MissingParameter("AINodeNum")
	case len(d.Names) > 0 && d.Count > 0 && d.Count != len(d.Names):
		return nil, fault.InvalidParameter("AINodeNum", fmt.Sprintf("NodeNames names %d AI nodes, AINodeNum says %d.", len(d.Names), d.Count))
	}
	entry := audit.From(ctx)
	err = pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		if names, err = d.choose(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM ai_node WHERE name = ANY ($1)`, names); err != nil {
			return fmt.Errorf("delete the AI nodes: %w", err)
		}
		entry.ResourceID, entry.Outcome = d.DBInstanceID, audit.Done
		entry.Detail = fmt.Sprintf("%d AI nodes deleted", len(names))
		return audit.Insert(ctx, tx, entry)
	})
	return names, err
}

// choose locks the nodes to delete and returns their names.
func (d *Deletion) choose(ctx context.Context, tx pgx.Tx) ([]string, error) {
	if err := Exists(ctx, tx, d.AccountID, d.DBInstanceID); err != nil {
		return nil, err
	}
	if d.PoolID != "" {
		if _, err := poolFor(ctx, tx, d.DBInstanceID, d.PoolID); err != nil {
			return nil, err
		}
	}
	if len(d.Names) > 0 {
		return d.Names, d.lockNamed(ctx, tx)
	}
	return d.lockFree(ctx, tx)
}

// lockNamed locks the nodes in the order of their names, as everybody does who locks several. A bound node is not waited
// for: only who has locked its service locks it.
func (d *Deletion) lockNamed(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
		SELECT name FROM ai_node
		WHERE db_instance_id = $1 AND ($2 = '' OR pool_id = $2) AND name = ANY ($3) AND model_service_id IS NULL
		ORDER BY name FOR UPDATE`, d.DBInstanceID, d.PoolID, d.Names)
	if err != nil {
		return err
	}
	free, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("lock the AI nodes: %w", err)
	}
	for n, name := range d.Names {
		if slices.Contains(d.Names[:n], name) {
			return fault.InvalidParameter("NodeNames", fmt.Sprintf("%.64q is named twice.", name))
		}
		if !slices.Contains(free, name) {
			return d.notFree(ctx, tx, name)
		}
	}
	return nil
}

// notFree says why the node could not be locked.
func (d *Deletion) notFree(ctx context.Context, tx pgx.Tx, name string) error {
	var exists bool
	if err := tx.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM ai_node WHERE db_instance_id = $1 AND ($2 = '' OR pool_id = $2) AND name = $3)`,
		d.DBInstanceID, d.PoolID, name).Scan(&exists); err != nil {
		return fmt.Errorf("look up the AI node: %w", err)
	}
	if !exists {
		return ErrNodeNotFound.Withf("The AI node %.64q does not exist in this DB instance. Call ListAINodePools for its nodes.", name)
	}
	return ErrNodeBound.Withf("The AI node %s is used by a model service: delete that first; ListAINodePools shows which it is.", name)
}

// lockFree locks the newest free nodes. One that somebody else has locked is about to be bound or deleted.
func (d *Deletion) lockFree(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT name FROM ai_node
		WHERE db_instance_id = $1 AND ($2 = '' OR pool_id = $2) AND model_service_id IS NULL
		ORDER BY created_at DESC, name LIMIT $3 FOR UPDATE SKIP LOCKED`, d.DBInstanceID, d.PoolID, d.Count)
	if err != nil {
		return nil, err
	}
	free, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && len(free) < d.Count {
		return nil, ErrNodeBound.Withf(
			"%d AI nodes are to be deleted and %d are free; the others are used by model services: delete those first.", d.Count, len(free))
	}
	return free, err
}
