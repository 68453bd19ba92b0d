package modelservice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// publishedTogether bounds a publication: it holds the locks of so many services, and the newest revision, for some
// milliseconds.
const publishedTogether = 100

// stale is what a publication would change, of a service s and its published item p. It grows old with the version only.
const stale = `p.source_version IS DISTINCT FROM s.version`

// Publish brings what gateways serve of the service in line with its rows. Publications go one after the other, so this
// one brings along services that wait for theirs; their jobs then find nothing to do. A service that cannot be published
// keeps none of the others from it, and is an error of its own publication alone.
func (s *Services) Publish(ctx context.Context, id string) error {
	if shown, err := s.isShown(ctx, id); err != nil || shown {
		return err
	}
	var broken map[string]error
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		ids, err := lockStale(ctx, tx, id)
		if err != nil || len(ids) == 0 {
			return err
		}
		var items []publish.Item
		if items, broken, err = s.compile(ctx, tx, ids); err != nil {
			return err
		}
		return publish.Put(ctx, tx, items...)
	})
	if err != nil {
		return fmt.Errorf("publish %s: %w", id, err)
	}
	return broken[id]
}

// isShown reports whether gateways are told of the service as it is, or that it is gone. It waits for no lock.
func (s *Services) isShown(ctx context.Context, id string) (shown bool, err error) {
	err = s.db.QueryRow(ctx, `
		SELECT CASE WHEN s.id IS NULL THEN p.deleted IS NOT FALSE ELSE NOT (`+stale+`) END
		FROM (SELECT) one LEFT JOIN model_service s ON s.id = $1 LEFT JOIN published_item p ON p.kind = $2 AND p.id = $1`,
		id, snapshot.KindModelService).Scan(&shown)
	if err != nil {
		return false, fmt.Errorf("compare what is published of %s: %w", id, err)
	}
	return shown, nil
}

// lockStale locks the service, waiting for it, and others that are to be published: those with a job that nobody else is
// busy with. They are not waited for, so that two publications never wait for each other. What it returns is locked and
// stale, or gone.
func lockStale(ctx context.Context, tx pgx.Tx, id string) (ids []string, err error) {
	batch := &pgx.Batch{}
	batch.Queue(`SELECT id FROM model_service WHERE id = $1 FOR UPDATE`, id).QueryRow(func(row pgx.Row) error {
		err := row.Scan(new(string))
		if errors.Is(err, pgx.ErrNoRows) {
			ids = append(ids, id)
			return nil
		}
		return err
	})
	batch.Queue(`
		SELECT s.id FROM model_service s LEFT JOIN published_item p ON p.kind = $1 AND p.id = s.id
		WHERE `+stale+` AND s.id IN (
			SELECT $2 UNION ALL
			SELECT args->>'serviceId' FROM river_job WHERE state IN ('available', 'running') AND queue = $3 AND kind = $4)
		LIMIT $5 FOR UPDATE OF s SKIP LOCKED`,
		snapshot.KindModelService, id, jobs.PublishQueue, PublishArgs{}.Kind(), publishedTogether).Query(func(rows pgx.Rows) error {
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		ids = append(ids, found...)
		return err
	})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("lock what is to be published: %w", err)
	}
	return ids, nil
}

// sourceRow is what a service is published from.
type sourceRow struct {
	ID         string
	Exists     bool
	Version    int64
	Status     Status
	ModelName  string
	Public     bool
	Sealed     []byte // its key
	AccountID  string
	Entries    []string // of the IP array that decides
	Replicas   []byte   // JSON: those that answer
	WasVisible bool     // it has been published before
}

// compile renders the services as gateways see them, or that they are gone. The caller has locked their rows. A service
// whose first replica has not answered yet is left out; broken says why others are.
func (s *Services) compile(ctx context.Context, tx pgx.Tx, ids []string) (items []publish.Item, broken map[string]error, err error) {
	rows, err := tx.Query(ctx, `
		SELECT q.id, s.id IS NOT NULL, coalesce(s.version, 0), coalesce(s.status, ''), coalesce(s.model_name, ''),
			coalesce(s.public, false), s.api_key_sealed, coalesce(s.account_id, ''),
			coalesce((SELECT entries FROM ip_array a WHERE a.db_instance_id = s.db_instance_id AND a.name IN (s.id, $2)
				ORDER BY a.name = $2 LIMIT 1), '{}'),
			(SELECT coalesce(jsonb_agg(jsonb_build_object('id', r.id, 'addr', r.engine_addr,
					'sealedKey', encode(r.published_key, 'base64')) ORDER BY r.ordinal), '[]')
				FROM replica r WHERE r.model_service_id = s.id AND r.status IN ('active', 'silent')),
			EXISTS (SELECT FROM published_item p WHERE p.kind = $3 AND p.id = q.id)
		FROM unnest($1::text[]) AS q (id) LEFT JOIN model_service s ON s.id = q.id`,
		ids, instance.DefaultIPArray, snapshot.KindModelService)
	if err != nil {
		return nil, nil, err
	}
	sources, err := pgx.CollectRows(rows, pgx.RowToStructByPos[sourceRow])
	if err != nil {
		return nil, nil, fmt.Errorf("read what is published of %d services: %w", len(ids), err)
	}
	broken = map[string]error{}
	for _, source := range sources {
		item, ready, err := s.render(source)
		switch {
		case err != nil:
			broken[source.ID] = fmt.Errorf("publish %s: %w", source.ID, err)
		case ready:
			items = append(items, item)
		}
	}
	return items, broken, nil
}

// render renders one of them. One that was published once stays so, with no engine if none answers.
func (s *Services) render(source sourceRow) (item publish.Item, ready bool, err error) {
	item = publish.Item{Kind: snapshot.KindModelService, ID: source.ID, SourceVersion: source.Version}
	if !source.Exists || source.Status == Deleting {
		return item, true, nil
	}
	key, err := s.master.Open(apiKeyPurpose(source.ID), source.Sealed)
	if err != nil {
		return item, false, err
	}
	view := snapshot.ModelService{
		ID: source.ID, AccountID: source.AccountID, ModelName: source.ModelName, Public: source.Public,
		KeyHash: snapshot.HashKey(key.Reveal()),
	}
	if err := json.Unmarshal(source.Replicas, &view.Replicas); err != nil {
		return item, false, fmt.Errorf("read its replicas: %w", err)
	}
	if !source.WasVisible && len(view.Replicas) == 0 {
		return item, false, nil
	}
	if view.Allow, err = instance.Prefixes(source.Entries); err != nil {
		return item, false, err
	}
	item.Body, err = view.Encode()
	return item, true, err
}

// whole is an error if one of the services is broken.
func whole(broken map[string]error) error { return errors.Join(slices.Collect(maps.Values(broken))...) }
