package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

// writes reports whether a change is accepted now.
func (c *chaos) writes() bool {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
	defer cancel()
	_, err := c.api().ModifyDBInstanceResourceGroup(ctx, gpdb.ModifyDBInstanceResourceGroupRequest{
		DBInstanceId: c.instance, NewResourceGroupId: "rg-default",
	})
	return err == nil
}

// judge waits until everything that was stopped goes on and every call is decided, and then for the world to be as it
// was asked for; from then on nothing is written.
func (c *chaos) judge(kills int) {
	c.t.Helper()
	c.resume()
	struck := time.Now()
	c.pause.Lock()
	defer c.pause.Unlock()
	began := struck
	if changed := c.ledger.lastChange(); changed.After(began) {
		began = changed
	}
	for _, p := range c.zombies {
		c.bury(p)
	}
	c.zombies = nil
	wants, gone := c.acknowledged()
	c.await("what was acknowledged is so", began, func() string { return c.unsettled(wants, gone) })
	c.note("converged", time.Since(began))
	c.t.Logf("after %d kills: %d services with %d replicas, converged in %s", kills, len(wants), replicasOf(wants), time.Since(began).Round(time.Millisecond))
	c.expectNoWrites()
	require.Empty(c.t, c.ledger.complaints())
	require.Empty(c.t, c.watchman.waiting(), "steps of workers that were killed run again")
}

// judgeEmpty deletes everything. Nothing may be left of it.
func (c *chaos) judgeEmpty() {
	c.t.Helper()
	wants, gone := c.acknowledged()
	for _, w := range wants {
		_, err := c.api().DeleteModelService(c.t.Context(), gpdb.DeleteModelServiceRequest{DBInstanceId: c.instance, ModelServiceId: w.id})
		require.NoError(c.t, err)
		gone = append(gone, w.id)
	}
	began := time.Now()
	c.await("nothing is left", began, func() string { return c.unsettled(nil, gone) })
	c.note("nothing left", time.Since(began))
	require.Empty(c.t, c.ledger.complaints())
}

