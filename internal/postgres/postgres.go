// Package postgres connects to the database: the pool, transactions, what errors mean, and the migrations.
package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/tcp"
)

// defaultConns bounds a pool whose URL does not (pool_max_conns): enough to keep two cores of Postgres busy while some
// connections wait for locks or for the disk.
const defaultConns = 16

// boundSilence ends a transaction that nothing is said in for ten seconds: its process has stopped, and others wait for its
// locks. It ends a session, too, whose machine is gone: the server keeps its place otherwise for two hours. It is said by a
// statement, because a pooler in between may know no such parameters.
const boundSilence = `
	SET idle_in_transaction_session_timeout = '10s';
	SET tcp_user_timeout = '15s';
	SET tcp_keepalives_idle = '5s';
	SET tcp_keepalives_interval = '5s';
	SET tcp_keepalives_count = 3`

// Open returns a pool for url. Nothing is connected yet: a database that is away shows at the first query, and a pool
// outlives any number of its restarts.
func Open(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the database URL: %w", err)
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	dialer := tcp.Dialer(config.ConnConfig.ConnectTimeout)
	config.ConnConfig.DialFunc = dialer.DialContext
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = defaultConns
	}
	config.MaxConnLifetime = time.Hour
	config.MaxConnLifetimeJitter = 10 * time.Minute
	config.MaxConnIdleTime = 5 * time.Minute
	config.HealthCheckPeriod = 10 * time.Second
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = filepath.Base(os.Args[0])
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, boundSilence)
		return err
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// InTx runs do in a transaction: committed when do returns nil, rolled back otherwise.
func InTx(ctx context.Context, db interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}, do func(pgx.Tx) error,
) error {
	return pgx.BeginFunc(ctx, db, do)
}
