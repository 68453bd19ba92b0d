// Package pgtest gives a test a fresh, migrated database of a real Postgres in one line.
package pgtest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/postgres"
)

// DB is a migrated database that only this test uses.
type DB struct {
	// Each pool is connected with exactly the rights of its role.
	Owner, Control, Gateway *pgxpool.Pool
	// The URLs of the same three, for programs that a test starts.
	OwnerURL, ControlURL, GatewayURL string
	// AdminURL is a superuser's, to look at what no role of ours may see.
	AdminURL string
}

// shared is the one server of this test binary.
var (
	shared     = sync.OnceValues(startShared)
	sharedName atomic.Int64
)

// New clones the migrated template on the test binary's own server. The clone is dropped when the test ends.
func New(t testing.TB) *DB {
	t.Helper()
	server, err := shared()
	if err != nil {
		t.Fatalf("this test needs a Postgres: %v", err)
	}
	name := fmt.Sprintf("test_%d", sharedName.Add(1))
	if err := server.clone(context.Background(), name); err != nil {
		t.Fatalf("clone the template database: %v", err)
	}
	t.Cleanup(func() {
		if err := server.drop(context.Background(), name); err != nil {
			t.Errorf("drop the test database: %v", err)
		}
	})
	return open(t, server.url(name))
}

// open connects the three roles; the pools are closed before the database is dropped.
func open(t testing.TB, adminURL string) *DB {
	t.Helper()
	db := &DB{AdminURL: adminURL}
	for _, role := range []struct {
		name string
		pool **pgxpool.Pool
		url  *string
	}{
		{postgres.OwnerRole, &db.Owner, &db.OwnerURL},
		{postgres.ControlRole, &db.Control, &db.ControlURL},
		{postgres.GatewayRole, &db.Gateway, &db.GatewayURL},
	} {
		url, err := postgres.WithUser(adminURL, role.name, password)
		if err != nil {
			t.Fatalf("the URL of %s: %v", role.name, err)
		}
		pool, err := postgres.Open(context.Background(), url)
		if err != nil {
			t.Fatalf("open the database as %s: %v", role.name, err)
		}
		t.Cleanup(pool.Close)
		*role.pool, *role.url = pool, url
	}
	// A clone is an installation of its own: engines of another test must not look like orphans of this one.
	_, err := db.Owner.Exec(context.Background(), `UPDATE installation SET id = replace(gen_random_uuid()::text, '-', '')`)
	if err != nil {
		t.Fatalf("make the clone an installation of its own: %v", err)
	}
	return db
}

// connect is one superuser's connection, for what only he may do.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return pgx.Connect(ctx, url)
}
