package modelservice

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/postgres"
)

const (
	nodesOfHost       = 4
	replicasOfService = 2
)

// largeWorld is a large region: one instance with nodes on many hosts.
type largeWorld struct {
	*world
	hosts []string
}

func newLargeWorld(t testing.TB, services int) *largeWorld {
	t.Helper()
	w := &largeWorld{world: newWorld(t)}
	w.nodes = nil
	for n := range services * replicasOfService / nodesOfHost {
		w.hosts = append(w.hosts, fmt.Sprintf("gpu-%03d", n))
		for at := range nodesOfHost {
			w.nodes = append(w.nodes, fmt.Sprintf("ai-%03d-%d", n, at))
		}
	}
	_, err := w.Owner.Exec(t.Context(), `
		INSERT INTO host (name, engine_addr, started_at, heartbeat_at)
		SELECT name, '127.0.0.1', now(), now() FROM unnest($1::text[]) AS name`, w.hosts)
	require.NoError(t, err)
	_, err = w.Owner.Exec(t.Context(), `
		INSERT INTO ai_node (name, pool_id, db_instance_id, host, node_spec)
		SELECT name, p.id, p.db_instance_id, 'gpu-' || substr(name, 4, 3), 'ADB.AILarge.1'
		FROM unnest($1::text[]) AS name, ai_node_pool p WHERE p.db_instance_id = $2`, w.nodes, w.instance)
	require.NoError(t, err)
	return w
}

// create creates a service on nodes of two hosts.
func (w *largeWorld) create(ctx context.Context, n int) error {
	replicas, half := replicasOfService, len(w.nodes)/2
	spec := w.spec(w.nodes[n], w.nodes[half+n])
	spec.Replicas = &replicas
	_, err := w.services.Create(ctx, key(fmt.Sprint("storm ", n)), spec)
	return err
}

// createAll creates as many services as there are nodes for, by many clients at once.
func (w *largeWorld) createAll(t testing.TB, clients int) {
	t.Helper()
	services := len(w.nodes) / replicasOfService
	errs := make([]error, clients)
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			for n := client; n < services && errs[client] == nil; n += clients {
				errs[client] = w.create(t.Context(), n)
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

// settleAll writes down that everything answers and is published, as the planner would find it after a while.
func (w *largeWorld) settleAll(t testing.TB) {
	t.Helper()
	_, err := w.Owner.Exec(t.Context(), `
		UPDATE replica SET status = 'active';
		UPDATE model_service SET status = 'active';
		INSERT INTO published_item (kind, id, revision, source_version) SELECT 'model_service', id, 1, version FROM model_service;
		DELETE FROM river_job;
		ANALYZE`)
	require.NoError(t, err)
}

// statements are what a pool has been asked.
type statements struct {
	mu  sync.Mutex
	all []pgx.TraceQueryStartData
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sql := strings.TrimSpace(data.SQL); !strings.HasPrefix(sql, "begin") && !strings.HasPrefix(sql, "commit") && !strings.HasPrefix(sql, "SET ") {
		s.all = append(s.all, data)
	}
	return ctx
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (s *statements) take() []pgx.TraceQueryStartData {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.all
	s.all = nil
	return taken
}

// traced are the world's services over a pool of which every statement is remembered.
func (w *largeWorld) traced(t testing.TB) (*Services, *instance.Instances, *statements) {
	t.Helper()
	config, err := pgxpool.ParseConfig(w.ControlURL)
	require.NoError(t, err)
	asked := &statements{}
	config.ConnConfig.Tracer = asked
	db, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	services := New(Config{
		DB: db, Jobs: w.services.jobs, Bell: w.services.bell, Master: w.services.master, Snapshot: w.services.snapshot,
		HostLostAfter: w.services.lostAfter,
	})
	return services, instance.New(db, region), asked
}

// plan is a node of what EXPLAIN (ANALYZE, FORMAT JSON) says.
type planNode struct {
	Kind    string     `json:"Node Type"`
	Table   string     `json:"Relation Name"`
	Rows    float64    `json:"Actual Rows"` // of one loop
	Removed float64    `json:"Rows Removed by Filter"`
	Loops   float64    `json:"Actual Loops"`
	Plans   []planNode `json:"Plans"`
}

// walk visits the node and those below it.
func (p planNode) walk(visit func(planNode)) {
	visit(p)
	for _, below := range p.Plans {
		below.walk(visit)
	}
}

// smallTable is how many rows are read as fast one after the other as one of them by an index.
const smallTable = 256

// explain runs the statements again, as the control plane may, and returns how many rows they read, of small tables as
// well as large ones. A large one that is read to its end again and again would cost the square of what there is.
func (w *largeWorld) explain(t testing.TB, asked []pgx.TraceQueryStartData) (rows int) {
	t.Helper()
	for _, s := range asked {
		var text []byte
		require.NoError(t, postgres.InTx(t.Context(), w.Control, func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), `EXPLAIN (ANALYZE, FORMAT JSON) `+s.SQL, s.Args...).Scan(&text)
		}), s.SQL)
		var plans []struct{ Plan planNode }
		require.NoError(t, json.Unmarshal(text, &plans))
		plans[0].Plan.walk(func(n planNode) {
			if n.Table == "" {
				return
			}
			rows += int((n.Rows + n.Removed) * n.Loops)
			if n.Kind == "Seq Scan" && n.Rows+n.Removed > smallTable {
				require.LessOrEqual(t, n.Loops, 1.0, "%s is read again and again by %s", n.Table, s.SQL)
			}
		})
	}
	return rows
}

// The figures of BenchmarkScale depend on the machine. What makes them does not: how often the database is asked, how
// much it reads for an answer, and that it writes nothing.
func TestManyServicesCostWhatTheyMust(t *testing.T) {
	t.Parallel()
	const many = 300
	w := newLargeWorld(t, many)
	w.createAll(t, 8)
	w.settleAll(t)
	services, instances, asked := w.traced(t)
	for name, c := range map[string]struct {
		statements, rows int
		do               func() error
	}{
		// Each service, its replicas, nodes, hosts and publication, a few times over.
		"a reconcile": {6, 16 * replicasOfService * many, func() error { return services.Reconcile(t.Context()) }},
		// All are counted, and sorted; of the page's own, everything is read.
		"a page of services": {3, 2*many + 20*replicasOfService*(10+len(w.hosts)), func() error {
			_, _, err := services.List(t.Context(), account, w.instance, instance.Page{Number: 12, Size: 20})
			return err
		}},
		"a page of instances": {2, 1000, func() error {
			_, _, err := instances.List(t.Context(), account, instance.Filter{Page: instance.Page{Number: 1, Size: 20}})
			return err
		}},
		"the AI nodes of an instance": {2, 2 * replicasOfService * many, func() error {
			_, err := instances.Pools(t.Context(), account, w.instance)
			return err
		}},
	} {
		before := w.versions(t)
		require.NoError(t, c.do(), name)
		require.Equal(t, before, w.versions(t), "%s writes nothing", name)
		did := asked.take()
		require.LessOrEqual(t, len(did), c.statements, "%s: %v", name, did)
		rows := w.explain(t, did)
		t.Logf("%s: %d statements, %d rows", name, len(did), rows)
		require.LessOrEqual(t, rows, c.rows, name)
	}
}
