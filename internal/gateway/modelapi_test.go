package gateway_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const upstreamKey = "sk-upstream"

// apiOf is an API that answers for any host, with one route for each "PROTOCOL METHODS TYPE PATH [MODEL]".
func apiOf(service string, routes ...string) snapshot.ModelAPI {
	a := snapshot.ModelAPI{
		ID: ids.New(ids.HTTPAPI), Name: "chat", GatewayID: ids.New(ids.Gateway), AnyHost: true, BasePath: "/",
		Scene: "SingleService", Targets: []snapshot.Target{{ServiceID: service}},
	}
	for _, spec := range routes {
		fields := append(strings.Fields(spec), "")
		a.Protocols = []string{fields[0]}
		a.Routes = append(a.Routes, snapshot.Route{
			ID: ids.New(ids.HTTPAPIRoute), Name: spec, Protocol: fields[0], Methods: strings.Split(fields[1], ","),
			PathType: fields[2], Path: fields[3], Model: fields[4],
		})
	}
	return a
}

const chatRoute = "OpenAI/v1 POST Exact /v1/chat/completions json"

// outside is a service that is not ours.
func (r *rig) outside(urls ...string) snapshot.AIService {
	s := snapshot.AIService{ID: ids.New(ids.AIService), Name: "outside", URLs: urls, KeyHeader: "Authorization", KeyPrefix: "Bearer "}
	sealed, err := r.box.Seal(snapshot.ServiceKeyPurpose(s.ID), secret.New(upstreamKey))
	require.NoError(r.t, err)
	s.SealedKeys = [][]byte{sealed}
	return s
}

// serveAll publishes things of any kind and waits until the gateway serves them.
func (r *rig) serveAll(things ...any) {
	r.t.Helper()
	var items []item
	for _, thing := range things {
		body, err := snapshot.Encode(thing)
		require.NoError(r.t, err)
		i := item{body: body}
		switch v := thing.(type) {
		case snapshot.ModelService:
			i.kind, i.id = snapshot.KindModelService, v.ID
		case snapshot.ModelAPI:
			i.kind, i.id = snapshot.KindModelAPI, v.ID
		case snapshot.AIService:
			i.kind, i.id = snapshot.KindAIService, v.ID
		case snapshot.Consumer:
			i.kind, i.id = snapshot.KindConsumer, v.ID
		case snapshot.Domain:
			i.kind, i.id = snapshot.KindDomain, v.ID
		case item:
			i = v
		}
		items = append(items, i)
	}
	r.awaitRevision(r.publishItems(true, items...))
}

func (r *rig) at(path string) string { return "http://" + r.Addr() + path }

func (r *rig) chat(body string) answer {
	r.t.Helper()
	return do(r.t, request(r.t, http.MethodPost, r.at("/v1/chat/completions"), body))
}

// echo answers with what it was asked for.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
}

func TestModelAPIAnswersFromAModelServiceAndFollowsItsReplicas(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	one := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "Bearer "+engineKey, r.Header.Get("Authorization"))
		echo(w, r)
	})
	two := newEngine(t, says("two"))
	s := g.service(one.addr)
	s.Allow = nil // the list is for those who call the service itself
	target := snapshot.AIService{ID: ids.New(ids.AIService), ModelServiceID: s.ID}
	a := apiOf(target.ID, chatRoute, "OpenAI/v1 GET Prefix /metrics")
	a.BasePath = "/chat"
	g.serveAll(a, target)
	ask := func() answer {
		return do(t, request(t, http.MethodPost, g.at("/chat/v1/chat/completions?a=%2F"), `{"model":"demo"}`))
	}
	require.Equal(t, "no_healthy_replica", ask().code(t), "the service is not published yet")

	g.serveAll(s)
	got := ask()
	require.Equal(t, 200, got.status, got.body)
	require.Equal(t, `POST /v1/chat/completions?a=%2F {"model":"demo"}`, got.body)
	require.Equal(t, 404, do(t, request(t, http.MethodGet, g.at("/chat/metrics"), "")).status, "engines are asked for /v1/ only")

	moved := g.service(two.addr)
	moved.ID = s.ID
	g.serveAll(moved)
	require.Equal(t, "two", ask().body)
	g.awaitGauge(`engineshed_gateway_api_requests_total{api="`+a.ID+`",outcome="2xx"}`, 2)
	require.EqualValues(t, 1, one.calls.Load())
}

