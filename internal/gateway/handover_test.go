package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// chatsWith is an API for chats with a service, with limits and fallbacks.
func chatsWith(service string, targets ...snapshot.Target) snapshot.ModelAPI {
	a := fallsTo(apiOf(service, chatRoute), targets...)
	a.Limits = usualLimits()
	return a
}

// failing is a service that is faulty in one way, and whoever is asked there.
func (r *rig) failing(name string, behave func(*exchange)) (snapshot.AIService, *faulty) {
	r.t.Helper()
	f := newFaulty(r.t, name, behave)
	s := r.outside(f.url())
	s.Name = name
	return s, f
}

func TestFallbacksAreAskedInTheirOrderUntilOneAnswers(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	one, first := g.failing("one", breaksWithHTML)
	two, second := g.failing("two", isBusy)
	three, third := g.failing("three", staysSilent)
	four, fourth := g.failing("four", answers)
	five, fifth := g.failing("five", answers)
	g.serveAll(one, two, three, four, five, chatsWith(one.ID, snapshot.Target{ServiceID: two.ID}, snapshot.Target{ServiceID: three.ID, Model: "m-3"},
		snapshot.Target{ServiceID: four.ID}, snapshot.Target{ServiceID: five.ID}))
	got := g.chat(`{"model":"asked","stream":true}`)
	require.Equal(t, 200, got.status, got.body)
	require.Equal(t, fourth.answered(), got.body)
	require.Contains(t, got.body, `"four"`)
	require.Empty(t, got.header["Retry-After"], "what a service says of itself goes with its answer")
	require.Equal(t, [][]string{{"asked"}, {"asked"}, {"m-3"}, {"asked"}, nil},
		[][]string{first.models(), second.models(), third.models(), fourth.models(), fifth.models()})
	row := g.usage(1)[0]
	require.Equal(t, []string{"complete", four.ID, "four", "four", "asked"}, []string{row.EndState, row.ServiceID, row.ServiceName, row.Model, row.ModelAsked})
	require.EqualValues(t, 200, row.Status)
	require.GreaterOrEqual(t, row.TotalMs, firstContentLimit.Milliseconds(), "the request took as long as it took")
}

func TestWhenAllFailTheLastFailureIsTheAnswer(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	services := map[string]snapshot.AIService{"away": g.outside("http://" + refusingAddr(t))}
	for name, behave := range map[string]func(*exchange){
		"busy": isBusy, "broken": breaksWithHTML, "silent": staysSilent, "cut": resets, "error": failsFirst,
	} {
		services[name], _ = g.failing(name, behave)
	}
	things := []any{}
	for _, s := range services {
		things = append(things, s)
	}
	cases := []struct {
		chain, state string
		status       int
		code         string
	}{
		{"busy broken", "complete", 500, ""},
		{"broken busy", "complete", 429, ""},
		{"busy away", "refused", 503, "upstream_unreachable"},
		{"away busy", "complete", 429, ""},
		{"broken silent", "upstream_timeout", 504, "first_content_timeout"},
		{"silent cut", "upstream_cut", 502, "engine_failed"},
		{"away silent broken", "complete", 500, ""},
		{"busy error", "upstream_error", 200, ""},
		{"error away", "refused", 503, "upstream_unreachable"},
	}
	for i, c := range cases {
		chain := strings.Fields(c.chain)
		a := chatsWith(services[chain[0]].ID)
		a.BasePath, a.RemoveBasePath = fmt.Sprint("/", i), true
		for _, name := range chain[1:] {
			a.Fallback.Targets = append(a.Fallback.Targets, snapshot.Target{ServiceID: services[name].ID})
		}
		things = append(things, a)
	}
	g.serveAll(things...)
	for i, c := range cases {
		got := do(t, request(t, http.MethodPost, g.at(fmt.Sprintf("/%d/v1/chat/completions", i)), `{"model":"asked","stream":true}`))
		require.Equal(t, c.status, got.status, "%s: %s", c.chain, got.body)
		if c.code != "" {
			require.Equal(t, c.code, got.code(t), c.chain)
		}
		require.Equal(t, c.status == 429, got.header.Get("Retry-After") == "7", "%s: %v", c.chain, got.header)
	}
	for i, row := range g.usage(len(cases)) {
		chain := strings.Fields(cases[i].chain)
		require.Equal(t, cases[i].state, row.EndState, cases[i].chain)
		require.Equal(t, services[chain[len(chain)-1]].ID, row.ServiceID, cases[i].chain)
		require.EqualValues(t, cases[i].status, row.Status, cases[i].chain)
	}
}

