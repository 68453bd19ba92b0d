package instance

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/resourcegroup"
)

// ErrHasServices refuses to delete an instance whose model services are still there.
var ErrHasServices = fault.New(fault.Conflict, "OperationDenied.ModelServiceExists",
	"The DB instance has model services.", "Delete them with DeleteModelService, and wait until they are gone.")

// SetResourceGroup moves the account's instance to a group of the account.
func (i *Instances) SetResourceGroup(ctx context.Context, accountID, dbInstanceID, groupID string) error {
	entry := audit.From(ctx)
	return pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		if err := lock(ctx, tx, accountID, dbInstanceID); err != nil {
			return err
		}
		if err := resourcegroup.Lock(ctx, tx, accountID, groupID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `
			UPDATE db_instance SET resource_group_id = $2 WHERE id = $1 AND resource_group_id <> $2`, dbInstanceID, groupID); err != nil {
			return fmt.Errorf("set the resource group: %w", err)
		}
		entry.ResourceID, entry.Outcome, entry.Detail = dbInstanceID, audit.Done, "resource group "+groupID
		return audit.Insert(ctx, tx, entry)
	})
}

// Delete deletes the account's instance with its pools, AI nodes, tags and IP arrays. One that has model services is
// refused. A repeated ClientToken succeeds and deletes nothing.
func (i *Instances) Delete(ctx context.Context, key idempotency.Key, accountID, dbInstanceID string) error {
	entry := audit.From(ctx)
	return pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		heldBy, first, err := idempotency.Claim(ctx, tx, key, dbInstanceID)
		if err != nil || !first {
			entry.ResourceID, entry.Outcome = heldBy, audit.Repeated
			return err
		}
		if err := lockToDelete(ctx, tx, accountID, dbInstanceID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM db_instance WHERE id = $1`, dbInstanceID); err != nil {
			return fmt.Errorf("delete the DB instance: %w", err)
		}
		entry.ResourceID, entry.Outcome = dbInstanceID, audit.Done
		return audit.Insert(ctx, tx, entry)
	})
}

// lockToDelete locks an instance that has no model services. The nodes come first: a service that is being created holds
// some of them and goes on to lock the instance, so that it either is seen here or finds its nodes gone.
func lockToDelete(ctx context.Context, tx pgx.Tx, accountID, dbInstanceID string) error {
	if err := Exists(ctx, tx, accountID, dbInstanceID); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `
		SELECT FROM ai_node WHERE db_instance_id = $1 ORDER BY name FOR UPDATE`, dbInstanceID); err != nil {
		return fmt.Errorf("lock the AI nodes: %w", err)
	}
	tag, err := tx.Exec(ctx, `SELECT FROM db_instance WHERE id = $1 FOR UPDATE`, dbInstanceID)
	if err != nil {
		return fmt.Errorf("lock the DB instance: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return NotFound(dbInstanceID)
	}
	var services int
	var one string
	if err := tx.QueryRow(ctx, `
		SELECT count(*), coalesce(min(id), '') FROM model_service WHERE db_instance_id = $1`, dbInstanceID).Scan(&services, &one); err != nil {
		return err
	}
	if services > 0 {
		return ErrHasServices.Withf("The DB instance has %d model services, such as %s: delete them with DeleteModelService, "+
			"and wait until they are gone.", services, one)
	}
	return nil
}
