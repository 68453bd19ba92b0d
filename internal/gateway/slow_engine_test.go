package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	thinks = 100 * time.Millisecond // a slowEngine, before a whole answer
	pace   = time.Second            // between two events of a stream
)

var slowText = `{"choices":[{"message":{"role":"assistant","content":"` + strings.Repeat("a", 820) +
	`"}}],"usage":{"prompt_tokens":240,"completion_tokens":210,"total_tokens":450}}`

// serveEngine is the role of a slowEngine.
func serveEngine(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	sayListening(l.Addr().String())
	go func() { _ = (&http.Server{Handler: new(slowEngine)}).Serve(l) }()
	<-ctx.Done()
	return nil
}

// slowEngine answers when it has thought, unless the answer is to come "at once", and a request for a stream with an event after the other
// until its client leaves. GET /open says how many requests it answers.
type slowEngine struct{ open atomic.Int64 }

func (e *slowEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/open" {
		_, _ = fmt.Fprint(w, e.open.Load())
		return
	}
	e.open.Add(1)
	defer e.open.Add(-1)
	body, _ := io.ReadAll(r.Body)
	if !bytes.Contains(body, []byte(`"stream":true`)) {
		if !bytes.Contains(body, []byte(`"at once"`)) {
			time.Sleep(thinks)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, slowText)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"word\"}}]}\n\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// openAt is how many requests the slowEngine at addr answers.
func openAt(t testing.TB, addr string) int {
	t.Helper()
	n, err := strconv.Atoi(get(t, "http://"+addr+"/open").body)
	require.NoError(t, err)
	return n
}

// loadConn is a connection of a client that costs little.
type loadConn struct {
	net.Conn
	in *bufio.Reader
}

func dialLoad(addr string) (*loadConn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &loadConn{conn, bufio.NewReaderSize(conn, 2<<10)}, nil
}

// ask sends a request and returns its answer, whose body is still to be read.
func (c *loadConn) ask(request []byte) (*http.Response, error) {
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.in, nil)
}

// loadRequest is a chat completion of 1 KB, with these members more.
func loadRequest(path, members string) []byte {
	body := `{"model":"demo",` + members + `"messages":[{"role":"user","content":"` + strings.Repeat("a", 960) + `"}]}`
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n%s", path, callerKey, len(body), body)
}

// slowRig is a gateway in a process of its own between a slowEngine and the clients, which are this process.
type slowRig struct {
	*rig
	engine, gateway *process
}

func newSlowRig(t testing.TB, args ...string) *slowRig {
	t.Helper()
	engine := startProcess(t, inRole(t, roleEngine, nil))
	g := newRig(t) // its database and key serve the gateway that is measured, too
	outside := g.outside("http://" + engine.addr)
	a := apiOf(outside.ID, chatRoute)
	a.Auth = true
	g.serveAll(outside, a, consumer(callerKey, "Default", "", a.ID))
	g.halt()
	binary := filepath.Join(t.TempDir(), "gateway")
	out, err := exec.Command("go", "build", "-o", binary, "github.com/engineshed/engineshed/cmd/gateway").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command(binary, append([]string{
		"--addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0", "--snapshot-key-file=" + g.settings.SnapshotKeyFile,
		"--data-dir=" + t.TempDir(), "--allow-upstream=127.0.0.1/32",
	}, args...)...)
	cmd.Env = append(os.Environ(), "GATEWAY_DATABASE_URL="+g.settings.DatabaseURL, "GOMEMLIMIT=512MiB")
	r := &slowRig{g, engine, startProcess(t, cmd)}
	r.await(func() bool { return get(t, "http://"+r.gateway.admin+"/readyz").status == http.StatusOK })
	return r
}

func (r *slowRig) rss() int { return memoryOf(r.gateway.cmd.Process.Pid, "VmRSS") }

// files is how many files and connections the gateway has open.
func (r *slowRig) files() int {
	r.t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.gateway.cmd.Process.Pid))
	require.NoError(r.t, err)
	return len(open)
}

// settled waits until no request is under way, and returns how many goroutines the gateway has left.
func (r *slowRig) settled() (goroutines int) {
	r.t.Helper()
	r.await(func() bool {
		return openAt(r.t, r.engine.addr) == 0 && r.gateway.metric(r.t, "engineshed_gateway_running") == 0 &&
			r.gateway.metric(r.t, "engineshed_gateway_body_bytes") == 0
	})
	goroutines = r.gateway.metric(r.t, "go_goroutines")
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		goroutines = min(goroutines, r.gateway.metric(r.t, "go_goroutines")) // of the gateway's own, some come and go
	}
	return goroutines
}

// metric is the value of a metric of the process, all labels together.
func (p *process) metric(t testing.TB, name string) (total int) {
	t.Helper()
	for line := range strings.Lines(get(t, "http://"+p.admin+"/metrics").body) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
			require.NoError(t, err, line)
			total += int(value)
		}
	}
	return total
}
