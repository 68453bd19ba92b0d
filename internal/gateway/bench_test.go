package gateway_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// The benchmarks measure processes, not functions: this test binary starts itself again in one of these roles.
const (
	roleVariable = "GATEWAY_BENCH_ROLE"
	roleProxy    = "proxy"    // a bare httputil.ReverseProxy, tuned
	roleUpstream = "upstream" // what both forward to
	roleProfiled = "profiled" // a gateway that writes its mutex profile at the end

	targetVariable   = "GATEWAY_BENCH_TARGET"
	settingsVariable = "GATEWAY_BENCH_SETTINGS"
)

const (
	benchRounds = 7
	benchRound  = 2 * time.Second
	benchConns  = 64
	// floor is the least of the bare proxy's requests per CPU-second that the gateway must reach.
	floor = 0.85
	// apiFloor is the same for a Model API with a consumer's key and another model written into the body.
	apiFloor = 0.75
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
		return serveUntil(ctx, bareProxy(os.Getenv(targetVariable)))
	case roleUpstream:
		return serveUntil(ctx, http.HandlerFunc(benchAnswer))
	case roleProfiled:
		return profiledGateway(ctx)
	}
	return errors.New("unknown role")
}

// serveUntil serves on four ports, so that one process can be four replicas, and prints them as the gateway would.
func serveUntil(ctx context.Context, h http.Handler) error {
	var addrs []string
	for range 4 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addrs = append(addrs, l.Addr().String())
		go func() { _ = (&http.Server{Handler: h}).Serve(l) }()
	}
	slog.New(slog.NewJSONHandler(os.Stdout, nil)).Info("gateway listening", "addr", addrs[0], "addrs", addrs)
	<-ctx.Done()
	return nil
}

var benchText = `{"choices":[{"message":{"role":"assistant","content":"` + strings.Repeat("a", 820) +
	`"}}],"usage":{"prompt_tokens":240,"completion_tokens":210,"total_tokens":450}}`

func benchAnswer(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(benchText)))
	_, _ = io.WriteString(w, benchText)
}

// bareProxy is what the gateway is compared with: the same library with the same tuning, and nothing else.
func bareProxy(target string) http.Handler {
	buffers := &bufferPool{sync.Pool{New: func() any { return make([]byte, 32<<10) }}}
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.Out.URL.Scheme, p.Out.URL.Host = "http", target },
		Transport: &http.Transport{
			DialContext:        (&net.Dialer{}).DialContext,
			DisableCompression: true, MaxIdleConnsPerHost: 4096, IdleConnTimeout: time.Minute,
		},
		BufferPool: buffers,
	}
}

type bufferPool struct{ sync.Pool }

func (p *bufferPool) Get() []byte  { return p.Pool.Get().([]byte) }
func (p *bufferPool) Put(b []byte) { p.Pool.Put(b) } //nolint:staticcheck // one slice header is what everybody pays

func profiledGateway(ctx context.Context) error {
	var s gateway.Settings
	if err := json.Unmarshal([]byte(os.Getenv(settingsVariable)), &s); err != nil {
		return err
	}
	g, err := gateway.Open(s, slog.New(slog.NewJSONHandler(os.Stdout, nil)))
	if err != nil {
		return err
	}
	runtime.SetMutexProfileFraction(1)
	if err := g.Run(ctx); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(s.DataDir, "mutex"))
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
}

func startProcess(b *testing.B, path string, env []string, args ...string) *process {
	b.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	runtime.LockOSThread() // Pdeathsig fires when the thread that started the child ends
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p := &process{cmd: cmd}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var line struct {
			Msg, Addr string
			Addrs     []string
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "gateway listening" {
			p.addr, p.addrs = line.Addr, line.Addrs
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return p
		}
	}
	require.Fail(b, "the process did not say where it listens", path)
	return nil
}

// end asks the process to end and waits for it.
func (p *process) end(b *testing.B) {
	b.Helper()
	require.NoError(b, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(b, p.cmd.Wait())
}

// cpu is the processor time the process has used.
func (p *process) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	require.NoError(b, err)
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	require.NoError(b, err)
	system, err := strconv.Atoi(fields[12])
	require.NoError(b, err)
	return time.Duration(user+system) * time.Second / 100 // USER_HZ is 100 on every Linux
}

// drive keeps conns connections busy with the same request for d and returns how many answers came, each checked.
func drive(b *testing.B, addr string, request []byte, conns int, d time.Duration) int64 {
	b.Helper()
	until := time.Now().Add(d)
	var answers atomic.Int64
	var all sync.WaitGroup
	failures := make(chan error, conns)
	for range conns {
		all.Go(func() {
			n, err := driveOne(addr, request, until)
			answers.Add(n)
			if err != nil {
				failures <- err
			}
		})
	}
	all.Wait()
	close(failures)
	for err := range failures {
		require.NoError(b, err)
	}
	return answers.Load()
}

func driveOne(addr string, request []byte, until time.Time) (answers int64, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 8<<10)
	for time.Now().Before(until) {
		if _, err := conn.Write(request); err != nil {
			return answers, err
		}
		if err := readAnswer(in); err != nil {
			return answers, err
		}
		answers++
	}
	return answers, nil
}

func readAnswer(in *bufio.Reader) error {
	length := 0
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("answered %q", line)
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
		if len(line) == 2 {
			break
		}
	}
	if length != len(benchText) {
		return fmt.Errorf("the answer has %d bytes", length)
	}
	_, err := in.Discard(length)
	return err
}

