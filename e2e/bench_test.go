package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk"
)

const (
	benchRounds = 7
	benchWindow = time.Second // how long one measurement is meant to take
	warmUpCalls = 400
)

var benchClients = []int{1, 8, 32}

// BenchmarkControlPlane judges what docs/performance.md promises of the control plane. Everything is real: the built
// binaries, HTTP over loopback, and a Postgres with the settings that `engineshed up` gives its own.
func BenchmarkControlPlane(b *testing.B) {
	b.Run("creates", benchmarkCreates)
	b.Run("describes", benchmarkDescribes)
	b.Run("first-answer", benchmarkFirstAnswer)
	b.Run("lists", benchmarkLists)
}

func benchmarkCreates(b *testing.B)   { compare(b, newRig(b).creates()) }
func benchmarkDescribes(b *testing.B) { compare(b, newRig(b).describes()) }

// creates compares signed creates with the bare inserts of the same rows.
func (r *rig) creates() comparison {
	return comparison{
		rig: r, title: "signed CreateModelService, with ClientToken", bareTitle: "the same rows by plain pgx", floor: 0.35,
		prepare:     r.prepareCreates,
		prepareBare: r.prepareBareCreates,
	}
}

// describes compares signed reads with their bare query.
func (r *rig) describes() comparison {
	service := r.deployOne()
	return comparison{
		rig: r, title: "signed DescribeModelService", bareTitle: "its query by plain pgx", floor: 0.25,
		prepare:     func(calls int) job { return r.prepareDescribes(calls, service) },
		prepareBare: func(calls int) job { return r.prepareBareDescribes(calls, service) },
	}
}