func TestTheSameServiceIsAskedAgainForAnotherModel(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	s, f := g.failing("one", func(x *exchange) {
		if x.of.asked.Load() < 3 {
			breaksWithHTML(x)
			return
		}
		answers(x)
	})
	a := chatsWith(s.ID, snapshot.Target{ServiceID: s.ID, Model: "m-2"}, snapshot.Target{ServiceID: s.ID})
	a.Targets[0].Model = "m-1"
	g.serveAll(s, a)
	long := strings.Repeat("x", 500<<10)
	body := `{"messages":[{"content":"` + long + `"}],"model":"asked" ,"stream":false}`
	got := g.chat(body)
	require.Equal(t, 200, got.status, got.body)
	received := f.received()
	require.Len(t, received, 3)
	for i, model := range []string{"m-1", "m-2", "asked"} {
		require.True(t, strings.Replace(body, "asked", model, 1) == received[i], "request %d is whole, for %s", i, model)
	}
}

// What a fallback is asked is made for it: its own path, key and headers, and nothing of the one that failed.
func TestAFallbackIsAskedInItsOwnWay(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	failed := newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Ratelimit-Remaining-Requests", "0")
		w.Header().Set("Retry-After", "9")
		w.Header().Set("Content-Encoding", "identity")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	var seen http.Header
	var uri string
	good := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		seen, uri = r.Header.Clone(), r.RequestURI
		says("good")(w, r)
	})
	one, two := g.outside(failed.URL), g.outside(good.URL+"/prefix")
	one.Headers, one.Paths = map[string]string{"X-Of-One": "1"}, map[string]string{"/v1/chat/completions": "/of/one"}
	two.KeyHeader, two.KeyPrefix = "x-api-key", ""
	two.Headers, two.Paths = map[string]string{"X-Of-Two": "2"}, map[string]string{"/v1/chat/completions": "/of/two"}
	g.serveAll(one, two, chatsWith(one.ID, snapshot.Target{ServiceID: two.ID}))
	got := do(t, request(t, http.MethodPost, g.at("/v1/chat/completions?a=1"), `{"model":"asked"}`))
	require.Equal(t, "200 good", fmt.Sprint(got.status, " ", got.body))
	require.Equal(t, "/prefix/of/two?a=1", uri)
	require.Equal(t, []string{upstreamKey, "2", "", ""},
		[]string{seen.Get("X-Api-Key"), seen.Get("X-Of-Two"), seen.Get("X-Of-One"), seen.Get("Authorization")})
	for _, name := range []string{"Retry-After", "X-Ratelimit-Remaining-Requests", "Content-Encoding"} {
		require.Empty(t, got.header[name], name)
	}
	require.Len(t, got.header["X-Request-Id"], 1)
	require.Equal(t, seen.Get("X-Request-Id"), got.header.Get("X-Request-Id"))
}

func TestFallbackFromAndToAModelServiceOfOurs(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	engine := newFaulty(t, "engine", answers)
	ours, gone := g.service(engine.Addr().String()), g.service(refusingAddr(t))
	there, away := snapshot.AIService{ID: ids.New(ids.AIService), ModelServiceID: ours.ID}, snapshot.AIService{ID: ids.New(ids.AIService), ModelServiceID: gone.ID}
	none := snapshot.AIService{ID: ids.New(ids.AIService), ModelServiceID: ids.New(ids.ModelService)}
	outside, _ := g.failing("outside", breaksWithHTML)
	good, _ := g.failing("good", answers)
	things := []any{ours, gone, there, away, none, outside, good}
	cases := []struct{ primary, fallback, answers string }{
		{outside.ID, there.ID, `"engine"`}, {away.ID, good.ID, `"good"`}, {away.ID, there.ID, `"engine"`}, {none.ID, good.ID, `"good"`},
	}
	for i, c := range cases {
		a := chatsWith(c.primary, snapshot.Target{ServiceID: c.fallback})
		a.BasePath, a.RemoveBasePath = fmt.Sprint("/", i), true
		things = append(things, a)
	}
	g.serveAll(things...)
	for i, c := range cases {
		for _, stream := range []bool{true, false} {
			got := do(t, request(t, http.MethodPost, g.at(fmt.Sprintf("/%d/v1/chat/completions", i)), fmt.Sprintf(`{"model":"demo","stream":%t}`, stream)))
			require.Equal(t, 200, got.status, "%d: %s", i, got.body)
			require.Contains(t, got.body, c.answers, i)
		}
	}
	g.await(func() bool { return inFlight(g, ours.ID)+inFlight(g, gone.ID) == 0 }) // who failed is not counted in for ever
}

