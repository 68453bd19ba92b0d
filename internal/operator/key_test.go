package operator_test

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/operator"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	account   = "1000000000000001"
	neighbour = "1000000000000002"
)

func newKeys(t *testing.T) (*operator.Keys, *pgtest.DB) {
	t.Helper()
	db := pgtest.New(t)
	_, err := db.Owner.Exec(t.Context(), `INSERT INTO account (id, name) VALUES ($1, 'a'), ($2, 'b')`, account, neighbour)
	require.NoError(t, err)
	master, err := secret.NewBox()
	require.NoError(t, err)
	return operator.New(db.Control, master, "http://127.0.0.1:8090"), db
}

// published is what gateways see of the key, nil when it is gone for them.
func published(t *testing.T, db *pgtest.DB, id int32) *snapshot.OperatorKey {
	t.Helper()
	var body []byte
	var deleted bool
	require.NoError(t, db.Gateway.QueryRow(t.Context(), `
		SELECT body, deleted FROM published_item WHERE kind = $1 AND id = $2`, snapshot.KindOperatorKey, strconv.Itoa(int(id))).Scan(&body, &deleted))
	if deleted {
		return nil
	}
	view := new(snapshot.OperatorKey)
	require.NoError(t, json.Unmarshal(body, view))
	require.NoError(t, view.Validate())
	return view
}

func stale(t *testing.T, keys *operator.Keys, db *pgtest.DB) (ids []string) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), db.Control, func(tx pgx.Tx) (err error) {
		ids, err = keys.Stale(t.Context(), tx)
		return err
	}))
	return ids
}

func TestAKeyIsPublishedAsAHashUntilItIsDeleted(t *testing.T) {
	t.Parallel()
	keys, db := newKeys(t)
	id, err := keys.Create(t.Context(), account, "notebooks")
	require.NoError(t, err)
	other, err := keys.Create(t.Context(), account, "others")
	require.NoError(t, err)
	shown, err := keys.Describe(t.Context(), account, id)
	require.NoError(t, err)
	require.Equal(t, "http://127.0.0.1:8090/operator/v1", shown.Endpoint)
	require.Equal(t, &snapshot.OperatorKey{ID: strconv.Itoa(int(id)), AccountID: account, Hash: snapshot.HashKey(shown.Secret.Reveal())}, published(t, db, id))
	require.Empty(t, stale(t, keys, db))

	listed, total, err := keys.List(t.Context(), account, instance.Page{Number: 2, Size: 1})
	require.NoError(t, err)
	require.Equal(t, 2, total)
	require.Equal(t, []int32{other}, []int32{listed[0].ID})
	require.True(t, listed[0].Secret.IsZero())
	_, total, err = keys.List(t.Context(), neighbour, instance.Page{Number: 1, Size: 1})
	require.NoError(t, err)
	require.Zero(t, total)

	_, err = keys.Describe(t.Context(), neighbour, id)
	require.ErrorIs(t, err, operator.ErrNotFound)
	require.ErrorIs(t, keys.Delete(t.Context(), neighbour, id), operator.ErrNotFound)
	require.NoError(t, keys.Delete(t.Context(), account, id))
	require.Nil(t, published(t, db, id))
	require.ErrorIs(t, keys.Delete(t.Context(), account, id), operator.ErrNotFound)
	_, err = keys.Describe(t.Context(), account, id)
	require.ErrorIs(t, err, operator.ErrNotFound)
	require.Empty(t, stale(t, keys, db))
	var rows int
	require.NoError(t, db.Owner.QueryRow(t.Context(), `SELECT count(*) FROM audit_event WHERE outcome = 'done'`).Scan(&rows))
	require.Equal(t, 3, rows)
}

func TestWhatGatewaysLackIsFound(t *testing.T) {
	t.Parallel()
	keys, db := newKeys(t)
	lost, err := keys.Create(t.Context(), account, "lost")
	require.NoError(t, err)
	gone, err := keys.Create(t.Context(), account, "gone")
	require.NoError(t, err)
	_, err = db.Owner.Exec(t.Context(), `DELETE FROM published_item WHERE id = $1`, strconv.Itoa(int(lost)))
	require.NoError(t, err)
	_, err = db.Owner.Exec(t.Context(), `DELETE FROM operator_key WHERE id = $1`, gone)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{strconv.Itoa(int(lost)), strconv.Itoa(int(gone))}, stale(t, keys, db))
}

func TestAnAccountHasAtMostFiftyKeys(t *testing.T) {
	t.Parallel()
	keys, _ := newKeys(t)
	for range 50 {
		_, err := keys.Create(t.Context(), account, "d")
		require.NoError(t, err)
	}
	_, err := keys.Create(t.Context(), account, "d")
	require.ErrorIs(t, err, operator.ErrQuota)
	_, err = keys.Create(t.Context(), neighbour, "d")
	require.NoError(t, err)
}
