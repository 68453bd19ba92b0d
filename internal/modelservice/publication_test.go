package modelservice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/node/nodetest"
	"github.com/engineshed/engineshed/internal/publish"
)

// answering are services whose replicas have just answered: a job waits for each.
func (w *largeWorld) answering(t *testing.T) (ids []string) {
	t.Helper()
	w.createAll(t, 4)
	rows, err := w.Owner.Query(t.Context(), `
		WITH steps AS (DELETE FROM river_job), answers AS (UPDATE replica SET status = 'active', engine_addr = '127.0.0.1:1')
		UPDATE model_service SET status = 'active', version = version + 1 RETURNING id`)
	require.NoError(t, err)
	ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, id := range ids {
		w.ask(t, id)
	}
	return ids
}

// ask asks for the service to be published.
func (w *largeWorld) ask(t *testing.T, id string) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), w.Control, func(tx pgx.Tx) error {
		return w.services.enqueuePublish(t.Context(), tx, id)
	}))
}

// waiting are the jobs that wait for a worker.
func (w *world) waiting(t *testing.T) (services []string) {
	t.Helper()
	rows, err := w.Owner.Query(t.Context(), `SELECT args->>'serviceId' FROM river_job WHERE state = 'available' ORDER BY 1`)
	require.NoError(t, err)
	services, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return services
}

// behind are the services that gateways see otherwise than they are.
func (w *world) behind(t *testing.T) (services []string) {
	t.Helper()
	rows, err := w.Owner.Query(t.Context(), `
		SELECT s.id FROM model_service s LEFT JOIN published_item p ON p.id = s.id
		WHERE p.source_version IS DISTINCT FROM s.version ORDER BY 1`)
	require.NoError(t, err)
	services, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return services
}

// expose makes a service public, which is to be published.
func (w *largeWorld) expose(t *testing.T, id string) {
	t.Helper()
	_, err := w.Owner.Exec(t.Context(), `UPDATE model_service SET public = true, version = version + 1 WHERE id = $1`, id)
	require.NoError(t, err)
	w.ask(t, id)
}

func TestAPublicationBringsAlongTheOthersThatWait(t *testing.T) {
	t.Parallel()
	w := newLargeWorld(t, publishedTogether+20)
	ids := w.answering(t)
	w.ask(t, ids[7]) // a second time
	services, _, asked := w.traced(t)
	require.NoError(t, services.Publish(t.Context(), ids[len(ids)-1]))
	many := len(asked.take())
	require.Len(t, w.waiting(t), 21, "so many are too many at once")
	require.Len(t, w.behind(t), 19, "the first %d, and the one that was named", publishedTogether)

	last := w.waiting(t)[0]
	require.NoError(t, services.Publish(t.Context(), last))
	require.Empty(t, w.waiting(t))
	require.Empty(t, w.behind(t))
	asked.take()
	w.ask(t, ids[0])
	before := w.versions(t)
	require.NoError(t, services.Publish(t.Context(), ids[1]))
	require.Empty(t, w.waiting(t), "the job had nothing to do")
	require.NotEqual(t, before, w.versions(t))
	asked.take()
	before = w.versions(t)
	require.NoError(t, services.Publish(t.Context(), ids[1]))
	require.Equal(t, before, w.versions(t), "a publication that has nothing to do writes nothing")
	asked.take()

	w.expose(t, ids[0])
	_, err := w.Owner.Exec(t.Context(), `DELETE FROM river_job`)
	require.NoError(t, err)
	require.NoError(t, services.Publish(t.Context(), ids[0]))
	require.LessOrEqual(t, many, len(asked.take())+1, "a publication of many asks as often as one of one, and finishes their jobs")
	require.Empty(t, w.behind(t))
}

func TestAServiceThatCannotBePublishedStopsNoOther(t *testing.T) {
	t.Parallel()
	w := newLargeWorld(t, 8)
	ids := w.answering(t)
	_, err := w.Owner.Exec(t.Context(), `UPDATE model_service SET api_key_sealed = 'corrupt' WHERE id = $1`, ids[3])
	require.NoError(t, err)
	require.NoError(t, w.services.Publish(t.Context(), ids[0]))
	require.Equal(t, []string{ids[3]}, w.behind(t))
	require.Equal(t, []string{ids[3]}, w.waiting(t), "its job is its own")

	w.expose(t, ids[5])
	require.ErrorContains(t, w.services.Publish(t.Context(), ids[3]), "publish "+ids[3])
	require.Equal(t, []string{ids[3]}, w.behind(t), "others are published all the same")
	require.Error(t, w.services.ModifyIPs(t.Context(), instance.IPChange{
		AccountID: account, DBInstanceID: w.instance, Mode: instance.Append, List: "192.0.2.1",
	}), "what cannot be published to all is refused")
	require.Equal(t, "127.0.0.1", w.array(t, "default"))
}

