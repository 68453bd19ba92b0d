package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

func newDB(t testing.TB) *pgtest.DB { t.Helper(); return pgtest.New(t) }

// asAdmin runs a statement as superuser and returns its one column.
func asAdmin(t testing.TB, db *pgtest.DB, sql string) []int32 {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.AdminURL)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), sql)
	require.NoError(t, err)
	column, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	require.NoError(t, err)
	return column
}

// lockOut cuts every gateway off from the database, which goes on.
func lockOut(t *testing.T, db *pgtest.DB) {
	t.Helper()
	asAdmin(t, db, `ALTER ROLE engineshed_gateway NOLOGIN`)
	asAdmin(t, db, `SELECT 0 FROM pg_stat_activity, pg_terminate_backend(pid) WHERE usename = 'engineshed_gateway'`)
}

var inFlightLine = regexp.MustCompile(`engineshed_gateway_in_flight\{service="([^"]+)"\} (\d+)`)

func inFlight(g *rig, id string) int {
	for _, line := range inFlightLine.FindAllStringSubmatch(g.metrics(), -1) {
		if line[1] == id {
			n, _ := strconv.Atoi(line[2])
			return n
		}
	}
	return 0
}

func metric(g *rig, name string) string {
	for line := range strings.Lines(g.metrics()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func TestChangeIsServedAtOnce(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	s := g.service(e.addr)
	g.serve(s)
	require.Equal(t, 200, g.ask(s).status)

	s.KeyHash = snapshot.HashKey("sk-other")
	published := time.Now()
	g.publish(s)
	g.await(func() bool { return g.ask(s).status == 401 })
	require.Less(t, time.Since(published), time.Second, "announced changes do not wait for the poll")

	s.KeyHash = snapshot.HashKey(callerKey)
	body, err := s.Encode()
	require.NoError(t, err)
	published = time.Now()
	g.publishItems(false, item{id: s.ID, body: body})
	g.await(func() bool { return g.ask(s).status == 200 })
	require.Less(t, time.Since(published), 2500*time.Millisecond, "polling finds what was not announced")
}

func TestTombstoneEndsAService(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	s, other := g.service(e.addr), g.service(e.addr)
	g.serve(s, other)
	g.awaitRevision(g.publishItems(true, item{id: s.ID}))
	require.Equal(t, 404, g.ask(s).status)
	require.Equal(t, 200, g.ask(other).status)
}

func TestForgottenTombstonesAreMadeUpForByFetchingEverything(t *testing.T) {
	t.Parallel()
	db := pgtest.NewServer(t)
	g := prepareRig(t, db.DB)
	g.start()
	g.awaitReady()
	e := newEngine(t, says("hello"))
	deleted, kept := g.service(e.addr), g.service(e.addr)
	g.serve(deleted, kept)

	lockOut(t, db.DB) // the gateway misses the deletion, and its tombstone is forgotten
	g.publishItems(true, item{id: deleted.ID})
	newest := g.publishItems(true)
	_, err := g.owner.Exec(t.Context(), `
		WITH gone AS (DELETE FROM published_item WHERE deleted RETURNING revision)
		UPDATE publication SET forgotten_upto = (SELECT max(revision) FROM gone)`)
	require.NoError(t, err)
	require.Equal(t, 200, g.ask(deleted).status)
	asAdmin(t, db.DB, `ALTER ROLE engineshed_gateway LOGIN`)

	g.awaitRevision(newest)
	require.Equal(t, 404, g.ask(deleted).status)
	require.Equal(t, 200, g.ask(kept).status)
}

func TestEverythingIsFetchedWhenTheDatabaseIsAnother(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	s := g.service(e.addr)
	g.publishItems(true)
	g.serve(s)
	_, err := g.owner.Exec(t.Context(), `WITH i AS (DELETE FROM published_item) UPDATE publication SET revision = 1`)
	require.NoError(t, err)
	g.awaitRevision(1)
	require.Equal(t, 404, g.ask(s).status)
}

func TestDatabaseAwayStopsNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.NewServer(t)
	g := newRigOn(t, db.DB)
	e := newEngine(t, says("hello"))
	s := g.service(e.addr)
	g.serve(s)

	db.Kill()
	g.await(func() bool { return strings.Contains(g.logs.String(), "could not be refreshed") })
	require.Equal(t, 200, g.ask(s).status)
	wrong := request(t, http.MethodGet, g.url(s, "/v1/models"), "")
	wrong.Header.Set("Authorization", "Bearer sk-other")
	require.Equal(t, 401, do(t, wrong).status)
	require.Equal(t, 200, g.ready())
	age, err := strconv.ParseFloat(metric(g, "engineshed_gateway_config_age_seconds"), 64)
	require.NoError(t, err)
	require.Positive(t, age)

	db.Start()
	g.await(func() bool { return g.owner.Ping(t.Context()) == nil })
	s.KeyHash = snapshot.HashKey("sk-other")
	g.publish(s)
	g.await(func() bool { return g.ask(s).status == 401 })
	g.await(func() bool { return strings.Contains(g.logs.String(), "the database is back") })
}

func TestListenConnectionIsMadeAgain(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	g := newRigOn(t, db)
	e := newEngine(t, says("hello"))
	s := g.service(e.addr)
	g.serve(s)
	listeners := func() []int32 {
		return asAdmin(t, db, `
			SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()`)
	}
	g.await(func() bool { return len(listeners()) == 1 })
	was := listeners()[0]
	asAdmin(t, db, fmt.Sprintf(`SELECT 0 FROM pg_terminate_backend(%d)`, was))
	g.await(func() bool { now := listeners(); return len(now) == 1 && now[0] != was })
	require.Equal(t, 200, g.ask(s).status)
}

func TestColdStartServesTheSnapshotFile(t *testing.T) {
	t.Parallel()
	db := pgtest.NewServer(t)
	g := newRigOn(t, db.DB)
	e := newEngine(t, says("hello"))
	s := g.service(e.addr)
	s.Public = true
	g.serve(s)
	g.halt()
	db.Stop()

	g.start()
	g.awaitReady()
	require.Equal(t, 200, g.ask(s).status)
	require.Equal(t, 200, do(t, request(t, http.MethodGet, "http://"+g.PublicAddr()+"/services/"+s.ID+"/v1/models", "")).status)
	unknown := request(t, http.MethodGet, g.url(s, "/v1/models"), "")
	unknown.Header.Set("Authorization", "Bearer sk-unknown")
	require.Equal(t, 401, do(t, unknown).status)
	require.Equal(t, "1", metric(g, "engineshed_gateway_revision"))

	db.Start()
	g.await(func() bool { return g.owner.Ping(t.Context()) == nil })
	g.awaitRevision(g.publishItems(true, item{id: s.ID}))
	require.Equal(t, 404, g.ask(s).status)
}

func TestSnapshotFileHoldsNothingInClear(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	s := g.service("127.0.0.1:1")
	g.serve(s)
	g.halt()
	path := filepath.Join(g.settings.DataDir, "snapshot")
	sealed, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, text := range []string{s.ID, engineKey, callerKey, "127.0.0.1", string(s.KeyHash)} {
		require.NotContains(t, string(sealed), text)
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	entries, err := os.ReadDir(g.settings.DataDir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file is left")
}

// A disk that was full must not leave a file behind that opens what was revoked meanwhile.
func TestSnapshotFileThatCouldNotBeWrittenIsWrittenLater(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	s := g.service("127.0.0.1:1")
	g.serve(s)
	path := filepath.Join(g.settings.DataDir, "snapshot")
	g.await(func() bool { _, err := os.Stat(path); return err == nil })
	away := g.settings.DataDir + "-away"
	require.NoError(t, os.Rename(g.settings.DataDir, away))
	g.awaitRevision(g.publishItems(true, item{id: s.ID}))
	g.await(func() bool { return strings.Contains(g.logs.String(), "snapshot file could not be written") })

	require.NoError(t, os.Rename(away, g.settings.DataDir))
	g.await(func() bool { return strings.Contains(g.logs.String(), "the snapshot file is written again") })
	g.halt()
	g.settings.DatabaseURL = "postgres://nobody@" + closedAddr(t) + "/none"
	g.start()
	g.awaitReady()
	require.Equal(t, 404, g.ask(s).status)
	require.Equal(t, 1, strings.Count(g.logs.String(), "serving the snapshot file"))
}

func TestUnusableSnapshotFileIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, g *rig, path string){
		"damaged": func(t *testing.T, _ *rig, path string) {
			sealed, err := os.ReadFile(path)
			require.NoError(t, err)
			sealed[len(sealed)/2] ^= 1
			require.NoError(t, os.WriteFile(path, sealed, 0o600))
		},
		"cut short": func(t *testing.T, _ *rig, path string) { require.NoError(t, os.Truncate(path, 10)) },
		"another key": func(t *testing.T, g *rig, _ string) {
			g.settings.SnapshotKeyFile = filepath.Join(t.TempDir(), "other.key")
			require.NoError(t, secret.CreateKeyFile(g.settings.SnapshotKeyFile))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t)
			s := g.service("127.0.0.1:1")
			g.serve(s)
			g.halt()
			path := filepath.Join(g.settings.DataDir, "snapshot")
			spoil(t, g, path)
			database := g.settings.DatabaseURL
			g.settings.DatabaseURL = "postgres://nobody@" + closedAddr(t) + "/none"

			g.start()
			g.await(func() bool { return strings.Contains(g.logs.String(), "snapshot file is refused") })
			require.Contains(t, g.logs.String(), path)
			require.Contains(t, g.logs.String(), "--snapshot-key-file")
			require.Equal(t, 503, g.ready())
			got := g.ask(s)
			require.Equal(t, 503, got.status)
			require.Equal(t, "gateway_not_ready", got.code(t))
			g.halt()

			g.settings.DatabaseURL = database
			g.start()
			g.awaitReady()
		})
	}
}

