package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// monitored is an API over the service with statistics.
func monitored(service string, statistics *snapshot.Statistics) snapshot.ModelAPI {
	a := apiOf(service, chatRoute)
	a.Name, a.Statistics = "monitored", statistics
	return a
}

// requestLine waits for the n-th line about a request and returns it.
func (r *rig) requestLine(n int) (line map[string]any) {
	r.t.Helper()
	r.await(func() bool {
		found := 0
		for text := range strings.Lines(r.logs.String()) {
			if !strings.Contains(text, `"msg":"request"`) {
				continue
			}
			if found++; found == n {
				line = nil
				return json.Unmarshal([]byte(text), &line) == nil
			}
		}
		return false
	})
	return line
}

func TestRequestsOfAnAPIWithStatisticsAreCountedByItsLabels(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	bodies := make(chan string, 10)
	stream := newEngine(t, streams(t, bodies))
	whole := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(string(body), "silent") {
			_, _ = io.WriteString(w, `{}`)
			return
		}
		_, _ = io.WriteString(w, chatAnswer)
	})
	s, s2 := g.outside(whole.URL), g.outside(stream.URL)
	s2.Name = "streaming"
	a, b, plain := monitored(s.ID, &snapshot.Statistics{}), monitored(s2.ID, &snapshot.Statistics{}), apiOf(s.ID, chatRoute)
	a.Auth, a.Targets[0].Model = true, "configured"
	b.BasePath, plain.BasePath, plain.Name = "/b", "/plain", "plain"
	b.RemoveBasePath = true
	g.serveAll(a, b, plain, s, s2, consumer(callerKey, "Default", "", a.ID))
	for _, call := range [][2]string{
		{"/v1/chat/completions", `{"model":"client's words"}`},
		{"/v1/chat/completions", `{"model":"client's words"}`},
		{"/v1/chat/completions", `{"silent":1}`},
		{"/b/v1/chat/completions", `{"model":"client's words","stream":true}`},
		{"/plain/v1/chat/completions", `{}`},
	} {
		require.Equal(t, 200, do(t, request(t, http.MethodPost, g.at(call[0]), call[1])).status)
	}
	g.usage(5)
	metrics := g.metrics()
	const prefix = "route_upstream_model_consumer_metric_"
	labels := `{ai_cluster="outside",ai_consumer="alice",ai_model="configured",ai_route="monitored"}`
	for name, value := range map[string]int{
		"input_token": 10, "output_token": 14, "total_token": 24, "llm_duration_count": 2, "llm_stream_duration_count": 0, "llm_first_token_duration": 0,
	} {
		require.Contains(t, metrics, fmt.Sprintf("%s%s%s %d\n", prefix, name, labels, value))
	}
	require.Contains(t, metrics, prefix+"llm_service_duration"+labels)
	labels = `{ai_cluster="streaming",ai_consumer="none",ai_model="served",ai_route="monitored"}`
	require.Contains(t, metrics, prefix+"llm_stream_duration_count"+labels+" 1\n")
	require.Contains(t, metrics, prefix+"total_token"+labels+" 12\n")
	require.NotContains(t, metrics, `ai_route="plain"`)
	require.NotContains(t, metrics, "client's words")
}

func TestAPIsThatNobodyAskedHaveNoSeries(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	s := g.outside(newEngine(t, echo).URL)
	asked, idle := apiOf(s.ID, chatRoute), apiOf(s.ID, chatRoute)
	idle.ID, idle.BasePath = ids.New(ids.HTTPAPI), "/idle"
	g.serveAll(s, asked, idle)
	require.Equal(t, 200, g.chat(`{}`).status)
	g.await(func() bool {
		return strings.Contains(g.metrics(), `engineshed_gateway_api_requests_total{api="`+asked.ID+`",outcome="2xx"} 1`)
	})
	require.Contains(t, g.metrics(), `engineshed_gateway_fallbacks_total{api="`+asked.ID+`"} 0`)
	require.NotContains(t, g.metrics(), idle.ID)
}