// benchRequest is a chat completion of 1 KB as an OpenAI client sends it.
func benchRequest(path string) []byte {
	body := `{"model":"demo","messages":[{"role":"user","content":"` + strings.Repeat("a", 960) + `"}]}`
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: gateway\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate\r\n"+
		"Authorization: Bearer %s\r\nContent-Type: application/json\r\nUser-Agent: OpenAI/Python 1.0\r\n"+
		"X-Stainless-Lang: python\r\nX-Stainless-Os: Linux\r\nContent-Length: %d\r\n\r\n%s", path, callerKey, len(body), body)
}

// BenchmarkBesideReverseProxy compares the requests per CPU-second of the gateway, with all it does, and of a bare
// tuned httputil.ReverseProxy: processes of their own, interleaved rounds, everything over loopback.
func BenchmarkBesideReverseProxy(b *testing.B) {
	upstream := startProcess(b, os.Args[0], []string{roleVariable + "=" + roleUpstream})
	g := newRig(b) // its database and key serve the gateway that is measured, too
	s := g.service(upstream.addr)
	outside := g.outside("http://" + upstream.addr)
	a := apiOf(outside.ID, chatRoute)
	a.Auth, a.Targets[0].Model, a.Statistics = true, "written over", &snapshot.Statistics{}
	g.serveAll(s, outside, a, consumer(callerKey, "Default", "", a.ID))
	binary := filepath.Join(b.TempDir(), "gateway")
	out, err := exec.Command("go", "build", "-o", binary, "github.com/engineshed/engineshed/cmd/gateway").CombinedOutput()
	require.NoError(b, err, "%s", out)
	measured := startProcess(b, binary, []string{"GATEWAY_DATABASE_URL=" + g.settings.DatabaseURL},
		"--addr=127.0.0.1:0", "--admin-addr=", "--snapshot-key-file="+g.settings.SnapshotKeyFile, "--data-dir="+b.TempDir(),
		"--allow-upstream=127.0.0.1/32")
	bare := startProcess(b, os.Args[0], []string{roleVariable + "=" + roleProxy, targetVariable + "=" + upstream.addr})

	request, toAPI := benchRequest("/services/"+s.ID+"/v1/chat/completions"), benchRequest("/v1/chat/completions")
	g.await(func() bool {
		return get(b, "http://"+measured.addr+"/services/"+s.ID+"/v1/").status == http.StatusUnauthorized
	})
	perCPU := func(p *process, request []byte) float64 {
		before := p.cpu(b)
		n := drive(b, p.addr, request, benchConns, benchRound)
		return float64(n) / (p.cpu(b) - before).Seconds()
	}
	perCPU(measured, request)
	perCPU(measured, toAPI)
	perCPU(bare, request)
	var ours, apis, theirs, ratios, apiRatios []float64
	for round := range benchRounds {
		theirs = append(theirs, perCPU(bare, request))
		ours = append(ours, perCPU(measured, request))
		apis = append(apis, perCPU(measured, toAPI))
		ratios = append(ratios, ours[round]/theirs[round])
		apiRatios = append(apiRatios, apis[round]/theirs[round])
	}
	b.Logf("requests per CPU-second, 1 KB, %d connections, %d interleaved rounds: median (range)", benchConns, benchRounds)
	b.Logf("  bare ReverseProxy %s", spread("%.0f", theirs))
	b.Logf("  gateway           %s", spread("%.0f", ours))
	b.Logf("  ratio             %s, floor %.2f", spread("%.3f", ratios), floor)
	b.Logf("  Model API         %s (key, route, model written over, usage, metrics, log)", spread("%.0f", apis))
	b.Logf("  ratio             %s, floor %.2f", spread("%.3f", apiRatios), apiFloor)
	b.ReportMetric(median(ours), "req/cpu-s")
	b.ReportMetric(median(theirs), "bare-req/cpu-s")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(median(apiRatios), "api-ratio")
	b.ReportMetric(0, "ns/op")
	if median(apiRatios) < apiFloor {
		b.Errorf("a Model API does %.3f of the bare proxy's work per CPU-second, the floor is %.2f", median(apiRatios), apiFloor)
	}
	if median(ratios) < floor {
		b.Errorf("the gateway does %.3f of the bare proxy's work per CPU-second, the floor is %.2f", median(ratios), floor)
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func spread(format string, values []float64) string {
	return fmt.Sprintf(format+" ("+format+"–"+format+")", median(values), slices.Min(values), slices.Max(values))
}

// BenchmarkContention prints the locks that requests waited for: under load on four replicas there is none that all
// requests share.
func BenchmarkContention(b *testing.B) {
	upstream := startProcess(b, os.Args[0], []string{roleVariable + "=" + roleUpstream})
	g := newRig(b)
	s := g.service(upstream.addrs...)
	g.serve(s)
	g.settings.DataDir = b.TempDir()
	settings, err := json.Marshal(g.settings)
	require.NoError(b, err)
	profiled := startProcess(b, os.Args[0], []string{roleVariable + "=" + roleProfiled, settingsVariable + "=" + string(settings)})
	g.await(func() bool {
		return get(b, "http://"+profiled.addr+"/services/"+s.ID+"/v1/").status == http.StatusUnauthorized
	})
	const d = 5 * time.Second
	n := drive(b, profiled.addr, benchRequest("/services/"+s.ID+"/v1/chat/completions"), benchConns, d)
	profiled.end(b)
	text, err := os.ReadFile(filepath.Join(g.settings.DataDir, "mutex"))
	require.NoError(b, err)
	sites := contended(b, string(text))
	b.Logf("%d requests, %d connections; waits for locks:", n, benchConns)
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
