package operator

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// version is the only one that a key has: it is made and deleted, and never changed.
const version = 1

// Kind names the items that keys are published as.
func (k *Keys) Kind() string { return snapshot.KindOperatorKey }

// Compile renders the key as gateways see it.
func (k *Keys) Compile(ctx context.Context, tx pgx.Tx, id string) (item publish.Item, ready bool, err error) {
	item = publish.Item{Kind: snapshot.KindOperatorKey, ID: id, SourceVersion: version}
	number, err := strconv.ParseInt(id, 10, 32)
	if err != nil {
		return item, false, fmt.Errorf("the id of a ModelOperator key: %w", err)
	}
	view := snapshot.OperatorKey{ID: id}
	err = tx.QueryRow(ctx, `
		SELECT account_id, key_hash FROM operator_key WHERE id = $1 FOR KEY SHARE`, number).Scan(&view.AccountID, &view.Hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return item, true, nil
	}
	if err != nil {
		return item, false, fmt.Errorf("read the ModelOperator key: %w", err)
	}
	item.Body, err = snapshot.Encode(view)
	return item, err == nil, err
}

// Stale returns the keys that gateways do not have, and those that they have though they are deleted.
func (k *Keys) Stale(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT k.id::text FROM operator_key k LEFT JOIN published_item p ON p.kind = $1 AND p.id = k.id::text
		WHERE p.deleted IS DISTINCT FROM false
		UNION ALL
		SELECT p.id FROM published_item p
		WHERE p.kind = $1 AND NOT p.deleted AND NOT EXISTS (SELECT FROM operator_key k WHERE k.id::text = p.id)`, snapshot.KindOperatorKey)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