// What the gateway refuses by itself is no failure of a service, and what names no model belongs to one service.
func TestWhatNoFallbackIsAskedFor(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	dead := g.outside("http://" + refusingAddr(t))
	good, f := g.failing("good", answers)
	a := apiOf("", chatRoute, "OpenAI/v1 GET,POST Prefix /v1/files")
	a.Scene, a.Targets = snapshot.SceneByModelName, []snapshot.Target{{ServiceID: dead.ID, Pattern: "m-*"}}
	a.Fallback = &snapshot.Fallback{Targets: []snapshot.Target{{ServiceID: good.ID}}}
	auth := a
	auth.ID, auth.BasePath, auth.Auth = ids.New(ids.HTTPAPI), "/auth", true
	g.serveAll(dead, good, a, auth)
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/chat/completions", `{"model":"other"}`, 404},
		{"POST", "/v1/chat/completions", `{"model":"m-1","model":"m-2"}`, 400},
		{"POST", "/v1/chat/completions", `{`, 400},
		{"POST", "/v1/chat/completions", `{"model":"` + strings.Repeat("x", 2<<20) + `"}`, 413},
		{"GET", "/v1/chat/completions", "", 405},
		{"POST", "/v1/other", "{}", 404},
		{"POST", "/auth/v1/chat/completions", `{"model":"m-1"}`, 401},
		{"GET", "/v1/files/f-1", "", 503},
		{"POST", "/v1/files", "content", 503},
	} {
		got := do(t, request(t, c.method, g.at(c.path), c.body))
		require.Equal(t, c.status, got.status, "%s %s: %s", c.method, c.path, got.body)
	}
	require.Zero(t, f.asked.Load())
	require.Equal(t, 200, g.chat(`{"model":"m-1"}`).status)
	require.EqualValues(t, 1, f.asked.Load())
}

// Promised: a dead service is asked at most 1.2 times for each request, and ten times more.
func TestADeadServiceIsNotFlooded(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	const requests = 200
	dead := make([]*faulty, 3)
	var urls, addrs []string
	for i := range dead {
		dead[i] = newFaulty(t, "dead", resets)
		urls, addrs = append(urls, dead[i].url()), append(addrs, dead[i].Addr().String())
	}
	outside, ours := g.outside(urls...), g.service(addrs...)
	engines := snapshot.AIService{ID: ids.New(ids.AIService), ModelServiceID: ours.ID}
	one, two := apiOf(outside.ID, chatRoute), apiOf(engines.ID, chatRoute)
	two.BasePath = "/two"
	one.Limits, two.Limits = usualLimits(), usualLimits()
	g.serveAll(outside, ours, engines, one, two)
	for _, path := range []string{"/v1/chat/completions", "/two/v1/chat/completions"} {
		var before, after int64
		for _, f := range dead {
			before += f.asked.Load()
		}
		for range requests {
			got := do(t, request(t, http.MethodPost, g.at(path), `{"model":"demo"}`))
			require.Contains(t, []int{502, 503}, got.status, got.body)
		}
		for _, f := range dead {
			after += f.asked.Load()
		}
		t.Logf("%s: %d requests, %d attempts", path, requests, after-before)
		require.LessOrEqual(t, after-before, int64(1.2*requests+10))
	}
}

func TestAReplicaThatDiesTakesOnlyItsOwnStreamsWithIt(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	const streams = 200
	finish := make(chan struct{})
	end := sync.OnceFunc(func() { close(finish) })
	replicas := make([]*faulty, 3)
	var addrs []string
	for i := range replicas {
		replicas[i] = newFaulty(t, fmt.Sprint("replica-", i), func(x *exchange) {
			if !x.streamed {
				answers(x)
				return
			}
			starts(x)
			<-finish
			x.say(x.second + x.ending)
			x.end()
		})
		addrs = append(addrs, replicas[i].Addr().String())
	}
	t.Cleanup(end)
	ours := g.service(addrs...)
	engines := snapshot.AIService{ID: ids.New(ids.AIService), ModelServiceID: ours.ID}
	g.serveAll(ours, engines, apiOf(engines.ID, chatRoute))

	var began, cut, whole atomic.Int64
	var calls errgroup.Group
	for range streams {
		calls.Go(func() error {
			resp, err := client.Do(request(t, http.MethodPost, g.at("/v1/chat/completions"), `{"model":"demo","stream":true}`))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			from := bufio.NewReader(resp.Body)
			var events []string
			for line := ""; err == nil; {
				line, err = from.ReadString('\n')
				if strings.HasPrefix(line, "data: ") {
					events = append(events, line)
				}
				if len(events) == 2 && line == "\n" {
					began.Add(1)
				}
			}
			last := events[len(events)-1]
			switch {
			case err != io.EOF: //nolint:errorlint // a clean end is this and nothing else
				return fmt.Errorf("no clean end after %q: %w", last, err)
			case strings.Contains(events[0], `"replica-0"`) && len(events) == 3 && strings.Contains(last, `"code":"upstream_cut"`):
				cut.Add(1)
			case !strings.Contains(events[0], `"replica-0"`) && len(events) == 5 && last == "data: [DONE]\n":
				whole.Add(1)
			default:
				return fmt.Errorf("a stream of %d events, the first %q, the last %q", len(events), events[0], last)
			}
			return nil
		})
	}
	g.await(func() bool { return began.Load() == streams })
	lost := replicas[0].asked.Load()
	require.InDelta(t, streams/3, lost, streams/30)

	replicas[0].kill()
	for range 20 {
		asked := time.Now()
		require.Equal(t, 200, g.chat(`{"model":"demo"}`).status, "%s", g.logs)
		require.Less(t, time.Since(asked), time.Second, "the next request is served at once")
	}
	g.await(func() bool { return cut.Load() == lost })
	require.Zero(t, whole.Load())
	end()
	require.NoError(t, calls.Wait())
	require.Equal(t, streams-lost, whole.Load())
	g.await(func() bool { return inFlight(g, ours.ID) == 0 })
}

