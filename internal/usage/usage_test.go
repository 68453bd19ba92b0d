package usage_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/usage"
)

const day = 24 * time.Hour

func exists(t *testing.T, db *pgtest.DB, on time.Time) (found bool) {
	t.Helper()
	require.NoError(t, db.Owner.QueryRow(t.Context(), `SELECT to_regclass($1) IS NOT NULL`,
		"usage_record_"+on.UTC().Format("20060102")).Scan(&found))
	return found
}

func TestPartitionsAreMadeAheadAndDroppedByAge(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	u := usage.New(db.Control, time.Now)
	now := time.Now().UTC()
	old, kept := now.Add(-31*day), now.Add(-29*day)
	for _, on := range []time.Time{old, kept} {
		from := on.Truncate(day)
		_, err := db.Owner.Exec(t.Context(), fmt.Sprintf(`CREATE TABLE usage_record_%s PARTITION OF usage_record FOR VALUES FROM ('%s') TO ('%s')`,
			from.Format("20060102"), from.Format(time.RFC3339), from.Add(day).Format(time.RFC3339)))
		require.NoError(t, err)
	}
	_, err := db.Owner.Exec(t.Context(), `DROP TABLE usage_record_`+now.Add(3*day).Format("20060102"))
	require.NoError(t, err)

	require.NoError(t, u.Maintain(t.Context(), 30*day))
	require.False(t, exists(t, db, old))
	require.True(t, exists(t, db, kept))
	require.True(t, exists(t, db, now.Add(3*day)))
	require.True(t, exists(t, db, now.Add(7*day)))

	require.NoError(t, u.Maintain(t.Context(), day))
	require.False(t, exists(t, db, kept))
	require.True(t, exists(t, db, now.Add(-day)))
	require.ErrorContains(t, u.Maintain(t.Context(), time.Hour), "kept for a day at least")
}

func TestPartitionThatIsReadIsDroppedLater(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	u := usage.New(db.Control, time.Now)
	reader, err := db.Owner.Begin(t.Context())
	require.NoError(t, err)
	_, err = reader.Exec(t.Context(), `SELECT FROM usage_record`)
	require.NoError(t, err)
	yesterday := time.Now().Add(-2 * day)
	require.NoError(t, u.Maintain(t.Context(), day), "whoever reads does not keep gateways from writing")
	require.True(t, exists(t, db, yesterday))
	require.NoError(t, reader.Rollback(t.Context()))
	require.NoError(t, u.Maintain(t.Context(), day))
	require.False(t, exists(t, db, yesterday))
}
