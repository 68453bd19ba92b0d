package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

const (
	chatAnswer = `{"id":"c1","model":"served","choices":[{"message":{"content":"hi"}}],` +
		`"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":3}}}`
	contentEvent = "data: {\"id\":\"c1\",\"model\":\"served\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n"
	usageEvent   = "data: {\"id\":\"c1\",\"model\":\"served\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12}}\n\n"
	doneEvent    = "data: [DONE]\n\n"
)

// usageRow is a row of usage_record.
type usageRow struct {
	GatewayProcess, RequestID, AccountID, HTTPAPIID, HTTPAPIName, Route, ServiceID, ServiceName string
	ModelAsked, Model, ConsumerID, ConsumerName, EndState                                       string
	Status                                                                                      int32
	Streamed                                                                                    bool
	InputTokens, OutputTokens, TotalTokens, CachedTokens, ReasoningTokens                       *int64
	FirstContentMs                                                                              *int64
	TotalMs                                                                                     int64
	BeganAt                                                                                     time.Time
}

// usage waits until there are n records and returns them in their order.
func (r *rig) usage(n int) (rows []usageRow) {
	r.t.Helper()
	r.await(func() bool {
		found, err := r.owner.Query(context.Background(), `
			SELECT gateway_process, request_id, account_id, http_api_id, http_api_name, route, service_id, service_name,
				model_asked, model, consumer_id, consumer_name, end_state, status, streamed, input_tokens, output_tokens,
				total_tokens, cached_tokens, reasoning_tokens, first_content_ms, total_ms, began_at
			FROM usage_record ORDER BY began_at`)
		if err != nil {
			return false
		}
		rows, err = pgx.CollectRows(found, pgx.RowToStructByPos[usageRow])
		return err == nil && len(rows) >= n
	})
	require.Len(r.t, rows, n)
	return rows
}

// streams is an upstream that streams as OpenAI does: it tells the usage when it is asked to.
func streams(t *testing.T, bodies chan<- string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		bodies <- string(body)
		w.Header().Set("Content-Type", "text/event-stream")
		text := contentEvent
		if strings.Contains(string(body), `"include_usage":true`) {
			text += usageEvent
		}
		_, _ = io.WriteString(w, text+doneEvent)
	}
}

func TestUsageIsRecordedOfEveryRequestToAModelAPI(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, chatAnswer)
	})
	s := g.outside(e.URL)
	a := apiOf(s.ID, chatRoute)
	a.AccountID, a.Auth = "1000000000000001", true
	who := consumer(callerKey, "Default", "", a.ID)
	g.serveAll(a, s, who)
	asked := g.chat(`{"model":"asked\u0000` + strings.Repeat("x", 300) + `","messages":[]}`)
	require.Equal(t, 200, asked.status)
	wrong := request(t, http.MethodPost, g.at("/v1/chat/completions"), `{}`)
	wrong.Header.Set("Authorization", "Bearer sk-wrong")
	require.Equal(t, 401, do(t, wrong).status)
	require.Equal(t, 404, do(t, request(t, http.MethodGet, g.at("/elsewhere"), "")).status)

	rows := g.usage(3)
	one := rows[0]
	require.Equal(t, asked.header.Get("X-Request-Id"), one.RequestID)
	require.Equal(t, []string{"1000000000000001", a.ID, "chat", chatRoute, s.ID, "outside", "served", who.ID, who.Name, "complete"},
		[]string{one.AccountID, one.HTTPAPIID, one.HTTPAPIName, one.Route, one.ServiceID, one.ServiceName, one.Model, one.ConsumerID, one.ConsumerName, one.EndState})
	require.Equal(t, "asked\ufffd"+strings.Repeat("x", 250), one.ModelAsked, "what a client writes is cut and made text")
	require.Equal(t, []int64{5, 7, 12, 2, 3}, []int64{*one.InputTokens, *one.OutputTokens, *one.TotalTokens, *one.CachedTokens, *one.ReasoningTokens})
	require.EqualValues(t, 200, one.Status)
	require.False(t, one.Streamed)
	require.Nil(t, one.FirstContentMs)
	require.NotEmpty(t, one.GatewayProcess)
	require.WithinDuration(t, time.Now(), one.BeganAt, time.Minute)

	require.Equal(t, []string{"refused", "", a.ID}, []string{rows[1].EndState, rows[1].ConsumerID, rows[1].HTTPAPIID})
	require.EqualValues(t, 401, rows[1].Status)
	require.Nil(t, rows[1].TotalTokens, "unknown is not 0")
	require.EqualValues(t, 404, rows[2].Status)
	g.awaitGauge("engineshed_gateway_usage_written_total", 3)
}