func TestAClientThatLeavesEndsWhateverIsAskedForIt(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	zero, _ := g.failing("zero", breaksWithHTML)
	one, first := g.failing("one", staysSilent)
	two, second := g.failing("two", staysSilent)
	three, third := g.failing("three", answers)
	a := chatsWith(zero.ID, snapshot.Target{ServiceID: one.ID}, snapshot.Target{ServiceID: two.ID}, snapshot.Target{ServiceID: three.ID})
	a.Limits.FirstContent = 1000
	g.serveAll(zero, one, two, three, a)
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		resp, err := client.Do(request(t, http.MethodPost, g.at("/v1/chat/completions"), `{"model":"asked","stream":true}`).WithContext(ctx))
		if err == nil {
			_ = resp.Body.Close()
		}
		gone <- err
	}()
	g.await(func() bool { return second.asked.Load() == 1 })
	require.Eventually(t, func() bool { return first.owes.Load() == 0 }, time.Second, time.Millisecond, "who was given up is let go")
	leave()
	require.Eventually(t, func() bool { return second.owes.Load() == 0 }, time.Second, time.Millisecond)
	require.ErrorIs(t, <-gone, context.Canceled)
	row := g.usage(1)[0]
	require.Equal(t, []string{"client_gone", two.ID}, []string{row.EndState, row.ServiceID})
	require.Zero(t, row.Status, "the answer that was given up is none")
	require.Zero(t, third.asked.Load(), "nobody is left to be answered")
}

// With a fallback and a first-content limit what precedes the content is held, and then nothing is.
func TestContentIsPassedOnInLockStepWhereAFallbackIsLeft(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	received := make(chan struct{})
	s, _ := g.failing("one", func(x *exchange) {
		opens(x)
		for range 20 {
			x.say(x.first)
			<-received
		}
		x.say(x.ending)
		x.end()
	})
	t.Cleanup(func() { close(received) })
	g.serveAll(s, chatsWith(s.ID, snapshot.Target{ServiceID: s.ID}))
	events := bufio.NewReader(open(t, g.at("/v1/chat/completions")))
	event := func() string {
		line, err := events.ReadString('\n')
		require.NoError(t, err)
		blank, err := events.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "\n", blank)
		return line
	}
	require.Contains(t, event(), `"role"`)
	for range 20 {
		require.Contains(t, event(), "Hel")
		received <- struct{}{}
	}
	require.Contains(t, event(), "stop")
	require.Equal(t, "data: [DONE]\n", event())
	_, err := events.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}

// A service that keeps a connection alive with comments for long is answered for all the same, and they are not kept.
func TestManyCommentsBeforeTheContentDoNoHarm(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	s, _ := g.failing("one", func(x *exchange) {
		x.head()
		for range 8 << 10 {
			x.say(": " + strings.Repeat("-", 1000) + "\n\n")
		}
		x.say(x.opening + x.first + x.ending)
		x.end()
	})
	a := chatsWith(s.ID, snapshot.Target{ServiceID: s.ID})
	a.Limits.FirstContent = 0
	g.serveAll(s, a)
	got := g.chat(`{"model":"asked","stream":true}`)
	require.Equal(t, 200, got.status)
	var events []string
	for line := range strings.Lines(got.body) {
		if strings.HasPrefix(line, "data: ") {
			events = append(events, line)
		}
	}
	require.Len(t, events, 4, "%d bytes", len(got.body))
	require.Equal(t, "data: [DONE]\n", events[3])
	require.Equal(t, "complete", g.usage(1)[0].EndState)
}

