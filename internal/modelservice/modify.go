package modelservice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/instance"
)

// ErrInterruption refuses a change that would leave the service without a replica for a while.
var ErrInterruption = fault.New(fault.Conflict, "OperationDenied.ServiceInterruption",
	"The service would not answer while its only replica is replaced.",
	"Name a further AI node in AiNodes, on which the successor starts first, or send AllowInterruption=true.")

// Change is what a caller asks Modify for. What is nil stays as it is.
type Change struct {
	AccountID         string
	DBInstanceID      string
	ID                string
	Description       *string
	Replicas          *int
	ModelParams       map[string]any // all of them: an argument that is not named has its default again
	AINodes           []string       // all of them: a bound node that is not named is given back when nothing runs on it
	AllowInterruption bool           // the only replica may end before its successor serves
}

// Modify writes what the service should be, in one transaction with the claim of the ClientToken, the audit row and the
// first jobs. Replicas with other parameters, or on a node that leaves, are replaced one after the other while as many
// serve as should, if a node is free, or as all but one if none is.
func (s *Services) Modify(ctx context.Context, key idempotency.Key, c Change) error {
	params, err := c.check()
	if err != nil {
		return err
	}
	entry := audit.From(ctx)
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		entry.ResourceID = c.ID
		_, first, err := idempotency.Claim(ctx, tx, key, c.ID)
		if err != nil {
			return err
		}
		if !first {
			entry.Outcome = audit.Repeated
			return nil
		}
		status, err := lockService(ctx, tx, c.AccountID, c.DBInstanceID, c.ID)
		if err != nil {
			return err
		}
		if status == Deleting {
			return ErrStatus.Withf("The model service %s is being deleted.", c.ID)
		}
		if err := s.modify(ctx, tx, c, params, status); err != nil {
			return err
		}
		entry.Outcome = audit.Done
		return audit.Insert(ctx, tx, entry)
	})
	if refusal, ok := errors.AsType[*fault.Fault](err); ok {
		return errors.Join(err, s.recordRefusal(ctx, c, refusal))
	}
	return err
}

// recordRefusal records that a change of the account's service was refused.
func (s *Services) recordRefusal(ctx context.Context, c Change, refusal *fault.Fault) error {
	_, err := s.db.Exec(ctx, `
		INSERT INTO model_service_event (account_id, db_instance_id, model_service_id, kind, message)
		SELECT account_id, db_instance_id, id, $4, $5 FROM model_service WHERE id = $1 AND db_instance_id = $2 AND account_id = $3`,
		c.ID, c.DBInstanceID, c.AccountID, EventChange, fmt.Sprintf("A change was refused (%s): %s", c.said(), refusal.Message))
	if err != nil {
		return fmt.Errorf("record a refusal: %w", err)
	}
	return nil
}

// check applies the rules that need no database and returns the parameters as JSON, or nil.
func (c *Change) check() (params []byte, err error) {
	if c.Description != nil && len(*c.Description) > maxDescription {
		return nil, fault.InvalidParameter("Description", fmt.Sprintf("it is longer than %d bytes.", maxDescription))
	}
	if c.Replicas != nil && (*c.Replicas < 1 || *c.Replicas > maxReplicas) {
		return nil, fault.InvalidParameter("Replicas", fmt.Sprintf("it must be from 1 to %d.", maxReplicas))
	}
	if c.AINodes != nil {
		if err := checkNodeNames(c.AINodes); err != nil {
			return nil, err
		}
	}
	if c.ModelParams == nil {
		return nil, nil
	}
	if params, err = json.Marshal(c.ModelParams); err != nil {
		return nil, fault.InvalidParameter("ModelParams", "it is not a JSON object.")
	}
	return params, nil
}

