package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// recorder keeps what it was sent, heads and bodies.
type recorder struct {
	*httptest.Server
	mu  sync.Mutex
	all strings.Builder
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	r := new(recorder)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		text, _ := httputil.DumpRequest(request, true)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all.Write(text)
		if strings.Contains(string(text), "break off") {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"an answer that nobody else may read"}}]}`)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all.String()
}

func TestNoSecretOfAModelAPIIsFoundWhereItDoesNotBelong(t *testing.T) {
	t.Parallel()
	const upstreamKey, wrongKey = "sk-canary-of-the-upstream-0123456789", "sk-canary-that-opens-nothing"
	const prompt = "a prompt to a Model API that nobody else may read"
	upstream := newRecorder(t)
	s := newShed(t, pgtest.New(t))
	s.upstreams = []string{upstream.Listener.Addr().String()}
	control := s.controlPlane("both")
	admin := freeAddr(t)
	gateway := s.launchGateway(s.gateway, admin, "gateway")
	s.waitReady("http://"+admin, gateway)
	c := newDarabonba(t, control.addr, rootKey).(*darabonba)
	gatewayID, environment := seedGateway(t, c)
	made, err := c.roa("CreateService", "POST", "/v1/services", map[string]any{
		"gatewayId": gatewayID, "sourceType": "AI", "serviceConfigs": []any{map[string]any{
			"name": "openai", "aiServiceConfig": map[string]any{
				"provider": "openai", "protocols": []string{"OpenAI/v1"}, "address": upstream.URL + "/v1", "apiKeys": []string{upstreamKey},
			},
		}},
	})
	service := data(t, made, err)["serviceIds"].([]any)[0].(string)
	api := newModelAPI(t, c, "chat", "Text", "OpenAI/v1", "/chat", gatewayID, environment, service)
	requireKeys(t, c, api, "/chat")
	alice, aliceKey := newConsumer(t, c, "alice")
	allow(t, c, alice, api, environment)
	ask := func(key, header, text string) int {
		t.Helper()
		body := fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":%q}]}`, text)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.gateway+"/chat/v1/chat/completions", strings.NewReader(body))
		require.NoError(t, err)
		r.Host = environment + ".engineshed.localhost"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(header, "Bearer "+key)
		r.Header.Set("X-Mse-Consumer", "an identity that the client made up")
		r.Header.Set("X-Forwarded-For", "203.0.113.99")
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, err)
		return response.StatusCode
	}
	eventually(t, 10*time.Second, "alice is served, and nobody else any more", func() bool {
		return ask(wrongKey, "Authorization", prompt) == 401 && ask(aliceKey, "Authorization", prompt) == 200
	})
	require.Equal(t, 401, ask(wrongKey, "Authorization", prompt))
	require.Equal(t, 401, ask(aliceKey, "X-Elsewhere", prompt))
	require.Equal(t, 502, ask(aliceKey, "Authorization", prompt+": break off"))
	require.Equal(t, 404, func() int {
		response, err := http.Get(s.gateway + "/nowhere?key=" + aliceKey)
		require.NoError(t, err)
		defer response.Body.Close()
		return response.StatusCode
	}())
	s.awaitSnapshot()
	shown, err := c.roa("GetService", "GET", "/v1/services/"+service, nil)
	require.NoError(t, err)
	response, err := http.Get("http://" + admin + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	metrics, err := io.ReadAll(response.Body)
	require.NoError(t, err)

	canaries := map[string]string{
		"the consumer's key": aliceKey, "the upstream's key": upstreamKey, "a wrong key": wrongKey, "a prompt": prompt,
		"an answer": "an answer that nobody else may read",
	}
	for place, text := range map[string]string{
		"the control plane's log": control.log.String(), "the gateway's log": gateway.log.String(), "the database": s.dump(t),
		"the gateway's metrics": string(metrics), "the snapshot file": s.file(t, "gateway/snapshot"), "what reads show of the service": fmt.Sprint(shown),
	} {
		require.NotEmpty(t, text, place)
		for name, canary := range canaries {
			require.NotContains(t, text, canary, "%s holds %s", place, name)
		}
	}
	seen := upstream.String()
	require.Contains(t, seen, "Authorization: Bearer "+upstreamKey)
	require.Contains(t, seen, prompt)
	require.NotContains(t, seen, aliceKey)
	require.NotContains(t, seen, "an identity that the client made up")
	require.NotContains(t, seen, "203.0.113.99")
}
