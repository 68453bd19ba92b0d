package rotation_test

import (
	"context"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/secret/rotation"
)

// How long tests wait for a condition, and how often they look.
const (
	timeout  = 30 * time.Second
	interval = time.Millisecond
)

var columns = []rotation.Column{
	{Table: "kept", Column: "sealed", Key: []string{"id", "name"}, Purpose: func(key []string) string { return key[0] + "/" + key[1] }},
	{Table: "kept", Column: "list", List: true, Key: []string{"id"}, Purpose: func(key []string) string { return "list/" + key[0] }},
}

type world struct {
	db   *pgxpool.Pool
	path string
	box  *secret.Box
}

// newWorld has a table with rows of a sealed value and a list of two each; every tenth list is empty.
func newWorld(t *testing.T, rows int) *world {
	t.Helper()
	w := &world{db: pgtest.New(t).Owner, path: filepath.Join(t.TempDir(), "master.key")}
	require.NoError(t, secret.CreateKeyFile(w.path))
	w.load(t)
	_, err := w.db.Exec(t.Context(), `CREATE TABLE kept (id integer PRIMARY KEY, name text, sealed bytea NOT NULL, list bytea[] NOT NULL)`)
	require.NoError(t, err)
	for id := range rows {
		w.write(t, w.box, id)
	}
	return w
}

func (w *world) load(t *testing.T) {
	t.Helper()
	var err error
	w.box, err = secret.Load(w.path)
	require.NoError(t, err)
}

func (w *world) write(t *testing.T, box *secret.Box, id int) {
	t.Helper()
	text := strconv.Itoa(id)
	one, err := box.Seal(text+"/n", secret.New(text))
	require.NoError(t, err)
	list := [][]byte{}
	for range 2 {
		sealed, err := box.Seal("list/"+text, secret.New(text))
		require.NoError(t, err)
		list = append(list, sealed)
	}
	if id%10 == 0 {
		list = list[:0]
	}
	_, err = w.db.Exec(t.Context(), `
		INSERT INTO kept VALUES ($1, 'n', $2, $3) ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed, list = excluded.list`, id, one, list)
	require.NoError(t, err)
}

// rotate makes a new key the one to seal with.
func (w *world) rotate(t *testing.T) {
	t.Helper()
	_, err := secret.AddKey(w.path)
	require.NoError(t, err)
	_, err = secret.UseNewestKey(w.path)
	require.NoError(t, err)
	w.load(t)
}

// requireOpen opens everything with what box knows.
func (w *world) requireOpen(t *testing.T, box *secret.Box, rows int) {
	t.Helper()
	found, err := w.db.Query(t.Context(), `SELECT id::text, sealed, list FROM kept`)
	require.NoError(t, err)
	defer found.Close()
	var seen int
	for ; found.Next(); seen++ {
		var id string
		var sealed []byte
		var list [][]byte
		require.NoError(t, found.Scan(&id, &sealed, &list))
		text, err := box.Open(id+"/n", sealed)
		require.NoError(t, err)
		require.Equal(t, id, text.Reveal())
		for _, sealed := range list {
			text, err := box.Open("list/"+id, sealed)
			require.NoError(t, err)
			require.Equal(t, id, text.Reveal())
		}
	}
	require.NoError(t, found.Err())
	require.Equal(t, rows, seen)
}

func TestEverythingIsSealedAnew(t *testing.T) {
	t.Parallel()
	const rows = 450
	w := newWorld(t, rows)
	n, err := rotation.Reseal(t.Context(), w.db, w.box, columns)
	require.NoError(t, err)
	require.Zero(t, n, "there is nothing old")
	w.rotate(t)
	left, err := rotation.Count(t.Context(), w.db, w.box, columns)
	require.NoError(t, err)
	require.Equal(t, rows+rows*9/10, left)
	n, err = rotation.Reseal(t.Context(), w.db, w.box, columns)
	require.NoError(t, err)
	require.Equal(t, left, n)
	left, err = rotation.Count(t.Context(), w.db, w.box, columns)
	require.NoError(t, err)
	require.Zero(t, left)
	_, err = secret.DropOtherKeys(w.path)
	require.NoError(t, err)
	w.load(t)
	w.requireOpen(t, w.box, rows)
}

func TestAnInterruptedRotationGoesOn(t *testing.T) {
	t.Parallel()
	const rows = 1000
	w := newWorld(t, rows)
	w.rotate(t)
	interrupted, interrupt := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		_, err := rotation.Reseal(interrupted, w.db, w.box, columns)
		if err == nil {
			t.Error("it was over before it was interrupted")
		}
	})
	require.Eventually(t, func() bool {
		left, err := rotation.Count(t.Context(), w.db, w.box, columns)
		require.NoError(t, err)
		return left < rows+rows*9/10
	}, timeout, interval)
	interrupt()
	done.Wait()
	w.requireOpen(t, w.box, rows)
	_, err := rotation.Reseal(t.Context(), w.db, w.box, columns)
	require.NoError(t, err)
	left, err := rotation.Count(t.Context(), w.db, w.box, columns)
	require.NoError(t, err)
	require.Zero(t, left)
	w.requireOpen(t, w.box, rows)
}

// A process that has the old file in its hand goes on writing until it looks at it again.
func TestWritersBesideARotationLoseNothing(t *testing.T) {
	t.Parallel()
	const rows = 300
	w := newWorld(t, rows)
	writer := w.box
	stop := make(chan struct{})
	var writing sync.WaitGroup
	var written atomic.Int64
	writing.Go(func() {
		for id := 0; ; id = (id + 7) % rows {
			select {
			case <-stop:
				return
			default:
				w.write(t, writer, id)
				written.Add(1)
			}
		}
	})
	w.rotate(t)
	require.Eventually(t, func() bool {
		_, err := rotation.Reseal(t.Context(), w.db, w.box, columns)
		require.NoError(t, err)
		whole := written.Load() + rows // until then the writer might just not have written
		require.Eventually(t, func() bool { return written.Load() >= whole }, timeout, interval)
		left, err := rotation.Count(t.Context(), w.db, w.box, columns)
		require.NoError(t, err)
		return left == 0
	}, timeout, interval)
	close(stop)
	writing.Wait()
	left, err := rotation.Count(t.Context(), w.db, w.box, columns)
	require.NoError(t, err)
	require.Zero(t, left, "the writer has found the new key by itself")
	w.requireOpen(t, w.box, rows)
}

func TestWhatDoesNotOpenIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	_, err := w.db.Exec(t.Context(), `UPDATE kept SET sealed = (SELECT sealed FROM kept WHERE id = 2) WHERE id = 1`)
	require.NoError(t, err)
	w.rotate(t)
	_, err = rotation.Reseal(t.Context(), w.db, w.box, columns)
	require.ErrorContains(t, err, "seal kept.sealed anew: open the secret 1/n")
	left, err := rotation.Count(t.Context(), w.db, w.box, columns)
	require.NoError(t, err)
	require.NotZero(t, left)
}
