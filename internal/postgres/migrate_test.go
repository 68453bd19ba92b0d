package postgres_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/postgres/embedded"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/migrations"
)

var passwords = postgres.RolePasswords{
	Owner: secret.New("own'er"), Control: secret.New("control"), Gateway: secret.New("gateway"),
}

func TestMigrateByARoleThatMayCreateRoles(t *testing.T) {
	t.Parallel()
	server := freshServer(t)
	admin := connect(t, server.URL("postgres"))
	for _, statement := range []string{
		`CREATE ROLE installer LOGIN CREATEROLE PASSWORD 'installer'`, `CREATE DATABASE product OWNER installer`,
	} {
		_, err := admin.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	installer, err := postgres.WithUser(server.URL("product"), "installer", secret.New("installer"))
	require.NoError(t, err)

	var together errgroup.Group
	for range 3 { // starts that happen at the same time
		together.Go(func() error { return postgres.Migrate(t.Context(), installer, passwords) })
	}
	require.NoError(t, together.Wait())

	for role, password := range map[string]secret.Secret{
		postgres.OwnerRole: passwords.Owner, postgres.ControlRole: passwords.Control, postgres.GatewayRole: passwords.Gateway,
	} {
		url, err := postgres.WithUser(server.URL("product"), role, password)
		require.NoError(t, err)
		connect(t, url)
		url, err = postgres.WithUser(server.URL("product"), role, secret.New("wrong"))
		require.NoError(t, err)
		_, err = pgx.Connect(t.Context(), url)
		require.ErrorContains(t, err, "password authentication failed")
	}
	owner, err := postgres.WithUser(server.URL("product"), postgres.OwnerRole, passwords.Owner)
	require.NoError(t, err)
	require.NoError(t, postgres.Migrate(t.Context(), owner, postgres.RolePasswords{}), "again, as the owner")
}

func TestMigrateSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	server := freshServer(t)
	require.ErrorContains(t, postgres.Migrate(t.Context(), server.URL("postgres"), postgres.RolePasswords{}),
		"no password to make it with")
	_, err := connect(t, server.URL("postgres")).Exec(t.Context(), `CREATE ROLE nobody LOGIN PASSWORD 'nobody'`)
	require.NoError(t, err)
	nobody, err := postgres.WithUser(server.URL("postgres"), "nobody", secret.New("nobody"))
	require.NoError(t, err)
	require.ErrorContains(t, postgres.Migrate(t.Context(), nobody, passwords), "may not create roles")
}

func TestEachRoleMayDoItsOwnAndNothingElse(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := t.Context()
	for _, test := range []struct {
		name             string
		statement        string
		control, gateway bool
	}{
		{"read a key", `SELECT FROM access_key`, true, false},
		{"write an account", `UPDATE account SET name = name`, true, false},
		{"delete a service", `DELETE FROM model_service`, true, false},
		{"write the audit", `INSERT INTO audit_event (request_id, account_id, principal, access_key_id, source_ip, action, resource, outcome)
			VALUES ('', '', '', '', '', '', '', 'done')`, true, false},
		{"change the audit", `UPDATE audit_event SET code = ''`, false, false},
		{"delete the audit", `DELETE FROM audit_event`, false, false},
		{"empty the audit", `TRUNCATE audit_event`, false, false},
		{"choose the number of an audit row", `INSERT INTO audit_event (id, request_id, account_id, principal, access_key_id, source_ip, action,
			resource, outcome) VALUES (1, '', '', '', '', '', '', '', 'done')`, false, false},
		{"change a seal", `UPDATE audit_seal SET rows = 1`, false, false},
		{"delete a seal", `DELETE FROM audit_seal`, false, false},
		{"delete what the chain ends with", `DELETE FROM audit_head`, false, false},
		{"delete a key of seals", `DELETE FROM audit_key`, false, false},
		{"make the months of the audit", `SELECT maintain_audit_partitions('400 days')`, true, false},
		{"read the audit", `SELECT FROM audit_event, audit_seal, audit_head`, true, false},
		{"count a failed sign-in", `INSERT INTO sign_in_failure VALUES (now(), '', '', 1)`, true, false},
		{"forget a nonce", `DELETE FROM nonce`, false, false},
		{"partition the nonces", `SELECT maintain_nonce_partitions()`, true, false},
		{"partition the usage records", `SELECT maintain_usage_partitions('30 days')`, true, false},
		{"write a usage record", `INSERT INTO usage_record (began_at, request_id, account_id, gateway_process, end_state, status, streamed, total_ms)
			VALUES (now(), 'r', '', '', 'complete', 200, false, 1) ON CONFLICT DO NOTHING`, false, true},
		{"read the usage records", `SELECT FROM usage_record`, true, false},
		{"change a usage record", `UPDATE usage_record SET total_ms = 0`, false, false},
		{"delete a usage record", `DELETE FROM usage_record`, false, false},
		{"work a job", `UPDATE river_job SET state = state`, true, false},
		{"insert a job", `SELECT nextval('river_job_id_seq')`, true, false},
		{"read what is published", `SELECT FROM publication, published_item`, true, true},
		{"publish", `UPDATE publication SET revision = revision + 1`, true, false},
		{"publish an item", `INSERT INTO published_item (kind, id, revision) VALUES ('a', 'b', 1)`, true, false},
		{"report the served revision", `INSERT INTO gateway_status VALUES ('p', 1, now(), now())
			ON CONFLICT (process_id) DO UPDATE SET revision = 1`, false, true},
		{"read the reports", `SELECT FROM gateway_status`, true, true},
		{"read the jobs", `SELECT FROM river_job`, true, false},
		{"make a table", `CREATE TABLE mine ()`, false, false},
		{"make a temporary table", `CREATE TEMPORARY TABLE mine ()`, false, false},
		{"change a table", `ALTER TABLE account ADD COLUMN mine text`, false, false},
		{"read the migrations", `SELECT FROM goose_db_version`, false, false},
	} {
		_, err := db.Control.Exec(ctx, test.statement)
		requireAllowed(t, test.control, err, "control: "+test.name)
		_, err = db.Gateway.Exec(ctx, test.statement)
		requireAllowed(t, test.gateway, err, "gateway: "+test.name)
	}
}

func TestMoreRightsThanTheRoleAreRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin, err := postgres.Open(t.Context(), db.AdminURL)
	require.NoError(t, err)
	t.Cleanup(admin.Close)
	require.NoError(t, postgres.CheckControlRights(t.Context(), db.Control))
	require.NoError(t, postgres.CheckGatewayRights(t.Context(), db.Gateway))
	require.ErrorContains(t, postgres.CheckControlRights(t.Context(), db.Owner), "more rights")
	require.ErrorContains(t, postgres.CheckControlRights(t.Context(), admin), "more rights")
	require.ErrorContains(t, postgres.CheckGatewayRights(t.Context(), db.Control), "connect as engineshed_gateway")
	require.ErrorContains(t, postgres.CheckGatewayRights(t.Context(), db.Owner), "more rights")
}

func requireAllowed(t *testing.T, allowed bool, err error, what string) {
	t.Helper()
	if allowed {
		require.NoError(t, err, what)
		return
	}
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused, what)
	require.Equal(t, "42501", refused.Code, what) // insufficient_privilege
}

// freshServer is a server with passwords and without our roles, as a user would bring it.
func freshServer(t *testing.T) *embedded.Server {
	t.Helper()
	binaries, err := embedded.Find(t.Context())
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "postgres-") //nolint:usetesting // as root, the server's user cannot enter t.TempDir
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o711))
	server, err := embedded.Start(t.Context(), embedded.Config{
		DataDir: filepath.Join(dir, "data"), Binaries: binaries, Log: filepath.Join(dir, "log"),
	})
	require.NoError(t, err)
	t.Cleanup(server.Kill)
	return server
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestTheAuditTrailSurvivesItsMove(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := t.Context()
	_, err := db.Control.Exec(ctx, `
		INSERT INTO audit_event (request_id, account_id, principal, access_key_id, source_ip, action, resource, outcome, detail)
		SELECT 'r' || n, '', '', '', '', '', '', 'done', 'd' FROM generate_series(1, 3) n`)
	require.NoError(t, err)
	sqlDB := stdlib.OpenDBFromPool(db.Owner)
	t.Cleanup(func() { sqlDB.Close() })
	provider, err := goose.NewProvider(goose.DialectPostgres, sqlDB, migrations.FS, goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)
	trail := func() (rows string) {
		require.NoError(t, db.Owner.QueryRow(ctx, `
			SELECT string_agg(concat_ws(' ', id, extract(epoch FROM at), request_id, detail), ',' ORDER BY id) FROM audit_event`).Scan(&rows))
		return rows
	}
	before := trail()
	_, err = provider.DownTo(ctx, 18)
	require.NoError(t, err)
	require.Equal(t, before, trail())
	_, err = db.Owner.Exec(ctx, `UPDATE audit_event SET at = at - interval '2 years' WHERE request_id = 'r1'`)
	require.NoError(t, err)
	before = trail()
	_, err = provider.Up(ctx)
	require.NoError(t, err)
	require.Equal(t, before, trail())
	var id int64
	require.NoError(t, db.Owner.QueryRow(ctx, `
		INSERT INTO audit_event (request_id, account_id, principal, access_key_id, source_ip, action, resource, outcome)
		VALUES ('r4', '', '', '', '', '', '', 'done') RETURNING id`).Scan(&id))
	require.Equal(t, int64(4), id)
}
