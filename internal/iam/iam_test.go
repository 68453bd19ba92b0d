package iam_test

import (
	"context"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
)

const (
	accountID = "1000000000000001"
	neighbour = "1000000000000002"
	rootKeyID = "ESAKroot000000000001"
	password  = "a-secret-of-30-characters-1234"
)

var (
	_ signature.Keys   = (*iam.Store)(nil)
	_ signature.Nonces = (*iam.Store)(nil)
	_ access.Policies  = (*iam.Store)(nil)
)

func newStore(t testing.TB) (*iam.Store, *pgtest.DB) {
	t.Helper()
	db := pgtest.New(t)
	return iam.New(db.Control, newBox(t)), db
}

func newBox(t testing.TB) *secret.Box {
	t.Helper()
	box, err := secret.NewBox()
	require.NoError(t, err)
	return box
}

func ensureRoot(t testing.TB, store *iam.Store) {
	t.Helper()
	require.NoError(t, store.EnsureRoot(t.Context(), root()))
}

// errOf is what a call says of its outcome.
func errOf(_ signature.Key, err error) error { return err }

func root() iam.RootSpec {
	return iam.RootSpec{AccountID: accountID, AccountName: "acme", KeyID: rootKeyID, Secret: secret.New(password)}
}

// load reads a policy directory of the given files, which only their owner may read.
func load(t testing.TB, files map[string]string) iam.Files {
	t.Helper()
	loaded, err := iam.LoadDir(dir(files), noEnv)
	require.NoError(t, err)
	return loaded
}

func dir(files map[string]string) fstest.MapFS {
	dir := fstest.MapFS{}
	for name, content := range files {
		dir[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o600}
	}
	return dir
}

func noEnv(string) string { return "" }

// apply applies and says whether anything changed.
func apply(t testing.TB, store *iam.Store, files map[string]string) bool {
	t.Helper()
	expected, err := store.Diff(t.Context(), load(t, files))
	require.NoError(t, err)
	differences, err := store.Apply(t.Context(), load(t, files))
	require.NoError(t, err)
	require.Equal(t, expected, differences)
	return len(differences) > 0
}

func exec(t testing.TB, db *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := db.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func one[T any](t testing.TB, db *pgxpool.Pool, sql string, args ...any) T {
	t.Helper()
	var value T
	require.NoError(t, db.QueryRow(t.Context(), sql, args...).Scan(&value))
	return value
}

func epoch(t testing.TB, db *pgxpool.Pool, accountID string) int64 {
	t.Helper()
	return one[int64](t, db, `SELECT policy_epoch FROM account WHERE id = $1`, accountID)
}

// written is what a write would change: the transaction and the place of every row.
func written(t testing.TB, db *pgxpool.Pool) []string {
	t.Helper()
	rows, _ := db.Query(context.Background(), `
		          SELECT format('account %s %s %s', id, xmin, ctid) FROM account
		UNION ALL SELECT format('ram_user %s %s %s', id, xmin, ctid) FROM ram_user
		UNION ALL SELECT format('access_key %s %s %s', id, xmin, ctid) FROM access_key
		UNION ALL SELECT format('policy %s %s %s', id, xmin, ctid) FROM policy
		UNION ALL SELECT format('policy_version %s %s %s', policy_id, xmin, ctid) FROM policy_version
		UNION ALL SELECT format('ram_group %s %s %s', id, xmin, ctid) FROM ram_group
		UNION ALL SELECT format('ram_group_member %s %s %s %s', user_id, group_id, xmin, ctid) FROM ram_group_member
		UNION ALL SELECT format('ram_role %s %s %s', id, xmin, ctid) FROM ram_role
		UNION ALL SELECT format('policy_attachment %s %s %s %s', policy_id, principal_id, xmin, ctid) FROM policy_attachment
		ORDER BY 1`)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}