func TestUsageOfAStreamIsAskedForAndShownOnlyToWhoAskedForIt(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	bodies := make(chan string, 1)
	e := newEngine(t, streams(t, bodies))
	s := g.outside(e.URL)
	anthropicAPI := apiOf(s.ID, "Anthropic POST Exact /v1/messages json")
	anthropicAPI.ID, anthropicAPI.BasePath, anthropicAPI.RemoveBasePath = ids.New(ids.HTTPAPI), "/a", true
	g.serveAll(apiOf(s.ID, chatRoute, "OpenAI/v1 POST Exact /v1/completions json"), anthropicAPI, s)
	for _, c := range []struct{ path, body, sent, shown string }{
		{"/v1/chat/completions", `{"stream": true}`, `{"stream_options":{"include_usage":true},"stream": true}`, contentEvent + doneEvent},
		{"/v1/completions", `{"stream":true}`, `{"stream_options":{"include_usage":true},"stream":true}`, contentEvent + doneEvent},
		{"/v1/chat/completions", `{"stream":true,"stream_options":{"include_usage":false}}`, `{"stream":true,"stream_options":{"include_usage":true}}`, contentEvent + doneEvent},
		{"/v1/chat/completions", `{"stream":true,"stream_options":{"include_usage":true}}`, `{"stream":true,"stream_options":{"include_usage":true}}`, contentEvent + usageEvent + doneEvent},
		{"/v1/chat/completions", `{"stream":false}`, `{"stream":false}`, contentEvent + doneEvent},
		{"/a/v1/messages", `{"stream":true}`, `{"stream":true}`, contentEvent + doneEvent},
	} {
		got := do(t, request(t, http.MethodPost, g.at(c.path), c.body))
		require.Equal(t, 200, got.status, got.body)
		require.Equal(t, c.sent, <-bodies)
		require.Equal(t, c.shown, got.body, c.body)
	}
	for i, row := range g.usage(6) {
		require.True(t, row.Streamed)
		require.NotNil(t, row.FirstContentMs)
		require.Equal(t, i < 4, row.TotalTokens != nil)
	}
	again := g.chat(`{"stream":true,"stream":false}`)
	require.Equal(t, 400, again.status)
	require.Equal(t, "invalid_body", again.code(t))
}

func TestStreamOfAModelAPIPassesChunkByChunk(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	received := make(chan struct{})
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Length", fmt.Sprint(20*len(contentEvent)+len(usageEvent)+len(doneEvent)))
		for range 20 {
			_, _ = io.WriteString(w, contentEvent)
			_ = http.NewResponseController(w).Flush()
			<-received
		}
		_, _ = io.WriteString(w, usageEvent[:30])
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, usageEvent[30:]+doneEvent)
	})
	s := g.outside(e.URL)
	g.serveAll(apiOf(s.ID, chatRoute), s)
	lines := bufio.NewScanner(open(t, g.at("/v1/chat/completions")))
	for k := range 20 {
		require.True(t, lines.Scan(), "chunk %d: %v", k, lines.Err())
		require.Equal(t, strings.TrimSpace(contentEvent), lines.Text())
		require.True(t, lines.Scan())
		received <- struct{}{}
	}
	require.True(t, lines.Scan(), "%v", lines.Err())
	require.Equal(t, "data: [DONE]", lines.Text())
	require.EqualValues(t, 12, *g.usage(1)[0].TotalTokens)
}

func TestUsageOfWhatDoesNotComeToItsEndIsRecordedToo(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	began := make(chan struct{})
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.Contains(string(body), "never"):
			panic(http.ErrAbortHandler)
		case strings.Contains(string(body), "cut"):
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, contentEvent+usageEvent)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, contentEvent+usageEvent)
		_ = http.NewResponseController(w).Flush()
		close(began)
		<-r.Context().Done()
	})
	s := g.outside(e.URL)
	g.serveAll(apiOf(s.ID, chatRoute), s)

	text, err := io.ReadAll(body(t, g, `{"model":"cut","stream":true}`))
	require.NoError(t, err)
	last, ok := strings.CutPrefix(string(text), contentEvent)
	require.True(t, ok)
	require.Contains(t, last, `"code":"upstream_cut"`)
	require.Equal(t, 1, strings.Count(last, "data:"))
	require.Equal(t, 502, g.chat(`{"model":"never"}`).status)
	ctx, leave := context.WithCancel(t.Context())
	resp, err := client.Do(request(t, http.MethodPost, g.at("/v1/chat/completions"), `{"model":"left","stream":true}`).WithContext(ctx))
	require.NoError(t, err)
	<-began
	leave()
	_ = resp.Body.Close()

	rows := g.usage(3)
	for i, want := range []string{"cut upstream_cut", "never upstream_cut", "left client_gone"} {
		require.Equal(t, want, rows[i].ModelAsked+" "+rows[i].EndState)
	}
	require.EqualValues(t, 12, *rows[0].TotalTokens, "what was said before the end counts")
	require.EqualValues(t, 502, rows[1].Status)
	require.EqualValues(t, 12, *rows[2].TotalTokens)
}