// await waits until nothing differs any more.
func (c *chaos) await(what string, since time.Time, differs func() string) {
	c.t.Helper()
	difference := differs()
	for ; difference != ""; difference = differs() {
		if time.Since(since) > convergeLimit {
			require.FailNow(c.t, "not within "+convergeLimit.String()+": "+what, "%s\n%s\n%s", difference,
				strings.Join(c.ledger.complaints(), "\n"), c.report())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// acknowledged is what clients were told: which services there are, and which not any more.
func (c *chaos) acknowledged() (wants []*wanted, gone []string) {
	for _, t := range c.tenants {
		if w := t.wants(); w != nil {
			wants = append(wants, w)
		}
		t.mu.Lock()
		gone = append(gone, t.gone...)
		t.mu.Unlock()
	}
	return wants, gone
}

func replicasOf(wants []*wanted) (n int) {
	for _, w := range wants {
		n += int(w.replicas)
	}
	return n
}

// unsettled names the first difference between the world and what was acknowledged.
func (c *chaos) unsettled(wants []*wanted, gone []string) string {
	for _, look := range []func() string{
		func() string { return c.differInAPI(wants, gone) },
		func() string { return c.differInProcesses(wants) },
		func() string { return c.differInRows(wants) },
		c.differInFiles,
		func() string { return c.differInTraffic(wants) },
	} {
		if difference := look(); difference != "" {
			return difference
		}
	}
	return ""
}

func (c *chaos) differInAPI(wants []*wanted, gone []string) string {
	for _, w := range wants {
		d, err := c.api().DescribeModelService(c.t.Context(), gpdb.DescribeModelServiceRequest{DBInstanceId: c.instance, ModelServiceId: w.id})
		if err != nil {
			return fmt.Sprintf("%s: %v", w.id, err)
		}
		if d.Status != "active" || d.ReplicaCount != w.replicas || len(d.Replicas) != int(w.replicas) || fmt.Sprint(d.ModelParams["max-model-len"]) != fmt.Sprint(w.length) {
			return fmt.Sprintf("%s is %s (%s) with %d of %d replicas and %v, not as %+v", w.id, d.Status, d.StatusReason, len(d.Replicas), d.ReplicaCount, d.ModelParams, w)
		}
		for _, r := range d.Replicas {
			if r.Status != "active" || !r.UpToDate {
				return fmt.Sprintf("%s has %+v", w.id, r)
			}
		}
	}
	for _, id := range gone {
		_, err := c.api().DescribeModelService(c.t.Context(), gpdb.DescribeModelServiceRequest{DBInstanceId: c.instance, ModelServiceId: id})
		if refusal, is := errors.AsType[*sdk.Error](err); !is || refusal.StatusCode != 404 {
			return fmt.Sprintf("%s was deleted: %v", id, err)
		}
	}
	return ""
}

// differInProcesses compares with what engines were started as: one for each replica, with its service and parameters.
func (c *chaos) differInProcesses(wants []*wanted) string {
	running := map[string]int32{} // by service and parameters
	for replica, pids := range c.engines() {
		if len(pids) != 1 {
			return fmt.Sprintf("replica %s has the processes %v", replica, pids)
		}
		argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pids[0]))
		if err != nil {
			return err.Error()
		}
		service, length := "", ""
		for _, arg := range bytes.Split(argv, []byte{0}) {
			if bytes.HasPrefix(arg, []byte("ms-")) {
				service = string(arg)
			}
			if after, ok := bytes.CutPrefix(arg, []byte("--max-model-len=")); ok {
				length = string(after)
			}
		}
		running[service+" "+length]++
	}
	for _, w := range wants {
		is := fmt.Sprintf("%s %d", w.id, w.length)
		if running[is] != w.replicas {
			return fmt.Sprintf("%d engines run for %s, not %d: %v", running[is], is, w.replicas, running)
		}
		delete(running, is)
	}
	if len(running) > 0 {
		return fmt.Sprintf("engines that nobody asked for: %v", running)
	}
	return ""
}

// differInRows counts rows, by what they should be: those of what was acknowledged, and none besides.
func (c *chaos) differInRows(wants []*wanted) string {
	for query, want := range map[string]int{
		`SELECT count(*) FROM model_service`:                                                                     len(wants),
		`SELECT count(*) FROM replica`:                                                                           replicasOf(wants),
		`SELECT count(*) FROM ai_node WHERE model_service_id IS NOT NULL`:                                        nodesOfTenant * len(wants),
		`SELECT count(*) FROM ai_node WHERE leaving`:                                                             0,
		`SELECT count(*) FROM ip_array WHERE name <> 'default'`:                                                  0,
		`SELECT count(*) FROM replica_log`:                                                                       0,
		`SELECT count(*) FROM published_item WHERE kind = 'model_service' AND NOT deleted`:                       len(wants),
		`SELECT count(*) FROM published_item WHERE deleted AND length(body) > 0`:                                 0,
		`SELECT count(*) FROM river_job WHERE state IN ('available', 'retryable', 'scheduled')`:                  0,
		`SELECT count(*) FROM river_job WHERE state = 'running' AND attempted_at < now() - interval '3 minutes'`: 0,
	} {
		var n int
		if err := c.db.Owner.QueryRow(c.t.Context(), query).Scan(&n); err != nil || n != want {
			return fmt.Sprintf("%s: %d, not %d (%v)", query, n, want, err)
		}
	}
	return ""
}

// differInFiles compares the replicas' directories with the rows.
func (c *chaos) differInFiles() string {
	for _, worker := range c.workers {
		rows, err := c.db.Owner.Query(c.t.Context(), `SELECT id FROM replica WHERE host = $1 ORDER BY id`, worker.host)
		if err != nil {
			return err.Error()
		}
		want, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err.Error()
		}
		entries, err := os.ReadDir(filepath.Join(c.path("worker-"+worker.host), "replicas"))
		if err != nil {
			return err.Error()
		}
		var have []string
		for _, e := range entries {
			have = append(have, e.Name())
		}
		slices.Sort(have)
		slices.Sort(want)
		if !slices.Equal(have, want) {
			return fmt.Sprintf("%s has the directories %v for the replicas %v", worker.host, have, want)
		}
	}
	return ""
}

