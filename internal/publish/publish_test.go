package publish_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/publish"
)

func put(t *testing.T, db *pgtest.DB, items ...publish.Item) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), db.Control, func(tx pgx.Tx) error { return publish.Put(t.Context(), tx, items...) }))
}

func revision(t *testing.T, db *pgtest.DB) (n int64) {
	t.Helper()
	require.NoError(t, db.Gateway.QueryRow(t.Context(), `SELECT revision FROM publication`).Scan(&n))
	return n
}

func TestOnlyWhatChangedIsANewRevision(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	put(t, db, publish.Item{Kind: "k", ID: "a", SourceVersion: 1, Body: []byte("one")})
	require.EqualValues(t, 1, revision(t, db))
	put(t, db, publish.Item{Kind: "k", ID: "a", SourceVersion: 2, Body: []byte("one")})
	require.EqualValues(t, 1, revision(t, db), "gateways have this body already")
	put(t, db, publish.Item{Kind: "k", ID: "a", SourceVersion: 3, Body: []byte("two")})
	require.EqualValues(t, 2, revision(t, db))
	put(t, db, publish.Item{Kind: "k", ID: "a"})
	put(t, db, publish.Item{Kind: "k", ID: "a"})
	require.EqualValues(t, 3, revision(t, db), "one tombstone")
	put(t, db, publish.Item{Kind: "k", ID: "never"})
	require.EqualValues(t, 3, revision(t, db), "what was never published needs no tombstone")
}

// shown is what gateways are told: every item without its revision.
func shown(t *testing.T, db *pgtest.DB) (items string) {
	t.Helper()
	require.NoError(t, db.Owner.QueryRow(t.Context(), `
		SELECT coalesce(string_agg(format('%s/%s %s %s %s', kind, id, source_version, deleted, body), ', ' ORDER BY kind, id), '')
		FROM published_item`).Scan(&items))
	return items
}

// However items are put together, gateways see what they would see of them one by one, each at a revision of its own.
func TestItemsThatArePutTogetherAreAsIfPutOneByOne(t *testing.T) {
	t.Parallel()
	together, single := pgtest.New(t), pgtest.New(t)
	version := int64(0)
	rapid.Check(t, func(r *rapid.T) {
		var items []publish.Item
		for _, id := range rapid.Permutation([]string{"a", "b", "c", "d", "e", "f"}).Draw(r, "ids")[:rapid.IntRange(0, 6).Draw(r, "items")] {
			version++
			item := publish.Item{Kind: rapid.SampledFrom([]string{"k", "l"}).Draw(r, "kind"), ID: id, SourceVersion: version}
			if body := rapid.IntRange(0, 2).Draw(r, "body"); body > 0 {
				item.Body = []byte(fmt.Sprint(body))
			}
			items = append(items, item)
		}
		put(t, together, items...)
		for _, item := range items {
			put(t, single, item)
		}
		require.Equal(r, shown(t, single), shown(t, together))
		require.Equal(r, revision(t, single), revision(t, together))
		var once bool
		require.NoError(t, together.Owner.QueryRow(t.Context(), `
			SELECT count(DISTINCT i.revision) = count(i.revision) AND coalesce(max(i.revision), 0) <= max(p.revision)
			FROM publication p LEFT JOIN published_item i ON true`).Scan(&once))
		require.True(r, once, "a revision is one item's")
	})
}

