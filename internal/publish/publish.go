// Package publish turns what is ready into numbered revisions that gateways fetch.
package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
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

// Put publishes item as the next revision in the caller's transaction, which should end right after: it holds the
// lock on the newest revision. What gateways have already is not published again. The caller holds a lock on the
// item's source row, so that an older version cannot overwrite a newer one.
func Put(ctx context.Context, tx pgx.Tx, item Item) error {
	var body []byte
	var deleted bool
	err := tx.QueryRow(ctx, `
		SELECT body, deleted FROM published_item WHERE kind = $1 AND id = $2 FOR UPDATE`, item.Kind, item.ID).Scan(&body, &deleted)
	gone := item.Body == nil
	switch {
	case errors.Is(err, pgx.ErrNoRows) && gone:
		return nil
	case err == nil && deleted == gone && (gone || bytes.Equal(body, item.Body)):
		return sawVersion(ctx, tx, item)
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("read the published item: %w", err)
	}
	return nextRevision(ctx, tx, item)
}

// sawVersion notes that the item shows a newer version of its source in the same way. A source that is gone has none.
func sawVersion(ctx context.Context, tx pgx.Tx, item Item) error {
	if item.SourceVersion == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
		UPDATE published_item SET source_version = $3
		WHERE kind = $1 AND id = $2 AND source_version <> $3`, item.Kind, item.ID, item.SourceVersion)
	return err
}

func nextRevision(ctx context.Context, tx pgx.Tx, item Item) error {
	var revision int64
	err := tx.QueryRow(ctx, `
		WITH next AS (UPDATE publication SET revision = revision + 1 RETURNING revision)
		INSERT INTO published_item (kind, id, source_version, deleted, body, revision)
		SELECT $1, $2, $3, $4, coalesce($5, ''::bytea), revision FROM next
		ON CONFLICT (kind, id) DO UPDATE SET source_version = excluded.source_version, deleted = excluded.deleted,
			body = excluded.body, revision = excluded.revision, published_at = now()
		RETURNING revision`,
		item.Kind, item.ID, item.SourceVersion, item.Body == nil, item.Body).Scan(&revision)
	if err != nil {
		return fmt.Errorf("publish %s %s: %w", item.Kind, item.ID, err)
	}
	if _, err := tx.Exec(ctx, `SELECT pg_notify($1, $2)`, Channel, strconv.FormatInt(revision, 10)); err != nil {
		return fmt.Errorf("announce revision %d: %w", revision, err)
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