func TestAPublicationWaitsForNoOtherService(t *testing.T) {
	t.Parallel()
	w := newLargeWorld(t, 8)
	ids := w.answering(t)
	slices.Sort(ids)
	change, err := w.Control.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = change.Rollback(context.Background()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = change.Exec(t.Context(), `UPDATE model_service SET version = version + 1 WHERE id = ANY ($1)`, ids[2:4])
	require.NoError(t, err)
	require.NoError(t, w.services.Publish(ctx, ids[0]))
	require.Equal(t, ids[2:4], w.behind(t))
	require.Equal(t, ids[2:4], w.waiting(t))
	require.NoError(t, change.Commit(t.Context()))
	require.NoError(t, w.services.Publish(t.Context(), ids[0]))
	require.Empty(t, w.behind(t))
	require.Empty(t, w.waiting(t))
}

// A worker is killed after it has written everything, and before it commits.
func TestAPublicationThatIsKilledHasDoneNothing(t *testing.T) {
	t.Parallel()
	w := newLargeWorld(t, 8)
	ids := w.answering(t)
	newest, err := w.Owner.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = newest.Rollback(context.Background()) }()
	_, err = newest.Exec(t.Context(), `SELECT FROM publication FOR UPDATE`)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- w.services.Publish(t.Context(), ids[0]) }()
	admin, err := pgx.Connect(t.Context(), w.AdminURL)
	require.NoError(t, err)
	defer func() { _ = admin.Close(context.Background()) }()
	nodetest.Eventually(t, func() bool {
		var killed int
		err := admin.QueryRow(t.Context(), `
			SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&killed)
		require.NoError(t, err)
		return killed == 1
	}, "the publication does not wait for the newest revision")
	require.Error(t, <-ended)
	require.NoError(t, newest.Rollback(t.Context()))
	require.Len(t, w.behind(t), len(ids))
	require.Len(t, w.waiting(t), len(ids))
	require.NoError(t, w.services.Publish(t.Context(), ids[0]))
	require.Empty(t, w.behind(t))
	require.Empty(t, w.waiting(t))
}

// changer changes services at random, as callers and steps do.
type changer struct {
	*largeWorld
	random *rand.Rand
	ids    []string
}

// once makes one change, and fails only by what must not happen.
func (c *changer) once(ctx context.Context) error {
	id := c.ids[c.random.IntN(len(c.ids))]
	var err error
	switch c.random.IntN(10) {
	case 0:
		err = c.services.Delete(ctx, account, c.instance, id)
	case 1, 2:
		err = c.services.ModifyIPs(ctx, instance.IPChange{
			AccountID: account, DBInstanceID: c.instance, Mode: instance.Cover,
			List: netip.AddrFrom4([4]byte{192, 0, 2, byte(c.random.IntN(256))}).String(),
		})
	case 3, 4:
		err = c.services.RotateKey(ctx, idempotency.Key{}, account, c.instance, id)
	case 5:
		err = c.remove(ctx, id)
	default:
		err = c.move(ctx, id)
	}
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrStatus) || errors.Is(err, errFenced) {
		return nil
	}
	return err
}

// move is a step: a replica answers elsewhere, or none does.
func (c *changer) move(ctx context.Context, id string) error {
	status := []string{active, failed}[c.random.IntN(2)]
	return pgx.BeginFunc(ctx, c.Control, func(tx pgx.Tx) error {
		if current, err := lockServiceByID(ctx, tx, id); err != nil || current == Deleting {
			return err
		}
		batch := &pgx.Batch{}
		batch.Queue(`UPDATE replica SET status = $2, engine_addr = $3 WHERE model_service_id = $1 AND ordinal = 0`,
			id, status, fmt.Sprint("127.0.0.1:", 1+c.random.IntN(60000)))
		batch.Queue(`UPDATE model_service SET version = version + 1 WHERE id = $1`, id)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		return c.services.enqueuePublish(ctx, tx, id)
	})
}

// remove is the last step of a service that is being deleted.
func (c *changer) remove(ctx context.Context, id string) error {
	return pgx.BeginFunc(ctx, c.Control, func(tx pgx.Tx) error {
		if current, err := lockServiceByID(ctx, tx, id); err != nil || current != Deleting {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM replica WHERE model_service_id = $1`, id); err != nil {
			return err
		}
		return removeService(ctx, tx, id)
	})
}

// told is an item as a gateway has it.
type told struct {
	ID       string
	Revision int64
	Version  int64
	Deleted  bool
	Body     []byte
}