func body(t *testing.T, g *rig, text string) io.Reader {
	t.Helper()
	resp, err := client.Do(request(t, http.MethodPost, g.at("/v1/chat/completions"), text))
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp.Body
}

func TestUsageOfAModelServiceThatIsCalledDirectlyIsRecorded(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, chatAnswer)
	})
	s := g.service(e.addr)
	s.AccountID = "1000000000000001"
	g.serve(s)
	require.Equal(t, chatAnswer, g.ask(s).body)
	row := g.usage(1)[0]
	require.Equal(t, []string{"1000000000000001", "", s.ID, "served", "complete"}, []string{row.AccountID, row.HTTPAPIID, row.ServiceID, row.Model, row.EndState})
	require.EqualValues(t, 12, *row.TotalTokens)
}

func TestUsageWaitsForPostgres(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	g := newRigOn(t, server.DB)
	e := newEngine(t, says("ok"))
	s := g.outside(e.URL)
	g.serveAll(apiOf(s.ID, chatRoute), s)
	server.Kill()
	for range 50 {
		require.Equal(t, 200, g.chat(`{}`).status)
	}
	g.await(func() bool { return strings.Contains(g.logs.String(), "usage records cannot be written") })
	g.awaitGauge("engineshed_gateway_usage_waiting", 50)
	server.Start()
	g.usage(50)
	g.await(func() bool { return strings.Contains(g.metrics(), "engineshed_gateway_usage_waiting 0") })
}

func TestUsageIsWrittenBeforeTheGatewayEnds(t *testing.T) {
	t.Parallel()
	g := prepareRig(t, newDB(t))
	g.settings.DrainTimeout = 50 * time.Millisecond
	g.start()
	g.awaitReady()
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, contentEvent)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	s := g.outside(e.URL)
	g.serveAll(apiOf(s.ID, chatRoute), s)
	stream := body(t, g, `{"stream":true}`)
	_, err := stream.Read(make([]byte, 10))
	require.NoError(t, err)
	g.halt()
	g.usage(1)
}

// A record that Postgres refuses, or has no partition for, keeps no other from being written.
func TestBadRecordIsDroppedAlone(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	_, err := g.owner.Exec(t.Context(), `ALTER TABLE usage_record ADD CHECK (model_asked <> 'bad')`)
	require.NoError(t, err)
	e := newEngine(t, says("ok"))
	s := g.outside(e.URL)
	g.serveAll(apiOf(s.ID, chatRoute), s)
	for i := range 20 {
		model := "good"
		if i%7 == 3 {
			model = "bad"
		}
		require.Equal(t, 200, g.chat(`{"model":"`+model+`"}`).status)
	}
	g.usage(17)
	g.await(func() bool {
		return strings.Contains(g.metrics(), `engineshed_gateway_usage_dropped_total{reason="rejected"} 3`)
	})

	var partition string
	require.NoError(t, g.owner.QueryRow(t.Context(), `SELECT tableoid::regclass::text FROM usage_record LIMIT 1`).Scan(&partition))
	_, err = g.owner.Exec(t.Context(), `ALTER TABLE usage_record DETACH PARTITION `+partition)
	require.NoError(t, err)
	g.chat(`{"model":"late"}`)
	g.await(func() bool { return strings.Contains(g.metrics(), "engineshed_gateway_usage_waiting 1") })
	_, err = g.owner.Exec(t.Context(), `ALTER TABLE `+partition+` RENAME TO gone`)
	require.NoError(t, err)
	_, err = g.owner.Exec(t.Context(), `SELECT maintain_usage_partitions('30 days')`)
	require.NoError(t, err)
	require.Equal(t, "late", g.usage(1)[0].ModelAsked)
}

func TestUsageOfAWebSocketIsRecordedWhenItEnds(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(io.Discard, buffered)
	})
	s := g.outside(e.URL)
	g.serveAll(s, apiOf(s.ID, "ComfyUI GET Exact /ws"))
	conn, _, status := dialWebSocket(t, g.Addr(), "/ws")
	require.Equal(t, http.StatusSwitchingProtocols, status)
	conn.Close()
	row := g.usage(1)[0]
	require.Equal(t, "complete", row.EndState)
	require.EqualValues(t, 101, row.Status)
}
