package gateway_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	callerKey = "sk-caller"
	engineKey = "sk-engine"
	deadline  = 10 * time.Second
)

// rig is a gateway with a database, and what a test publishes with.
type rig struct {
	*gateway.Gateway
	t        testing.TB
	settings gateway.Settings
	box      *secret.Box
	owner    *pgxpool.Pool
	logs     *lockedBuffer
	stop     context.CancelFunc
	ended    chan error
}

// newRig starts a gateway on a fresh database and waits until it is ready.
func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigOn(t, pgtest.New(t))
}

func newRigOn(t testing.TB, db *pgtest.DB) *rig {
	t.Helper()
	r := prepareRig(t, db)
	r.start()
	r.awaitReady()
	return r
}

func prepareRig(t testing.TB, db *pgtest.DB) *rig {
	t.Helper()
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "snapshot.key")
	require.NoError(t, secret.CreateKeyFile(keyFile))
	box, err := secret.Load(keyFile)
	require.NoError(t, err)
	return &rig{t: t, box: box, owner: db.Owner, settings: gateway.Settings{
		DatabaseURL: db.GatewayURL, Addr: "127.0.0.1:0", PublicAddr: "127.0.0.1:0", HTTPSAddr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0",
		SnapshotKeyFile: keyFile, DataDir: filepath.Join(dir, "data"), MaxBody: 1 << 20, DrainTimeout: 5 * time.Second,
		AllowUpstream: []string{"127.0.0.1/32"},
	}}
}

// start runs the gateway until the test ends or halt is called.
func (r *rig) start() {
	r.t.Helper()
	r.logs = new(lockedBuffer)
	r.settings.RequestLog = r.logs
	g, err := gateway.Open(r.settings, slog.New(slog.NewJSONHandler(r.logs, nil)))
	require.NoError(r.t, err)
	ctx, stop := context.WithCancel(context.Background())
	r.Gateway, r.stop, r.ended = g, stop, make(chan error, 1)
	ended := r.ended
	go func() { ended <- g.Run(ctx) }()
	r.t.Cleanup(r.halt)
}

// halt ends the gateway; its database and data directory stay.
func (r *rig) halt() {
	r.t.Helper()
	if r.ended == nil {
		return
	}
	r.stop()
	select {
	case err := <-r.ended:
		require.NoError(r.t, err)
	case <-time.After(deadline):
		require.Fail(r.t, "the gateway did not end")
	}
	r.ended = nil
}

func (r *rig) ready() int { return get(r.t, "http://"+r.AdminAddr()+"/readyz").status }

func (r *rig) awaitReady() {
	r.t.Helper()
	r.await(func() bool { return r.ready() == http.StatusOK })
}

func (r *rig) await(condition func() bool) {
	r.t.Helper()
	require.Eventually(r.t, condition, deadline, 2*time.Millisecond, "%s", r.logs)
}

func (r *rig) metrics() string { return get(r.t, "http://"+r.AdminAddr()+"/metrics").body }

// service is one that callerKey opens from 127.0.0.1, with a replica at each address.
func (r *rig) service(addrs ...string) snapshot.ModelService {
	s := snapshot.ModelService{
		ID: ids.New(ids.ModelService), ModelName: "demo", KeyHash: snapshot.HashKey(callerKey),
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
	}
	for _, addr := range addrs {
		id := ids.New(ids.Replica)
		sealed, err := r.box.Seal(snapshot.EngineKeyPurpose(id), secret.New(engineKey))
		require.NoError(r.t, err)
		s.Replicas = append(s.Replicas, snapshot.Replica{ID: id, Addr: addr, SealedKey: sealed})
	}
	return s
}

// publish makes the services one revision and returns it.
func (r *rig) publish(services ...snapshot.ModelService) int64 {
	r.t.Helper()
	var items []item
	for _, s := range services {
		body, err := s.Encode()
		require.NoError(r.t, err)
		items = append(items, item{id: s.ID, body: body})
	}
	return r.publishItems(true, items...)
}