func (s *Services) modify(ctx context.Context, tx pgx.Tx, c Change, params []byte, status Status) error {
	if c.AINodes != nil {
		if err := rebind(ctx, tx, c); err != nil {
			return err
		}
	}
	if c.ModelParams != nil || c.AINodes != nil {
		if err := s.checkModel(ctx, tx, c); err != nil {
			return err
		}
	}
	var replicas, nodes int
	if err := tx.QueryRow(ctx, `
		UPDATE model_service SET description = coalesce($2, description), replicas = coalesce($3, replicas),
			model_params = coalesce($4, model_params), allow_interruption = $5, updated_at = now()
		WHERE id = $1
		RETURNING replicas, (SELECT count(*) FROM ai_node WHERE model_service_id = $1 AND NOT leaving)`,
		c.ID, c.Description, c.Replicas, params, c.AllowInterruption).Scan(&replicas, &nodes); err != nil {
		return fmt.Errorf("change the model service: %w", err)
	}
	if replicas > nodes {
		return instance.ErrInsufficientCapacity.Withf(
			"%d replicas need as many AI nodes; the service would have %d. A node holds one replica. Name more in AiNodes.", replicas, nodes)
	}
	a, err := readArrangement(ctx, tx, c.ID, s.lostAfter)
	if err != nil {
		return err
	}
	if !c.AllowInterruption && stuck(a.replicas, a.free) {
		return ErrInterruption
	}
	if err := record(ctx, tx, c.ID, EventChange, "%s changed it: %s.", audit.From(ctx).Principal, c.said()); err != nil {
		return err
	}
	if c.Replicas != nil || params != nil {
		status = Deploying // until as many answer as should
	}
	return s.settle(ctx, tx, c.ID, status, false)
}

// checkModel checks the parameters that the service will have against its model, and both against the nodes it will have. A
// model that has left the catalogue refuses new parameters only.
func (s *Services) checkModel(ctx context.Context, tx pgx.Tx, c Change) error {
	var name string
	var params map[string]any
	if err := tx.QueryRow(ctx, `SELECT model_name, model_params FROM model_service WHERE id = $1`, c.ID).Scan(&name, &params); err != nil {
		return fmt.Errorf("read the model of %s: %w", c.ID, err)
	}
	model, err := s.catalog.Find(name)
	switch {
	case err != nil && c.ModelParams == nil:
		return nil
	case err != nil:
		return err
	case c.ModelParams != nil:
		params = c.ModelParams
		if err := model.Arguments.Validate(params); err != nil {
			return err
		}
	}
	rows, err := tx.Query(ctx, `
		SELECT n.name, `+instance.SelectRoom+` FROM ai_node n WHERE n.model_service_id = $1 AND NOT n.leaving ORDER BY n.name`, c.ID)
	if err != nil {
		return err
	}
	rooms, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r instance.Room, err error) {
		return r, row.Scan(append([]any{&r.Node}, r.Columns()...)...)
	})
	if err != nil {
		return fmt.Errorf("read the AI nodes of %s: %w", c.ID, err)
	}
	return fits(model, params, rooms)
}

// said names what the caller asks for.
func (c *Change) said() string {
	var all []string
	if c.Description != nil {
		all = append(all, "Description")
	}
	if c.Replicas != nil {
		all = append(all, fmt.Sprintf("Replicas %d", *c.Replicas))
	}
	if c.AINodes != nil {
		all = append(all, "AiNodes "+strings.Join(c.AINodes, ", "))
	}
	if c.ModelParams != nil {
		params, _ := json.Marshal(c.ModelParams) // was marshalled before
		all = append(all, "ModelParams "+string(params))
	}
	if len(all) == 0 {
		return "nothing"
	}
	return strings.Join(all, "; ")
}

// rebind binds the named nodes to the service and marks the others that it has as leaving.
func rebind(ctx context.Context, tx pgx.Tx, c Change) error {
	rows, err := tx.Query(ctx, `
		SELECT name FROM ai_node
		WHERE db_instance_id = $1 AND (name = ANY ($2) AND model_service_id IS NULL OR model_service_id = $3)
		ORDER BY name FOR UPDATE`, c.DBInstanceID, c.AINodes, c.ID)
	if err != nil {
		return err
	}
	locked, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("lock the AI nodes: %w", err)
	}
	for _, name := range c.AINodes {
		if !slices.Contains(locked, name) {
			return nodeNotFree(ctx, tx, c.DBInstanceID, name)
		}
	}
	if _, err := tx.Exec(ctx, `
		UPDATE ai_node SET model_service_id = $2, leaving = NOT name = ANY ($3), updated_at = now()
		WHERE db_instance_id = $1 AND (name = ANY ($3) OR model_service_id = $2)
			AND (model_service_id IS DISTINCT FROM $2 OR leaving IS DISTINCT FROM NOT name = ANY ($3))`,
		c.DBInstanceID, c.ID, c.AINodes); err != nil {
		return fmt.Errorf("bind the AI nodes: %w", err)
	}
	return nil
}