// follow fetches what is newer than it has, as gateways do, until it has everything that there is after done.
func (w *world) follow(ctx context.Context, done <-chan struct{}) (has map[string]told, err error) {
	has = map[string]told{}
	for mine, last := int64(0), false; ; {
		select {
		case <-done:
			last = true
		default:
		}
		rows, err := w.Gateway.Query(ctx, `
			SELECT p.revision, coalesce(i.id, ''), coalesce(i.revision, 0), coalesce(i.source_version, 0), coalesce(i.deleted, false), i.body
			FROM publication p LEFT JOIN published_item i ON i.revision > $1`, mine)
		if err != nil {
			return nil, err
		}
		var item told
		var older error
		_, err = pgx.ForEachRow(rows, []any{&mine, &item.ID, &item.Revision, &item.Version, &item.Deleted, &item.Body}, func() error {
			had := has[item.ID]
			if item.Version < had.Version && !item.Deleted || had.Deleted && !item.Deleted {
				older = errors.Join(older, fmt.Errorf("%s was %d (%v) and is %d (%v)", item.ID, had.Version, had.Deleted, item.Version, item.Deleted))
			}
			if item.ID != "" {
				has[item.ID] = item
			}
			return nil
		})
		if err = errors.Join(err, older); err != nil || last {
			return has, err
		}
	}
}

// publishers work the publication jobs as several hosts do, until stop.
func (w *world) publishers(t *testing.T) (stop func()) {
	t.Helper()
	var clients []*jobs.Client
	for range 3 {
		workers := river.NewWorkers()
		river.AddWorker(workers, &publishWorker{services: w.services})
		client, err := jobs.NewWorker(w.Control, workers, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		require.NoError(t, client.Start(t.Context()))
		clients = append(clients, client)
	}
	return func() {
		for _, client := range clients {
			require.NoError(t, client.Stop(t.Context()))
		}
	}
}

// Whatever is changed and deleted meanwhile, gateways see no version after a newer one, and end up with what there is.
func TestBatchesSingleChangesAndDeletionsArePublishedInOrder(t *testing.T) {
	t.Parallel()
	const changes, changers = 80, 4
	w := newLargeWorld(t, 40)
	ids := w.answering(t)
	stop := w.publishers(t)
	errs := make([]error, changers)
	var changing sync.WaitGroup
	for n := range changers {
		c := &changer{largeWorld: w, random: rand.New(rand.NewPCG(uint64(n), 1)), ids: ids}
		changing.Go(func() {
			for i := 0; i < changes && errs[n] == nil; i++ {
				errs[n] = c.once(t.Context())
			}
		})
	}
	var gateway map[string]told
	var followed error
	done := make(chan struct{})
	var following sync.WaitGroup
	following.Go(func() { gateway, followed = w.follow(t.Context(), done) })
	changing.Wait()
	require.NoError(t, errors.Join(errs...))
	nodetest.Eventually(t, func() bool {
		var left int
		err := w.Owner.QueryRow(t.Context(), `
			SELECT count(*) FROM river_job WHERE finalized_at IS NULL AND kind = $1`, PublishArgs{}.Kind()).Scan(&left)
		return err == nil && left == 0
	}, "publications are left")
	stop()
	close(done)
	following.Wait()
	require.NoError(t, followed)
	w.requireShown(t, ids, gateway)
	var failures []string
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT coalesce(array_agg(errors::text), '{}') FROM river_job WHERE errors IS NOT NULL AND kind = $1`, PublishArgs{}.Kind()).Scan(&failures))
	require.Empty(t, failures)
}

// requireShown compares what a gateway has with what the services are.
func (w *world) requireShown(t *testing.T, ids []string, gateway map[string]told) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), w.Control, func(tx pgx.Tx) error {
		items, broken, err := w.services.compile(t.Context(), tx, ids)
		require.Empty(t, broken)
		for _, item := range items {
			has, ok := gateway[item.ID]
			if item.Body == nil {
				require.True(t, !ok || has.Deleted, "%s is gone", item.ID)
				continue
			}
			require.True(t, bytes.Equal(item.Body, has.Body), "%s is shown as it is", item.ID)
		}
		before := revision(t, tx)
		require.NoError(t, publish.Put(t.Context(), tx, items...))
		require.Equal(t, before, revision(t, tx), "everything is published")
		return err
	}))
	require.Empty(t, w.behind(t))
}

func revision(t *testing.T, tx pgx.Tx) (newest int64) {
	t.Helper()
	require.NoError(t, tx.QueryRow(t.Context(), `SELECT revision FROM publication`).Scan(&newest))
	return newest
}
