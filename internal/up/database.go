package up

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/postgres/embedded"
	"github.com/engineshed/engineshed/internal/secret"
)

// databaseName is the database of an installation in its own Postgres.
const databaseName = "engineshed"

// startDatabase starts a Postgres of our own unless the user brings one, and returns the URL of a role that may do
// everything in the database.
func (i *Installation) startDatabase(ctx context.Context) (note string, err error) {
	if i.config.DatabaseURL != "" {
		conn, err := pgx.Connect(ctx, i.config.DatabaseURL)
		if err != nil {
			return "", fmt.Errorf("DATABASE_URL: %w", err)
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		i.adminURL = i.config.DatabaseURL
		return fmt.Sprintf("%s at %s", conn.PgConn().ParameterStatus("server_version"), conn.Config().Host), nil
	}
	binaries, err := embedded.Find(ctx)
	if err != nil {
		return "", err
	}
	var server *embedded.Server
	err = i.keep(ctx, &kept{name: "Postgres", grace: 20 * time.Second, start: func(ctx context.Context) (_ running, err error) {
		server, err = embedded.Start(ctx, embedded.Config{
			DataDir: i.dir.file("postgres"), Binaries: binaries, Log: i.dir.file("logs", "postgres.log"),
			Settings: []string{"max_connections=200"},
		})
		return server, err
	}})
	if err != nil {
		return "", err
	}
	i.adminURL = server.URL(databaseName)
	return "our own, from " + binaries, server.EnsureDatabase(ctx, databaseName)
}

// migrate brings the schema up to date and makes the URLs of the two programs' roles.
func (i *Installation) migrate(ctx context.Context) error {
	if err := postgres.Migrate(ctx, i.adminURL, i.state.passwords()); err != nil {
		return err
	}
	for _, role := range []struct {
		name     string
		password string
		url      *string
	}{
		{postgres.ControlRole, i.state.ControlPassword, &i.controlURL},
		{postgres.GatewayRole, i.state.GatewayPassword, &i.gatewayURL},
	} {
		url, err := postgres.WithUser(i.adminURL, role.name, secret.New(role.password))
		if err != nil {
			return err
		}
		if err := i.tryRole(ctx, url, role.name); err != nil {
			return err
		}
		*role.url = url
	}
	return writeFile(DatabaseURLFile(i.dir.path), []byte(i.controlURL+"\n"))
}

// DatabaseURLFile is the file of a data directory that says how the control plane reaches its database, for commands that
// do its work beside it. Only its owner may read it.
func DatabaseURLFile(dataDir string) string { return filepath.Join(dataDir, "database-url") }

// MasterKeyFile is the file of a data directory that holds the master key.
func MasterKeyFile(dataDir string) string { return filepath.Join(dataDir, "master.key") }

// tryRole finds out now that the database had the role before, with a password that this installation does not know.
func (i *Installation) tryRole(ctx context.Context, url, role string) error {
	conn, err := pgx.Connect(ctx, url)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "28P01" || pg.Code == "28000") {
		return fmt.Errorf("the role %s exists in this Postgres with another password than in %s: run ALTER ROLE %s PASSWORD '…' with that one, or use the data directory it was made by: %w",
			role, i.dir.file("state.json"), role, err)
	}
	if err != nil {
		return fmt.Errorf("connect as %s: %w", role, err)
	}
	return conn.Close(ctx)
}

// readInstallation reads the id that engines carry in their environment, and the account's oldest DB instance: the one
// that the control plane makes at the first start, unless the user has deleted it.
func (i *Installation) readInstallation(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, i.controlURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := conn.QueryRow(ctx, `SELECT id FROM installation`).Scan(&i.id); err != nil {
		return fmt.Errorf("read the installation's id: %w", err)
	}
	err = conn.QueryRow(ctx, `
		SELECT id FROM db_instance WHERE account_id = $1 ORDER BY created_at, id LIMIT 1`, i.root.AccountID,
	).Scan(&i.Credentials.DBInstanceID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("find the first DB instance: %w", err)
	}
	return nil
}
