package modelservice

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/node"
	"github.com/engineshed/engineshed/internal/node/nodetest"
	"github.com/engineshed/engineshed/internal/postgres"
)

const (
	scaleServices   = 1000
	scaleClients    = 16
	reconcileLimit  = time.Second
	reconcileRounds = 20
	idleTime        = 5 * time.Second
)

// BenchmarkScale is about 1,000 services of two replicas on 2,000 AI nodes of 500 hosts.
func BenchmarkScale(b *testing.B) {
	b.Run("reconcile", benchmarkReconcile)
	b.Run("storm", benchmarkStorm)
}

// benchmarkReconcile reconciles them when all answer.
func benchmarkReconcile(b *testing.B) {
	w := newLargeWorld(b, scaleServices)
	w.createAll(b, scaleClients)
	w.settleAll(b)
	before := w.versions(b)
	var took []time.Duration
	cost := w.spend(b, func() {
		for range reconcileRounds {
			began := time.Now()
			require.NoError(b, w.services.Reconcile(b.Context()))
			took = append(took, time.Since(began))
		}
	})
	require.Equal(b, before, w.versions(b), "a converged world is not written")
	slices.Sort(took)
	fmt.Printf("\na reconcile of %d services that stand still, on %d AI nodes of %d hosts: median %s, at most %s (%s are allowed); CPU of %d: %s; nothing is written\n",
		scaleServices, len(w.nodes), len(w.hosts), took[len(took)/2].Round(time.Microsecond), took[len(took)-1].Round(time.Microsecond),
		reconcileLimit, reconcileRounds, cost)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
	b.ReportMetric(0, "ns/op")
	require.LessOrEqual(b, took[len(took)-1], reconcileLimit)
}

// benchmarkStorm creates them at once. The workers and watchers of all hosts run here, with engines that are a map.
func benchmarkStorm(b *testing.B) {
	w := newLargeWorld(b, scaleServices)
	stop := w.workAll(b)
	idle := w.spend(b, func() { time.Sleep(idleTime) })
	began := time.Now()
	var created, drained time.Duration
	storm := w.spend(b, func() {
		w.createAll(b, scaleClients)
		created = time.Since(began)
		w.awaitAll(b)
		drained = time.Since(began)
	})
	kinds := w.kindsOfJobs(b)
	stop()
	fmt.Printf("\n%d services created in %s by %d clients; all active and published %s after the first call\n",
		scaleServices, created.Round(time.Millisecond), scaleClients, drained.Round(time.Millisecond))
	fmt.Printf("CPU meanwhile: %s; of %s of the same workers with nothing to do: %s\n", storm, idleTime, idle)
	for _, k := range kinds {
		fmt.Printf("%d jobs of the kind %s: the oldest was %s old at its end; one waited at most %s and ran at most %s (its timeout: %s)\n",
			k.Count, k.Kind, k.Aged.Round(time.Millisecond), k.Waited.Round(time.Millisecond), k.Ran.Round(time.Millisecond), timeouts[k.Kind])
	}
	b.ReportMetric(drained.Seconds(), "drain-s")
	b.ReportMetric(0, "ns/op")
	for _, k := range kinds {
		require.Zero(b, k.Lost, "every job succeeds")
		require.Less(b, k.Aged, timeouts[k.Kind], "no job of the kind %s is older than its timeout", k.Kind)
	}
}

// timeouts of the kinds of jobs of a storm.
var timeouts = map[string]time.Duration{
	StepArgs{}.Kind():    (&stepWorker{}).Timeout(nil),
	PublishArgs{}.Kind(): (&publishWorker{}).Timeout(nil),
}

// quickHost is a host whose engines answer at once.
type quickHost struct{ fakeHost }

func (q *quickHost) Ensure(ctx context.Context, spec node.Spec) error {
	defer q.become(node.Healthy, "")
	return q.fakeHost.Ensure(ctx, spec)
}

// hostsWorker takes the steps of many hosts.
type hostsWorker struct {
	stepWorker
	steppers map[string]*Stepper // by queue
}

func (h *hostsWorker) Work(ctx context.Context, job *river.Job[StepArgs]) error {
	return (&stepWorker{stepper: h.steppers[job.Queue]}).Work(ctx, job)
}

