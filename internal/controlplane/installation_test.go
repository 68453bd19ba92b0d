package controlplane

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
)

const (
	theRegion = "cn-hangzhou"
	keySecret = "a-secret-of-30-characters-1234"
)

// installation is the control plane as main assembles it, behind a socket, with a database and one host of its own. No
// worker runs, so that nothing changes but by calls.
type installation struct {
	*program
	t    testing.TB
	url  string
	pool *pgtest.DB
	dump string // the query of rows
}

func install(t testing.TB) *installation {
	t.Helper()
	pool, dir := pgtest.New(t), t.TempDir()
	args := []string{"--role", "api", "--region", theRegion}
	for _, name := range []string{"master", "snapshot"} {
		path := filepath.Join(dir, name+".key")
		require.NoError(t, secret.CreateKeyFile(path))
		args = append(args, "--"+name+"-key-file", path)
	}
	cfg, err := Parse(args, func(name string) string { return map[string]string{"DATABASE_URL": pool.ControlURL}[name] })
	require.NoError(t, err)
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	t.Cleanup(func() { log.Close() })
	p, err := assemble(t.Context(), cfg, slog.New(slog.NewJSONHandler(log, nil)))
	require.NoError(t, err)
	t.Cleanup(p.db.Close)
	_, err = p.prepare(t.Context())
	require.NoError(t, err)
	handler, err := p.handler()
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	i := &installation{program: p, t: t, url: server.URL, pool: pool}
	require.NoError(t, p.instances.Beat(t.Context(), instance.Host{Name: "host-a", Machine: "a", EngineAddr: "127.0.0.1", StartedAt: time.Now()}))
	i.exec(`UPDATE host SET heartbeat_at = now() + interval '1 day'`) // it is not silent for as long as a test takes
	i.prepareDump()
	return i
}

// newAccount makes an account with its root key.
func (i *installation) newAccount(id string) signer {
	i.t.Helper()
	key := signer{id: "ESAKrootof" + id, secret: keySecret}
	require.NoError(i.t, i.iam.EnsureRoot(i.t.Context(), iam.RootSpec{
		AccountID: id, AccountName: "account " + id, KeyID: key.id, Secret: secret.New(key.secret),
	}))
	return key
}

// exec runs a statement as the owner of the database, without a call.
func (i *installation) exec(sql string, args ...any) {
	i.t.Helper()
	_, err := i.pool.Owner.Exec(i.t.Context(), sql, args...)
	require.NoError(i.t, err)
}

// trail are the audit rows of a request.
type trail struct{ Outcome, Action, Principal, Resource, Code string }

func (i *installation) trailOf(requestID string) []trail {
	i.t.Helper()
	return query[trail](i, `SELECT outcome, action, principal, resource, code FROM audit_event WHERE request_id = '`+requestID+`'`)
}

// prepareDump writes the query of every row of every table but those that a call without any effect changes, too.
func (i *installation) prepareDump() {
	i.t.Helper()
	for n, name := range query[struct{ Name string }](i, `
		SELECT relname AS name FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
			AND relname !~ '^(nonce|audit_|sign_in_failure|goose)' ORDER BY 1`) {
		if n > 0 {
			i.dump += " UNION ALL "
		}
		i.dump += fmt.Sprintf(`SELECT '%[1]s: ' || r::text AS row, r.xmin::text AS tx FROM %[1]s r`, name.Name)
	}
}

// rows are all rows of the database, in order, each as one line.
func (i *installation) rows() []string {
	i.t.Helper()
	var lines []string
	for _, line := range query[struct{ Row, Tx string }](i, i.dump) {
		lines = append(lines, line.Row)
	}
	slices.Sort(lines)
	return lines
}
