package gateway_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// The benchmarks measure processes, not functions: this test binary starts itself again in one of these roles.
const (
	roleVariable = "GATEWAY_BENCH_ROLE"
	roleProxy    = "proxy"    // a bare httputil.ReverseProxy, tuned
	roleUpstream = "upstream" // what all targets forward to
	roleLoad     = "load"     // what asks
	roleProfiled = "profiled" // a gateway that writes a profile at the end
	roleEngine   = "engine"   // an upstream that takes its time

	settingsVariable = "GATEWAY_BENCH_SETTINGS" // what a role is told, as JSON
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		if err := trustCertificate(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		code := m.Run()
		_ = os.RemoveAll(trustDirectory)
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := play(ctx, role); err != nil {
		fmt.Fprintln(os.Stderr, role, err)
		os.Exit(1)
	}
}

func play(ctx context.Context, role string) error {
	switch role {
	case roleProxy:
		return serveProxy(ctx)
	case roleUpstream:
		return serveUpstream(ctx)
	case roleLoad:
		return putLoad()
	case roleEngine:
		return serveEngine(ctx)
	case roleProfiled:
		return profiledGateway(ctx)
	}
	return errors.New("unknown role")
}

// told reads what a role is told.
func told(into any) error { return json.Unmarshal([]byte(os.Getenv(settingsVariable)), into) }

// serveUpstream serves on four ports, so that one process can be four replicas.
func serveUpstream(ctx context.Context) error {
	u := new(benchUpstream)
	var addrs []string
	for range 4 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addrs = append(addrs, l.Addr().String())
		go func() { _ = u.serve(l) }()
	}
	go u.tick(ctx)
	sayListening(addrs...)
	<-ctx.Done()
	return nil
}

// serveProxy is what the gateway is compared with: the same library with the same tuning, and nothing else.
func serveProxy(ctx context.Context) error {
	var target string
	if err := told(&target); err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.Out.URL.Scheme, p.Out.URL.Host = "http", target },
		Transport: &http.Transport{
			DialContext:        (&net.Dialer{}).DialContext,
			DisableCompression: true, MaxIdleConnsPerHost: 4096, IdleConnTimeout: time.Minute,
		},
		BufferPool: &bufferPool{sync.Pool{New: func() any { return make([]byte, 32<<10) }}},
		ErrorLog:   log.New(io.Discard, "", 0), // of clients that left
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	sayListening(l.Addr().String())
	go func() { _ = (&http.Server{Handler: proxy}).Serve(l) }()
	<-ctx.Done()
	return nil
}

type bufferPool struct{ sync.Pool }

func (p *bufferPool) Get() []byte  { return p.Pool.Get().([]byte) }
func (p *bufferPool) Put(b []byte) { p.Pool.Put(b) } //nolint:staticcheck // one slice header is what everybody pays

// sayListening prints where this process listens as a gateway does.
func sayListening(addrs ...string) {
	slog.New(slog.NewJSONHandler(os.Stdout, nil)).Info("gateway listening", "addr", addrs[0], "addrs", addrs)
}

// profiled is a gateway that writes what took its time, or waited for locks.
type profiled struct {
	gateway.Settings
	CPU, Locks string // files; "": none
}

func profiledGateway(ctx context.Context) (err error) {
	var p profiled
	if err := told(&p); err != nil {
		return err
	}
	p.RequestLog = os.Stdout
	g, err := gateway.Open(p.Settings, slog.New(slog.NewJSONHandler(os.Stdout, nil)))
	if err != nil {
		return err
	}
	if p.CPU != "" {
		f, err := os.Create(p.CPU)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if p.Locks == "" {
		return g.Run(ctx)
	}
	runtime.SetMutexProfileFraction(1)
	if err := g.Run(ctx); err != nil {
		return err
	}
	f, err := os.Create(p.Locks)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("mutex").WriteTo(f, 1), f.Close())
}

// process is a child and where it listens.
type process struct {
	cmd   *exec.Cmd
	addr  string
	addrs []string
	admin string
}

