package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
)

// outage is how long the database is away: seconds in every run of the tests, a minute in `make chaos`.
func outage(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("ENGINESHED_OUTAGE")
	if text == "" {
		return 4 * time.Second
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err)
	return d
}

// newConsumer makes a consumer and returns its key.
func newConsumer(t *testing.T, c *darabonba, name string) (id, key string) {
	t.Helper()
	made, err := c.roa("CreateConsumer", "POST", "/v1/consumers", map[string]any{
		"name": name, "enable": true, "gatewayType": "AI", "apikeyIdentityConfig": map[string]any{
			"type": "Apikey", "apikeySource": map[string]any{"source": "Default", "value": "Authorization"},
			"credentials": []any{map[string]any{"generateMode": "System"}},
		},
	})
	id = data(t, made, err).text("consumerId")
	shown, err := c.roa("GetConsumer", "GET", "/v1/consumers/"+id, nil)
	identity := data(t, shown, err)["apiKeyIdentityConfig"].(map[string]any)
	return id, identity["credentials"].([]any)[0].(map[string]any)["apikey"].(string)
}

// allow lets a consumer call an API and returns the rule.
func allow(t *testing.T, c *darabonba, consumer, api, environment string) (rule string) {
	t.Helper()
	made, err := c.roa("CreateConsumerAuthorizationRules", "POST", "/v1/authorization-rules", map[string]any{
		"authorizationRules": []any{map[string]any{
			"consumerId": consumer, "resourceType": "LLM", "expireMode": "LongTerm",
			"resourceIdentifier": map[string]any{"resourceId": api, "environmentId": environment},
		}},
	})
	return data(t, made, err)["consumerAuthorizationRuleIds"].([]any)[0].(string)
}

// requireKeys makes an API one for consumers only.
func requireKeys(t *testing.T, c *darabonba, api, base string) {
	t.Helper()
	_, err := c.roa("UpdateHttpApi", "PUT", "/v1/http-apis/"+api, map[string]any{
		"basePath": base, "enableAuth": true, "authConfig": map[string]any{"authType": "Apikey", "authMode": "Custom"},
	})
	require.NoError(t, err)
}

// chatOnce asks an API for a chat completion on a connection of its own choice.
func chatOnce(ctx context.Context, url, host, key string) (status int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(`{"model":"m","messages":[]}`))
	if err != nil {
		return 0, err
	}
	r.Host = host
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// asker is a key and what it is to be answered with.
type asker struct {
	name, key string
	status    int
}

// pressure asks with all keys again and again until it ends. Answers other than the expected ones are mistakes; while
// away, none at all is none.
type pressure struct {
	url, host string
	askers    []asker
	away      atomic.Bool
	answers   atomic.Int64
	mu        sync.Mutex
	mistakes  []string
	running   sync.WaitGroup
	end       context.CancelFunc
}

