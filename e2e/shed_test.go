package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
)

const (
	rootAccount = "1000000000000001"
	region      = "cn-hangzhou"
)

// credentials are what a client signs with.
type credentials struct{ id, secret string }

var rootKey = credentials{"ESAKroot", "root-secret-of-the-tests"}

// shed is an installation whose processes a test starts and kills one by one.
type shed struct {
	t            testing.TB
	dir          string
	db           *pgtest.DB
	gateway      string // URL of the private listener
	public       string
	policyDir    string
	vllm         string // VLLM_COMMAND
	installation string
	upstreams    []string // ip:port that are not public and may be reached
	flags        []string // further ones of control planes
	env          []string // further variables of control planes and gateways
}

// newShed prepares keys, a database and addresses; it starts nothing.
func newShed(t testing.TB, db *pgtest.DB) *shed {
	t.Helper()
	dir, err := os.MkdirTemp("", "shed-") //nolint:usetesting // engines run as another user: t.TempDir's parent is closed to them
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // the secrets in it are closed by their own modes
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &shed{
		t: t, dir: dir, db: db, vllm: filepath.Join(binaries, "vllm-sim"),
		gateway: "http://" + freeAddr(t), public: "http://" + freeAddr(t),
	}
	require.NoError(t, secret.CreateKeyFile(s.path("master.key")))
	require.NoError(t, secret.CreateKeyFile(s.path("snapshot.key")))
	root, err := json.Marshal(map[string]string{"accountId": rootAccount, "accessKeyId": rootKey.id, "accessKeySecret": rootKey.secret})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.path("root.json"), root, 0o600))
	// The databases of all tests are clones of one: each gets an installation of its own.
	require.NoError(t, db.Owner.QueryRow(t.Context(), `
		UPDATE installation SET id = replace(gen_random_uuid()::text, '-', '') RETURNING id`).Scan(&s.installation))
	t.Cleanup(s.endEngines)
	return s
}

func (s *shed) path(name string) string { return filepath.Join(s.dir, name) }

// nextPort is where freeAddr looks next: below the ports of engines, and of connections that the system numbers, which
// would take one before its program has it.
var nextPort atomic.Int32

func freeAddr(t testing.TB) string {
	t.Helper()
	const first, ports = 10_000, 8_000
	nextPort.CompareAndSwap(0, 1+rand.Int32N(ports))
	for range ports {
		addr := fmt.Sprint("127.0.0.1:", first+nextPort.Add(1)%ports)
		if listener, err := net.Listen("tcp", addr); err == nil {
			listener.Close()
			return addr
		}
	}
	require.FailNow(t, "no port is free")
	return ""
}

// endpoint is one running control plane.
type endpoint struct {
	*process
	addr  string // host:port of the OpenAPI endpoint
	admin string // URL of the admin listener
}

// controlPlane starts a control plane of the role on host-a and waits until it is ready.
func (s *shed) controlPlane(role string) endpoint {
	s.t.Helper()
	return s.controlPlaneOn("host-a", role)
}

// controlPlaneOn starts a control plane that takes this machine for the named host, and waits until it is ready.
func (s *shed) controlPlaneOn(host, role string) endpoint {
	s.t.Helper()
	e := endpoint{addr: freeAddr(s.t), admin: "http://" + freeAddr(s.t)}
	args := append(s.controlPlaneFlags(role, host, strings.TrimPrefix(e.admin, "http://")), "--addr", e.addr)
	e.process = start(s.t, append([]string{"DATABASE_URL=" + s.db.ControlURL, "VLLM_COMMAND=" + s.vllm}, s.env...), "controlplane", args...)
	s.waitReady(e.admin, e.process)
	return e
}

// controlPlaneFlags are the flags of every control plane of the installation.
func (s *shed) controlPlaneFlags(role, host, admin string) []string {
	args := []string{
		"--admin-addr", admin, "--role", role, "--host", host, "--data-dir", s.path("worker-" + host),
		"--master-key-file", s.path("master.key"), "--snapshot-key-file", s.path("snapshot.key"),
		"--root-key-file", s.path("root.json"), "--region", region, "--gateway-url", s.gateway, "--public-gateway-url", s.public,
		"--stop-grace", "2s",
	}
	for _, addr := range s.upstreams {
		args = append(args, "--allow-upstream", addr)
	}
	if s.policyDir != "" {
		args = append(args, "--policy-dir", s.policyDir)
	}
	return append(args, s.flags...)
}

// startGateway starts the gateway and waits until it is ready.
func (s *shed) startGateway() *process {
	s.t.Helper()
	admin := freeAddr(s.t)
	p := s.launchGateway(s.gateway, admin, "gateway", "--public-addr", strings.TrimPrefix(s.public, "http://"))
	s.waitReady("http://"+admin, p)
	return p
}

// launchGateway starts a gateway that serves at the URL and keeps its snapshot in the folder dir.
func (s *shed) launchGateway(url, admin, dir string, more ...string) *process {
	s.t.Helper()
	args := append([]string{
		"--addr", strings.TrimPrefix(url, "http://"), "--admin-addr", admin, "--snapshot-key-file", s.path("snapshot.key"),
		"--data-dir", s.path(dir),
	}, more...)
	for _, addr := range s.upstreams {
		args = append(args, "--allow-upstream", addr)
	}
	return start(s.t, append([]string{"GATEWAY_DATABASE_URL=" + s.db.GatewayURL}, s.env...), "gateway", args...)
}

func (s *shed) waitReady(admin string, p *process) {
	s.t.Helper()
	eventually(s.t, 20*time.Second, "ready: "+p.cmd.Path, func() bool {
		select {
		case <-p.done:
			require.FailNow(s.t, "ended instead of becoming ready", "%s: %v\n%s", p.cmd.Path, p.err, p.log)
		default:
		}
		answer, err := http.Get(admin + "/readyz")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode == http.StatusOK
	})
}

// engines returns the pids of this installation's engines, by replica.
func (s *shed) engines() map[string][]int {
	found := map[string][]int{}
	entries, err := os.ReadDir("/proc")
	require.NoError(s.t, err)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		environ, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err != nil {
			continue
		}
		for _, variable := range strings.Split(string(environ), "\x00") {
			if rest, ok := strings.CutPrefix(variable, "ENGINESHED_REPLICA="+s.installation+"/"); ok && !zombie(pid) {
				replica, _, _ := strings.Cut(rest, "/")
				found[replica] = append(found[replica], pid)
			}
		}
	}
	return found
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}

// endEngines leaves nothing of a failed test behind.
func (s *shed) endEngines() {
	for _, pids := range s.engines() {
		for _, pid := range pids {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill()
			}
		}
	}
}

func (s *shed) expectEngines(limit time.Duration, want int) {
	s.t.Helper()
	eventually(s.t, limit, fmt.Sprintf("%d engines, one for each replica", want), func() bool {
		found := s.engines()
		for _, pids := range found {
			if len(pids) != 1 {
				return false
			}
		}
		return len(found) == want
	})
}
