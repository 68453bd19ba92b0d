package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/postgres/embedded"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/sdk"
)

// benchDatabase is a Postgres as `engineshed up` runs its own: on the disk, every setting durable. pgtest's servers
// are not: their files lie in memory, and their log segments are small.
type benchDatabase struct {
	*pgtest.DB
	pid int
}

func newBenchDatabase(b *testing.B) benchDatabase {
	b.Helper()
	dir, err := os.MkdirTemp("", "bench-") //nolint:usetesting // Postgres runs as another user: b.TempDir's parent is closed to it
	require.NoError(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(b, os.Chmod(dir, 0o711)) //nolint:gosec // Postgres closes its own folder
	binaries, err := embedded.Find(b.Context())
	require.NoError(b, err)
	server, err := embedded.Start(b.Context(), embedded.Config{
		DataDir: filepath.Join(dir, "data"), Binaries: binaries, Log: filepath.Join(dir, "log"), Settings: []string{"max_connections=200"},
	})
	require.NoError(b, err)
	b.Cleanup(server.Kill)
	require.NoError(b, server.EnsureDatabase(b.Context(), "engineshed"))
	password, db := secret.New("bench"), &pgtest.DB{AdminURL: server.URL("engineshed")}
	require.NoError(b, postgres.Migrate(b.Context(), db.AdminURL, postgres.RolePasswords{Owner: password, Control: password, Gateway: password}))
	for role, url := range map[string]*string{
		postgres.OwnerRole: &db.OwnerURL, postgres.ControlRole: &db.ControlURL, postgres.GatewayRole: &db.GatewayURL,
	} {
		*url, err = postgres.WithUser(db.AdminURL, role, password)
		require.NoError(b, err)
	}
	for url, pool := range map[string]**pgxpool.Pool{db.OwnerURL: &db.Owner, db.ControlURL: &db.Control} {
		*pool, err = postgres.Open(b.Context(), url)
		require.NoError(b, err)
		b.Cleanup((*pool).Close)
	}
	return benchDatabase{db, server.PID()}
}

// rig is one control plane that serves the API and nothing else, with a DB instance of which no job is worked.
type rig struct {
	b        *testing.B
	db       benchDatabase
	control  endpoint
	instance string
	pool     string // the AI node pool
	conns    []*conn
}

func newRig(b *testing.B) *rig {
	b.Helper()
	r := &rig{b: b, db: newBenchDatabase(b), instance: ids.New(ids.DBInstance), pool: ids.New(ids.AINodePool)}
	r.control = newShed(b, r.db.DB).controlPlane("api")
	r.exec(`INSERT INTO db_instance (id, account_id, region_id, resource_group_id) VALUES ($1, $2, $3, 'rg-default')`,
		r.instance, rootAccount, region)
	r.exec(`INSERT INTO ip_array (db_instance_id, name, entries) VALUES ($1, 'default', '{127.0.0.1}')`, r.instance)
	r.exec(`INSERT INTO ai_node_pool (id, db_instance_id) VALUES ($1, $2)`, r.pool, r.instance)
	return r
}

func (r *rig) exec(sql string, args ...any) {
	r.b.Helper()
	_, err := r.db.Owner.Exec(r.b.Context(), sql, args...)
	require.NoError(r.b, err)
}

// nodes inserts fresh AI nodes. The planner is told of them as autovacuum would tell it on a server that has run a while.
func (r *rig) nodes(n int) []string {
	r.b.Helper()
	names, rows := make([]string, n), make([][]any, n)
	for i := range names {
		names[i] = ids.New(ids.AINode)
		rows[i] = []any{names[i], r.pool, r.instance, "host-a", "ADB.AILarge.1"}
	}
	_, err := r.db.Owner.CopyFrom(r.b.Context(), pgx.Identifier{"ai_node"},
		[]string{"name", "pool_id", "db_instance_id", "host", "node_spec"}, pgx.CopyFromRows(rows))
	require.NoError(r.b, err)
	r.exec(`ANALYZE ai_node`)
	return names
}

// measure performs calls with so many clients at once. Whatever can be made ready is made ready before the clock runs.
func (r *rig) measure(clients, calls int, prepare func(int) job) measured {
	r.b.Helper()
	j := prepare(calls)
	for len(r.conns) < clients {
		r.conns = append(r.conns, dial(r.b, r.control.addr))
	}
	before, started := r.usage(), time.Now()
	var next atomic.Int64
	var all sync.WaitGroup
	failures := make(chan error, clients)
	for client := range clients {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < calls; i = int(next.Add(1)) - 1 {
				if err := j.do(client, i); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	all.Wait()
	took, after := time.Since(started), r.usage()
	close(failures)
	for err := range failures {
		require.NoError(r.b, err)
	}
	j.check()
	return measured{
		calls: calls, rate: float64(calls) / took.Seconds(), controlPlane: after.controlPlane - before.controlPlane,
		postgres: after.postgres - before.postgres, load: after.load - before.load,
	}
}

// usage is processor time.
type usage struct{ controlPlane, postgres, load time.Duration }

func (r *rig) usage() usage {
	r.b.Helper()
	control, _ := processorTime(r.control.cmd.Process.Pid)
	postmaster, ended := processorTime(r.db.pid)
	u := usage{controlPlane: control, postgres: postmaster + ended}
	entries, err := os.ReadDir("/proc")
	require.NoError(r.b, err)
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && parent(pid) == r.db.pid {
			backend, _ := processorTime(pid)
			u.postgres += backend
		}
	}
	var own syscall.Rusage
	require.NoError(r.b, syscall.Getrusage(syscall.RUSAGE_SELF, &own))
	u.load = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	return u
}

// stat is /proc/PID/stat from the third field on; nil when the process is gone.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

func parent(pid int) int {
	fields := stat(pid)
	if fields == nil {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}

// processorTime is what a process has used, and its children that have ended.
func processorTime(pid int) (own, ended time.Duration) {
	fields := stat(pid)
	if fields == nil {
		return 0, 0
	}
	ticks := func(field int) time.Duration {
		n, _ := strconv.Atoi(fields[field])
		return time.Duration(n) * time.Second / 100 // USER_HZ is 100 on every Linux
	}
	return ticks(11) + ticks(12), ticks(13) + ticks(14)
}

// conn is one client's connection. It does no more than HTTP/1.1 needs, as its processor time is the control plane's too.
type conn struct {
	net.Conn
	in *bufio.Reader
}

func dial(b *testing.B, addr string) *conn {
	b.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(b, err)
	b.Cleanup(func() { c.Close() })
	return &conn{c, bufio.NewReader(c)}
}

// call sends a request that was signed before and returns the body of the answer, which must be 200.
func (c *conn) call(request []byte) ([]byte, error) {
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	length, ok := -1, false
	for first := true; ; first = false {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if first {
			ok = bytes.HasPrefix(line, []byte("HTTP/1.1 200 "))
		}
		if value, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
		if len(line) == 2 {
			break
		}
	}
	body := make([]byte, max(length, 0))
	if _, err := io.ReadFull(c.in, body); err != nil {
		return nil, err
	}
	if !ok || length < 0 {
		return nil, fmt.Errorf("refused, or of unknown length: %s", body)
	}
	return body, nil
}

// signed returns a request as it goes over the wire.
func (r *rig) signed(action string, params map[string]any) []byte {
	r.b.Helper()
	body, err := json.Marshal(params)
	require.NoError(r.b, err)
	request, err := http.NewRequest(http.MethodPost, "http://"+r.control.addr+"/"+action, bytes.NewReader(body))
	require.NoError(r.b, err)
	request.Header.Set("Content-Type", "application/json")
	require.NoError(r.b, sdk.Signer{AccessKeyID: rootKey.id, AccessKeySecret: rootKey.secret}.Sign(request, action, gpdbVersion))
	var wire bytes.Buffer
	require.NoError(r.b, request.Write(&wire))
	return wire.Bytes()
}
