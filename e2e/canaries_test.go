package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/modelfile/hubtest"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/sdk"
)

// planted are the secrets that the walk puts in use. No place that somebody else could look at holds one of them.
var planted = []string{
	"an access key's secret of a file", "an access key's secret of the API", "an access key's secret of the root key file",
	"an answer", "an upstream's key", "a consumer's key", "a consumer's shared secret", "a consumer's token", "a consumer's signing secret",
	"a consumer's generated secret", "a consumer's refused secret", "a domain's private key", "a hub's token", "a ModelOperator key",
	"a model service's key", "a model service's key before it was rotated", "an engine's key", "a prompt", "a prompt of a trial",
	"a session's secret", "a session's token", "a token that is none", "a key that opens nothing",
	"the control role's password", "the gateway role's password", "the master key", "the snapshot key",
}

// canary is a text that occurs nowhere else.
func canary() string { return "Canary" + rand.Text() }

// walk is one installation in which every kind of secret is in use.
type walk struct {
	*shed
	t         *testing.T
	server    *pgtest.Server
	hub       *hubtest.Hub
	upstream  *recorder
	collector *collector
	secrets   map[string]string // by their names in planted
	ids       url.Values        // what reads ask for; a member of a path is in it, too
	answers   strings.Builder   // what reads and refusals show

	control  endpoint
	gate     *process
	gateLog  string // URL of its admin listener
	root     sdk.Signer
	official *darabonba
}

// TestNoCanaryIsFoundAnywhere plants each kind of secret in one installation, uses all of them, rightly and wrongly, ends
// the programs as a crash does, and then looks into every place that somebody else could look into.
func TestNoCanaryIsFoundAnywhere(t *testing.T) {
	t.Parallel()
	w := newWalk(t)
	w.serveModels()
	w.serveModelAPIs()
	w.lendASession()
	w.askTheGateway()
	w.beRefused()
	w.readEverything()
	w.useTheCommandLine()
	places := w.livePlaces()
	w.crash()
	maps.Copy(places, w.deadPlaces())

	require.GreaterOrEqual(t, len(planted), 12)
	require.ElementsMatch(t, planted, slices.Collect(maps.Keys(w.secrets)))
	for place, text := range places {
		if mark, ok := w.marks()[place]; ok {
			require.Contains(t, text, mark, "what is in no secret place is found: %s", place)
		} else {
			require.NotEmpty(t, text, place)
		}
		for name, secret := range w.secrets {
			require.Greater(t, len(secret), 12, name)
			for _, form := range forms(secret) {
				if at := strings.Index(text, form); at >= 0 {
					t.Errorf("%s holds %s: …%q…", place, name, text[max(0, at-200):min(len(text), at+len(form)+50)])
				}
			}
		}
	}
}

// forms are the ways in which a secret could be written.
func forms(secret string) []string {
	return slices.Compact([]string{
		secret, url.QueryEscape(secret), hex.EncodeToString([]byte(secret)),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
	})
}

