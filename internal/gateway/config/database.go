package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/tcp"
)

// channel is where publications are announced.
const channel = "engineshed_publication"

// ErrRights says that the database role of GATEWAY_DATABASE_URL may do more than a gateway needs.
var ErrRights = errors.New("the database role of GATEWAY_DATABASE_URL has more rights than a gateway may have: " +
	"use the role engineshed_gateway")

// database is what a gateway reads and writes in Postgres.
type database struct {
	pool      *pgxpool.Pool
	processID string
	startedAt time.Time
}

// openDatabase does not connect yet, so it works while the database is away.
func openDatabase(url string) (*database, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("GATEWAY_DATABASE_URL is not a connection string: %w", err)
	}
	cfg.MaxConns = 2
	cfg.ConnConfig.ConnectTimeout = 3 * time.Second
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // a pooler in between may know no prepared statements
	dialer := tcp.Dialer(cfg.ConnConfig.ConnectTimeout)
	cfg.ConnConfig.DialFunc = dialer.DialContext
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // for people only: the id is unique without it
	return &database{pool: pool, processID: host + "/" + ids.New("gateway"), startedAt: time.Now()}, nil
}

// fetch reads what was published after mine. A gateway whose revision is older than the oldest tombstone, or of another
// database, gets everything; so does one that has nothing (mine < 0).
func (db *database) fetch(ctx context.Context, mine int64) (change, error) {
	var newest, forgotten int64
	err := db.pool.QueryRow(ctx, `SELECT revision, forgotten_upto FROM publication`).Scan(&newest, &forgotten)
	switch {
	case err != nil:
		return change{}, err
	case mine < 0 || mine < forgotten || mine > newest:
		ch, _, err := db.itemsSince(ctx, 0)
		ch.all = true
		return ch, err
	case mine == newest:
		return change{revision: mine}, nil
	}
	ch, forgotten, err := db.itemsSince(ctx, mine)
	if err == nil && mine < forgotten { // tombstones were forgotten between the two statements
		return db.fetch(ctx, -1)
	}
	return ch, err
}

// itemsSince reads the items and the revision they make in one statement, and so of one moment.
func (db *database) itemsSince(ctx context.Context, revision int64) (ch change, forgotten int64, err error) {
	rows, err := db.pool.Query(ctx, `
		SELECT p.revision, p.forgotten_upto, i.kind, i.id, i.revision, i.deleted, i.body
		FROM publication p LEFT JOIN published_item i ON i.revision > $1`, revision)
	if err != nil {
		return change{}, 0, err
	}
	var row struct {
		kind, id *string
		revision *int64
		deleted  *bool
		body     []byte
	}
	into := []any{&ch.revision, &forgotten, &row.kind, &row.id, &row.revision, &row.deleted, &row.body}
	_, err = pgx.ForEachRow(rows, into, func() error {
		if row.id != nil {
			ch.items = append(ch.items, Item{*row.kind, *row.id, *row.revision, *row.deleted, row.body})
			row.body = nil // the next row gets bytes of its own
		}
		return nil
	})
	return ch, forgotten, err
}

// status is what a process tells the control plane.
type status struct {
	revision  int64    // that it serves
	gatewayID string   // the gateway that it is of; "": all
	refused   []string // items of which it could not use the newest form
	health    string   // of services: a snapshot.Health
}

func (db *database) report(ctx context.Context, s status) error {
	_, err := db.pool.Exec(ctx, `
		INSERT INTO gateway_status (process_id, revision, started_at, reported_at, gateway_id, refused, health)
		VALUES ($1, $2, $3, now(), $4, $5, $6)
		ON CONFLICT (process_id) DO UPDATE SET revision = excluded.revision, reported_at = excluded.reported_at,
			gateway_id = excluded.gateway_id, refused = excluded.refused, health = excluded.health`,
		db.processID, s.revision, db.startedAt, s.gatewayID, s.refused, s.health)
	return err
}

// checkRights refuses a role that may read or write anything beyond a gateway's few tables.
func (db *database) checkRights(ctx context.Context) error {
	rows, err := db.pool.Query(ctx, `
		WITH relation AS (
			SELECT oid, relname FROM pg_class
			WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm'))
		SELECT 'read ' || relname FROM relation
		WHERE relname NOT IN ('publication', 'published_item', 'gateway_status', 'usage_record')
		  AND has_any_column_privilege(oid, 'SELECT')
		UNION ALL
		SELECT 'write ' || relname FROM relation
		WHERE relname NOT IN ('gateway_status', 'usage_record')
		  AND (has_table_privilege(oid, 'DELETE, TRUNCATE') OR has_any_column_privilege(oid, 'INSERT, UPDATE'))
		UNION ALL
		SELECT 'do everything' FROM pg_roles WHERE rolname = session_user AND rolsuper
		UNION ALL
		SELECT 'create roles' FROM pg_roles WHERE rolname = session_user AND rolcreaterole
		UNION ALL
		SELECT 'create tables' WHERE has_schema_privilege('public', 'CREATE')`)
	if err != nil {
		return err
	}
	excess, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if len(excess) > 0 {
		slices.Sort(excess)
		return fmt.Errorf("%w (it may %s)", ErrRights, strings.Join(excess, ", "))
	}
	return nil
}

// listen sends a hint for each announcement until the connection breaks.
func (db *database) listen(ctx context.Context, hint func()) error {
	conn, err := pgx.ConnectConfig(ctx, db.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	for {
		hint()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}
