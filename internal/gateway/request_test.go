package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/snapshot"
)

func TestServiceAnswersThroughTheGateway(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
	})
	s := g.service(e.addr)
	g.serve(s)

	got := do(t, request(t, http.MethodPost, g.url(s, "/v1/chat/completions?a=%2F&b=2"), `{"model":"demo"}`))

	require.Equal(t, http.StatusOK, got.status, got.body)
	require.Equal(t, `POST /v1/chat/completions?a=%2F&b=2 {"model":"demo"}`, got.body)
	require.Len(t, got.header["X-Request-Id"], 1)

	escaped := do(t, request(t, http.MethodGet, g.url(s, "/v1/models/my%20model"), ""))
	require.Equal(t, "GET /v1/models/my%20model ", escaped.body)
}

func TestLargeBodyArrivesWhole(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, err)
	})
	s := g.service(e.addr)
	g.serve(s)
	for _, size := range []int{0, 1, 64 << 10, 64<<10 + 1, 1 << 20} {
		got := do(t, request(t, http.MethodPost, g.url(s, "/v1/embeddings"), strings.Repeat("x", size)))
		require.Equal(t, fmt.Sprint(size, " <nil>"), got.body)

		chunked := request(t, http.MethodPost, g.url(s, "/v1/embeddings"), "")
		chunked.Body, chunked.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", size))), -1
		require.Equal(t, fmt.Sprint(size, " <nil>"), do(t, chunked).body)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("never"))
	s := g.service(e.addr)
	down := g.service()
	unreachable := g.service(closedAddr(t), closedAddr(t))
	closed := g.service(e.addr)
	closed.Allow = nil
	g.serve(s, down, unreachable, closed)

	with := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	plain := func(*http.Request) {}
	for name, c := range map[string]struct {
		url    string
		adjust func(*http.Request)
		status int
		code   string
	}{
		"unknown service":     {g.url(snapshot.ModelService{ID: "ms-00000000000000000000"}, "/v1/models"), plain, 404, "model_service_not_found"},
		"unknown url":         {"http://" + g.Addr() + "/v1/models", plain, 404, "unknown_url"},
		"service alone":       {g.url(s, ""), plain, 404, "unknown_url"},
		"outside /v1/":        {g.url(s, "/metrics"), plain, 404, "unknown_url"},
		"without key":         {g.url(s, "/v1/models"), with("Authorization"), 401, "invalid_api_key"},
		"wrong key":           {g.url(s, "/v1/models"), with("Authorization", "Bearer sk-other"), 401, "invalid_api_key"},
		"other scheme":        {g.url(s, "/v1/models"), with("Authorization", "Basic "+callerKey), 401, "invalid_api_key"},
		"two keys":            {g.url(s, "/v1/models"), with("Authorization", "Bearer "+callerKey, "Bearer "+callerKey), 401, "invalid_api_key"},
		"key elsewhere":       {g.url(s, "/metrics"), with("Authorization", "Bearer x"), 401, "invalid_api_key"},
		"nobody is allowed":   {g.url(closed, "/v1/models"), plain, 403, "ip_not_allowed"},
		"claimed address":     {g.url(closed, "/v1/models"), with("X-Forwarded-For", "127.0.0.1"), 403, "ip_not_allowed"},
		"compressed body":     {g.url(s, "/v1/models"), with("Content-Encoding", "gzip"), 415, "unsupported_content_encoding"},
		"no replica":          {g.url(down, "/v1/models"), plain, 503, "no_healthy_replica"},
		"no replica answers":  {g.url(unreachable, "/v1/models"), plain, 503, "no_healthy_replica"},
		"encoded slash":       {g.url(s, "/v1%2fmodels"), plain, 400, "invalid_url"},
		"encoded slash in v1": {g.url(s, "/v1/models/a%2Fb"), plain, 400, "invalid_url"},
		"encoded backslash":   {g.url(s, "/v1/a%5Cb"), plain, 400, "invalid_url"},
		"encoded dots":        {g.url(s, "/v1/%2e%2e/metrics"), plain, 400, "invalid_url"},
		"encoded percent":     {g.url(s, "/v1/%252e"), plain, 400, "invalid_url"},
		"encoded newline":     {g.url(s, "/v1/a%0d%0ab"), plain, 400, "invalid_url"},
		"dots":                {g.url(s, "/v1/../metrics"), plain, 400, "invalid_url"},
		"dots at the end":     {g.url(s, "/v1/.."), plain, 400, "invalid_url"},
		"two slashes":         {g.url(s, "//v1/models"), plain, 400, "invalid_url"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, http.MethodPost, c.url, "{}")
			c.adjust(r)
			got := do(t, r)
			require.Equal(t, c.status, got.status, got.body)
			require.Equal(t, c.code, got.code(t))
			require.Len(t, got.header["X-Request-Id"], 1)
			require.Equal(t, c.status == 503, got.header.Get("Retry-After") != "")
		})
	}
	require.Zero(t, e.calls.Load(), "no refused request reaches an engine")
}

