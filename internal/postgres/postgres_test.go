package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
)

const insertAccount = `INSERT INTO account (id, name) VALUES ('1000000000000001', 'a')`

func TestInTxCommitsOrRollsBack(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	failed := errors.New("failed")
	for _, outcome := range []error{failed, nil} {
		err := postgres.InTx(t.Context(), db.Control, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), insertAccount)
			return errors.Join(err, outcome)
		})
		require.ErrorIs(t, err, outcome)
	}
}

func TestATransactionThatStandsStillIsEnded(t *testing.T) {
	t.Parallel()
	pool, err := postgres.Open(t.Context(), pgtest.New(t).ControlURL)
	require.NoError(t, err)
	defer pool.Close()
	var limit string
	require.NoError(t, pool.QueryRow(t.Context(), `SHOW idle_in_transaction_session_timeout`).Scan(&limit))
	require.Equal(t, "10s", limit)
}

func TestErrorsHaveAMeaning(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	_, err := db.Control.Exec(t.Context(), insertAccount)
	require.NoError(t, err)
	_, err = db.Control.Exec(t.Context(), insertAccount)
	require.True(t, postgres.IsUniqueViolation(err, ""))
	require.True(t, postgres.IsUniqueViolation(err, "account_pkey"))
	require.False(t, postgres.IsUniqueViolation(err, "another"))
	require.False(t, postgres.IsUnavailable(err))

	_, err = db.Control.Exec(t.Context(), `INSERT INTO ai_node_pool (id, db_instance_id) VALUES ('a', 'b')`)
	require.True(t, postgres.IsForeignKeyViolation(err, "ai_node_pool_db_instance_id_fkey"))
	require.False(t, postgres.IsUnavailable(nil))

	for _, full := range []string{"disk_full", "out_of_memory", "too_many_connections"} {
		_, err = db.Control.Exec(t.Context(), `DO $$ BEGIN RAISE EXCEPTION SQLSTATE '00000' USING ERRCODE = '`+full+`'; END $$`)
		require.True(t, postgres.IsUnavailable(err), "%v", err)
	}
}

func TestADatabaseThatIsAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	_, err := server.Control.Exec(t.Context(), `SELECT`)
	require.NoError(t, err)

	cut := make(chan error, 1)
	go func() {
		_, err := server.Control.Exec(context.Background(), `SELECT pg_sleep(60)`)
		cut <- err
	}()
	require.Eventually(t, func() bool { return isAsleep(t, server) }, 10*time.Second, 10*time.Millisecond)
	server.Kill()
	require.True(t, postgres.IsUnavailable(<-cut), "cut off in the middle")
	_, err = server.Control.Exec(t.Context(), `SELECT`)
	require.True(t, postgres.IsUnavailable(err), "%v", err)

	server.Start()
	_, err = server.Control.Exec(t.Context(), `SELECT`)
	require.NoError(t, err, "the pool outlives a restart")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = server.Control.Exec(ctx, `SELECT`)
	require.Error(t, err)
	require.False(t, postgres.IsUnavailable(err), "the caller went away, not the database")
}

func isAsleep(t *testing.T, server *pgtest.Server) bool {
	t.Helper()
	var asleep bool
	require.NoError(t, server.Owner.QueryRow(t.Context(),
		`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'engineshed_control' AND state IS DISTINCT FROM 'idle')`).Scan(&asleep))
	return asleep
}

func TestWithUserReplacesUserAndPassword(t *testing.T) {
	t.Parallel()
	for _, database := range []string{
		"postgres://admin:old@db.example:5433/product?sslmode=require",
		"postgresql://db.example:5433/product?user=admin&password=old&sslmode=require",
		"host=db.example port=5433 user=admin password='old' dbname=product sslmode=require",
	} {
		url, err := postgres.WithUser(database, "other", secret.New(`p'a\ss:/@ %`))
		require.NoError(t, err)
		config, err := pgx.ParseConfig(url)
		require.NoError(t, err)
		require.Equal(t, "other", config.User)
		require.Equal(t, `p'a\ss:/@ %`, config.Password)
		require.Equal(t, "db.example", config.Host)
		require.EqualValues(t, 5433, config.Port)
		require.Equal(t, "product", config.Database)
		require.NotNil(t, config.TLSConfig)
	}
	_, err := postgres.WithUser("postgres://admin:canary@[/", "other", secret.New("p"))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "canary")
}

func TestFingerprintIsStable(t *testing.T) {
	t.Parallel()
	first, err := postgres.Fingerprint()
	require.NoError(t, err)
	second, err := postgres.Fingerprint()
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Len(t, first, 64)
}