func (c *chaos) differInTraffic(wants []*wanted) string {
	for _, w := range wants {
		d, err := c.api().DescribeModelService(c.t.Context(), gpdb.DescribeModelServiceRequest{DBInstanceId: c.instance, ModelServiceId: w.id})
		if err != nil {
			return err.Error()
		}
		if _, err := chat(c.t.Context(), d.PrivateConnectUrl, d.ApiKey, "hello", true); err != nil {
			return fmt.Sprintf("%s: %v", w.id, err)
		}
	}
	return ""
}

// expectNoWrites watches the tables through a reconcile of every worker. New jobs would show that one found a difference.
func (c *chaos) expectNoWrites() {
	c.t.Helper()
	const reconciles = 5*time.Second + 500*time.Millisecond
	before := c.written()
	for until := time.Now().Add(reconciles); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		require.Equal(c.t, before, c.written(), "a converged world is left alone")
	}
}

// written changes with every row that is written, but for heartbeats and the state of jobs.
func (c *chaos) written() (versions string) {
	c.t.Helper()
	for _, table := range []string{"model_service", "replica", "ai_node", "published_item", "publication", "ip_array", "model_service_event", "replica_log"} {
		var version string
		require.NoError(c.t, c.db.Owner.QueryRow(c.t.Context(), `
			SELECT count(*) || ' ' || coalesce(md5(string_agg(xmin::text || ctid::text, ' ' ORDER BY ctid)), '') FROM `+table).Scan(&version))
		versions += table + " " + version + "\n"
	}
	var jobs string
	require.NoError(c.t, c.db.Owner.QueryRow(c.t.Context(), `SELECT coalesce(max(id), 0)::text FROM river_job`).Scan(&jobs))
	return versions + "river_job " + jobs
}

const (
	looksEvery = 300 * time.Millisecond
	// A host's word holds for ten seconds, and a worker that takes over has to look first.
	longestLie = 20 * time.Second
)

// watchman looks at the world all the time: what the API says of it, which engines run, and which steps a killed worker
// has left.
type watchman struct {
	c *chaos

	mu      sync.Mutex
	known   map[string]bool // services that were seen
	left    map[string]leftStep
	absent  map[string]time.Time // replicas without an engine that runs, since when
	looks   int
	again   int // steps that were left and ran again
	slowest time.Duration
}

// leftStep is a step that a killed worker was taking.
type leftStep struct {
	host       string
	generation int64
	since      time.Time
}

func newWatchman(c *chaos) *watchman {
	return &watchman{c: c, known: map[string]bool{}, left: map[string]leftStep{}, absent: map[string]time.Time{}}
}

func (w *watchman) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.look(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(looksEvery):
		}
	}
}

// isKnown reports whether the service was made before, and remembers it.
func (w *watchman) isKnown(service string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.known[service]
	w.known[service] = true
	return was
}

// interrupted remembers the steps that were under way on hosts whose worker, or database, was killed.
func (w *watchman) interrupted(hosts ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, step := range w.left {
		if slices.Contains(hosts, step.host) {
			step.since = time.Now()
			w.left[id] = step
		}
	}
	rows, err := w.c.db.Owner.Query(w.c.t.Context(), `SELECT id, host, generation FROM replica WHERE host = ANY ($1) AND lease_until > now()`, hosts)
	if err != nil {
		return
	}
	var id string
	step := leftStep{since: time.Now()}
	_, _ = pgx.ForEachRow(rows, []any{&id, &step.host, &step.generation}, func() error {
		w.left[id] = step
		return nil
	})
}