// serve publishes and waits until the gateway serves it.
func (r *rig) serve(services ...snapshot.ModelService) {
	r.t.Helper()
	r.awaitRevision(r.publish(services...))
}

type item struct {
	id   string
	body []byte // nil: a tombstone
	kind string // "": a model service
}

func (r *rig) publishItems(announce bool, items ...item) int64 {
	r.t.Helper()
	ctx := context.Background()
	tx, err := r.owner.Begin(ctx)
	require.NoError(r.t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	var revision int64
	require.NoError(r.t, tx.QueryRow(ctx, `UPDATE publication SET revision = revision + 1 RETURNING revision`).Scan(&revision))
	for _, i := range items {
		_, err := tx.Exec(ctx, `
			INSERT INTO published_item (kind, id, revision, deleted, body) VALUES ($1, $2, $3, $4, coalesce($5, ''::bytea))
			ON CONFLICT (kind, id) DO UPDATE SET revision = $3, deleted = $4, body = excluded.body`,
			cmp.Or(i.kind, snapshot.KindModelService), i.id, revision, i.body == nil, i.body)
		require.NoError(r.t, err)
	}
	if announce {
		_, err := tx.Exec(ctx, `SELECT pg_notify('engineshed_publication', $1)`, fmt.Sprint(revision))
		require.NoError(r.t, err)
	}
	require.NoError(r.t, tx.Commit(ctx))
	return revision
}

// awaitRevision waits until the gateway has reported the revision, which it does after the swap.
func (r *rig) awaitRevision(revision int64) {
	r.t.Helper()
	r.await(func() bool {
		var served bool
		err := r.owner.QueryRow(context.Background(),
			`SELECT EXISTS (SELECT FROM gateway_status WHERE revision = $1)`, revision).Scan(&served)
		return err == nil && served
	})
}

func (r *rig) url(s snapshot.ModelService, path string) string {
	return "http://" + r.Addr() + "/services/" + s.ID + path
}

// ask is a plain call with the right key.
func (r *rig) ask(s snapshot.ModelService) answer {
	r.t.Helper()
	return do(r.t, request(r.t, http.MethodPost, r.url(s, "/v1/chat/completions"), `{"model":"demo"}`))
}

type answer struct {
	status int
	header http.Header
	body   string
}

// code is the code of an error in OpenAI's shape.
func (a answer) code(t testing.TB) string {
	t.Helper()
	var shape struct {
		Error struct {
			Message, Type, Code string
			Param               *string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &shape), a.body)
	require.NotEmpty(t, shape.Error.Message)
	require.NotEmpty(t, shape.Error.Type)
	require.Equal(t, "application/json", a.header.Get("Content-Type"))
	return shape.Error.Code
}

func request(t testing.TB, method, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+callerKey)
	r.Header.Set("Content-Type", "application/json")
	return r
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}

func do(t testing.TB, r *http.Request) answer {
	t.Helper()
	return doWith(t, client, r)
}

func doWith(t testing.TB, client *http.Client, r *http.Request) answer {
	t.Helper()
	resp, err := client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func get(t testing.TB, url string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	require.NoError(t, err)
	return do(t, r)
}

// fromAddr is a client whose connections come from addr: 127.0.0.2 is as external as any.
func fromAddr(addr string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
}

// engine is an upstream that answers with handler.
type engine struct {
	*httptest.Server
	addr  string
	calls atomic.Int64
}

func newEngine(t testing.TB, handler http.HandlerFunc) *engine {
	t.Helper()
	e := new(engine)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.calls.Add(1)
		handler(w, r)
	}))
	e.addr = e.Listener.Addr().String()
	t.Cleanup(func() {
		e.CloseClientConnections()
		e.Close()
	})
	return e
}

// says is an engine's plain answer.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, text)
	}
}

// closedAddr is an address where nothing listens.
func closedAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