// launch starts a child that ends with the benchmark.
func launch(b testing.TB, cmd *exec.Cmd) *process {
	b.Helper()
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig fires when the thread that started the child ends
	require.NoError(b, cmd.Start())
	p := &process{cmd: cmd}
	b.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// startProcess starts a child and waits until it says where it listens.
func startProcess(b testing.TB, cmd *exec.Cmd) *process {
	b.Helper()
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	p := launch(b, cmd)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var line struct {
			Msg, Addr, AdminAddr string
			Addrs                []string
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "gateway listening" {
			p.addr, p.addrs, p.admin = line.Addr, line.Addrs, line.AdminAddr
			forget(b, out)
			return p
		}
	}
	require.Fail(b, "the process did not say where it listens", cmd.Path)
	return nil
}

// forget has what a process says from now on read by another one: a log of requests is long.
func forget(b testing.TB, said io.Reader) {
	b.Helper()
	cat := pinned(b, otherCores, exec.Command("cat"))
	cat.Stdin = said
	require.NoError(b, cat.Start())
	go func() { _ = cat.Wait() }()
}

// end asks the process to end and waits for it.
func (p *process) end(b *testing.B) {
	b.Helper()
	require.NoError(b, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(b, p.cmd.Wait())
}

// inRole is this test binary in a role, with something that it reads in that role.
func inRole(b testing.TB, role string, settings any) *exec.Cmd {
	b.Helper()
	text, err := json.Marshal(settings)
	require.NoError(b, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, settingsVariable+"="+string(text))
	return cmd
}

// cores are those that a process may use. Where targets have one for themselves, all else has the others.
type cores int

const (
	otherCores cores = iota
	targetCore
	allCores
)

// list is how taskset calls the cores of a machine that has two at least.
func (c cores) list() string {
	switch c {
	case targetCore:
		return "0"
	case allCores:
		return fmt.Sprintf("0-%d", runtime.NumCPU()-1)
	}
	return fmt.Sprintf("1-%d", runtime.NumCPU()-1)
}

// pinned runs a command on some of the cores, where there are two at least.
func pinned(b testing.TB, on cores, cmd *exec.Cmd) *exec.Cmd {
	b.Helper()
	taskset, err := exec.LookPath("taskset")
	if err != nil || runtime.NumCPU() < 2 {
		return cmd
	}
	pinned := exec.Command(taskset, append([]string{"-c", on.list(), cmd.Path}, cmd.Args[1:]...)...)
	pinned.Env = cmd.Env
	return pinned
}

// keepAway moves this process and Postgres, which stores what the gateway records, to the cores that are not the target's.
// Clients and upstream, which are there too, go before Postgres: what it makes them wait is no target's doing.
func keepAway(b *testing.B, db *pgtest.DB) {
	b.Helper()
	taskset, err := exec.LookPath("taskset")
	if err != nil || runtime.NumCPU() < 2 {
		return
	}
	postgres := processesOf(b, db)
	for _, pid := range append(postgres, os.Getpid()) {
		_ = exec.Command(taskset, "-a", "-c", "-p", otherCores.list(), strconv.Itoa(pid)).Run() // who has ended is away
	}
	for _, pid := range postgres {
		_ = exec.Command("chrt", "--idle", "--pid", "0", strconv.Itoa(pid)).Run() // when nobody else wants to run, where it is installed
	}
}

// processesOf are those of Postgres; whoever connects later is a child of one of them.
func processesOf(b *testing.B, db *pgtest.DB) (pids []int) {
	b.Helper()
	for _, pid := range asAdmin(b, db, "SELECT pid FROM pg_stat_activity") {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		require.NoError(b, err)
		_, rest, _ := strings.Cut(string(status), ") ")
		parent, err := strconv.Atoi(strings.Fields(rest)[1])
		require.NoError(b, err)
		pids = append(pids, int(pid), parent)
	}
	return pids
}

// BenchmarkContention prints the locks that requests waited for: under load on four replicas there is none that all
// requests share.
func BenchmarkContention(b *testing.B) {
	upstream := startProcess(b, inRole(b, roleUpstream, nil))
	g := newRig(b)
	s := g.service(upstream.addrs...)
	g.serve(s)
	g.settings.DataDir = b.TempDir()
	locks := filepath.Join(b.TempDir(), "locks")
	p := startProcess(b, inRole(b, roleProfiled, profiled{Settings: g.settings, Locks: locks}))
	path := "/services/" + s.ID + "/v1/chat/completions"
	g.await(func() bool { return get(b, "http://"+p.addr+path).status == http.StatusUnauthorized })
	n := put(b, p, load{Path: path, Model: "asked", Prompt: 1 << 10, Conns: 64, For: 5 * time.Second}).Answers
	p.end(b)
	text, err := os.ReadFile(locks)
	require.NoError(b, err)
	sites := contended(b, string(text))
	b.Logf("%d requests, 64 connections; waits for locks:", n)
	for _, site := range sites[:min(len(sites), 8)] {
		b.Logf("  %8d waits %12v  %s", site.waits, site.waited.Round(time.Microsecond), site.function)
		if strings.Contains(site.function, "/internal/gateway") {
			b.Errorf("requests wait for a lock of ours: %s", site.function)
		}
	}
	b.ReportMetric(0, "ns/op")
}

type site struct {
	function string
	waits    int64
	waited   time.Duration
}

// contended sums a mutex profile up by the function that held the lock.
func contended(b *testing.B, profile string) []site {
	b.Helper()
	var hertz float64
	var waits, cycles int64
	fresh, ofRuntime := false, false
	sums := map[string]*site{}
	for line := range strings.Lines(profile) {
		if value, ok := strings.CutPrefix(line, "cycles/second="); ok {
			hertz, _ = strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
		if _, err := fmt.Sscanf(line, "%d %d @", &cycles, &waits); err == nil {
			fresh, ofRuntime = true, false
			continue
		}
		fields := strings.Fields(line)
		if !fresh || len(fields) < 3 || fields[0] != "#" {
			continue
		}
		if isLockItself(fields[2]) {
			ofRuntime = strings.HasPrefix(fields[2], "runtime.") // its own locks, of memory for example, have no other frame
			continue
		}
		fresh = false
		function, _, _ := strings.Cut(fields[2], "+0x")
		if ofRuntime {
			function = "Go's runtime"
		}
		if sums[function] == nil {
			sums[function] = &site{function: function}
		}
		sums[function].waits += waits
		sums[function].waited += time.Duration(float64(cycles) / hertz * 1e9)
	}
	sites := make([]site, 0, len(sums))
	for _, s := range sums {
		sites = append(sites, *s)
	}
	slices.SortFunc(sites, func(a, b site) int { return cmp.Compare(b.waited, a.waited) })
	return sites
}

func isLockItself(function string) bool {
	for _, prefix := range []string{"sync.(*Mutex)", "sync.(*RWMutex)", "internal/sync.", "runtime."} {
		if strings.HasPrefix(function, prefix) {
			return true
		}
	}
	return false
}