func TestBadItemLeavesTheServiceAsItWas(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	s, other := g.service(e.addr), g.service(e.addr)
	g.serve(s)
	sealedElsewhere := s
	sealedElsewhere.Replicas = []snapshot.Replica{{ID: s.Replicas[0].ID, Addr: e.addr, SealedKey: []byte("not sealed under our key")}}
	unopenable, err := sealedElsewhere.Encode()
	require.NoError(t, err)
	mismatched, err := other.Encode()
	require.NoError(t, err)
	for name, body := range map[string][]byte{
		"not JSON":          []byte("{"),
		"not valid":         []byte(`{"id":"` + s.ID + `"}`),
		"an engine's key":   unopenable,
		"another's body":    mismatched,
		"a name, not an IP": []byte(strings.Replace(string(unopenable), e.addr, "localhost:80", 1)),
	} {
		good, err := other.Encode()
		require.NoError(t, err)
		g.awaitRevision(g.publishItems(true, item{id: s.ID, body: body}, item{id: other.ID, body: good}))
		require.Equal(t, 200, g.ask(s).status, name)
		require.Equal(t, 200, g.ask(other).status, name)
		require.Equal(t, "1", metric(g, "engineshed_gateway_bad_items"), name)
		_, refused := reported(g)
		require.Equal(t, []string{s.ID}, refused, name)
	}
	require.Contains(t, g.logs.String(), "published item refused")
	s.Public = true
	g.serve(s)
	require.Equal(t, "0", metric(g, "engineshed_gateway_bad_items"))
	_, refused := reported(g)
	require.Empty(t, refused)
}

