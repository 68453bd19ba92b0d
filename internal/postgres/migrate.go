package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/engineshed/engineshed/migrations"
)

// migrateLock keeps two migrations of one database apart.
const migrateLock = 7050

// Migrate brings the database at url to this program's schema: it makes the roles that are missing, runs our migrations
// and River's as the owner role, and gives the other roles their rights. It may run again at any time, and beside
// itself. url connects as a role that may create roles, or, once the roles exist, as engineshed_owner.
func Migrate(ctx context.Context, url string, passwords RolePasswords) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("read the database URL: %w", err)
	}
	admin, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to migrate: %w", err)
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }()
	if _, err := admin.Exec(ctx, `SELECT pg_advisory_lock($1)`, migrateLock); err != nil { // ends with the connection
		return err
	}
	if err := prepareRoles(ctx, admin, passwords); err != nil {
		return err
	}
	return migrateAsOwner(ctx, url)
}

// migrateAsOwner acts as the owner role from the first byte of every connection, so that it owns what it makes.
func migrateAsOwner(ctx context.Context, url string) error {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	config.ConnConfig.RuntimeParams["role"] = OwnerRole
	owner, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer owner.Close()
	if err := migrateSchema(ctx, owner); err != nil {
		return err
	}
	if err := migrateRiver(ctx, owner); err != nil {
		return err
	}
	return InTx(ctx, owner, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, migrations.Grants); err != nil {
			return fmt.Errorf("grant the roles their rights: %w", err)
		}
		return nil
	})
}

func migrateSchema(ctx context.Context, owner *pgxpool.Pool) error {
	db := stdlib.OpenDBFromPool(owner)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate the schema: %w", err)
	}
	return nil
}

func migrateRiver(ctx context.Context, owner *pgxpool.Pool) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(owner), nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate River's tables: %w", err)
	}
	return nil
}

// Fingerprint names the schema that Migrate makes: it changes when a migration, a right or River's tables change.
func Fingerprint() (string, error) {
	hash := sha256.New()
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		return "", err
	}
	for _, name := range files {
		text, err := migrations.FS.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %d %s", name, len(text), text)
	}
	river, err := rivermigrate.New(riverpgxv5.New(nil), nil)
	if err != nil {
		return "", err
	}
	for _, version := range river.AllVersions() {
		fmt.Fprintf(hash, "river %d %s", version.Version, version.SQLUp)
	}
	fmt.Fprint(hash, migrations.Grants, prepareDatabase)
	return hex.EncodeToString(hash.Sum(nil)), nil
}