func TestTooLargeABodyIsRefused(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("never"))
	s := g.service(e.addr)
	g.serve(s)
	big := strings.Repeat("x", 8<<20)

	declared := do(t, request(t, http.MethodPost, g.url(s, "/v1/chat/completions"), big))
	require.Equal(t, http.StatusRequestEntityTooLarge, declared.status)
	require.Equal(t, "request_too_large", declared.code(t))
	require.Zero(t, e.calls.Load())

	chunked := request(t, http.MethodPost, g.url(s, "/v1/chat/completions"), "")
	chunked.Body, chunked.ContentLength = io.NopCloser(strings.NewReader(big)), -1
	undeclared := do(t, chunked)
	require.Equal(t, http.StatusRequestEntityTooLarge, undeclared.status)
	require.Equal(t, "request_too_large", undeclared.code(t))
}

func TestAddressOfTheSocketDecides(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	exact, mapped, all := g.service(e.addr), g.service(e.addr), g.service(e.addr)
	mapped.Allow = []netip.Prefix{netip.MustParsePrefix("::ffff:127.0.0.2/128")}
	all.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.9/8")}
	g.serve(exact, mapped, all)
	for _, c := range []struct {
		service snapshot.ModelService
		from    string
		status  int
	}{
		{exact, "127.0.0.1", 200},
		{exact, "127.0.0.2", 403},
		{mapped, "127.0.0.1", 403},
		{mapped, "127.0.0.2", 200},
		{all, "127.0.0.1", 200},
		{all, "127.1.2.3", 200},
	} {
		got := doWith(t, fromAddr(c.from), request(t, http.MethodGet, g.url(c.service, "/v1/models"), ""))
		require.Equal(t, c.status, got.status, "%s: %s", c.from, got.body)
	}
}

func TestPublicListenerServesPublicServicesOnly(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	private, public := g.service(e.addr), g.service(e.addr)
	public.Public = true
	g.serve(private, public)
	on := func(addr string, id string) answer {
		return do(t, request(t, http.MethodGet, "http://"+addr+"/services/"+id+"/v1/models", ""))
	}
	require.Equal(t, 200, on(g.Addr(), private.ID).status)
	require.Equal(t, 200, on(g.Addr(), public.ID).status)
	require.Equal(t, 200, on(g.PublicAddr(), public.ID).status)

	hidden, unknown := on(g.PublicAddr(), private.ID), on(g.PublicAddr(), "ms-00000000000000000000")
	require.Equal(t, 404, hidden.status)
	for _, a := range []answer{hidden, unknown} {
		a.header.Del("X-Request-Id")
		a.header.Del("Date")
	}
	require.Equal(t, unknown, hidden, "a private service is answered exactly as an unknown one")
}

func TestOnlyTheListedHeadersPass(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	var seen http.Header
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		for name, value := range map[string]string{
			"Set-Cookie": "a=b", "Server": "uvicorn", "Location": "http://10.0.0.1/", "X-Request-Id": "engine's", "X-Model": "demo",
		} {
			w.Header().Set(name, value)
		}
		w.WriteHeader(http.StatusTeapot)
	})
	s := g.service(e.addr)
	g.serve(s)
	r := request(t, http.MethodPost, g.url(s, "/v1/models"), "{}")
	for name, value := range map[string]string{
		"Cookie": "a=b", "X-Forwarded-For": "1.2.3.4", "X-Consumer": "someone", "Connection": "Authorization", "Upgrade": "websocket",
		"Te": "trailers", "User-Agent": "test", "Accept": "text/event-stream", "X-Request-Id": "client's", "Forwarded": "for=1.2.3.4",
	} {
		r.Header.Set(name, value)
	}

	got := do(t, r)

	require.Equal(t, http.StatusTeapot, got.status)
	for _, name := range []string{"Set-Cookie", "Server", "Location"} {
		require.NotContains(t, got.header, name)
	}
	require.Equal(t, "demo", got.header.Get("X-Model"))
	require.Equal(t, http.Header{
		"Accept": {"text/event-stream"}, "Authorization": {"Bearer " + engineKey}, "Content-Type": {"application/json"},
		"Content-Length": {"2"}, "User-Agent": {"test"}, "X-Request-Id": {got.header.Get("X-Request-Id")},
	}, seen)
}

