package modelservice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// publishedTogether bounds a publication: it holds the locks of so many services, and the newest revision, for some
// milliseconds.
const publishedTogether = 100

// Publish brings what gateways serve of the service in line with its rows. Publications go one after the other, so this
// one does the work of others that wait for their turn, and finishes their jobs. A service that cannot be published
// keeps none of the others from it, and fails its own publication alone.
func (s *Services) Publish(ctx context.Context, id string) error {
	var broken map[string]error
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		due, err := lockDue(ctx, tx, id)
		if err != nil {
			return err
		}
		var items []publish.Item
		if items, broken, err = s.compile(ctx, tx, due.stale); err != nil {
			return err
		}
		if err := jobs.Finish(ctx, tx, due.done(broken)); err != nil {
			return err
		}
		return publish.Put(ctx, tx, items...)
	})
	if err != nil {
		return fmt.Errorf("publish %s: %w", id, err)
	}
	return broken[id]
}

// due is what one publication does.
type due struct {
	locked []string           // services
	stale  []string           // those of them that gateways are not told of as they are, and what is gone
	jobs   map[string][]int64 // that ask for their publication, by service
}

// done are the jobs that have nothing to do once the publication is committed.
func (d due) done(broken map[string]error) (ids []int64) {
	for _, id := range d.locked {
		if broken[id] == nil {
			ids = append(ids, d.jobs[id]...)
		}
	}
	return ids
}

// lockDue locks the service, and then others whose publication waits, with their jobs. The others are not waited for, so
// that two publications never wait for each other in a circle.
func lockDue(ctx context.Context, tx pgx.Tx, id string) (due, error) {
	d := due{jobs: map[string][]int64{}}
	batch := &pgx.Batch{}
	batch.Queue(`SELECT FROM model_service WHERE id = $1 FOR UPDATE`, id).Exec(func(found pgconn.CommandTag) error {
		if found.RowsAffected() == 0 {
			d.stale = append(d.stale, id)
		}
		return nil
	})
	waiting := jobs.Take(batch, jobs.PublishQueue, PublishArgs{}.Kind(), publishedTogether)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return d, fmt.Errorf("lock what is to be published: %w", err)
	}
	for _, job := range *waiting {
		var args PublishArgs
		if err := json.Unmarshal(job.Args, &args); err == nil { // otherwise it fails by itself
			d.jobs[args.ServiceID] = append(d.jobs[args.ServiceID], job.ID)
		}
	}
	return d, d.lock(ctx, tx, append(slices.Collect(maps.Keys(d.jobs)), id))
}

// lock locks those of the services that nobody else has locked. A job was there before its service is looked at here, so
// what it was inserted for is seen.
func (d *due) lock(ctx context.Context, tx pgx.Tx, services []string) error {
	rows, err := tx.Query(ctx, `
		SELECT s.id, p.source_version IS DISTINCT FROM s.version
		FROM model_service s LEFT JOIN published_item p ON p.kind = $2 AND p.id = s.id
		WHERE s.id = ANY ($1) FOR UPDATE OF s SKIP LOCKED`, services, snapshot.KindModelService)
	if err != nil {
		return err
	}
	var id string
	var stale bool
	_, err = pgx.ForEachRow(rows, []any{&id, &stale}, func() error {
		d.locked = append(d.locked, id)
		if stale {
			d.stale = append(d.stale, id)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("lock the services that wait to be published: %w", err)
	}
	return nil
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
	if len(ids) == 0 {
		return nil, nil, nil
	}
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