func TestLogLineOfARequest(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	bodies := make(chan string, 10)
	e := newEngine(t, streams(t, bodies))
	s := g.outside(e.URL)
	a := monitored(s.ID, &snapshot.Statistics{})
	g.serveAll(a, s)
	got := g.chat(`{"model":"asked","stream":true,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}`)
	line := g.requestLine(1)
	require.Equal(t, got.header.Get("X-Request-Id"), line["requestId"])
	require.Equal(t, []any{"POST", "/v1/chat/completions", 200.0, "complete", a.ID, chatRoute, s.ID, ""},
		[]any{line["method"], line["path"], line["status"], line["endState"], line["api"], line["route"], line["service"], line["consumer"]})
	ai := line["ai_log"].(map[string]any)
	for _, name := range []string{"llm_service_duration", "llm_first_token_duration"} {
		require.Contains(t, ai, name)
		delete(ai, name)
	}
	require.Equal(t, map[string]any{
		"api": "monitored", "model": "served", "response_type": "stream", "consumer": "none", "chat_id": "c1", "chat_round": 2.0,
		"input_token": 5.0, "output_token": 7.0, "total_token": 12.0, "cached_tokens": 0.0, "reasoning_tokens": 0.0,
	}, ai)
	require.NotContains(t, line, "traceId")
	require.Equal(t, 404, do(t, request(t, http.MethodPost, g.at("/v1/other"), "{}")).status)
	refused := g.requestLine(2)
	require.Equal(t, "refused", refused["endState"])
	require.Equal(t, "UNKNOWN", refused["ai_log"].(map[string]any)["model"])
}

// spans is a collector that remembers what it is sent.
type spans struct {
	*httptest.Server
	mu    sync.Mutex
	found []*trace.Span
	raw   strings.Builder
}

func newSpans(t *testing.T) *spans {
	t.Helper()
	s := new(spans)
	s.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var sent collector.ExportTraceServiceRequest
		if r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
			t.Errorf("the collector was asked %s %q", r.URL.Path, body)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.raw.Write(body)
		for _, resource := range sent.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				s.found = append(s.found, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *spans) all() ([]*trace.Span, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.found, s.raw.String()
}

func TestTraceOfARequest(t *testing.T) {
	t.Parallel()
	collected := newSpans(t)
	g := prepareRig(t, newDB(t))
	g.settings.OTLPEndpoint = collected.URL
	g.start()
	g.awaitReady()
	var seen string
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get("Traceparent") + r.Header.Get("Tracestate")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, chatAnswer)
	})
	s := g.outside(e.URL)
	plain := apiOf(s.ID, chatRoute)
	plain.BasePath = "/plain"
	g.serveAll(monitored(s.ID, &snapshot.Statistics{LogRequestContent: true, LogResponseContent: true}), plain, s)
	ask := request(t, http.MethodPost, g.at("/v1/chat/completions"), `{"model":"asked","messages":[{"role":"user","content":"canary"}]}`)
	ask.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	require.Equal(t, 200, do(t, ask).status)
	require.Equal(t, 200, do(t, request(t, http.MethodPost, g.at("/plain/v1/chat/completions"), `{}`)).status)
	require.Empty(t, seen, "an API without statistics has no span")
	g.halt()

	found, raw := collected.all()
	require.Len(t, found, 1)
	span := found[0]
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", fmt.Sprintf("%x", span.GetTraceId()))
	require.Equal(t, "b7ad6b7169203331", fmt.Sprintf("%x", span.GetParentSpanId()))
	attributes := map[string]string{}
	for _, a := range span.GetAttributes() {
		value := a.GetValue()
		attributes[a.GetKey()] = value.GetStringValue()
		if n := value.GetIntValue(); n != 0 {
			attributes[a.GetKey()] = fmt.Sprint(n)
		}
	}
	for name, want := range map[string]string{
		"gen_ai.span.kind": "LLM", "gen_ai.operation.name": "chat", "gen_ai.model_name": "served", "gen_ai.request.model": "asked",
		"gen_ai.response.id": "c1", "gen_ai.usage.input_tokens": "5", "gen_ai.usage.output_tokens": "7", "gen_ai.usage.total_tokens": "12",
		"http.response.status_code": "200", "engineshed.end_state": "complete", "engineshed.api": "monitored",
	} {
		require.Equal(t, want, attributes[name], name)
	}
	require.Contains(t, raw, "engineshed-gateway")
	require.NotContains(t, raw, "canary", "content is never in a trace")
	require.Contains(t, g.logs.String(), `"traceId":"0af7651916cd43dd8448eb211c80319c"`)
}