// newWalk starts an installation with canaries for the secrets that it is given.
func newWalk(t *testing.T) *walk {
	t.Helper()
	server := pgtest.NewServer(t)
	w := &walk{
		shed: newShed(t, server.DB), t: t, server: server, upstream: newRecorder(t), collector: newCollector(t), ids: url.Values{},
		hub: hubtest.New(t, "acme/acme-7b", map[string][]byte{"config.json": []byte("{}"), "model.safetensors": []byte(strings.Repeat("engineshed", 800))}),
	}
	w.secrets = map[string]string{
		"an access key's secret of the root key file": rootKey.secret, "an access key's secret of a file": aliceKey.secret,
		"an answer": "an answer that nobody else may read", "a prompt": canary(), "a prompt of a trial": canary(),
		"a token that is none": canary(), "a key that opens nothing": "sk-" + canary(), "a hub's token": canary(),
		"the control role's password": canary(), "the gateway role's password": canary(),
		"the master key": w.keyOf(t, "master.key"), "the snapshot key": w.keyOf(t, "snapshot.key"),
	}
	w.db.ControlURL = w.withPassword(t, postgres.ControlRole, w.secrets["the control role's password"])
	w.db.GatewayURL = w.withPassword(t, postgres.GatewayRole, w.secrets["the gateway role's password"])
	w.hub.Set(func(h *hubtest.Hub) { h.Token = w.secrets["a hub's token"] })
	for _, dir := range []string{"certs", "catalog", "tmp"} {
		require.NoError(t, os.Mkdir(w.path(dir), 0o755)) //nolint:gosec // engines' user may enter
	}
	require.NoError(t, os.Chmod(w.path("tmp"), 0o1777)) //nolint:gosec // as /tmp is
	certificate(t, w.path("certs/models.crt"), w.path("certs/models.key"))
	w.secrets["a domain's private key"] = strings.Split(w.text("certs/models.key"), "\n")[1]
	for name, text := range map[string]string{
		"hub.token": w.secrets["a hub's token"], "sources.yaml": "huggingface: {endpoint: '" + w.hub.URL + "', tokenFile: hub.token, proxy: direct}\n",
		"catalog/acme.yaml": "name: Acme-7B\ntask: generate\nsource: {huggingface: acme/acme-7b}\n",
	} {
		require.NoError(t, os.WriteFile(w.path(name), []byte(text), 0o600))
	}
	w.writePolicies(map[string]string{
		"accounts.yaml": accountsFile, "no-create.json": noCreate, "one-instance.json": oneInstance("gp-00000000000000000000"),
	})
	w.upstreams = []string{w.upstream.Listener.Addr().String()}
	w.env = []string{"TMPDIR=" + w.path("tmp")}
	w.flags = []string{
		"--catalog", w.path("catalog"), "--models", w.path("models"), "--model-sources", w.path("sources.yaml"), "--cert-dir", w.path("certs"),
	}
	w.control = w.controlPlane("both")
	w.gateLog = freeAddr(t)
	w.gate = w.launchGateway(w.gateway, w.gateLog, "gateway", "--otlp-endpoint", w.collector.URL)
	w.waitReady("http://"+w.gateLog, w.gate)
	w.root = sdk.Signer{AccessKeyID: rootKey.id, AccessKeySecret: rootKey.secret}
	w.official = newDarabonba(t, w.control.addr, rootKey).(*darabonba)
	return w
}

func (w *walk) text(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.path(name))
	require.NoError(w.t, err)
	return string(text)
}

// collector keeps the traces that it is sent.
type collector struct {
	*httptest.Server
	mu  sync.Mutex
	all strings.Builder
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := new(collector)
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := httputil.DumpRequest(r, true)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all.Write(text)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all.String()
}

// show keeps what an answer shows. What the API shows on purpose is taken out, and must be there.
func (w *walk) show(status int, text string, onPurpose ...string) {
	w.t.Helper()
	for _, name := range onPurpose {
		require.Contains(w.t, text, w.secrets[name], "it is shown on purpose: %s", name)
		text = strings.ReplaceAll(text, w.secrets[name], "")
	}
	fmt.Fprintln(&w.answers, status, text)
}

// marks are no secrets: they are found where secrets are looked for.
func (w *walk) marks() map[string]string {
	return map[string]string{
		"the control plane's log": rootKey.id, "the gateway's log": w.ids.Get("httpApiId"), "what calls are answered": w.ids.Get("DBInstanceId"),
		"the control plane's metrics": "go_goroutines", "the gateway's metrics": "engineshed_gateway_", "the traces": "chat-completions",
		"the command lines of all processes": w.path("master.key"), "the engines' environments, but for their own key": w.installation,
		"the statements that the database runs": "pg_stat_activity", "the rows, jobs and audit of the database": "AssumeRole",
		"the pages and the log of the database": w.installation, "the files of the installation": "gateway/snapshot",
	}
}

// livePlaces are those that a running installation shows.
func (w *walk) livePlaces() map[string]string {
	w.t.Helper()
	eventually(w.t, 20*time.Second, "the traces are sent", func() bool { return strings.Contains(w.collector.String(), "/v1/traces") })
	return map[string]string{
		"the control plane's metrics": fetched(w.t, w.control.admin+"/metrics"), "the gateway's metrics": fetched(w.t, "http://"+w.gateLog+"/metrics"),
		"the command lines of all processes": allCommandLines(w.t), "the engines' environments, but for their own key": w.engineEnvironments(),
		"the statements that the database runs": w.statements(), "the traces": w.collector.String(),
	}
}

// deadPlaces are those that are left when all programs have crashed.
func (w *walk) deadPlaces() map[string]string {
	w.t.Helper()
	w.asSuperuser(w.t, "CHECKPOINT")
	return map[string]string{
		"the control plane's log": w.control.log.String(), "the gateway's log": w.gate.log.String(), "what calls are answered": w.answers.String(),
		"the rows, jobs and audit of the database": w.dump(w.t), "the pages and the log of the database": w.tree(w.t, filepath.Dir(w.server.Files())),
		"the files of the installation": w.openFiles(), "the snapshot file": w.file(w.t, "gateway/snapshot"),
	}
}