func (w *watchman) waiting() (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.left {
		ids = append(ids, id)
	}
	return ids
}

// rowOf is a replica as the database has it.
type rowOf struct {
	ID, Node   string
	Generation int64
	Settled    bool // no step is due
}

func (w *watchman) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	rows, err := w.c.db.Owner.Query(ctx, `
		SELECT id, node_name, generation, status IN ('active', 'silent') OR status = 'failed' AND restart_at > now() FROM replica`)
	if err != nil {
		return // the database is away
	}
	replicas, err := pgx.CollectRows(rows, pgx.RowToStructByPos[rowOf])
	if err != nil {
		return
	}
	absent := w.lookAtEngines(replicas)
	w.lookAtSteps(replicas)
	for _, t := range w.c.tenants {
		if want := t.wants(); want != nil {
			w.lookAtService(ctx, t, want, absent)
		}
	}
}

// lookAtEngines returns since when AI nodes with a replica have had no engine that runs.
func (w *watchman) lookAtEngines(replicas []rowOf) (byNode map[string]time.Time) {
	engines, now := w.c.engines(), time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	for replica, pids := range engines {
		if len(pids) > 1 {
			w.c.ledger.complain("replica %s has the processes %v", replica, pids)
		}
	}
	before := w.absent
	w.absent, byNode = map[string]time.Time{}, map[string]time.Time{}
	for _, r := range replicas {
		if pids := engines[r.ID]; len(pids) > 0 && !standsStill(pids[0]) {
			continue
		}
		since, was := before[r.ID]
		if !was {
			since = now
		}
		w.absent[r.ID], byNode[r.Node] = since, since
	}
	return byNode
}

// standsStill reports whether the process was stopped.
func standsStill(pid int) bool {
	fields := stat(pid)
	return fields == nil || fields[0] == "T"
}

// lookAtSteps finds the steps that were left and have run again, or that nothing is to be done for any more.
func (w *watchman) lookAtSteps(replicas []rowOf) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, step := range w.left {
		at := slices.IndexFunc(replicas, func(r rowOf) bool { return r.ID == id })
		took := time.Since(step.since)
		switch {
		case at < 0 || replicas[at].Generation != step.generation || replicas[at].Settled:
			w.again++
			w.slowest = max(w.slowest, took)
			delete(w.left, id)
		case took > workedAgain:
			w.c.ledger.complain("the step of %s that was left was not taken again within %s", id, workedAgain)
			delete(w.left, id)
		}
	}
}

// lookAtService compares what the API says with what runs.
func (w *watchman) lookAtService(ctx context.Context, t *tenant, want *wanted, absent map[string]time.Time) {
	d, err := w.c.api().DescribeModelService(ctx, gpdb.DescribeModelServiceRequest{DBInstanceId: w.c.instance, ModelServiceId: want.id})
	refusal, _ := errors.AsType[*sdk.Error](err)
	switch {
	case refusal != nil && refusal.StatusCode == 404:
		if still := t.wants(); still != nil && still.id == want.id {
			w.c.ledger.complain("%s: %s was acknowledged and is lost", t.name, want.id)
		}
		return
	case err != nil:
		return
	}
	if (d.Status == "degraded" || d.Status == "failed") && d.StatusReason == "" {
		w.c.ledger.complain("%s is %s without a reason", want.id, d.Status)
	}
	for _, r := range d.Replicas {
		since, is := absent[r.AiNode]
		if is && r.Status == "active" && time.Since(since) > longestLie {
			w.c.ledger.complain("%s: replica %d on %s is said to be active, and no engine has run since %s", want.id, r.Replica, r.AiNode, since.Format("15:04:05"))
		}
	}
}

func (w *watchman) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("  %d looks; %d steps were left by a kill and taken again, at most %s later\n", w.looks, w.again, w.slowest.Round(time.Millisecond))
}
