package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// Kind names the items that consumers are published as.
func (c *Consumers) Kind() string { return snapshot.KindConsumer }

// Compile renders the consumer as gateways see it: with its own rules and those of its groups. A disabled one is not
// there.
func (c *Consumers) Compile(ctx context.Context, tx pgx.Tx, id string) (item publish.Item, ready bool, err error) {
	item = publish.Item{Kind: snapshot.KindConsumer, ID: id}
	view := snapshot.Consumer{ID: id}
	var enabled bool
	var source, keyName string
	err = tx.QueryRow(ctx, `
		SELECT version, name, account_id, enabled, key_source, key_name FROM consumer WHERE id = $1 FOR NO KEY UPDATE`, id).
		Scan(&item.SourceVersion, &view.Name, &view.AccountID, &enabled, &source, &keyName)
	if errors.Is(err, pgx.ErrNoRows) {
		return item, true, nil
	}
	if err != nil {
		return item, false, fmt.Errorf("read the consumer: %w", err)
	}
	if !enabled {
		return item, true, nil
	}
	if source == Default {
		keyName = "" // gateways know it
	}
	if view.Keys, err = compileKeys(ctx, tx, id, source, keyName); err != nil {
		return item, false, err
	}
	if view.Token, err = compileToken(ctx, tx, id); err != nil {
		return item, false, err
	}
	if view.AccessKeys, err = compileAccessKeys(ctx, tx, id); err != nil {
		return item, false, err
	}
	if view.Allowed, err = compileAllowed(ctx, tx, id); err != nil {
		return item, false, err
	}
	item.Body, err = snapshot.Encode(view)
	return item, err == nil, err
}

func compileKeys(ctx context.Context, tx pgx.Tx, id, source, name string) ([]snapshot.ConsumerKey, error) {
	rows, err := tx.Query(ctx, `SELECT key_hash FROM consumer_key WHERE consumer_id = $1 ORDER BY position`, id)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (snapshot.ConsumerKey, error) {
		key := snapshot.ConsumerKey{Source: source, Name: name}
		err := row.Scan(&key.Hash)
		return key, err
	})
}

// compileAllowed reads what the consumer may call. A Model API is in one environment at a time, and its rules go with it.
func compileAllowed(ctx context.Context, tx pgx.Tx, id string) ([]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT DISTINCT http_api_id FROM authorization_rule
		WHERE consumer_id = $1 OR group_id IN (SELECT group_id FROM consumer_group_member WHERE consumer_id = $1)
		ORDER BY http_api_id`, id)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Stale returns the consumers that gateways see otherwise than they are. A disabled one that was never published, or
// whose tombstone is forgotten, is as it should be.
func (c *Consumers) Stale(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT c.id FROM consumer c LEFT JOIN published_item p ON p.kind = $1 AND p.id = c.id
		WHERE c.enabled AND (p.deleted IS DISTINCT FROM false OR p.source_version <> c.version)
			OR NOT c.enabled AND NOT p.deleted
		UNION ALL
		SELECT p.id FROM published_item p
		WHERE p.kind = $1 AND NOT p.deleted AND NOT EXISTS (SELECT FROM consumer c WHERE c.id = p.id)`, snapshot.KindConsumer)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
