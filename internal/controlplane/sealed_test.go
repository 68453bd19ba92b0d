package controlplane

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// underSnapshotKey are the columns whose values gateways open: they are not sealed under the master key.
var underSnapshotKey = []string{"domain.cert_key_sealed"}

// A column that is missing here would keep its values under the old master key, and be lost with it.
func TestEverySealedColumnIsDeclared(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	rows, err := db.Owner.Query(t.Context(), `
		SELECT c.relname || '.' || a.attname, format_type(a.atttypid, NULL) = 'bytea[]'
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND NOT a.attisdropped
		  AND a.attname LIKE '%sealed%' AND format_type(a.atttypid, NULL) IN ('bytea', 'bytea[]')`)
	require.NoError(t, err)
	inSchema := map[string]bool{}
	var name string
	var list bool
	_, err = pgx.ForEachRow(rows, []any{&name, &list}, func() error {
		inSchema[name] = list
		return nil
	})
	require.NoError(t, err)
	declared := map[string]bool{}
	for _, column := range Sealed {
		declared[column.Table+"."+column.Column] = column.List
	}
	for _, name := range underSnapshotKey {
		require.Contains(t, inSchema, name)
		delete(inSchema, name)
	}
	require.Equal(t, inSchema, declared)
}
