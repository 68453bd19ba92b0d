package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	first, second := pgtest.New(t), pgtest.New(t)
	addAccount(t, first)
	require.Equal(t, 1, countAccounts(t, first))
	require.Zero(t, countAccounts(t, second))
	require.NotEqual(t, installation(t, first), installation(t, second))
}

func installation(t *testing.T, db *pgtest.DB) (id string) {
	t.Helper()
	require.NoError(t, db.Control.QueryRow(t.Context(), `SELECT id FROM installation`).Scan(&id))
	return id
}

func TestPoolsHaveTheirRoles(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for want, pool := range map[string]*pgxpool.Pool{
		"engineshed_owner": db.Owner, "engineshed_control": db.Control, "engineshed_gateway": db.Gateway,
	} {
		var role string
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT current_user`).Scan(&role))
		require.Equal(t, want, role)
	}
}

func TestNoncesOfNowHaveAPartition(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	_, err := db.Control.Exec(t.Context(), `
		INSERT INTO nonce (signed_at, bucket, access_key_id, nonce)
		VALUES (now(), date_bin('10 minutes', now(), 'epoch'), 'k', 'n')`)
	require.NoError(t, err)
}

func TestAPrivateServerGoesAndComesBack(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	addAccount(t, server.DB)
	for _, stop := range []func(){server.Kill, server.Stop} {
		stop()
		_, err := server.Control.Exec(t.Context(), `SELECT`)
		require.Error(t, err)
		server.Start()
		require.Equal(t, 1, countAccounts(t, server.DB))
	}
}

func addAccount(t *testing.T, db *pgtest.DB) {
	t.Helper()
	_, err := db.Control.Exec(t.Context(), `INSERT INTO account (id, name) VALUES ('1000000000000001', 'a')`)
	require.NoError(t, err)
}

func countAccounts(t *testing.T, db *pgtest.DB) int {
	t.Helper()
	var n int
	require.NoError(t, db.Control.QueryRow(t.Context(), `SELECT count(*) FROM account`).Scan(&n))
	return n
}