// rawAnswer sends text on a connection of its own and returns the status of the answer.
func rawAnswer(t *testing.T, addr, text string) int {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestAmbiguousRequestsAreRefused(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	s := g.service(e.addr)
	g.serve(s)
	head := "Authorization: Bearer " + callerKey + "\r\nConnection: close\r\n"
	target := "/services/" + s.ID + "/v1/models"
	require.Equal(t, 200, rawAnswer(t, g.Addr(), "GET "+target+" HTTP/1.1\r\nHost: a\r\n"+head+"\r\n"))
	for name, text := range map[string]string{
		"absolute target":        "GET http://b" + target + " HTTP/1.1\r\nHost: a\r\n" + head + "\r\n",
		"two hosts":              "GET " + target + " HTTP/1.1\r\nHost: a\r\nHost: b\r\n" + head + "\r\n",
		"two lengths":            "POST " + target + " HTTP/1.1\r\nHost: a\r\n" + head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"fragment in the target": "GET " + target + "#/../x HTTP/1.1\r\nHost: a\r\n" + head + "\r\n",
		"space before the colon": "GET " + target + " HTTP/1.1\r\nHost: a\r\n" + head + "X : 1\r\n\r\n",
		"authority form":         "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n" + head + "\r\n",
		"asterisk":               "OPTIONS * HTTP/1.1\r\nHost: a\r\n" + head + "\r\n",
	} {
		status := rawAnswer(t, g.Addr(), text)
		require.Equal(t, 400, status, name)
	}
	require.Equal(t, 431, rawAnswer(t, g.Addr(),
		"GET "+target+" HTTP/1.1\r\nHost: a\r\n"+head+"X-Long: "+strings.Repeat("x", 70<<10)+"\r\n\r\n"))
	require.EqualValues(t, 1, e.calls.Load())
}

func TestRequestsThatCanBeReadInTwoWaysReachNoEngine(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	s := g.service(e.addr)
	g.serve(s)
	line := "POST /services/" + s.ID + "/v1/x HTTP/1.1\r\n"
	head := line + "Host: a\r\nAuthorization: Bearer " + callerKey + "\r\n"
	require.Equal(t, 200, rawAnswer(t, g.Addr(), head+"Content-Length: 2\r\n\r\nab"))
	require.Equal(t, 200, rawAnswer(t, g.Addr(), head+"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"))
	for name, text := range map[string]string{
		"length and coding":        head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
		"lengths that differ":      head + "Content-Length: 2\r\nContent-Length: 1\r\n\r\nab",
		"a list of lengths":        head + "Content-Length: 2, 2\r\n\r\nab",
		"an unknown coding":        head + "Transfer-Encoding: xchunked\r\n\r\nab",
		"a folded header":          head + "X: 1\r\n Content-Length: 2\r\n\r\nab",
		"bare LF":                  strings.ReplaceAll(head, "\r\n", "\n") + "Content-Length: 2\n\nab",
		"one bare LF":              head + "X: 1\nContent-Length: 2\r\n\r\nab",
		"bare CR":                  head + "X: 1\rContent-Length: 2\r\n\r\nab",
		"NUL in a value":           head + "X: a\x00b\r\nContent-Length: 2\r\n\r\nab",
		"NUL in a name":            head + "X\x00: a\r\nContent-Length: 2\r\n\r\nab",
		"a whole URL, another":     "POST http://b/services/" + s.ID + "/v1/x HTTP/1.1\r\n" + strings.TrimPrefix(head, line) + "Content-Length: 2\r\n\r\nab",
		"two hosts":                head + "Host: b\r\nContent-Length: 2\r\n\r\nab",
		"a space before the colon": head + "Content-Length : 2\r\n\r\nab",
	} {
		before := e.calls.Load()
		got := rawAnswers(t, g.Addr(), text+head+"Content-Length: 2\r\n\r\nab")
		require.Len(t, got, 1, "%s: the connection is closed, what follows is not read", name)
		require.Equal(t, 400, got[0].status, name)
		require.Equal(t, "invalid_framing", got[0].code(t), name)
		require.Equal(t, before, e.calls.Load(), name)
	}
	require.Contains(t, g.logs.String(), "it could be read in more than one way")
}

// rawAnswers sends text on a connection of its own and returns every answer until the gateway closes it.
func rawAnswers(t *testing.T, addr, text string) (answers []answer) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(deadline)))
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(in, nil)
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return answers
		}
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		require.NoError(t, err)
		answers = append(answers, answer{resp.StatusCode, resp.Header, string(body)})
	}
}