func (p *pressure) start(ctx context.Context) {
	ctx, p.end = context.WithCancel(ctx)
	for _, c := range p.askers {
		p.running.Go(func() {
			for ctx.Err() == nil {
				p.once(ctx, c)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
}

func (p *pressure) once(ctx context.Context, c asker) {
	away := p.away.Load()
	status, err := chatOnce(ctx, p.url, p.host, c.key)
	switch {
	case status == c.status:
		p.answers.Add(1)
	case (away || p.away.Load() || errors.Is(err, context.Canceled)) && (err != nil || status == http.StatusServiceUnavailable):
	default:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.mistakes = append(p.mistakes, fmt.Sprintf("%s was answered %d %v instead of %d", c.name, status, err, c.status))
	}
}

func (p *pressure) stop() []string {
	p.end()
	p.running.Wait()
	return p.mistakes
}

// awaitSnapshot waits until the gateway's snapshot file holds what is published now.
func (s *shed) awaitSnapshot() {
	s.t.Helper()
	box, err := secret.Load(s.path("snapshot.key"))
	require.NoError(s.t, err)
	var published int64
	require.NoError(s.t, s.db.Owner.QueryRow(s.t.Context(), `SELECT revision FROM publication`).Scan(&published))
	eventually(s.t, 30*time.Second, "the snapshot file is up to date", func() bool {
		sealed, err := os.ReadFile(s.path("gateway/snapshot"))
		if err != nil {
			return false
		}
		text, err := box.Open("snapshot-file", sealed)
		if err != nil {
			return false
		}
		var contents struct{ Revision int64 }
		return json.Unmarshal([]byte(text.Reveal()), &contents) == nil && contents.Revision >= published
	})
}

func TestDatabaseAwayUnderLoadWhileTheGatewayIsKilled(t *testing.T) {
	t.Parallel()
	upstream := pathEcho(t)
	server := pgtest.NewServer(t)
	s := newShed(t, server.DB)
	s.upstreams = []string{upstream.Listener.Addr().String()}
	control := s.controlPlane("both")
	admin := freeAddr(t)
	gateway := s.launchGateway(s.gateway, admin, "gateway")
	s.waitReady("http://"+admin, gateway)
	c := newDarabonba(t, control.addr, rootKey).(*darabonba)
	gatewayID, environment := seedGateway(t, c)
	service := newVIP(t, c, gatewayID, upstream.Listener.Addr().String())
	api := newModelAPI(t, c, "chat", "Text", "OpenAI/v1", "/chat", gatewayID, environment, service)
	requireKeys(t, c, api, "/chat")
	alice, aliceKey := newConsumer(t, c, "alice")
	bob, bobKey := newConsumer(t, c, "bob")
	carol, carolKey := newConsumer(t, c, "carol")
	allow(t, c, alice, api, environment)
	bobsRule := allow(t, c, bob, api, environment)
	allow(t, c, carol, api, environment)
	p := &pressure{url: s.gateway + "/chat", host: environment + ".engineshed.localhost", askers: []asker{
		{"alice", aliceKey, 200},
		{"bob, whose rule is gone", bobKey, 403},
		{"carol, who is gone", carolKey, 401},
		{"somebody", "sk-unknown", 401},
		{"alice again", aliceKey, 200},
	}}
	is := func(key string, want int) func() bool {
		return func() bool {
			status, err := chatOnce(t.Context(), p.url, p.host, key)
			return err == nil && status == want
		}
	}
	for _, key := range []string{aliceKey, bobKey, carolKey} {
		eventually(t, 10*time.Second, "everybody may call", is(key, 200))
	}
	_, err := c.roa("RemoveConsumerAuthorizationRule", "DELETE", "/v1/authorization-rules/"+bobsRule, nil)
	require.NoError(t, err)
	_, err = c.roa("DeleteConsumer", "DELETE", "/v1/consumers/"+carol, nil)
	require.NoError(t, err)
	eventually(t, 5*time.Second, "bob's rule is revoked", is(bobKey, 403))
	eventually(t, 5*time.Second, "carol is gone", is(carolKey, 401))
	s.awaitSnapshot()

	p.start(t.Context())
	server.Kill()
	away := time.Now()
	ready := func() bool {
		response, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}
	for time.Since(away) < outage(t)/2 {
		require.True(t, ready(), "readiness does not depend on the database")
		time.Sleep(20 * time.Millisecond)
	}
	before := p.answers.Load()
	require.Greater(t, before, int64(20))
	p.away.Store(true)
	gateway.kill()
	gateway = s.launchGateway(s.gateway, admin, "gateway")
	s.waitReady("http://"+admin, gateway)
	eventually(t, 5*time.Second, "alice is served from the snapshot file", is(aliceKey, 200))
	p.away.Store(false)
	for time.Since(away) < outage(t) {
		require.True(t, ready(), "readiness does not depend on the database")
		time.Sleep(20 * time.Millisecond)
	}
	eventually(t, 10*time.Second, "everybody was answered after the restart", func() bool { return p.answers.Load() > 2*before })
	t.Logf("the database was away for %v; %d answers, each the right one", time.Since(away).Round(time.Millisecond), p.answers.Load())
	server.Start()
	require.Empty(t, p.stop())

	eventually(t, 15*time.Second, "changes arrive again", func() bool {
		_, err := c.roa("CreateConsumerAuthorizationRules", "POST", "/v1/authorization-rules", map[string]any{
			"authorizationRules": []any{map[string]any{
				"consumerId": bob, "resourceType": "LLM", "expireMode": "LongTerm",
				"resourceIdentifier": map[string]any{"resourceId": api, "environmentId": environment},
			}},
		})
		return err == nil
	})
	eventually(t, 10*time.Second, "bob may call again", is(bobKey, 200))
}

func TestDamagedSnapshotFileIsRefusedClearly(t *testing.T) {
	t.Parallel()
	upstream := pathEcho(t)
	server := pgtest.NewServer(t)
	s := newShed(t, server.DB)
	s.upstreams = []string{upstream.Listener.Addr().String()}
	control := s.controlPlane("both")
	admin := freeAddr(t)
	gateway := s.launchGateway(s.gateway, admin, "gateway")
	s.waitReady("http://"+admin, gateway)
	c := newDarabonba(t, control.addr, rootKey).(*darabonba)
	gatewayID, environment := seedGateway(t, c)
	newModelAPI(t, c, "chat", "Text", "OpenAI/v1", "/chat", gatewayID, environment, newVIP(t, c, gatewayID, upstream.Listener.Addr().String()))
	ask := func() int {
		status, _ := chatOnce(t.Context(), s.gateway+"/chat", environment+".engineshed.localhost", "")
		return status
	}
	eventually(t, 10*time.Second, "the API is served", func() bool { return ask() == 200 })
	s.awaitSnapshot()
	gateway.kill()
	server.Kill()
	file := s.path("gateway/snapshot")
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, text := range map[string][]byte{"a bit": flipped, "half": whole[:len(whole)/2], "empty": nil} {
		require.NoError(t, os.WriteFile(file, text, 0o600))
		gateway = s.launchGateway(s.gateway, admin, "gateway")
		eventually(t, 10*time.Second, name+": the file is refused with what to do", func() bool {
			log := gateway.log.String()
			return strings.Contains(log, "the snapshot file is refused") && strings.Contains(log, file) && strings.Contains(log, "delete the file")
		})
		require.Equal(t, 503, ask(), "nothing of it is served")
		response, err := http.Get("http://" + admin + "/readyz")
		require.NoError(t, err)
		response.Body.Close()
		require.Equal(t, 503, response.StatusCode)
		gateway.kill()
	}
	server.Start()
	gateway = s.launchGateway(s.gateway, admin, "gateway")
	s.waitReady("http://"+admin, gateway)
	require.Equal(t, 200, ask())
}

// balancer sends requests to the gateways that say they are ready, as a load balancer does.
type balancer struct {
	gateways []*balanced
	next     atomic.Int64
}

type balanced struct {
	url, admin string
	ready      atomic.Bool
}

func (b *balancer) watch(ctx context.Context) {
	for _, g := range b.gateways {
		go func() {
			for ctx.Err() == nil {
				response, err := http.Get("http://" + g.admin + "/readyz")
				if err == nil {
					response.Body.Close()
				}
				g.ready.Store(err == nil && response.StatusCode == http.StatusOK)
				time.Sleep(50 * time.Millisecond)
			}
		}()
	}
}

// pick is a gateway that is ready; there must be one.
func (b *balancer) pick() *balanced {
	for range 1000 {
		g := b.gateways[int(b.next.Add(1))%len(b.gateways)]
		if g.ready.Load() {
			return g
		}
	}
	return nil
}

// streamer answers chat completions with a stream of so many events, one every 20 ms; 0: without an end.
func streamer(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.RawQuery == "" {
			_, _ = io.WriteString(w, `{"choices":[]}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for k := 0; r.URL.RawQuery == "endless" || k < 50; k++ {
			_, _ = fmt.Fprintf(w, "data: {\"k\":%d}\n\n", k)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

func TestRollingRestartFailsNoRequest(t *testing.T) {
	t.Parallel()
	const every = 10 * time.Millisecond // 100 requests a second
	upstream := streamer(t)
	s := newShed(t, pgtest.New(t))
	s.upstreams = []string{upstream.Listener.Addr().String()}
	control := s.controlPlane("both")
	b := &balancer{gateways: []*balanced{{url: s.gateway, admin: freeAddr(t)}, {url: s.public, admin: freeAddr(t)}}}
	launch := func(i int) *process {
		return s.launchGateway(b.gateways[i].url, b.gateways[i].admin, fmt.Sprint("gateway", i), "--drain-notice", "500ms", "--drain-timeout", "2s")
	}
	processes := []*process{launch(0), launch(1)}
	for i, g := range b.gateways {
		s.waitReady("http://"+g.admin, processes[i])
	}
	c := newDarabonba(t, control.addr, rootKey).(*darabonba)
	gatewayID, environment := seedGateway(t, c)
	newModelAPI(t, c, "chat", "Text", "OpenAI/v1", "/chat", gatewayID, environment, newVIP(t, c, gatewayID, upstream.Listener.Addr().String()))
	host := environment + ".engineshed.localhost"
	for _, g := range b.gateways {
		eventually(t, 10*time.Second, "the API is served", func() bool {
			status, err := chatOnce(t.Context(), g.url+"/chat", host, "")
			return err == nil && status == 200
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b.watch(ctx)
	eventually(t, 5*time.Second, "both are ready", func() bool { return b.gateways[0].ready.Load() && b.gateways[1].ready.Load() })

	var requests, streams sync.WaitGroup
	var mu sync.Mutex
	var failures []string
	var answered, whole, ended atomic.Int64
	fail := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		failures = append(failures, fmt.Sprintf(format, args...))
	}
	stream := func(kind string) {
		streams.Go(func() {
			text, err := readStream(t, b.pick().url+"/chat/v1/chat/completions?"+kind, host)
			switch {
			case err != nil:
				fail("a stream broke off: %v", err)
			case strings.HasSuffix(text, "data: [DONE]\n\n") && kind == "short":
				whole.Add(1)
			case strings.Contains(text, `"code":"gateway_shutting_down"`) && kind == "endless" && strings.HasSuffix(text, "}\n\n"):
				ended.Add(1)
			default:
				fail("a stream of kind %s ended with %q", kind, text[max(0, len(text)-300):])
			}
		})
	}
	stop := make(chan struct{})
	requests.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for k := 0; ; k++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			g := b.pick()
			if g == nil {
				fail("no gateway is ready")
				continue
			}
			if k%10 == 0 {
				stream("short")
			}
			requests.Go(func() {
				status, err := chatOnce(ctx, g.url+"/chat", host, "")
				if err != nil || status != 200 {
					fail("a request was answered %d %v", status, err)
					return
				}
				answered.Add(1)
			})
		}
	})
	for range 20 {
		stream("endless")
	}
	eventually(t, 10*time.Second, "requests are answered", func() bool { return answered.Load() > 50 })
	for i := range processes {
		processes[i].stop()
		require.NoError(t, processes[i].err, "%s", processes[i].log)
		processes[i] = launch(i)
		s.waitReady("http://"+b.gateways[i].admin, processes[i])
		eventually(t, 5*time.Second, "the balancer sees it", b.gateways[i].ready.Load)
	}
	close(stop)
	requests.Wait()
	streams.Wait()
	t.Logf("%d requests and %d streams were answered whole, %d streams without an end got an error of their protocol; %d failures",
		answered.Load(), whole.Load(), ended.Load(), len(failures))
	require.Empty(t, failures)
	require.EqualValues(t, 20, ended.Load())
	require.Greater(t, whole.Load(), int64(20))
}

func readStream(t *testing.T, url, host string) (string, error) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"stream":true}`))
	if err != nil {
		return "", err
	}
	r.Host = host
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}