// Whatever is streamed has content and an end of its own. None of it is late, cut or asked for twice.
func TestStreamsThatEndInTheirOwnWayAreWhole(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	cases := []struct{ name, route, contentType, pieces string }{
		{"a chat", chatRoute, "text/event-stream", openAIDialect.opening + "|" + openAIDialect.first + "|" + openAIDialect.ending},
		{"a chat that calls a tool", chatRoute, "text/event-stream", openAIDialect.opening + "|" +
			`data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}}]}` + "\n\n|" +
			`data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}` + "\n\n|" + openAIDialect.ending},
		{"a chat that thinks first", chatRoute, "text/event-stream", openAIDialect.opening + "|" +
			`data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}` + "\n\n|" + `data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}` + "\n\n|" +
			openAIDialect.first + openAIDialect.ending},
		{"a chat with CR LF", chatRoute, "text/event-stream", strings.ReplaceAll(
			openAIDialect.opening+"|"+openAIDialect.first+"|"+openAIDialect.second+"|"+openAIDialect.ending, "\n", "\r\n")},
		{"a message", "Anthropic POST Exact /v1/messages json", "text/event-stream", anthropicDialect.opening + "|" + anthropicDialect.first + "|" + anthropicDialect.ending},
		{"a message that calls a tool", "Anthropic POST Exact /v1/messages json", "text/event-stream", anthropicDialect.opening + "|" +
			"event: content_block_start\ndata: " + `{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}` + "\n\n|" +
			"event: content_block_delta\ndata: " + `{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}` + "\n\n|" +
			anthropicDialect.ending},
		{
			"a completion", "OpenAI/v1 POST Exact /v1/completions json", "text/event-stream",
			`data: {"choices":[{"text":"a"}]}` + "\n\n|" + `data: {"choices":[{"text":"b"}]}` + "\n\n|" +
				`data: {"choices":[{"text":"","finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n",
		},
		{
			"a response", "OpenAI/v1 POST Exact /v1/responses json", "text/event-stream",
			"event: response.created\n" + `data: {"type":"response.created","response":{"id":"r1","model":"m"}}` + "\n\n|" +
				"event: response.output_text.delta\n" + `data: {"type":"response.output_text.delta","delta":"a"}` + "\n\n|" +
				"event: response.output_text.delta\n" + `data: {"type":"response.output_text.delta","delta":"b"}` + "\n\n|" +
				"event: response.completed\n" + `data: {"type":"response.completed","response":{"id":"r1","error":null}}` + "\n\n",
		},
		{
			"an image", "OpenAI/v1 POST Exact /v1/images/generations json", "text/event-stream",
			"event: image_generation.partial_image\n" + `data: {"type":"image_generation.partial_image","b64_json":"iVBORw0=","partial_image_index":0}` + "\n\n|" +
				"event: image_generation.partial_image\n" + `data: {"type":"image_generation.partial_image","b64_json":"iVBORw0=","partial_image_index":1}` + "\n\n|||" +
				"event: image_generation.completed\n" + `data: {"type":"image_generation.completed","b64_json":"iVBORw0="}` + "\n\n",
		},
		{
			"speech as events", "OpenAI/v1 POST Exact /v1/audio/speech json", "text/event-stream",
			`data: {"type":"speech.audio.delta","audio":"UklGRg=="}` + "\n\n|" + `data: {"type":"speech.audio.delta","audio":"UklGRg=="}` + "\n\n|||" +
				`data: {"type":"speech.audio.done"}` + "\n\n",
		},
		{"speech as sound", "OpenAI/v1 POST Exact /v1/audio/speech json", "audio/mpeg", "ID3|sound|sound|sound"},
		{
			"DashScope", "DashScope POST Exact /api/v1/services/x json", "text/event-stream;charset=UTF-8",
			"id:1\nevent:result\n:HTTP_STATUS/200\n" + `data:{"output":{"text":"a","finish_reason":"null"},"request_id":"q"}` + "\n\n|" +
				"id:2\nevent:result\n:HTTP_STATUS/200\n" + `data:{"output":{"text":"ab","finish_reason":"null"},"request_id":"q"}` + "\n\n|" +
				"id:3\nevent:result\n:HTTP_STATUS/200\n" + `data:{"output":{"text":"ab","finish_reason":"stop"},"request_id":"q"}` + "\n\n",
		},
		{"a document though a stream is asked for", chatRoute, "application/json", openAIDialect.document[:20] + "|" + openAIDialect.document[20:60] + "|" + openAIDialect.document[60:]},
		{"lines of JSON", chatRoute, "application/x-ndjson", "{\"a\":1}\n|{\"a\":2}\n|{\"a\":3}\n"},
	}
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		var i int
		_, _ = fmt.Sscan(r.URL.Query().Get("case"), &i)
		w.Header().Set("Content-Type", cases[i].contentType)
		for k, piece := range strings.Split(cases[i].pieces, "|") {
			if k > 0 {
				time.Sleep(slowPause)
			}
			_, _ = io.WriteString(w, piece)
			_ = http.NewResponseController(w).Flush()
		}
	})
	s := g.outside(e.URL)
	other, fallback := g.failing("fallback", answers)
	things := []any{s, other}
	for i, c := range cases {
		a := apiOf(s.ID, c.route)
		a.BasePath, a.RemoveBasePath = fmt.Sprint("/", i), true
		a.Limits, a.Fallback = usualLimits(), &snapshot.Fallback{Targets: []snapshot.Target{{ServiceID: other.ID}}}
		a.Limits.Idle = 2000
		things = append(things, a)
	}
	g.serveAll(things...)
	var calls errgroup.Group
	for i, c := range cases {
		calls.Go(func() error {
			r := request(t, http.MethodPost, g.at(fmt.Sprintf("/%d%s?case=%d", i, strings.Fields(c.route)[3], i)), `{"model":"asked","stream":true}`)
			r.Header.Set("X-Dashscope-Sse", "enable")
			resp, err := client.Do(r)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if want := strings.ReplaceAll(c.pieces, "|", ""); err != nil || resp.StatusCode != http.StatusOK || string(text) != want {
				return fmt.Errorf("%s: %d %q %w", c.name, resp.StatusCode, text, err)
			}
			return nil
		})
	}
	require.NoError(t, calls.Wait())
	for _, row := range g.usage(len(cases)) {
		require.Equal(t, "complete", row.EndState, row.Route)
	}
	require.Zero(t, fallback.asked.Load())
}

func TestStreamsOfDashScopeEndWithAnErrorOfItsOwn(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	const event = "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{\"output\":{\"text\":\"a\"},\"request_id\":\"q\"}\n\n"
	said := map[string]string{"/cut": event + "id:2\nevent:res", "/idle": event + "id:2\n", "/silent": ""}
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream;charset=UTF-8")
		_, _ = io.WriteString(w, said[r.URL.Path])
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/cut" {
			panic(http.ErrAbortHandler)
		}
		<-r.Context().Done()
	})
	s := g.outside(e.URL)
	a := apiOf(s.ID, "DashScope POST Prefix / json")
	a.Limits = usualLimits()
	g.serveAll(s, a)
	for path, status := range map[string]int{"/cut": 502, "/idle": 504, "/silent": 504} {
		r := request(t, http.MethodPost, g.at(path), `{"model":"asked"}`)
		r.Header.Set("X-Dashscope-Sse", "enable")
		got := do(t, r)
		if path == "/silent" {
			require.Equal(t, status, got.status, got.body)
			require.Contains(t, got.body, `"request_id":"`+got.header.Get("X-Request-Id")+`"`)
			continue
		}
		require.Equal(t, 200, got.status, got.body)
		last, found := strings.CutPrefix(got.body, event)
		require.True(t, found, got.body)
		require.True(t, strings.HasPrefix(last, fmt.Sprintf("event:error\n:HTTP_STATUS/%d\ndata: {\"code\":\"", status)), "%s: %q", path, last)
		require.Equal(t, 1, strings.Count(last, "\n\n"))
		require.True(t, strings.HasSuffix(last, "\n\n"))
		require.Contains(t, last, `"request_id":"`+got.header.Get("X-Request-Id")+`"`)
	}
}

// A client that reads slowly is not a service that fell silent.
func TestASlowClientIsNotTakenForASilentService(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	text := strings.Repeat("0123456789", 10<<10)
	s, _ := g.failing("one", func(x *exchange) {
		if !x.streamed {
			x.whole(http.StatusOK, x.contentType(), `{"choices":[{"message":{"content":"`+strings.Repeat(text, 200)+`"}}]}`)
			return
		}
		opens(x)
		for range 200 {
			x.say(`data: {"choices":[{"delta":{"content":"` + text + `"}}]}` + "\n\n")
		}
		x.say(x.ending)
		x.end()
	})
	a := apiOf(s.ID, chatRoute)
	a.Limits = &snapshot.Limits{Idle: 1000}
	g.serveAll(s, a)
	for _, stream := range []bool{true, false} {
		resp, err := client.Do(request(t, http.MethodPost, g.at("/v1/chat/completions"), fmt.Sprintf(`{"model":"asked","stream":%t}`, stream)))
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		defer resp.Body.Close()
		var got strings.Builder
		_, err = io.CopyN(&got, resp.Body, 1000)
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		_, err = io.Copy(&got, resp.Body)
		require.NoError(t, err, "stream: %t, %d bytes", stream, got.Len())
		if stream {
			require.True(t, strings.HasSuffix(got.String(), "data: [DONE]\n\n"), got.String()[got.Len()-300:])
		}
		require.Greater(t, got.Len(), 200*len(text))
	}
	for _, row := range g.usage(2) {
		require.Equal(t, "complete", row.EndState)
	}
}

// What is too long to be held back passes all the same: a document, and an event with an image.
func TestWhatIsTooLongToBeHeldPasses(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	image := strings.Repeat("iVBORw0KGgo=", 256<<10)
	event := "event: image_generation.completed\n" + `data: {"type":"image_generation.completed","b64_json":"` + image + `"}` + "\n\n"
	document := `{"data":[{"b64_json":"` + image + `"}]}`
	said := map[string]string{
		"text/event-stream": event + event, "application/json": document,
		"text/event-stream;chat": openAIDialect.opening + `data: {"choices":[{"delta":{"content":"` + image + `"}}]}` + "\n\n" + openAIDialect.ending,
	}
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		kind := r.URL.Query().Get("kind")
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, said[kind])
	})
	s := g.outside(e.URL)
	other, fallback := g.failing("fallback", answers)
	a := fallsTo(apiOf(s.ID, chatRoute, "OpenAI/v1 POST Exact /v1/images/generations json"), snapshot.Target{ServiceID: other.ID})
	a.Limits = &snapshot.Limits{FirstContent: 5000, Idle: 5000}
	g.serveAll(s, other, a)
	for _, c := range []struct{ path, kind, body string }{
		{"/v1/images/generations", "text/event-stream", `{"stream":true}`},
		{"/v1/images/generations", "application/json", `{"stream":false}`},
		{"/v1/chat/completions", "text/event-stream;chat", `{"stream":true}`},
		{"/v1/chat/completions", "application/json", `{"stream":false}`},
	} {
		got := do(t, request(t, http.MethodPost, g.at(c.path+"?kind="+url.QueryEscape(c.kind)), c.body))
		require.Equal(t, 200, got.status, "%s: %.300s", c.kind, got.body)
		require.True(t, said[c.kind] == got.body, "%s %s: %d bytes of %d", c.path, c.kind, len(got.body), len(said[c.kind]))
	}
	require.Zero(t, fallback.asked.Load())
}

// Nobody waits for a service that has failed until another one has answered.
func TestWhoFailedIsLetGoBeforeAnotherAnswers(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	finish := make(chan struct{})
	end := sync.OnceFunc(func() { close(finish) })
	good, _ := g.failing("good", func(x *exchange) {
		starts(x)
		<-finish
		x.say(x.second + x.ending)
		x.end()
	})
	t.Cleanup(end)
	failures := map[string]func(*exchange){
		"silent": staysSilent, "opens": opens,
		"says nothing at length": func(x *exchange) {
			x.head()
			for range 16 {
				x.say(strings.Repeat(x.opening, 1000))
			}
		},
		"half an error": func(x *exchange) {
			x.begin(http.StatusInternalServerError, "text/html", "Content-Length: 1000")
			x.say("<html>")
		},
		"an error first": func(x *exchange) {
			x.head()
			x.say(x.failure)
		},
	}
	things, services := []any{good}, map[string]*faulty{}
	for name, behave := range failures {
		s, f := g.failing(name, behave)
		a := fallsTo(apiOf(s.ID, chatRoute), snapshot.Target{ServiceID: good.ID})
		a.BasePath, a.RemoveBasePath = "/"+url.PathEscape(name), true
		if name == "silent" || name == "opens" {
			a.Limits = &snapshot.Limits{FirstContent: 200}
		}
		things, services[name] = append(things, s, a), f
	}
	g.serveAll(things...)
	for name, f := range services {
		resp, err := client.Do(request(t, http.MethodPost, g.at("/"+url.PathEscape(name)+"/v1/chat/completions"), `{"stream":true}`))
		require.NoError(t, err)
		t.Cleanup(func() { _ = resp.Body.Close() })
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, `"good"`, name)
		require.EqualValues(t, 1, f.asked.Load(), name)
		require.Eventually(t, func() bool { return f.owes.Load() == 0 }, time.Second, time.Millisecond, name)
	}
}

// Without a fallback and without a limit for the first content nothing is held back.
func TestWithoutAFallbackWhatPrecedesTheContentPassesAtOnce(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	var calls errgroup.Group
	var cells []*cell
	var things []any
	for _, f := range []fault{
		{"sends headers and no more", sendsHeadersOnly, ending{idleEvents, "upstream_timeout", never, ""}, ending{}},
		{"sends what precedes the content and no more", opens, ending{idleEvents, "upstream_timeout", never, ""}, ending{}},
		{"sends comments for ever", comments, ending{endless, "client_gone", never, ""}, ending{}},
		{"breaks off within the first event with content", cutsTheFirstLine, ending{cutEvents, "upstream_cut", never, ""}, ending{}},
		{"breaks the encoding in chunks before any content", breaksChunksFirst, ending{cutEvents, "upstream_cut", never, ""}, ending{}},
		{"answers 200, and an error as the first event", failsFirst, ending{asItCame, "upstream_error", never, ""}, ending{}},
		{"breaks off after some of the content", cutsAfterAnEvent, ending{cutEvents, "upstream_cut", never, ""}, ending{}},
		{"has nothing to say", answersNothing, ending{asItCame, "complete", never, ""}, ending{}},
	} {
		for _, d := range []*dialect{openAIDialect, anthropicDialect} {
			c := newCell(g, fmt.Sprint("/", len(cells)), f, d, true, modes[0])
			c.api.Limits.FirstContent = 0
			cells, things = append(cells, c), append(things, c.api, c.primary, c.fallback)
		}
	}
	g.serveAll(things...)
	for _, c := range cells {
		calls.Go(func() error { return c.call(g) })
	}
	require.NoError(t, calls.Wait())
	recorded := g.usage(len(cells)) // what is recorded has been counted
	mistakes := append(mistakesSeen(cells), mistakesCounted(cells, g.metrics())...)
	mistakes = append(mistakes, mistakesRecorded(cells, recorded)...)
	require.Empty(t, strings.Join(mistakes, "\n"))
}

// A stream that fails over TLS and HTTP/2 does so in the client's eyes as one over plain HTTP/1.1 does.
func TestFaultsOverHTTP2(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	u := newCutUpstream(t, true)
	var versions sync.Map
	u.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		versions.Store(r.ProtoMajor, true)
		said := openAIDialect.as("primary")
		pass := func(text string) {
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
		}
		kind := r.URL.Query().Get("kind")
		if kind == "silent" {
			<-r.Context().Done()
			return
		}
		if kind == "busy" {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		pass(said.opening)
		if kind == "role" {
			<-r.Context().Done()
			return
		}
		if kind == "reset" {
			panic(http.ErrAbortHandler)
		}
		pass(said.first)
		time.Sleep(slowPause)
		switch kind {
		case "cut":
			panic(http.ErrAbortHandler)
		case "idle":
			<-r.Context().Done()
		case "whole":
			pass(said.ending)
		}
	})
	s := g.outside(u.URL)
	good, f := g.failing("good", answers)
	alone, helped := apiOf(s.ID, chatRoute), chatsWith(s.ID, snapshot.Target{ServiceID: good.ID})
	alone.Limits, alone.BasePath, alone.RemoveBasePath = usualLimits(), "/alone", true
	g.serveAll(s, good, alone, helped)
	begun := strings.ReplaceAll(openAIDialect.opening+openAIDialect.first, "MODEL", "primary")
	for _, c := range []struct {
		kind   string
		status int
		code   string // of the refusal, or of the event at the end
		falls  bool
	}{
		{"silent", 504, "first_content_timeout", true},
		{"busy", 429, "", true},
		{"role", 504, "first_content_timeout", true},
		{"reset", 502, "engine_failed", true},
		{"cut", 200, "upstream_cut", false},
		{"idle", 200, "upstream_idle_timeout", false},
		{"early", 200, "upstream_cut", false},
		{"whole", 200, "", false},
	} {
		got := do(t, request(t, http.MethodPost, g.at("/alone/v1/chat/completions?kind="+c.kind), `{"stream":true}`))
		require.Equal(t, c.status, got.status, "%s: %s", c.kind, got.body)
		switch {
		case c.status == 200 && c.code != "":
			last, found := strings.CutPrefix(got.body, begun)
			require.True(t, found, "%s: %s", c.kind, got.body)
			code, err := errorEvent(openAIDialect, last)
			require.NoError(t, err, c.kind)
			require.Equal(t, "the error "+c.code, code, c.kind)
		case c.status == 200:
			require.Equal(t, begun+strings.ReplaceAll(openAIDialect.ending, "MODEL", "primary"), got.body)
		case c.code != "":
			require.Equal(t, c.code, got.code(t))
		}
		before := f.asked.Load()
		got = do(t, request(t, http.MethodPost, g.at("/v1/chat/completions?kind="+c.kind), `{"stream":true}`))
		require.Equal(t, 200, got.status, "%s: %s", c.kind, got.body)
		require.Equal(t, c.falls, f.asked.Load() == before+1, c.kind)
		require.Equal(t, c.falls, strings.Contains(got.body, `"good"`), "%s: %s", c.kind, got.body)
	}
	_, spoken := versions.Load(2)
	require.True(t, spoken)
	g.await(func() bool { return u.streams.Load() == 0 })
}

// A gateway that shuts down tells those whose answer has not begun so, and asks nobody else for it.
func TestAShutdownIsNoFailureOfAService(t *testing.T) {
	t.Parallel()
	g := prepareRig(t, newDB(t))
	g.settings.DrainTimeout = 50 * time.Millisecond
	g.start()
	g.awaitReady()
	silent, first := g.failing("silent", opens)
	good, second := g.failing("good", answers)
	a := chatsWith(silent.ID, snapshot.Target{ServiceID: good.ID})
	a.Limits = nil
	g.serveAll(silent, good, a)
	type result struct {
		answer
		err error
	}
	answered := make(chan result, 2)
	for _, stream := range []bool{true, false} {
		go func() {
			resp, err := client.Do(request(t, http.MethodPost, g.at("/v1/chat/completions"), fmt.Sprintf(`{"stream":%t}`, stream)))
			if err != nil {
				answered <- result{err: err}
				return
			}
			text, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			answered <- result{answer{resp.StatusCode, resp.Header, string(text)}, err}
		}()
	}
	g.await(func() bool { return first.asked.Load() == 2 })
	g.halt()
	for range 2 {
		got := <-answered
		require.NoError(t, got.err)
		require.Equal(t, []any{503, "gateway_shutting_down"}, []any{got.status, got.code(t)})
		require.Equal(t, "1", got.header.Get("Retry-After"))
	}
	require.Zero(t, second.asked.Load())
}

// A path may be asked for with one slash more at its end, and is then the same.
func TestAChatWithASlashAtItsEndIsAChat(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	s, _ := g.failing("one", func(x *exchange) {
		x.dialect, x.streamed = openAIDialect.as("one"), true
		endsTooEarly(x)
	})
	g.serveAll(s, apiOf(s.ID, chatRoute))
	got := do(t, request(t, http.MethodPost, g.at("/v1/chat/completions/"), `{"stream":true}`))
	require.Equal(t, 200, got.status)
	require.Contains(t, got.body, `"code":"upstream_cut"`)
}