func TestServiceIsGivenTheGatewaysSpan(t *testing.T) {
	t.Parallel()
	collected := newSpans(t)
	g := prepareRig(t, newDB(t))
	g.settings.OTLPEndpoint = collected.URL
	g.start()
	g.awaitReady()
	seen := make(chan string, 1)
	e := newEngine(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("Traceparent") })
	s := g.outside(e.URL)
	g.serveAll(monitored(s.ID, &snapshot.Statistics{}), s)
	g.chat(`{}`)
	parent := <-seen
	g.halt()
	found, _ := collected.all()
	require.Len(t, found, 1)
	require.Equal(t, fmt.Sprintf("00-%x-%x-01", found[0].GetTraceId(), found[0].GetSpanId()), parent)
}

func TestCollectorThatIsAwayCostsNoRequest(t *testing.T) {
	t.Parallel()
	g := prepareRig(t, newDB(t))
	g.settings.OTLPEndpoint = "http://" + closedAddr(t)
	g.start()
	g.awaitReady()
	e := newEngine(t, says("ok"))
	s := g.outside(e.URL)
	g.serveAll(monitored(s.ID, &snapshot.Statistics{}), s)
	for range 10 {
		require.Equal(t, 200, g.chat(`{}`).status)
	}
	g.usage(10)
	g.halt()
}

// What people write and are answered is nowhere unless its own switch is on.
func TestContentIsLoggedOnlyWhereItsSwitchIsOn(t *testing.T) {
	t.Parallel()
	const question, answer = "canary-of-the-question", "canary-of-the-answer"
	for _, c := range []struct {
		name       string
		statistics *snapshot.Statistics
	}{
		{"no statistics", nil},
		{"both off", &snapshot.Statistics{}},
		{"request on", &snapshot.Statistics{LogRequestContent: true}},
		{"response on", &snapshot.Statistics{LogResponseContent: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			collected := newSpans(t)
			g := prepareRig(t, newDB(t))
			g.settings.OTLPEndpoint = collected.URL
			g.start()
			g.awaitReady()
			e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
				if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "stream") {
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, strings.ReplaceAll(contentEvent, "hi", answer)+usageEvent)
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, strings.ReplaceAll(chatAnswer, "hi", answer))
			})
			s := g.outside(e.URL)
			g.serveAll(monitored(s.ID, c.statistics), s)
			for _, rest := range []string{``, `,"stream":true`} {
				text := `{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"` + question + `"}]` + rest + `}`
				_, _ = io.ReadAll(body(t, g, text)) // a stream that is cut is as good
			}
			g.chat(`{"` + question) // not JSON
			rows := fmt.Sprint(g.usage(3))
			metrics := g.metrics()
			g.halt()
			_, traces := collected.all()
			for where, text := range map[string]string{"usage": rows, "metrics": metrics, "traces": traces} {
				require.NotContains(t, text, "canary", where)
			}
			log := g.logs.String()
			recorded := c.statistics
			if recorded == nil {
				recorded = &snapshot.Statistics{}
			}
			require.Equal(t, recorded.LogRequestContent, strings.Contains(log, question))
			require.Equal(t, recorded.LogResponseContent, strings.Contains(log, answer))
			if recorded.LogRequestContent {
				ai := g.requestLine(1)["ai_log"].(map[string]any)
				require.Equal(t, []any{question, "be brief"}, []any{ai["question"], ai["system"]})
				require.Contains(t, ai["messages"], `"role":"user"`)
			}
			if recorded.LogResponseContent {
				for n := range 2 {
					require.Equal(t, answer, g.requestLine(n + 1)["ai_log"].(map[string]any)["answer"])
				}
			}
		})
	}
}

func TestRecordedContentIsCutAndMarked(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, strings.ReplaceAll(chatAnswer, "hi", strings.Repeat("a", 40_000)))
	})
	s := g.outside(e.URL)
	g.serveAll(monitored(s.ID, &snapshot.Statistics{LogRequestContent: true, LogResponseContent: true}), s)
	g.chat(`{"messages":[{"role":"user","content":"` + strings.Repeat("q", 50_000) + `"}]}`)
	ai := g.requestLine(1)["ai_log"].(map[string]any)
	require.Equal(t, strings.Repeat("q", 16_000)+"…[18000 bytes cut]…"+strings.Repeat("q", 16_000), ai["question"])
	require.Equal(t, strings.Repeat("a", 16_000)+"…[8000 bytes cut]…"+strings.Repeat("a", 16_000), ai["answer"])
}
