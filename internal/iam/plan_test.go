package iam_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/iam"
)

// statements are what a pool has been asked.
type statements struct {
	mu  sync.Mutex
	all []pgx.TraceQueryStartData
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, data)
	return ctx
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// planNode is a node of what EXPLAIN (ANALYZE, FORMAT JSON) says.
type planNode struct {
	Kind    string     `json:"Node Type"`
	Table   string     `json:"Relation Name"`
	Rows    float64    `json:"Actual Rows"` // of one loop
	Removed float64    `json:"Rows Removed by Filter"`
	Recheck float64    `json:"Rows Removed by Index Recheck"`
	Loops   float64    `json:"Actual Loops"`
	Plans   []planNode `json:"Plans"`
}

func (p planNode) walk(visit func(planNode)) {
	visit(p)
	for _, below := range p.Plans {
		below.walk(visit)
	}
}

// smallTable is how many rows are read as fast one after the other as one of them by an index.
const smallTable = 256

// read explains how Postgres answers a statement with a plan of one mode, and how many rows of tables it reads for that.
func read(t *testing.T, db *pgxpool.Pool, s pgx.TraceQueryStartData, mode string) (rows int, plan string) {
	t.Helper()
	var text []byte
	require.NoError(t, pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		batch := &pgx.Batch{} // Postgres prepares it itself: only then the mode is heeded
		batch.Queue(`SELECT set_config('plan_cache_mode', $1, true)`, mode)
		batch.Queue(`PREPARE asked AS ` + s.SQL)
		batch.Queue(`EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked (` + literals(t, s.Args) + `)`).QueryRow(func(row pgx.Row) error { return row.Scan(&text) })
		batch.Queue(`DEALLOCATE asked`)
		return tx.SendBatch(t.Context(), batch).Close()
	}), s.SQL)
	var plans []struct{ Plan planNode }
	require.NoError(t, json.Unmarshal(text, &plans))
	plans[0].Plan.walk(func(n planNode) {
		of := n.Rows + n.Removed + n.Recheck
		if n.Table != "" && (n.Kind != "Seq Scan" || of > smallTable) {
			rows += int(of * n.Loops)
		}
	})
	return rows, string(text)
}

// literals are arguments as SQL has them.
func literals(t *testing.T, args []any) string {
	t.Helper()
	all := make([]string, len(args))
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			all[i] = "'" + arg + "'"
		case []string:
			all[i] = "'{" + strings.Join(arg, ",") + "}'"
		default:
			require.Failf(t, "an argument of another type", "%T", arg)
		}
	}
	return strings.Join(all, ", ")
}

// What BenchmarkDecision measures depends on the machine. What makes it does not: a key and a principal that nobody
// knows yet cost one statement each, which reads their own rows alone, whatever the planner knows of the tables.
func TestWhoIsUnknownCostsItsOwnRowsOnly(t *testing.T) {
	t.Parallel()
	const policies, groups = 30, 2
	for _, known := range []statistics{fresh, stale, never} {
		t.Run(string(known), func(t *testing.T) {
			t.Parallel()
			c := newCrowd(t, policies*statementsEach, 10_000, known)
			config, err := pgxpool.ParseConfig(c.ControlURL)
			require.NoError(t, err)
			asked := &statements{}
			config.ConnConfig.Tracer = asked
			db, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			t.Cleanup(db.Close)
			store := iam.New(db, c.box)
			for name, s := range map[string]struct {
				do   func() error
				rows int
			}{
				// The key, who it is of, and the account.
				"a key":     {func() error { return errOf(store.Find(t.Context(), busyKey)) }, 3},
				"a session": {func() error { return errOf(store.Find(t.Context(), busySession)) }, 3},
				// The user and its groups, and of each policy the attachment, the policy and its version.
				"a principal": {func() error {
					attached, err := store.PoliciesOf(t.Context(), c.caller)
					require.Len(t, attached.Account, policies)
					return err
				}, 1 + groups + 3*policies},
			} {
				asked.all = nil
				require.NoError(t, s.do(), name)
				require.Len(t, asked.all, 1, name)
				for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
					rows, plan := read(t, c.Control, asked.all[0], mode)
					require.LessOrEqual(t, rows, s.rows, "%s, %s: %s", name, mode, plan)
				}
			}
		})
	}
}