func TestRoutesAndMethods(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, echo)
	s := g.outside(e.URL)
	s.Paths = map[string]string{"/v1/chat/completions": "/compatible-mode/v1/chat/completions", "/v1/files": "/v2/files"}
	a := apiOf(s.ID, chatRoute, "OpenAI/v1 GET,POST,PUT,PATCH,DELETE Prefix /v1/files", "ComfyUI GET Exact /models",
		"ComfyUI GET Template /models/{folder}", "ComfyUI GET,POST,DELETE Template /userdata/{file}",
		"ComfyUI POST Template /userdata/{file}/move/{dest}", "ComfyUI GET Regex /view/[0-9]+")
	stripped := a
	stripped.ID, stripped.BasePath, stripped.RemoveBasePath = ids.New(ids.HTTPAPI), "/api/x", true
	kept := a
	kept.ID, kept.BasePath = ids.New(ids.HTTPAPI), "/kept"
	g.serveAll(s, a, stripped, kept)
	for _, c := range []struct{ asked, forwarded string }{
		{"/v1/chat/completions", "/compatible-mode/v1/chat/completions"},
		{"/v1/files", "/v2/files"},
		{"/v1/files/f-1/content?x=1", "/v2/files/f-1/content?x=1"},
		{"/models", "/models"},
		{"/models/a%2Fb", "/models/a%2Fb"},
		{"/userdata/my%20file%2fx.json/move/y%2Fz", "/userdata/my%20file%2Fx.json/move/y%2Fz"},
		{"/userdata/w.json", "/userdata/w.json"},
		{"/view/12", "/view/12"},
	} {
		for base, prefix := range map[string]string{"": "", "/api/x": "", "/kept": "/kept"} {
			asked, _, _ := strings.Cut(c.asked, "?")
			served := 0
			for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} {
				got := do(t, request(t, method, g.at(base+c.asked), ""))
				want := prefix + c.forwarded
				if strings.HasPrefix(asked, "/v1/") {
					want = c.forwarded // the service's own name replaces it all
				}
				switch got.status {
				case 200:
					served++
					require.Equal(t, method+" "+want+" ", got.body)
				default:
					require.Equal(t, 405, got.status, "%s %s", method, base+c.asked)
					require.NotContains(t, got.header.Get("Allow"), method)
					require.NotEmpty(t, got.header.Get("Allow"))
				}
			}
			require.Positive(t, served, c.asked)
		}
	}
	before := e.calls.Load()
	for _, path := range []string{
		"/", "/v1", "/v1/chat", "/v1/chat/completions/x", "/v1/filesx", "/models/a/b", "/userdata", "/api/xy/models", "/api/x", "/view/a",
		"/services", "/public/models", "/operator/x", "/v1/chat%2Fcompletions",
	} {
		got := do(t, request(t, http.MethodGet, g.at(path), ""))
		require.Equal(t, 404, got.status, path)
	}
	for _, path := range []string{"/models/..%2Fx", "/models/%2e%2e", "//models", "/models/a%00", "/models/%252e", "/models/.."} {
		require.Equal(t, 400, rawAnswer(t, g.Addr(), "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), path)
	}
	require.Equal(t, before, e.calls.Load())
	require.Equal(t, 404, do(t, request(t, http.MethodGet, "http://"+g.PublicAddr()+"/models", "")).status, "not on the public listener")
}

func TestErrorsHaveTheProtocolsShape(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	s := g.outside("http://" + closedAddr(t))
	with := func(base, protocol string) snapshot.ModelAPI {
		a := apiOf(s.ID, protocol+" POST Exact /x json", protocol+" POST Exact /gone")
		a.BasePath = base
		a.Routes[0].Targets = []snapshot.Target{{ServiceID: s.ID, Model: "m"}}
		return a
	}
	closed := func(base, protocol string) snapshot.ModelAPI {
		a := with(base, protocol)
		a.Auth = true
		return a
	}
	g.serveAll(s, with("/o", "OpenAI/v1"), with("/a", "Anthropic"), with("/d", "DashScope"), with("/v", "vLLM"), with("/c", "ComfyUI"),
		closed("/oc", "OpenAI/v1"), closed("/ac", "Anthropic"), closed("/dc", "DashScope"))
	for _, c := range []struct {
		method, path, body              string
		status                          int
		openAI, anthropicTo, dashScopes string
	}{
		{"POST", "/nothing", "{}", 404, "unknown_url", "not_found_error", "InvalidURL"},
		{"GET", "/x", "", 405, "method_not_allowed", "invalid_request_error", "MethodNotAllowed"},
		{"POST", "c/x", "{}", 401, "invalid_api_key", "authentication_error", "InvalidApiKey"},
		{"POST", "/x", "{", 400, "invalid_body", "invalid_request_error", "InvalidParameter"},
		{"POST", "/x", `{"model":"` + strings.Repeat("x", 2<<20) + `"}`, 413, "request_too_large", "request_too_large", "RequestTooLarge"},
		{"POST", "/x", "{}", 503, "upstream_unreachable", "overloaded_error", "ServiceUnavailable"},
		{"POST", "/gone", "{}", 503, "upstream_unreachable", "overloaded_error", "ServiceUnavailable"},
	} {
		for _, base := range []string{"/o", "/v", "/c"} {
			if base != "/o" && c.status == 401 {
				continue
			}
			got := do(t, request(t, c.method, g.at(base+c.path), c.body))
			require.Equal(t, c.status, got.status, got.body)
			require.Equal(t, c.openAI, got.code(t))
		}
		got := do(t, request(t, c.method, g.at("/a"+c.path), c.body))
		var anthropic struct {
			Type  string
			Error struct{ Type, Message string }
		}
		require.NoError(t, json.Unmarshal([]byte(got.body), &anthropic), got.body)
		require.Equal(t, []any{c.status, "error", c.anthropicTo}, []any{got.status, anthropic.Type, anthropic.Error.Type})
		require.NotEmpty(t, anthropic.Error.Message)

		got = do(t, request(t, c.method, g.at("/d"+c.path), c.body))
		var dashScope struct {
			Code, Message string
			RequestID     string `json:"request_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(got.body), &dashScope), got.body)
		require.Equal(t, []any{c.status, c.dashScopes, got.header.Get("X-Request-Id")}, []any{got.status, dashScope.Code, dashScope.RequestID})
		require.NotEmpty(t, dashScope.Message)
	}
}

// consumer has one key, carried as source and name say, and may call the APIs.
func consumer(key, source, name string, allowed ...string) snapshot.Consumer {
	return snapshot.Consumer{
		ID: ids.New(ids.Consumer), Name: "alice", Allowed: allowed,
		Keys: []snapshot.ConsumerKey{{Hash: snapshot.HashKey(key), Source: source, Name: name}},
	}
}

func TestConsumersKeys(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	var mu sync.Mutex
	var seen string
	e := newEngine(t, func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = fmt.Sprint(r.Header, r.RequestURI)
	})
	s := g.outside(e.URL)
	openAI := apiOf(s.ID, "OpenAI/v1 GET Exact /v1/models")
	openAI.Auth = true
	messages := apiOf(s.ID, "Anthropic GET Exact /v1/models")
	messages.Auth, messages.BasePath = true, "/a"
	nobody := apiOf(s.ID, "OpenAI/v1 GET Exact /v1/models")
	nobody.Auth, nobody.BasePath = true, "/nobody"
	g.serveAll(s, openAI, messages, nobody,
		consumer("k-default", "Default", "", openAI.ID, messages.ID), consumer("k-header", "Header", "openai-key", openAI.ID),
		consumer("k-query", "QueryString", "api key", openAI.ID), consumer("k-auth", "Header", "authorization", openAI.ID),
		consumer("k-stranger", "Default", ""), consumer("k-strange-header", "Header", "Accept"), consumer("k-strange-query", "QueryString", "q"))
	for name, c := range map[string]struct {
		path   string
		header []string
		status int
	}{
		"default":                        {"/v1/models", []string{"Authorization", "Bearer k-default"}, 200},
		"default, other case":            {"/v1/models", []string{"Authorization", "bearer k-default"}, 200},
		"missing":                        {"/v1/models", nil, 401},
		"unknown":                        {"/v1/models", []string{"Authorization", "Bearer k-unknown"}, 401},
		"empty":                          {"/v1/models", []string{"Authorization", "Bearer "}, 401},
		"basic":                          {"/v1/models", []string{"Authorization", "Basic k-default"}, 401},
		"not allowed":                    {"/v1/models", []string{"Authorization", "Bearer k-stranger"}, 403},
		"nobody without a rule":          {"/nobody/v1/models", []string{"Authorization", "Bearer k-default"}, 403},
		"twice":                          {"/v1/models", []string{"Authorization", "Bearer k-default", "Authorization", "Bearer k-default"}, 401},
		"two keys":                       {"/v1/models", []string{"Authorization", "Bearer k-default", "Openai-Key", "k-header"}, 401},
		"key and unknown key":            {"/v1/models?api+key=x", []string{"Authorization", "Bearer k-default"}, 401},
		"header":                         {"/v1/models", []string{"Openai-Key", "k-header"}, 200},
		"header key as bearer":           {"/v1/models", []string{"Authorization", "Bearer k-header"}, 401},
		"bearer key in a header":         {"/v1/models", []string{"Openai-Key", "k-default"}, 401},
		"x-api-key":                      {"/v1/models", []string{"X-Api-Key", "k-default"}, 401},
		"x-api-key of Anthropic":         {"/a/v1/models", []string{"X-Api-Key", "k-default"}, 200},
		"Anthropic, bearer":              {"/a/v1/models", []string{"Authorization", "Bearer k-default"}, 200},
		"Anthropic, both":                {"/a/v1/models", []string{"Authorization", "Bearer k-default", "X-Api-Key", "k-default"}, 401},
		"query":                          {"/v1/models?b=2&api+key=k-query&a=%2f", nil, 200},
		"query, escaped":                 {"/v1/models?b=2&ap%69%20key=k%2Dquery&a=%2f", nil, 200},
		"query, twice":                   {"/v1/models?api+key=k-query&api%20key=k-query", nil, 401},
		"query key as bearer":            {"/v1/models", []string{"Authorization", "Bearer k-query"}, 401},
		"own authorization":              {"/v1/models", []string{"Authorization", "k-auth"}, 200},
		"own authorization, bearer":      {"/v1/models", []string{"Authorization", "Bearer k-auth"}, 200},
		"not allowed, own header":        {"/v1/models", []string{"Accept", "k-strange-header"}, 403},
		"not allowed, own query":         {"/v1/models?q=k-strange-query", nil, 403},
		"another's header does not hurt": {"/v1/models?q=1", []string{"Authorization", "Bearer k-default", "Accept", "*/*"}, 200},
	} {
		r := request(t, http.MethodGet, g.at(c.path), "")
		r.Header = http.Header{}
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Add(c.header[i], c.header[i+1])
		}
		before := e.calls.Load()
		got := do(t, r)
		require.Equal(t, c.status, got.status, "%s: %s", name, got.body)
		if c.status != 200 {
			require.Equal(t, before, e.calls.Load(), name)
			require.Equal(t, c.status == 401, got.header.Get("WWW-Authenticate") != "", name)
			continue
		}
		mu.Lock()
		require.Contains(t, seen, "Bearer "+upstreamKey, name)
		require.NotContains(t, strings.ReplaceAll(seen, upstreamKey, ""), "k-", name)
		if strings.HasPrefix(name, "query") {
			require.Contains(t, seen, "/v1/models?b=2&a=%2f", "the others are as they were sent")
		}
		mu.Unlock()
	}
}

func TestRevokedKeyOpensNothing(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	s := g.outside(e.URL)
	a := apiOf(s.ID, chatRoute)
	a.Auth = true
	c := consumer(callerKey, "Default", "", a.ID)
	g.serveAll(s, a, c)
	require.Equal(t, 200, g.chat("{}").status)

	c.Allowed = nil
	began := time.Now()
	g.serveAll(c)
	require.Equal(t, 403, g.chat("{}").status)
	require.Less(t, time.Since(began), 5*time.Second)

	c.Allowed = []string{a.ID}
	g.serveAll(c)
	require.Equal(t, 200, g.chat("{}").status)
	g.serveAll(item{kind: snapshot.KindConsumer, id: c.ID})
	require.Equal(t, 401, g.chat("{}").status)
	g.serveAll(item{kind: snapshot.KindModelAPI, id: a.ID})
	require.Equal(t, 404, g.chat("{}").status)
}

func TestModelIsWrittenIntoTheBody(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%d %v %s", r.ContentLength, r.TransferEncoding, body)
	})
	s := g.outside(e.URL)
	a := apiOf(s.ID, chatRoute, "OpenAI/v1 POST Exact /v1/images/edits multipart")
	a.Targets[0].Model = "qwen-plus"
	pass := a
	pass.ID, pass.BasePath, pass.Targets = ids.New(ids.HTTPAPI), "/pass", []snapshot.Target{{ServiceID: s.ID}}
	g.serveAll(s, a, pass)
	long := strings.Repeat("x", 500<<10)
	for _, text := range []string{"hi", long} {
		body := `{ "messages" : [{"content":"` + text + `"}],"model":"gpt-4" ,"stream":false}`
		want := strings.Replace(body, "gpt-4", "qwen-plus", 1)
		require.Equal(t, fmt.Sprintf("%d [] %s", len(want), want), g.chat(body).body)

		chunked := request(t, http.MethodPost, g.at("/v1/chat/completions"), "")
		chunked.Body, chunked.ContentLength = io.NopCloser(strings.NewReader(body)), -1
		require.Equal(t, fmt.Sprintf("%d [] %s", len(want), want), do(t, chunked).body)
	}
	require.Equal(t, `27 [] {"model":"qwen-plus","a":1}`, g.chat(`{"a":1}`).body)
	require.Equal(t, "0 [] ", g.chat("").body)

	var form strings.Builder
	w := multipart.NewWriter(&form)
	require.NoError(t, w.WriteField("model", "gpt-image"))
	require.NoError(t, w.WriteField("prompt", "model"))
	require.NoError(t, w.Close())
	edit := request(t, http.MethodPost, g.at("/v1/images/edits"), form.String())
	edit.Header.Set("Content-Type", w.FormDataContentType())
	want := strings.Replace(form.String(), "gpt-image", "qwen-plus", 1)
	require.Equal(t, fmt.Sprintf("%d [] %s", len(want), want), do(t, edit).body)

	for _, body := range []string{"{", "hello", `{"model":"a","model":"b"}`, `{"model":"a","Model":"b"}`} {
		got := g.chat(body)
		require.Equal(t, 400, got.status, body)
		require.Equal(t, "invalid_body", got.code(t))
		passed := do(t, request(t, http.MethodPost, g.at("/pass/v1/chat/completions"), body))
		require.Equal(t, fmt.Sprintf("%d [] %s", len(body), body), passed.body, "nothing to write, nothing to say")
	}
}

func TestRouteWithoutAModelStreamsMoreThanIsKept(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	half := make(chan struct{})
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.CopyN(io.Discard, r.Body, 2<<20)
		close(half) // the upload goes on only now
		rest, _ := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n+rest, err)
	})
	s := g.outside(e.URL)
	g.serveAll(s, apiOf(s.ID, "OpenAI/v1 POST Prefix /v1/files", chatRoute))
	in, out := io.Pipe()
	go func() {
		_, _ = out.Write(make([]byte, 2<<20+64<<10))
		<-half
		_, _ = out.Write(make([]byte, 1<<20))
		_ = out.Close()
	}()
	upload := request(t, http.MethodPost, g.at("/v1/files"), "")
	upload.Body, upload.ContentLength = in, -1
	require.Equal(t, fmt.Sprint(3<<20+64<<10, " <nil>"), do(t, upload).body)

	tooLarge := do(t, request(t, http.MethodPost, g.at("/v1/chat/completions"), strings.Repeat("x", 2<<20)))
	require.Equal(t, 413, tooLarge.status)
	require.Equal(t, 413, rawAnswer(t, g.Addr(), "POST /v1/files HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 536870913\r\n\r\n"))
}

func TestChunkOfAModelAPIReachesTheClientBeforeTheNextIsSent(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	received := make(chan struct{})
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for k := range 20 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", k)
			_ = http.NewResponseController(w).Flush()
			<-received
		}
	})
	s := g.outside(e.URL)
	a := apiOf(s.ID, chatRoute)
	a.Targets[0].Model = "m"
	g.serveAll(s, a)
	lines := bufio.NewScanner(open(t, g.at("/v1/chat/completions")))
	for k := range 20 {
		require.True(t, lines.Scan(), "chunk %d: %v", k, lines.Err())
		require.Equal(t, fmt.Sprintf("data: %d", k), lines.Text())
		require.True(t, lines.Scan())
		received <- struct{}{}
	}
	require.False(t, lines.Scan())
	require.NoError(t, lines.Err())
}

// dialWebSocket asks for an upgrade and returns the connection and its reader after the answer.
func dialWebSocket(t *testing.T, addr, path string) (conn net.Conn, in *bufio.Reader, status int) {
	t.Helper()
	var err error
	conn, err = net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(deadline)))
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer %s\r\nCookie: a=b\r\n\r\n", path, callerKey)
	require.NoError(t, err)
	in = bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil) //nolint:bodyclose // the body is what in still holds, and conn is closed
	require.NoError(t, err)
	require.Empty(t, resp.Header["Set-Cookie"])
	return conn, in, resp.StatusCode
}

func TestWebSocketPasses(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	left := make(chan struct{}, 2)
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		h := r.Header
		if h.Get("Sec-Websocket-Key") == "" || h.Get("Authorization") != "Bearer "+upstreamKey || h["Cookie"] != nil || r.Method != http.MethodGet {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSet-Cookie: a=b\r\n\r\n%s\n", r.RequestURI)
		_, _ = io.Copy(conn, buffered)
		left <- struct{}{}
	})
	s := g.outside(e.URL)
	g.serveAll(s, apiOf(s.ID, "ComfyUI GET Exact /ws", "DashScope POST Exact /post"))
	conn, in, status := dialWebSocket(t, g.Addr(), "/ws?clientId=1")
	require.Equal(t, http.StatusSwitchingProtocols, status)
	line, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "/ws?clientId=1\n", line)
	for _, frame := range []string{"\x81\x02hi\n", "\x82\x03\x00\xff\x01\n"} {
		_, err = io.WriteString(conn, frame)
		require.NoError(t, err)
		back, err := in.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, frame, back)
	}
	_, _, status = dialWebSocket(t, g.Addr(), "/elsewhere")
	require.Equal(t, 404, status)

	conn.Close()
	select {
	case <-left:
	case <-time.After(deadline):
		require.Fail(t, "the service still has the connection")
	}
	staying, in, _ := dialWebSocket(t, g.Addr(), "/ws")
	_, err = in.ReadString('\n')
	require.NoError(t, err)
	g.stop()
	g.await(func() bool { return g.ready() == http.StatusServiceUnavailable })
	_, err = io.WriteString(staying, "still here\n")
	require.NoError(t, err)
	back, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "still here\n", back, "it has its grace")
	staying.Close()
	g.halt()
}

func TestUnaskedUpgradeIsAnError(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		}
	})
	s := g.outside(e.URL)
	g.serveAll(s, apiOf(s.ID, chatRoute))
	require.Equal(t, 502, g.chat("{}").status)
}

func TestOnlyTheListedHeadersReachAService(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	var seen http.Header
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		for name, value := range map[string]string{
			"Set-Cookie": "a=b", "Server": "cloud", "Location": "http://10.0.0.1/", "Strict-Transport-Security": "max-age=1",
			"Openai-Organization": "org-1", "X-Ratelimit-Limit": "5", "Access-Control-Allow-Origin": "*", "X-Powered-By": "uvicorn",
			"X-Envoy-Upstream-Service-Time": "5", "Www-Authenticate": "Basic", "Refresh": "0; url=http://10.0.0.1/", "X-Mse-Consumer": "someone",
			"Retry-After": "7", "Anthropic-Ratelimit-Tokens-Limit": "8", "Content-Disposition": "attachment", "Anthropic-Organization-Id": "org-1",
			"Connection": "X-Hop", "X-Hop": "1", "Keep-Alive": "timeout=5",
		} {
			w.Header().Set(name, value)
		}
		w.WriteHeader(http.StatusFound)
	})
	s := g.outside(e.URL)
	s.KeyHeader, s.KeyPrefix, s.Headers = "x-api-key", "", map[string]string{"anthropic-version": "2023-06-01"}
	g.serveAll(s, apiOf(s.ID, chatRoute))
	r := request(t, http.MethodPost, g.at("/v1/chat/completions"), "{}")
	for name, value := range map[string]string{
		"Cookie": "a=b", "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "a", "Forwarded": "for=1.2.3.4", "X-Real-Ip": "1.2.3.4",
		"X-Consumer": "someone", "X-Mse-Consumer": "someone", "X-Api-Key": "client's", "Connection": "X-Api-Key, Anthropic-Version", "Te": "trailers",
		"Proxy-Authorization": "x", "User-Agent": "test", "Accept": "text/event-stream", "X-Request-Id": "client's", "Accept-Encoding": "br",
		"Openai-Beta": "assistants=v2", "X-Dashscope-Async": "enable", "Anthropic-Beta": "tools", "Anthropic-Version": "1999", "X-Openai-Beta": "x",
	} {
		r.Header.Set(name, value)
	}
	got := (&http.Transport{DisableKeepAlives: true, DisableCompression: true})
	resp, err := got.RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusFound, resp.StatusCode, "a redirect is not followed")
	passed := resp.Header.Clone()
	for _, name := range []string{"Date", "Content-Length", "X-Request-Id"} {
		require.Len(t, passed[name], 1)
		delete(passed, name)
	}
	require.Equal(t, http.Header{
		"X-Ratelimit-Limit": {"5"}, "Retry-After": {"7"}, "Anthropic-Ratelimit-Tokens-Limit": {"8"}, "Content-Disposition": {"attachment"},
	}, passed)
	require.Equal(t, http.Header{
		"Accept": {"text/event-stream"}, "X-Api-Key": {upstreamKey}, "Content-Type": {"application/json"}, "Content-Length": {"2"},
		"User-Agent": {"test"}, "X-Request-Id": {resp.Header.Get("X-Request-Id")}, "Openai-Beta": {"assistants=v2"},
		"X-Dashscope-Async": {"enable"}, "Anthropic-Beta": {"tools"}, "Anthropic-Version": {"2023-06-01"},
	}, seen)
	require.EqualValues(t, 1, e.calls.Load())
}

func TestTrailersOfAServiceReachNobody(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	plain, secure := newCutUpstream(t, false), newCutUpstream(t, true)
	answers := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Announced")
		_, _ = io.WriteString(w, "hello")
		_ = http.NewResponseController(w).Flush()
		w.Header().Set("X-Announced", "1")
		w.Header().Set(http.TrailerPrefix+"Set-Cookie", "a=b")
	})
	plain.Config.Handler, secure.Config.Handler = answers, answers
	one, two := g.outside(plain.URL), g.outside(secure.URL)
	first, second := apiOf(one.ID, chatRoute), apiOf(two.ID, chatRoute)
	second.BasePath = "/two"
	g.serveAll(one, two, first, second)
	for _, path := range []string{"/v1/chat/completions", "/two/v1/chat/completions"} {
		resp, err := client.Do(request(t, http.MethodPost, g.at(path), "{}"))
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "hello", string(body))
		require.Empty(t, resp.Trailer)
		require.Empty(t, resp.Header["Set-Cookie"])
	}
}

func TestAddressIsCheckedWhenItIsDialled(t *testing.T) {
	t.Parallel()
	g := prepareRig(t, newDB(t))
	e := newEngine(t, says("hello"))
	pair := newEngine(t, says("pair"))
	g.settings.AllowUpstream = []string{pair.addr}
	g.start()
	g.awaitReady()
	_, port, err := net.SplitHostPort(e.addr)
	require.NoError(t, err)
	var things []any
	for i, address := range []string{e.URL, "http://localhost:" + port, "http://[::ffff:127.0.0.1]:" + port, "http://169.254.169.254", pair.URL} {
		s := g.outside(address)
		a := apiOf(s.ID, chatRoute)
		a.BasePath = fmt.Sprint("/", i)
		things = append(things, s, a)
	}
	g.serveAll(things...)
	for i := range 4 {
		got := do(t, request(t, http.MethodPost, g.at(fmt.Sprintf("/%d/v1/chat/completions", i)), "{}"))
		require.Equal(t, 502, got.status, i)
		require.Equal(t, "upstream_not_allowed", got.code(t))
		require.NotContains(t, got.body, "127.0.0.1")
	}
	require.Equal(t, "pair", do(t, request(t, http.MethodPost, g.at("/4/v1/chat/completions"), "{}")).body)
	require.Zero(t, e.calls.Load())
	g.halt()

	g.settings.AllowUpstream = []string{"127.0.0.0/8"}
	g.start()
	g.awaitReady()
	require.Equal(t, "hello", do(t, request(t, http.MethodPost, g.at("/0/v1/chat/completions"), "{}")).body)
}

func TestServiceAwayIsAskedElsewhere(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, echo)
	s := g.outside("http://"+closedAddr(t), e.URL+"/prefix/")
	a := apiOf(s.ID, chatRoute)
	a.Targets[0].Model = "m"
	g.serveAll(s, a)
	for range 20 {
		require.Equal(t, `POST /prefix/v1/chat/completions {"model":"m"}`, g.chat("{}").body)
	}
	a.Targets = []snapshot.Target{{ServiceID: ids.New(ids.AIService)}}
	g.serveAll(a)
	require.Equal(t, "service_not_found", g.chat("{}").code(t))
}

func TestBadItemsLeaveWhatWasThere(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	s := g.outside(e.URL)
	a := apiOf(s.ID, chatRoute)
	a.Auth = true
	c := consumer(callerKey, "Default", "", a.ID)
	g.serveAll(s, a, c)
	badAPI, badService, badConsumer := a, s, c
	badAPI.Routes = append(badAPI.Routes[:1:1], snapshot.Route{Name: "bad", PathType: "Regex", Path: "/("})
	badService.SealedKeys = [][]byte{[]byte("not ours")}
	badConsumer.Keys = []snapshot.ConsumerKey{{Hash: []byte("short"), Source: "Default"}}
	g.serveAll(badAPI, badService, badConsumer, snapshot.Domain{ID: "d-x", Name: "x", CertPEM: "none"},
		item{kind: "of the future", id: "x", body: []byte("{}")}, item{kind: snapshot.KindAIService, id: "svc-other", body: []byte("{")})
	require.Equal(t, "hello", g.chat("{}").body)
	require.Equal(t, "5", metric(g, "engineshed_gateway_bad_items"))
	g.serveAll(a, s, c, item{kind: snapshot.KindDomain, id: "d-x"}, item{kind: snapshot.KindAIService, id: "svc-other"})
	require.Equal(t, "0", metric(g, "engineshed_gateway_bad_items"))
	require.Equal(t, "hello", g.chat("{}").body)
}

func TestColdStartServesModelAPIs(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	s := g.outside(e.URL)
	a := apiOf(s.ID, chatRoute)
	a.Auth = true
	g.serveAll(s, a, consumer(callerKey, "Default", "", a.ID), snapshot.Domain{ID: "d-x", Name: "claimed.example.com"})
	g.halt()
	g.settings.DatabaseURL = "postgres://nobody@" + closedAddr(t) + "/none"
	g.start()
	g.awaitReady()
	require.Equal(t, "hello", g.chat("{}").body)
	claimed := request(t, http.MethodPost, g.at("/v1/chat/completions"), "{}")
	claimed.Host = "claimed.example.com"
	require.Equal(t, 404, do(t, claimed).status, "a domain without an API is not any host")
}

func TestGatewayIDNarrowsWhatIsServed(t *testing.T) {
	t.Parallel()
	g := prepareRig(t, newDB(t))
	e := newEngine(t, says("hello"))
	s := g.outside(e.URL)
	mine, other := apiOf(s.ID, chatRoute), apiOf(s.ID, chatRoute)
	other.BasePath = "/other"
	g.settings.GatewayID = mine.GatewayID
	g.start()
	g.awaitReady()
	g.serveAll(s, mine, other)
	require.Equal(t, 200, g.chat("{}").status)
	require.Equal(t, 404, do(t, request(t, http.MethodPost, g.at("/other/v1/chat/completions"), "{}")).status)
}
