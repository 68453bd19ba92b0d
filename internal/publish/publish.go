// Package publish turns what is ready into numbered revisions that gateways fetch.
package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Channel is the NOTIFY channel that carries the newest revision: a hint, gateways poll too.
const Channel = "engineshed_publication"

// HeardWithin is how long a gateway process counts as serving after its last report.
const HeardWithin = 10 * time.Second

// Item is one thing gateways serve.
type Item struct {
	Kind          string
	ID            string
	SourceVersion int64  // the version of the row the body was made from
	Body          []byte // nil: a tombstone
}

// Put publishes items, each as a revision of its own, in the caller's transaction, which should end right after: it holds
// the lock on the newest revision. What gateways have already is not published again. The caller holds a lock on every
// item's source row, so that an older version cannot overwrite a newer one, and names no item twice.
func Put(ctx context.Context, tx pgx.Tx, items ...Item) error {
	had, err := lockPublished(ctx, tx, items)
	if err != nil {
		return err
	}
	var changed, seen columns
	for _, item := range items {
		gone, before := item.Body == nil, had[place{item.Kind, item.ID}]
		switch {
		case before == nil && gone:
		case before != nil && before.deleted == gone && (gone || bytes.Equal(before.body, item.Body)):
			if item.SourceVersion != 0 { // a source that is gone has none
				seen.add(item)
			}
		default:
			changed.add(item)
		}
	}
	if err := sawVersions(ctx, tx, seen); err != nil {
		return err
	}
	return nextRevisions(ctx, tx, changed)
}

// place is where an item is.
type place struct{ kind, id string }

// published is what gateways have of an item.
type published struct {
	body    []byte
	deleted bool
}

// lockPublished locks what gateways have of the items, in the order of their names, so that two tombstones of one source
// cannot wait for each other.
func lockPublished(ctx context.Context, tx pgx.Tx, items []Item) (map[place]*published, error) {
	if len(items) == 0 {
		return nil, nil
	}
	var c columns
	for _, item := range items {
		c.add(item)
	}
	rows, err := tx.Query(ctx, `
		SELECT kind, id, body, deleted FROM published_item
		WHERE (kind, id) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY kind, id FOR UPDATE`, c.kinds, c.ids)
	if err != nil {
		return nil, fmt.Errorf("read the published items: %w", err)
	}
	had := make(map[place]*published, len(items))
	var at place
	var p published
	if _, err := pgx.ForEachRow(rows, []any{&at.kind, &at.id, &p.body, &p.deleted}, func() error {
		was := p
		had[at] = &was
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the published items: %w", err)
	}
	return had, nil
}

// columns are items as parameters of a statement.
type columns struct {
	kinds, ids []string
	versions   []int64
	deleted    []bool
	bodies     [][]byte
}

func (c *columns) add(item Item) {
	c.kinds, c.ids = append(c.kinds, item.Kind), append(c.ids, item.ID)
	c.versions, c.deleted, c.bodies = append(c.versions, item.SourceVersion), append(c.deleted, item.Body == nil), append(c.bodies, item.Body)
}

// sawVersions notes that the items show newer versions of their sources in the same way.
func sawVersions(ctx context.Context, tx pgx.Tx, c columns) error {
	if len(c.ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
		UPDATE published_item p SET source_version = new.version
		FROM unnest($1::text[], $2::text[], $3::bigint[]) AS new (kind, id, version)
		WHERE p.kind = new.kind AND p.id = new.id AND p.source_version <> new.version`, c.kinds, c.ids, c.versions)
	if err != nil {
		return fmt.Errorf("note the versions of %d published items: %w", len(c.ids), err)
	}
	return nil
}

// nextRevisions writes the items, and announces the newest of their revisions.
func nextRevisions(ctx context.Context, tx pgx.Tx, c columns) error {
	if len(c.ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
		WITH newest AS (
			UPDATE publication SET revision = revision + cardinality($2::text[]) RETURNING revision
		), put AS (
			INSERT INTO published_item (kind, id, source_version, deleted, body, revision)
			SELECT kind, id, version, deleted, coalesce(body, ''), revision - cardinality($2) + n
			FROM newest, unnest($1::text[], $2, $3::bigint[], $4::boolean[], $5::bytea[])
				WITH ORDINALITY AS new (kind, id, version, deleted, body, n)
			ON CONFLICT (kind, id) DO UPDATE SET source_version = excluded.source_version, deleted = excluded.deleted,
				body = excluded.body, revision = excluded.revision, published_at = now()
		)
		SELECT pg_notify($6, revision::text) FROM newest`, c.kinds, c.ids, c.versions, c.deleted, c.bodies, Channel)
	if err != nil {
		return fmt.Errorf("publish %d items, %s %s first: %w", len(c.ids), c.kinds[0], c.ids[0], err)
	}
	return nil
}

// Behind counts the gateway processes that serve an older version of the item than the given one of its source. It is
// negative while that version is not published; what was never published nobody serves.
func Behind(ctx context.Context, db *pgxpool.Pool, kind, id string, sourceVersion int64) (gateways int, err error) {
	err = db.QueryRow(ctx, `
		SELECT CASE WHEN source_version < $3 THEN -1 ELSE
			(SELECT count(*) FROM gateway_status g WHERE g.reported_at > now() - $4::interval AND g.revision < p.revision) END
		FROM published_item p WHERE kind = $1 AND id = $2`, kind, id, sourceVersion, HeardWithin).Scan(&gateways)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read which gateways serve %s %s: %w", kind, id, err)
	}
	return gateways, nil
}

// Forget drops tombstones older than a day, and the reports of gateways that have been gone as long. A gateway that was
// away longer fetches everything.
func Forget(ctx context.Context, db *pgxpool.Pool) error {
	if _, err := db.Exec(ctx, `
		DELETE FROM gateway_status WHERE reported_at < now() - interval '24 hours'`); err != nil {
		return fmt.Errorf("drop the reports of gone gateways: %w", err)
	}
	_, err := db.Exec(ctx, `
		WITH gone AS (
			DELETE FROM published_item WHERE deleted AND published_at < now() - interval '24 hours' RETURNING revision
		), newest AS (SELECT max(revision) AS revision FROM gone)
		UPDATE publication SET forgotten_upto = greatest(forgotten_upto, newest.revision)
		FROM newest WHERE newest.revision IS NOT NULL`)
	return err
}