// reported is which gateway the one process says it serves, and what it could not use.
func reported(g *rig) (gatewayID string, refused []string) {
	g.t.Helper()
	require.NoError(g.t, g.owner.QueryRow(g.t.Context(), `SELECT gateway_id, refused FROM gateway_status`).Scan(&gatewayID, &refused))
	return gatewayID, refused
}

func TestAProcessSaysWhichGatewayItServes(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"", "gw-0123456789abcdefghij"} {
		g := prepareRig(t, newDB(t))
		g.settings.GatewayID = id
		g.start()
		g.awaitRevision(g.publishItems(true))
		served, _ := reported(g)
		require.Equal(t, id, served)
	}
}

func TestStatusIsReportedWithoutAChange(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	revision := g.publishItems(true)
	g.awaitRevision(revision)
	var processes int
	var first, last time.Time
	read := func() time.Time {
		require.NoError(t, g.owner.QueryRow(t.Context(),
			`SELECT count(*), max(reported_at) FROM gateway_status WHERE revision = $1`, revision).Scan(&processes, &last))
		return last
	}
	first = read()
	g.await(func() bool { return read().After(first) })
	require.Less(t, last.Sub(first), 5*time.Second)
	require.Equal(t, 1, processes)
}

func TestRoleWithMoreRightsIsRefused(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	for name, url := range map[string]string{"control": db.ControlURL, "owner": db.OwnerURL, "superuser": db.AdminURL} {
		g := prepareRig(t, db)
		g.settings.DatabaseURL = url
		g.start()
		select {
		case err := <-g.ended:
			g.ended = nil
			require.ErrorContains(t, err, "has more rights than a gateway may have", name)
			require.ErrorContains(t, err, "read model_service", name)
		case <-time.After(deadline):
			require.Fail(t, "it runs", name)
		}
	}
	if _, err := db.Owner.Exec(context.Background(), `GRANT INSERT ON published_item TO engineshed_gateway`); err != nil {
		t.Fatal(err)
	}
	g := prepareRig(t, db)
	g.start()
	require.ErrorContains(t, <-g.ended, "it may write published_item")
	g.ended = nil
}

func TestManyChangesUnderLoadFailNoRequest(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	s := g.service(e.addr)
	g.serve(s)
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(failed)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if got := g.ask(s); got.status != 200 {
				failed <- fmt.Errorf("%d %s", got.status, got.body)
				return
			}
		}
	}()
	var newest int64
	changing := s
	for i := range 200 {
		changing.Public = i%2 == 0
		newest = g.publish(changing)
	}
	g.awaitRevision(newest)
	close(stop)
	require.NoError(t, <-failed)
}

func TestSettingsAreCheckedAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := gateway.Open(gateway.Settings{Addr: "0.0.0.0:0", PublicAddr: ":0", TLSKey: "x"}, nil)
	for _, complaint := range []string{
		"GATEWAY_DATABASE_URL", "--snapshot-key-file", "--tls-cert and --tls-key", "--insecure", "--max-body-bytes", "0.0.0.0:0", ":0",
	} {
		require.ErrorContains(t, err, complaint)
	}
}