func TestOneNotificationAnnouncesTheNewestRevision(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	listener, err := pgx.Connect(t.Context(), db.GatewayURL)
	require.NoError(t, err)
	defer func() { _ = listener.Close(context.Background()) }()
	_, err = listener.Exec(t.Context(), `LISTEN `+publish.Channel)
	require.NoError(t, err)
	for _, ids := range []string{"abc", "de"} {
		var items []publish.Item
		for _, id := range ids {
			items = append(items, publish.Item{Kind: "k", ID: string(id), SourceVersion: 1, Body: []byte("x")})
		}
		put(t, db, items...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, newest := range []string{"3", "5"} {
		heard, err := listener.WaitForNotification(ctx)
		require.NoError(t, err)
		require.Equal(t, newest, heard.Payload)
	}
}

// A job may run again long after the source is gone.
func TestATombstoneIsWrittenOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	written := func() (version string) {
		require.NoError(t, db.Owner.QueryRow(t.Context(), `SELECT xmin::text || source_version FROM published_item`).Scan(&version))
		return version
	}
	put(t, db, publish.Item{Kind: "k", ID: "a", SourceVersion: 1, Body: []byte("one")})
	put(t, db, publish.Item{Kind: "k", ID: "a", SourceVersion: 2})
	before := written()
	put(t, db, publish.Item{Kind: "k", ID: "a"})
	require.Equal(t, before, written())
}

// A reader that asks for what is newer than it has must not miss a revision that commits late.
func TestRevisionsCommitInTheirOrder(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const publications = 100
	var writers sync.WaitGroup
	for i := range publications {
		writers.Go(func() {
			_ = pgx.BeginFunc(t.Context(), db.Control, func(tx pgx.Tx) error {
				return publish.Put(t.Context(), tx, publish.Item{Kind: "k", ID: fmt.Sprint(i), Body: []byte("x")})
			})
		})
	}
	seen := map[string]bool{}
	for mine := int64(0); mine < publications; {
		rows, err := db.Gateway.Query(t.Context(), `
			SELECT p.revision, i.id FROM publication p LEFT JOIN published_item i ON i.revision > $1`, mine)
		require.NoError(t, err)
		var newest int64
		var id *string
		_, err = pgx.ForEachRow(rows, []any{&newest, &id}, func() error {
			if id != nil {
				seen[*id] = true
			}
			return nil
		})
		require.NoError(t, err)
		mine = newest
	}
	writers.Wait()
	require.Len(t, seen, publications)
}

func TestForgottenTombstonesMakeOldGatewaysFetchEverything(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	put(t, db, publish.Item{Kind: "k", ID: "a", Body: []byte("one")})
	put(t, db, publish.Item{Kind: "k", ID: "a"})
	put(t, db, publish.Item{Kind: "k", ID: "b", Body: []byte("one")})
	_, err := db.Owner.Exec(t.Context(), `
		UPDATE published_item SET published_at = now() - interval '25 hours';
		INSERT INTO gateway_status VALUES ('gone', 1, now(), now() - interval '25 hours'), ('here', 1, now(), now())`)
	require.NoError(t, err)
	require.NoError(t, publish.Forget(t.Context(), db.Control))
	var upto int64
	require.NoError(t, db.Gateway.QueryRow(t.Context(), `SELECT forgotten_upto FROM publication`).Scan(&upto))
	require.EqualValues(t, 2, upto)
	var items, gateways int
	require.NoError(t, db.Owner.QueryRow(t.Context(), `
		SELECT (SELECT count(*) FROM published_item), (SELECT count(*) FROM gateway_status)`).Scan(&items, &gateways))
	require.Equal(t, 1, items)
	require.Equal(t, 1, gateways)
}

func TestGatewaysAreBehindUntilTheyServeTheVersion(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	behind := func(version int64) int {
		n, err := publish.Behind(t.Context(), db.Control, "k", "a", version)
		require.NoError(t, err)
		return n
	}
	require.Zero(t, behind(1), "nobody serves what was never published")
	put(t, db, publish.Item{Kind: "k", ID: "a", SourceVersion: 1, Body: []byte("one")})
	put(t, db, publish.Item{Kind: "k", ID: "a", SourceVersion: 2, Body: []byte("two")})
	require.Negative(t, behind(3), "it is not published yet")
	_, err := db.Owner.Exec(t.Context(), `
		INSERT INTO gateway_status (process_id, revision, started_at, reported_at)
		VALUES ('behind', 1, now(), now()), ('there', 2, now(), now()), ('gone', 1, now(), now() - interval '11 seconds')`)
	require.NoError(t, err)
	require.Equal(t, 1, behind(2))
	put(t, db, publish.Item{Kind: "k", ID: "a"})
	_, err = db.Owner.Exec(t.Context(), `UPDATE gateway_status SET revision = 3`)
	require.NoError(t, err)
	put(t, db, publish.Item{Kind: "k", ID: "b", SourceVersion: 1, Body: []byte("one")})
	require.Zero(t, behind(0), "what is published of other items does not matter")
}
