package modelservice

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/publish"
)

// ErrStatus refuses a change of a service that is on its way out.
var ErrStatus = fault.New(fault.Denied, "OperationDenied.ModelServiceStatus",
	"The model service is being deleted.", "Make a new one with CreateModelService.")

// ModifyIPs changes an IP array of an instance and publishes the services that it decides for, in one transaction: when
// the call returns, gateways have been told.
func (s *Services) ModifyIPs(ctx context.Context, change instance.IPChange) error {
	if err := change.Complete(); err != nil {
		return err
	}
	entry := audit.From(ctx)
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if err := instance.ChangeIPArray(ctx, tx, change); err != nil {
			return err
		}
		decided, err := lockDecided(ctx, tx, change)
		if err != nil {
			return err
		}
		items, broken, err := s.compile(ctx, tx, decided)
		if err = errors.Join(err, whole(broken)); err != nil {
			return err
		}
		entry.ResourceID, entry.Outcome, entry.Detail = change.DBInstanceID, audit.Done, "IP array "+change.Array
		if err := audit.Insert(ctx, tx, entry); err != nil {
			return err
		}
		return publish.Put(ctx, tx, items...)
	})
}

// lockDecided locks the services that the array decides for, in the order of their ids.
func lockDecided(ctx context.Context, tx pgx.Tx, change instance.IPChange) ([]string, error) {
	switch {
	case change.OfService():
		status, err := lockService(ctx, tx, change.AccountID, change.DBInstanceID, change.Array)
		if err == nil && status == Deleting {
			err = ErrStatus.Withf("The model service %s is being deleted.", change.Array)
		}
		return []string{change.Array}, err
	case change.Array != instance.DefaultIPArray:
		return nil, nil
	}
	rows, err := tx.Query(ctx, `
		SELECT id FROM model_service s
		WHERE db_instance_id = $1 AND status <> 'deleting'
			AND NOT EXISTS (SELECT FROM ip_array a WHERE a.db_instance_id = s.db_instance_id AND a.name = s.id)
		ORDER BY id FOR UPDATE`, change.DBInstanceID)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