// BenchmarkWork is the short form for every change: work per CPU-second, which other load disturbs little, may not fall
// below costGate of a floor. Run it without -race, which only this process would pay for.
func BenchmarkWork(b *testing.B) {
	const costGate, clients, rounds = 0.8, 8, 3
	for _, c := range []comparison{newRig(b).creates(), newRig(b).describes()} {
		ours, bare := c.sides(clients)
		for range rounds {
			ours.round(c.rig, clients)
			bare.round(c.rig, clients)
		}
		work := workRatios(ours, bare)
		fmt.Printf("%s: %s of the work per CPU-second of %s; at least %.2f\n", c.title, spread("%.2f", work), c.bareTitle, costGate*c.floor)
		if median(work) < costGate*c.floor {
			b.Errorf("%s costs too much: %.2f, at least %.2f", c.title, median(work), costGate*c.floor)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// job is work that was made ready: do performs call number i on behalf of a client; check looks at the outcome of all.
type job struct {
	do    func(client, i int) error
	check func()
}

type comparison struct {
	rig                  *rig
	title, bareTitle     string
	floor                float64
	prepare, prepareBare func(calls int) job
}

// compare runs both sides in turn, several times at each number of clients, prints the table and fails below the floor.
// The floors are of rates. Work per CPU-second stands beside them, because on a machine whose cores the load shares a rate
// tells of the scheduler too. Bare, the load's own process does with pgx what the control plane does otherwise, so its
// CPU counts there and not here.
func compare(b *testing.B, c comparison) {
	fmt.Printf("\n%s, beside %s\n%d interleaved rounds, median (range); CPU per call in µs\n", c.title, c.bareTitle, benchRounds)
	fmt.Printf("%8s  %-20s %-20s %-18s %-18s %6s   %s\n", "clients", "calls/s", "bare calls/s", "of the rate", "per CPU-second", "floor",
		"CPU: control plane + Postgres + load; bare: Postgres + load")
	for _, clients := range benchClients {
		ours, bare := c.sides(clients)
		for round := range benchRounds {
			order := []*side{ours, bare}
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, s := range order {
				s.round(c.rig, clients)
			}
		}
		rates, work := rateRatios(ours, bare), workRatios(ours, bare)
		fmt.Printf("%8d  %-20s %-20s %-18s %-18s %6.2f   %.0f + %.0f + %.0f; %.0f + %.0f\n", clients,
			spread("%.0f", ours.each(measured.perSecond)), spread("%.0f", bare.each(measured.perSecond)),
			spread("%.2f", rates), spread("%.2f", work), c.floor,
			median(ours.each(measured.controlPlaneCPU)), median(ours.each(measured.postgresCPU)), median(ours.each(measured.loadCPU)),
			median(bare.each(measured.postgresCPU)), median(bare.each(measured.loadCPU)))
		b.ReportMetric(median(rates), fmt.Sprintf("rate-ratio-%d", clients))
		b.ReportMetric(median(work), fmt.Sprintf("cpu-ratio-%d", clients))
		if median(rates) < c.floor {
			b.Errorf("%s with %d clients: %.2f of the bare rate, the floor is %.2f", c.title, clients, median(rates), c.floor)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// sides returns the two that are compared, warm.
func (c comparison) sides(clients int) (ours, bare *side) {
	ours, bare = &side{prepare: c.prepare}, &side{prepare: c.prepareBare}
	ours.calibrate(c.rig, clients)
	bare.calibrate(c.rig, clients)
	return ours, bare
}

// rateRatios compares the sides round by round.
func rateRatios(ours, bare *side) []float64 {
	ratios := make([]float64, len(ours.rounds))
	for i, o := range ours.rounds {
		ratios[i] = o.rate / bare.rounds[i].rate
	}
	return ratios
}

// workRatios compares the sides' work per CPU-second round by round.
func workRatios(ours, bare *side) []float64 {
	ratios := make([]float64, len(ours.rounds))
	for i, o := range ours.rounds {
		w := bare.rounds[i]
		ratios[i] = (w.postgresCPU() + w.loadCPU()) / (o.controlPlaneCPU() + o.postgresCPU())
	}
	return ratios
}

// side is one of the two that are compared.
type side struct {
	prepare func(calls int) job
	calls   int // of one round
	rounds  []measured
}

func (s *side) round(r *rig, clients int) {
	s.rounds = append(s.rounds, r.measure(clients, s.calls, s.prepare))
}

// calibrate warms up and chooses the number of calls that fills a window.
func (s *side) calibrate(r *rig, clients int) {
	rate := r.measure(clients, warmUpCalls, s.prepare).rate
	s.calls = max(warmUpCalls, int(rate*benchWindow.Seconds()))
}

func (s *side) each(of func(measured) float64) []float64 {
	values := make([]float64, len(s.rounds))
	for i, m := range s.rounds {
		values[i] = of(m)
	}
	return values
}

// measured is one round of one side.
type measured struct {
	calls                        int
	rate                         float64 // per second
	controlPlane, postgres, load time.Duration
}

func (m measured) perSecond() float64       { return m.rate }
func (m measured) controlPlaneCPU() float64 { return m.perCall(m.controlPlane) }
func (m measured) postgresCPU() float64     { return m.perCall(m.postgres) }
func (m measured) loadCPU() float64         { return m.perCall(m.load) }

func (m measured) perCall(cpu time.Duration) float64 {
	return float64(cpu.Microseconds()) / float64(m.calls)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func spread(format string, values []float64) string {
	return fmt.Sprintf(format+" ("+format+"–"+format+")", median(values), slices.Min(values), slices.Max(values))
}

// The time from an engine's first healthy answer to the first answer through the gateway.
const (
	deployments       = 30
	otherServices     = 100 // that run meanwhile
	firstAnswerMedian = 300 * time.Millisecond
	firstAnswerP99    = time.Second
	pollEvery         = 2 * time.Millisecond
)

func benchmarkFirstAnswer(b *testing.B) {
	s := newShed(b, newBenchDatabase(b).DB)
	s.vllm += " --sim-startup-delay=200ms"
	control := s.controlPlane("both")
	s.startGateway()
	client, err := sdk.New(sdk.Config{Endpoint: "http://" + control.addr, AccessKeyID: rootKey.id, AccessKeySecret: rootKey.secret})
	require.NoError(b, err)
	c := &generated{client}
	instance, nodes := newInstance(b, c, 1+otherServices)
	deployOthers(s, c, instance, nodes[1:])
	var waits []float64
	for range deployments {
		waits = append(waits, firstAnswer(s, c, instance, nodes[0]).Seconds()*1000)
	}
	slices.Sort(waits)
	middle, p99 := median(waits), waits[len(waits)*99/100]
	fmt.Printf("\nfrom an engine's first healthy answer to the first answer through the gateway, %d deployments beside %d services, in ms\n", deployments, otherServices)
	fmt.Printf("median %.0f (at most %d)   p99 %.0f (at most %d)   range %.0f–%.0f\n\n", middle, firstAnswerMedian.Milliseconds(),
		p99, firstAnswerP99.Milliseconds(), waits[0], waits[len(waits)-1])
	b.ReportMetric(middle, "median-ms")
	b.ReportMetric(p99, "p99-ms")
	b.ReportMetric(0, "ns/op")
	require.LessOrEqual(b, middle, float64(firstAnswerMedian.Milliseconds()))
	require.LessOrEqual(b, p99, float64(firstAnswerP99.Milliseconds()))
}

// deployOthers deploys a model on each node and waits until all answer.
func deployOthers(s *shed, c caller, instance string, nodes []string) {
	for _, node := range nodes {
		_, err := c.call("CreateModelService", createParams(instance, node))
		require.NoError(s.t, err)
	}
	eventually(s.t, 5*time.Minute, "the others answer", func() bool {
		var active int
		err := s.db.Owner.QueryRow(s.t.Context(), `SELECT count(*) FROM model_service WHERE status = 'active'`).Scan(&active)
		return err == nil && active == len(nodes)
	})
}

// firstAnswer deploys a model, watches engine and gateway until both have answered, and takes the service down.
func firstAnswer(s *shed, c caller, instance, node string) time.Duration {
	made, err := c.call("CreateModelService", createParams(instance, node))
	require.NoError(s.t, err)
	ids := map[string]string{"DBInstanceId": instance, "ModelServiceId": made.text("ModelServiceId")}
	described, err := c.call("DescribeModelService", ids)
	require.NoError(s.t, err)
	var engine string
	poll(s.t, "the engine has an address", func() bool {
		err := s.db.Owner.QueryRow(s.t.Context(), `
			SELECT engine_addr FROM replica WHERE model_service_id = $1`, ids["ModelServiceId"]).Scan(&engine)
		return err == nil && engine != ""
	})
	healthy := make(chan time.Time, 1)
	go func() {
		healthy <- poll(s.t, "the engine is healthy", func() bool { return answersOK("http://" + engine + "/health") })
	}()
	answered := poll(s.t, "the gateway answers", func() bool {
		said, err := chat(s.t.Context(), described.text("PrivateConnectUrl"), described.text("ApiKey"), "hello", false)
		return err == nil && strings.Contains(said, "simulated")
	})
	wait := answered.Sub(<-healthy)
	_, err = c.call("DeleteModelService", ids)
	require.NoError(s.t, err)
	poll(s.t, "the node is free again", func() bool {
		var free bool
		err := s.db.Owner.QueryRow(s.t.Context(), `SELECT model_service_id IS NULL FROM ai_node WHERE name = $1`, node).Scan(&free)
		return err == nil && free
	})
	return wait
}

func answersOK(url string) bool {
	answer, err := http.Get(url)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode == http.StatusOK
}

// poll asks every 2 ms and returns the time of the first yes.
func poll(t testing.TB, what string, yes func() bool) time.Time {
	deadline := time.Now().Add(20 * time.Second)
	for !yes() {
		if time.Now().After(deadline) {
			t.Errorf("not within 20 s: %s", what)
			break
		}
		time.Sleep(pollEvery)
	}
	return time.Now()
}
