package modelservice

import (
	"cmp"
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/publish"
)

// RotateKey gives the service another ApiKey and publishes it: the old one opens nothing once gateways have fetched that.
func (s *Services) RotateKey(ctx context.Context, key idempotency.Key, accountID, dbInstanceID, id string) error {
	sealed, err := s.master.Seal(apiKeyPurpose(id), newKey())
	if err != nil {
		return err
	}
	entry := audit.From(ctx)
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		entry.ResourceID = id
		_, first, err := idempotency.Claim(ctx, tx, key, id)
		if err != nil {
			return err
		}
		if !first {
			entry.Outcome = audit.Repeated
			return nil
		}
		status, err := lockService(ctx, tx, accountID, dbInstanceID, id)
		if err != nil {
			return err
		}
		if status == Deleting {
			return ErrStatus.Withf("The model service %s is being deleted.", id)
		}
		if err := s.replaceKey(ctx, tx, id, sealed); err != nil {
			return err
		}
		entry.Outcome = audit.Done
		return audit.Insert(ctx, tx, entry)
	})
}

func (s *Services) replaceKey(ctx context.Context, tx pgx.Tx, id string, sealed []byte) error {
	if _, err := tx.Exec(ctx, `
		UPDATE model_service SET api_key_sealed = $2, version = version + 1, updated_at = now() WHERE id = $1`, id, sealed); err != nil {
		return err
	}
	if err := record(ctx, tx, id, EventChange, "Its key was replaced by %s.", audit.From(ctx).Principal); err != nil {
		return err
	}
	items, broken, err := s.compile(ctx, tx, []string{id})
	if err := cmp.Or(err, whole(broken)); err != nil {
		return err
	}
	return publish.Put(ctx, tx, items...) // at once: the old key must open nothing although no worker runs
}
