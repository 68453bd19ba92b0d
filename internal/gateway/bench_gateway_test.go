package gateway_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	benchRounds = 11
	benchWindow = time.Second
	benchWarm   = 300 * time.Millisecond
	// latencyTurns are how often latency is measured in a round: what a wake-up takes changes within seconds, so that many short
	// windows that follow each other closely tell more than a few long ones.
	latencyTurns = 3
	// benchProcesses are how many processes of each take turns: two of one program differ by up to a tenth, for as long as they
	// live.
	benchProcesses = 3
	// scaleWindows are as many windows of each process as have some collections of garbage in a gateway that has 100,000 Model
	// APIs to look through. Records are written after each: Postgres, which runs when nobody else wants to, falls behind a load
	// that lasts.
	scaleRounds, scaleWindows = 5, 2
)

// BenchmarkGateway judges what docs/performance.md promises of the gateway, beside a bare httputil.ReverseProxy and nginx:
// processes of their own, interleaved rounds, every answer looked at. ENGINESHED_BENCH_WINDOW=300ms makes it short, and
// ENGINESHED_BENCH_ONLY=1k,latency leaves the other loads out; scale is that of many Model APIs.
func BenchmarkGateway(b *testing.B) {
	r := newBenchRig(b)
	r.compare(r.chosenTrials())
	if only := os.Getenv("ENGINESHED_BENCH_ONLY"); only == "" || only == "scale" {
		r.benchmarkScale()
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkGatewayLatency judges what a gateway adds to the latency of one client, where the system is free to run clients,
// proxy and upstream wherever it likes. With a core of its own for the proxy every message wakes another core, twice on its
// way there and twice back, which takes longer than any of the proxies: BenchmarkGateway shows that too, and judges the 99th
// percentile alone.
func BenchmarkGatewayLatency(b *testing.B) {
	r := benchRigOn(b, allCores, allCores)
	r.compare([]trial{{turns: latencyTurns, measure: r.added, lines: addedLines("", 0.7, 0.75)}})
	b.ReportMetric(0, "ns/op")
}

// compare measures, prints and judges.
func (r *benchRig) compare(trials []trial) {
	r.run(trials)
	fmt.Print(r.table(trials))
	r.judge(trials)
	for round := range benchProcesses {
		r.gateway.turn(round)
		r.awaitRecords(r.gateway)
	}
}

// BenchmarkGatewayProfile writes a CPU profile of the gateway under each load to the directory ENGINESHED_PROFILES.
func BenchmarkGatewayProfile(b *testing.B) {
	dir := os.Getenv("ENGINESHED_PROFILES")
	require.NotEmpty(b, dir, "ENGINESHED_PROFILES names the directory for the profiles")
	r := newBenchRig(b)
	for _, how := range r.chosenTrials() {
		on := *r.gateway
		if how.ours != nil {
			on = *how.ours
		}
		s := r.settings
		s.MaxBody = 10 << 20
		on.process = startProcess(b, pinned(b, targetCore, inRole(b, roleProfiled, profiled{Settings: s, CPU: filepath.Join(dir, how.name+".cpu")})))
		r.awaitAnswer(&on)
		b.Log(how.name, how.measure(&on))
		on.end(b)
	}
}

// target is what a load is put on.
type target struct {
	path  string // of a chat completion
	model string // that the upstream is then asked for
	start func() *process
	*process
	processes   []*process // that take turns at being the one
	collections string     // of garbage in the last of them: a file that tells of them; "": none does
}

// startAll starts the processes that take turns.
func (t *target) startAll() {
	for range benchProcesses {
		t.processes = append(t.processes, t.start())
	}
	t.turn(0)
}

// turn makes it the turn of the round's process.
func (t *target) turn(round int) { t.process = t.processes[round%len(t.processes)] }

// benchRig is the gateway, what it is compared with, and what all forward to.
type benchRig struct {
	*rig
	b        *testing.B
	window   time.Duration
	upstream *process
	targets  cores   // of what is measured
	others   cores   // of clients and upstream
	gateway  *target // with everything on
	service  *target // the same, asked for a model service
	proxy    *target
	nginx    *target // nil where it is not installed
}

// newBenchRig has a core for what is measured alone.
func newBenchRig(b *testing.B) *benchRig {
	b.Helper()
	return benchRigOn(b, targetCore, otherCores)
}

func benchRigOn(b *testing.B, targets, others cores) *benchRig {
	b.Helper()
	db := newDB(b)
	keepAway(b, db)
	r := &benchRig{rig: prepareRig(b, db), b: b, window: benchWindow, targets: targets, others: others}
	if text := os.Getenv("ENGINESHED_BENCH_WINDOW"); text != "" {
		var err error
		r.window, err = time.ParseDuration(text)
		require.NoError(b, err)
	}
	const path = "/v1/chat/completions"
	r.upstream = startProcess(b, pinned(b, others, inRole(b, roleUpstream, nil)))
	s, outside := r.rig.service(r.upstream.addr), r.outside("http://"+r.upstream.addr)
	r.gateway = &target{path: path, model: "wrote", start: r.gatewayProcess(r.rig)}
	r.gateway.startAll()
	a := everything(outside.ID)
	r.serveAll(s, outside, a, consumer(callerKey, "Default", "", a.ID))
	r.proxy = &target{path: path, model: "asked", start: func() *process {
		return startProcess(b, pinned(b, targets, inRole(b, roleProxy, r.upstream.addr)))
	}}
	r.proxy.startAll()
	if _, err := exec.LookPath("nginx"); err == nil {
		r.nginx = &target{path: path, model: "asked", start: r.nginxProcess}
		r.nginx.startAll()
	}
	r.service = &target{path: "/services/" + s.ID + path, model: "asked", start: r.gateway.start, processes: r.gateway.processes}
	for round := range benchProcesses {
		r.gateway.turn(round)
		r.awaitAnswer(r.gateway)
	}
	return r
}

// everything is a Model API for which a gateway does all it can do.
func everything(service string) snapshot.ModelAPI {
	a := apiOf(service, chatRoute)
	a.Auth, a.Targets[0].Model, a.Statistics = true, "wrote", &snapshot.Statistics{}
	a.Limits = &snapshot.Limits{FirstContent: 60_000, Connect: 5000, Idle: 60_000, Concurrent: 10_000, Queued: 100}
	return a
}

// gatewayProcess returns what starts the gateway as it is shipped, with the settings of g.
func (r *benchRig) gatewayProcess(g *rig) func() *process {
	command := r.gatewayCommand(g)
	return func() *process { return startProcess(r.b, command()) }
}

func (r *benchRig) gatewayCommand(g *rig) func() *exec.Cmd {
	binary := filepath.Join(r.b.TempDir(), "gateway")
	out, err := exec.Command("go", "build", "-o", binary, "github.com/engineshed/engineshed/cmd/gateway").CombinedOutput()
	require.NoError(r.b, err, "%s", out)
	return func() *exec.Cmd {
		cmd := exec.Command(binary, "--addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0", "--snapshot-key-file="+g.settings.SnapshotKeyFile,
			"--data-dir="+r.b.TempDir(), "--allow-upstream=127.0.0.1/32")
		cmd.Env = append(os.Environ(), "GATEWAY_DATABASE_URL="+g.settings.DatabaseURL)
		return pinned(r.b, r.targets, cmd)
	}
}

// nginxProcess starts nginx as it is fastest: one worker and no master, requests held as a whole in memory, as by a gateway
// that has to find the model in them, and answers passed on as they come.
func (r *benchRig) nginxProcess() *process {
	dir := r.b.TempDir()
	require.NoError(r.b, os.Chmod(dir, 0o700))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(r.b, err)
	addr := free.Addr().String()
	require.NoError(r.b, free.Close())
	config := filepath.Join(dir, "nginx.conf")
	require.NoError(r.b, os.WriteFile(config, fmt.Appendf(nil, `
		daemon off; master_process off; worker_rlimit_nofile 16384; pid %[1]s/pid; error_log stderr crit;
		events { worker_connections 16000; }
		http {
			access_log off; keepalive_requests 1000000000; tcp_nodelay on;
			client_max_body_size 16m; client_body_buffer_size 2m; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
			fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
			upstream upstream { server %[2]s; keepalive 4096; keepalive_requests 1000000000; }
			server {
				listen %[3]s backlog=4096;
				location / { proxy_pass http://upstream; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }
			}
		}`, dir, r.upstream.addr, addr), 0o600))
	p := launch(r.b, pinned(r.b, r.targets, exec.Command("nginx", "-p", dir, "-c", config)))
	p.addr = addr
	r.await(func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return p
}

// awaitAnswer waits until a target answers chat completions. Of very many Model APIs the last takes its time.
func (r *benchRig) awaitAnswer(t *target) {
	r.b.Helper()
	answers := func() bool {
		return do(r.b, request(r.b, "POST", "http://"+t.addr+t.path, `{"model":"asked"}`)).status == 200
	}
	require.Eventually(r.b, answers, time.Minute, 10*time.Millisecond)
}

// trial is one way to measure a target.
type trial struct {
	name    string
	fresh   bool    // in a process of its own each time
	turns   int     // how often in a round; 0: once
	ours    *target // nil: the gateway with everything on
	measure func(*target) []float64
	lines   []*line // one for each value
}

// line is a line of the table.
type line struct {
	what, format string
	scale        float64   // of what is printed
	less         bool      // is better
	floor        float64   // against the ReverseProxy; 0: none
	aim          float64   // against nginx; 0: none
	zero         bool      // our value must be 0
	ours         []float64 // by round
	proxy, nginx []float64
}

func (r *benchRig) trials() []trial {
	perCPU := func(what string, floor, aim float64) *line {
		return &line{what: "requests per CPU-second, " + what, format: "%.0f", scale: 1, floor: floor, aim: aim}
	}
	return []trial{
		{name: "1k", measure: r.requests(1<<10, 64), lines: []*line{perCPU("1 KB, 64 connections", 1.8, 0.6)}},
		{name: "service", measure: r.requests(1<<10, 64), ours: r.service, lines: []*line{perCPU("the same to a model service", 1.8, 0.6)}},
		{name: "64k", measure: r.requests(64<<10, 64), lines: []*line{perCPU("64 KB prompt, 64 connections", 1.5, 0.8)}},
		{name: "1m", fresh: true, measure: r.requests(1<<20, 16), lines: []*line{
			perCPU("1 MB prompt, 16 connections", 0.8, 1),
			{what: "most memory meanwhile, MiB", format: "%.0f", scale: 1 << 20, less: true, aim: 1.5},
		}},
		{name: "streams", measure: r.chunks, lines: []*line{
			{what: "chunks of 1,000 paced streams per CPU-second", format: "%.0f", scale: 1, floor: 0.95, aim: 0.85},
		}},
		{name: "latency", measure: r.added, lines: addedLines(", a core for the proxy", 0, 0.75)},
		{name: "idle", fresh: true, measure: r.idle, lines: []*line{
			{what: "memory of an idle stream, KiB", format: "%.1f", scale: 1 << 10, less: true, floor: 0.65, aim: 1.5},
			{what: "upstream streams open 300 ms after 2,000 clients left", format: "%.0f", scale: 1, zero: true},
		}},
	}
}

// addedLines are those of added.
func addedLines(where string, p50, p99 float64) []*line {
	return []*line{
		{what: "added latency at one client" + where + ", p50, µs", format: "%.0f", scale: 1e3, less: true, floor: p50, aim: 2},
		{what: "added latency at one client" + where + ", p99, µs", format: "%.0f", scale: 1e3, less: true, floor: p99, aim: 2},
		{what: "times a thread begins to run for such a request" + where, format: "%.1f", scale: 1, less: true},
	}
}

// chosenTrials are all, or those that ENGINESHED_BENCH_ONLY names.
func (r *benchRig) chosenTrials() []trial {
	only := os.Getenv("ENGINESHED_BENCH_ONLY")
	return slices.DeleteFunc(r.trials(), func(t trial) bool { return only != "" && !slices.Contains(strings.Split(only, ","), t.name) })
}

// load is what the clients of a target are like.
func (r *benchRig) load(t *target, prompt, conns int) load {
	return load{
		Upstream: r.upstream.addr, Path: t.path, Model: t.model, Prompt: prompt, Conns: conns, On: r.others, Warm: benchWarm, For: r.window,
	}
}

// requests measures how many requests a second of a processor is enough for, and the most memory they take.
func (r *benchRig) requests(prompt, conns int) func(*target) []float64 {
	return func(t *target) []float64 {
		s := put(r.b, t.process, r.load(t, prompt, conns))
		return []float64{float64(s.Answers) / s.CPU.Seconds(), float64(s.Peak)}
	}
}

func (r *benchRig) chunks(t *target) []float64 {
	l := r.load(t, 1<<10, 1000)
	l.Query = pacedStream
	s := put(r.b, t.process, l)
	return []float64{float64(s.Answers) / s.CPU.Seconds()}
}

// added measures what a request takes longer than without a target in between, and how often a thread of that wakes up.
func (r *benchRig) added(t *target) []float64 {
	directly, through := r.load(r.proxy, 1<<10, 1), r.load(t, 1<<10, 1)
	direct, s := put(r.b, r.upstream, directly), put(r.b, t.process, through)
	return []float64{float64(s.P50 - direct.P50), float64(s.P99 - direct.P99), float64(s.Switches) / float64(s.Answers)}
}

// idle measures what a stream takes, and whether streams end when their clients leave.
func (r *benchRig) idle(t *target) []float64 {
	l := r.load(t, 1<<10, 2000)
	l.Query = idleStream
	s := put(r.b, t.process, l)
	return []float64{float64(s.RSS) / float64(l.Conns), float64(s.Open)}
}

// run measures all in turn, in every other round the other way around.
func (r *benchRig) run(trials []trial) {
	for round := range benchRounds {
		for _, t := range trials {
			for turn := range max(t.turns, 1) {
				r.takeTurn(t, round*max(t.turns, 1)+turn)
			}
		}
	}
}

// takeTurn measures all sides once.
func (r *benchRig) takeTurn(how trial, turn int) {
	ours := r.gateway
	if how.ours != nil {
		ours = how.ours
	}
	sides := []*target{ours, r.proxy, r.nginx}
	values := make([][]float64, len(sides))
	for i := range sides {
		if turn%2 == 1 {
			i = len(sides) - 1 - i
		}
		if sides[i] != nil {
			sides[i].turn(turn)
			values[i] = r.try(how, sides[i])
		}
	}
	for i, l := range how.lines {
		for side, into := range []*[]float64{&l.ours, &l.proxy, &l.nginx} {
			if values[side] != nil {
				*into = append(*into, values[side][i]/l.scale)
			}
		}
	}
}

func (r *benchRig) try(how trial, on *target) []float64 {
	if !how.fresh {
		return how.measure(on)
	}
	fresh := *on
	fresh.process = on.start()
	defer fresh.kill()
	r.awaitAnswer(&fresh)
	return how.measure(&fresh)
}

// against is our values in relation to others', round by round.
func (l *line) against(others []float64) []float64 {
	ratios := make([]float64, len(others))
	for i := range others {
		ratios[i] = l.ours[i] / others[i]
	}
	return ratios
}

// table is what was measured: medians and ranges, ready for docs/performance.md.
func (r *benchRig) table(trials []trial) string {
	var out strings.Builder
	if r.nginx == nil {
		out.WriteString("nginx: not installed\n")
	}
	out.WriteString("\n| | gateway | ReverseProxy | nginx | × ReverseProxy | floor | × nginx | aim |\n|---|---|---|---|---|---|---|---|\n")
	for _, t := range trials {
		for _, l := range t.lines {
			fmt.Fprintf(&out, "| %s | %s | %s | %s |", l.what, spread(l.format, l.ours), spread(l.format, l.proxy), spread(l.format, l.nginx))
			if l.zero {
				out.WriteString(" | 0 | | 0 |\n")
				continue
			}
			fmt.Fprintf(&out, " %s | %s | %s | %s |\n", spread("%.2f", l.against(l.proxy)), l.bound(l.floor),
				spread("%.2f", l.against(l.nginx)), l.bound(l.aim)+l.verdict())
		}
	}
	return out.String()
}

// bound is a floor or an aim as it is read.
func (l *line) bound(value float64) string {
	switch {
	case value == 0:
		return "–"
	case l.less:
		return fmt.Sprintf("≤ %.2f", value)
	}
	return fmt.Sprintf("≥ %.2f", value)
}

// verdict says whether the aim is reached.
func (l *line) verdict() string {
	switch {
	case len(l.nginx) == 0 || l.aim == 0:
		return ""
	case l.reaches(l.against(l.nginx), l.aim):
		return ", reached"
	}
	return ", missed"
}

func (l *line) reaches(ratios []float64, bound float64) bool {
	if l.less {
		return median(ratios) <= bound
	}
	return median(ratios) >= bound
}

// judge fails for each line below its floor.
func (r *benchRig) judge(trials []trial) {
	for _, t := range trials {
		for _, l := range t.lines {
			switch {
			case l.zero && median(l.ours) != 0:
				r.b.Errorf("%s: %v, not 0", l.what, l.ours)
			case l.floor > 0 && !l.reaches(l.against(l.proxy), l.floor):
				r.b.Errorf("%s: %.2f of the bare proxy's, the floor is %s", l.what, median(l.against(l.proxy)), l.bound(l.floor))
			}
		}
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func spread(format string, values []float64) string {
	if len(values) == 0 {
		return "–"
	}
	return fmt.Sprintf(format+" ("+format+"–"+format+")", median(values), slices.Min(values), slices.Max(values))
}

// How much 100,000 Model APIs may cost.
const (
	fewAPIs, manyAPIs = 10, 100_000
	asked             = 1000    // of many: as many as one consumer may call
	mostCPU           = 1.2     // of a request, in relation to fewAPIs
	mostMemory        = 1 << 10 // bytes of one
	settle            = time.Minute
)

// benchmarkScale compares a gateway with few Model APIs and one with many.
func (r *benchRig) benchmarkScale() {
	few, many := r.withAPIs(fewAPIs), r.withAPIs(manyAPIs)
	type cost struct {
		work    time.Duration
		answers int
	}
	add := func(c *cost, t *target, apis, all int) {
		l := r.load(t, 1<<10, 64)
		l.APIs, l.Apart = apis, all/apis
		s := put(r.b, t.process, l)
		c.work, c.answers = c.work+s.Work, c.answers+s.Answers
		r.awaitRecords(t)
	}
	ratio := func() float64 {
		var before, after cost
		for window := range scaleWindows * benchProcesses {
			few.turn(window)
			many.turn(window)
			add(&before, few, fewAPIs, fewAPIs)
			add(&after, many, asked, manyAPIs)
		}
		return float64(after.work) / float64(after.answers) / (float64(before.work) / float64(before.answers))
	}
	for began := time.Now(); time.Since(began) < settle; { // until what the start left behind has been collected
		ratio()
	}
	var ratios []float64
	for range scaleRounds {
		ratios = append(ratios, ratio())
	}
	each := (r.heap(many) - r.heap(few)) / (manyAPIs - fewAPIs)
	fmt.Printf("%d → %d Model APIs: CPU per request × %s (at most %.1f); %d bytes for each (at most %d)\n",
		fewAPIs, manyAPIs, spread("%.2f", ratios), mostCPU, each, mostMemory)
	if median(ratios) > mostCPU {
		r.b.Errorf("%d Model APIs cost × %.2f of the CPU that %d do", manyAPIs, median(ratios), fewAPIs)
	}
	if each > mostMemory {
		r.b.Errorf("a Model API takes %d bytes", each)
	}
}

// withAPIs is a gateway that serves n Model APIs.
func (r *benchRig) withAPIs(n int) *target {
	g := prepareRig(r.b, newDB(r.b))
	outside := g.outside("http://" + r.upstream.addr)
	var items []item
	var allowed []string
	add := func(kind, id string, thing any) {
		body, err := snapshot.Encode(thing)
		require.NoError(r.b, err)
		items = append(items, item{kind: kind, id: id, body: body})
	}
	add(snapshot.KindAIService, outside.ID, outside)
	a := apiOf(outside.ID, chatRoute)
	a.Auth, a.Targets[0].Model, a.RemoveBasePath = true, "wrote", true
	for i := range n {
		a.ID, a.BasePath = ids.New(ids.HTTPAPI), fmt.Sprintf("/%0*d", apiDigits, i)
		add(snapshot.KindModelAPI, a.ID, a)
		if i%max(1, n/asked) == 0 {
			allowed = append(allowed, a.ID)
		}
	}
	c := consumer(callerKey, "Default", "", allowed...)
	add(snapshot.KindConsumer, c.ID, c)
	g.publishMany(items)
	t := &target{path: fmt.Sprintf("/%0*d/v1/chat/completions", apiDigits, 0), model: "wrote"}
	command := r.gatewayCommand(g)
	t.start = func() *process {
		cmd := command()
		t.collections = filepath.Join(r.b.TempDir(), "gctrace")
		trace, err := os.Create(t.collections)
		require.NoError(r.b, err)
		cmd.Env, cmd.Stderr = append(cmd.Env, "GODEBUG=gctrace=1"), trace
		p := startProcess(r.b, cmd)
		require.NoError(r.b, trace.Close())
		return p
	}
	t.startAll()
	for round := range benchProcesses {
		t.turn(round)
		r.awaitAnswer(t)
	}
	return t
}

// heap is how much memory a gateway holds that has nothing to do: what is left by the collection of garbage that Go forces
// after two quiet minutes. One under load counts as held what is made while it runs.
func (r *benchRig) heap(t *target) int {
	r.b.Helper()
	var left []int
	require.Eventually(r.b, func() bool {
		left = leftWhenForced(r.b, t.collections)
		return len(left) > 0
	}, 3*time.Minute, time.Second)
	return left[len(left)-1] << 20
}

// awaitRecords waits until all usage records are written, of which none may have been dropped.
func (r *benchRig) awaitRecords(t *target) {
	r.b.Helper()
	require.Eventually(r.b, func() bool {
		return strings.Contains(get(r.b, "http://"+t.admin+"/metrics").body, "\nengineshed_gateway_usage_waiting 0\n")
	}, time.Minute, 500*time.Millisecond)
	require.Contains(r.b, get(r.b, "http://"+t.admin+"/metrics").body, "engineshed_gateway_usage_dropped_total{reason=\"full\"} 0\n")
}

// whenForced finds how many MiB a forced collection has left, in what GODEBUG=gctrace=1 writes.
var whenForced = regexp.MustCompile(`GC forced\n(?:.*\n)*?gc .*->(\d+) MB,`)

func leftWhenForced(b *testing.B, file string) (sizes []int) {
	text, err := os.ReadFile(file)
	require.NoError(b, err)
	for _, m := range whenForced.FindAllSubmatch(text, -1) {
		size, err := strconv.Atoi(string(m[1]))
		require.NoError(b, err)
		sizes = append(sizes, size)
	}
	return sizes
}