// workAll runs the workers of all hosts until stop.
func (w *largeWorld) workAll(b *testing.B) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	// Every host has connections of its own, in a process of its own; here they share some.
	db, err := postgres.Open(b.Context(), w.ControlURL+"&pool_max_conns=48")
	require.NoError(b, err)
	b.Cleanup(db.Close)
	services := *w.services
	services.db = db
	all := &hostsWorker{steppers: map[string]*Stepper{}}
	for _, name := range w.hosts {
		f := &quickHost{fakeHost{engines: map[string]node.Observation{}}}
		h := Host{
			Services: &services, Driver: f, Engines: f, Name: name, DrainLimit: time.Minute, HungAfter: 30 * time.Second,
			FreeAddr: func() (string, error) { return "127.0.0.1:40001", nil }, Log: slog.New(slog.DiscardHandler),
		}
		watcher := NewWatcher(h)
		all.steppers[jobs.HostQueue(name)] = NewStepper(h, watcher)
		running.Go(func() { _ = watcher.Run(ctx) })
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, all)
	river.AddWorker(workers, &publishWorker{services: &services})
	client, err := jobs.NewWorker(db, workers, slog.New(slog.DiscardHandler), w.hosts...)
	require.NoError(b, err)
	require.NoError(b, client.Start(ctx))
	running.Go(func() { w.beatAll(ctx, db) })
	return func() {
		require.NoError(b, client.StopAndCancel(b.Context()))
		cancel()
		running.Wait()
	}
}

// beatAll has every host say that it is alive, as often as workers do, one after the other.
func (w *largeWorld) beatAll(ctx context.Context, db *pgxpool.Pool) {
	instances := instance.New(db, region)
	ticker := time.NewTicker(2 * time.Second / time.Duration(len(w.hosts)))
	defer ticker.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		_ = instances.Beat(ctx, instance.Host{Name: w.hosts[n%len(w.hosts)], EngineAddr: "127.0.0.1", StartedAt: time.Now()})
		<-ticker.C
	}
}

// spent is processor time.
type spent struct{ own, postgres time.Duration }

func (s spent) String() string {
	return fmt.Sprintf("%.2f s of this process and %.2f s of Postgres", s.own.Seconds(), s.postgres.Seconds())
}

// spend measures what the work costs.
func (w *largeWorld) spend(b *testing.B, work func()) spent {
	b.Helper()
	before := w.spent(b)
	work()
	after := w.spent(b)
	return spent{after.own - before.own, after.postgres - before.postgres}
}

// spent is what this process and the backends of its database have used so far. Those that have ended count no more.
func (w *largeWorld) spent(b *testing.B) (s spent) {
	b.Helper()
	var own syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &own))
	s.own = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	rows, err := w.Owner.Query(b.Context(), `SELECT pid FROM pg_stat_activity`)
	require.NoError(b, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(b, err)
	for _, pid := range pids {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // it may have ended
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) > 12 {
			user, _ := strconv.Atoi(fields[11])
			system, _ := strconv.Atoi(fields[12])
			s.postgres += time.Duration(user+system) * time.Second / 100 // USER_HZ is 100 on every Linux
		}
	}
	return s
}

// awaitAll waits until every service is active, and published with all its replicas.
func (w *largeWorld) awaitAll(b *testing.B) {
	b.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		var whole int
		require.NoError(b, w.Owner.QueryRow(b.Context(), `
			SELECT count(*) FROM model_service s JOIN published_item p ON p.id = s.id AND p.source_version = s.version
			WHERE s.status = 'active'`).Scan(&whole))
		if whole == scaleServices {
			return
		}
		require.True(b, time.Now().Before(deadline), "%d of %d are whole", whole, scaleServices)
	}
}

// jobKind is how jobs of a kind went.
type jobKind struct {
	Kind              string
	Count             int
	Lost              int           // that did not succeed in the end
	Aged, Waited, Ran time.Duration // of the one that took, waited for a worker, or ran, the longest
}

// kindsOfJobs returns how the jobs of each kind went once none is left.
func (w *largeWorld) kindsOfJobs(b *testing.B) []jobKind {
	b.Helper()
	nodetest.Eventually(b, func() bool {
		var left int
		err := w.Owner.QueryRow(b.Context(), `SELECT count(*) FROM river_job WHERE finalized_at IS NULL`).Scan(&left)
		return err == nil && left == 0
	}, "jobs are left")
	// A job that snoozed is as old as its last turn, one that failed as old as it is.
	rows, err := w.Owner.Query(b.Context(), `
		SELECT kind, count(*) AS count, count(*) FILTER (WHERE state <> 'completed') AS lost,
			max(finalized_at - CASE WHEN errors IS NULL THEN scheduled_at ELSE created_at END) AS aged,
			max(attempted_at - scheduled_at) AS waited, max(finalized_at - attempted_at) AS ran
		FROM river_job GROUP BY kind ORDER BY kind`)
	require.NoError(b, err)
	kinds, err := pgx.CollectRows(rows, pgx.RowToStructByName[jobKind])
	require.NoError(b, err)
	return kinds
}
