package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStreamsThatAreCutByAShutdownEndWithAnErrorOfTheirProtocol(t *testing.T) {
	t.Parallel()
	g := prepareRig(t, newDB(t))
	g.settings.DrainTimeout = 50 * time.Millisecond
	g.start()
	g.awaitReady()
	sent := map[string]string{
		"/events": "data: {\"a\":1}\n\n", "/crlf": "data: {\"a\":1}\r\n\r\n", "/silent": "", "/half": "data: {\"a\":", "/line": "data: {\"a\":1}\n",
	}
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_, _ = io.WriteString(w, sent[r.URL.Path])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	s := g.outside(e.URL)
	things, bodies := []any{s}, map[string]io.Reader{}
	for _, protocol := range []string{"OpenAI/v1", "Anthropic", "DashScope"} {
		a := apiOf(s.ID, protocol+" POST Prefix /")
		a.BasePath, a.RemoveBasePath = "/"+protocol, true
		things = append(things, a)
	}
	g.serveAll(things...)
	for _, protocol := range []string{"OpenAI/v1", "Anthropic", "DashScope"} {
		for path := range sent {
			bodies[protocol+path] = open(t, g.at("/"+protocol+path))
		}
	}
	g.halt()
	const message = `"message":"The gateway shuts down and could not wait for the end of this answer. Send the request again."`
	for _, path := range []string{"/events", "/crlf", "/silent"} {
		for protocol, begin := range map[string]string{
			"OpenAI/v1": `data: {"error":{` + message + `,"type":"server_error","param":null,"code":"gateway_shutting_down"}}`,
			"Anthropic": "event: error\n" + `data: {"type":"error","error":{"type":"overloaded_error",` + message + `},"request_id":"`,
			"DashScope": "event:error\n:HTTP_STATUS/503\n" + `data: {"code":"ServiceUnavailable",` + message + `,"request_id":"`,
		} {
			text, err := io.ReadAll(bodies[protocol+path])
			require.NoError(t, err, "%s%s: after an error the end is clean", protocol, path)
			last, ok := strings.CutPrefix(string(text), sent[path])
			require.True(t, ok)
			require.True(t, strings.HasPrefix(last, begin), last)
			require.Equal(t, 1, strings.Count(last, "\n\n"))
			require.True(t, strings.HasSuffix(last, "}\n\n"))
			require.NotContains(t, last, "[DONE]")
		}
	}
	for _, path := range []string{"/half", "/line"} {
		text, err := io.ReadAll(bodies["OpenAI/v1"+path])
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(text), `data: {"error":{`+message), "no part of an event before it: %s", text)
		require.Equal(t, 1, strings.Count(string(text), "data:"))
	}
}

func TestRequestsAreTakenUntilTheNoticeIsOver(t *testing.T) {
	t.Parallel()
	g := prepareRig(t, newDB(t))
	g.settings.DrainNotice = 500 * time.Millisecond
	g.start()
	g.awaitReady()
	e := newEngine(t, says("hello"))
	s := g.outside(e.URL)
	g.serveAll(s, apiOf(s.ID, chatRoute))
	keeping := &http.Client{Transport: &http.Transport{}}
	closes := func() bool {
		resp, err := keeping.Do(request(t, http.MethodPost, g.at("/v1/chat/completions"), "{}"))
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, resp.Body.Close())
		require.NoError(t, err)
		require.Equal(t, "200 hello", fmt.Sprint(resp.StatusCode, " ", string(text)))
		return resp.Close
	}
	require.False(t, closes())
	g.stop()
	g.await(func() bool { return g.ready() == http.StatusServiceUnavailable })
	for range 20 {
		require.True(t, closes(), "the client is to come back elsewhere")
	}
	g.halt()
}
