package gateway_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// An open API beside one for consumers only: no spelling of a path may be one API's for the gateway and the other's for
// the service.
func TestOnePathDecidesMatchAuthorizationAndForwarding(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	var mu sync.Mutex
	var asked []string
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.RequestURI)
		_, _ = io.WriteString(w, "hello")
	})
	s := g.outside(e.URL)
	free, closed := apiOf(s.ID, "OpenAI/v1 GET Prefix /v1"), apiOf(s.ID, "OpenAI/v1 GET Prefix /v1")
	free.BasePath, closed.BasePath, closed.Auth = "/open", "/closed", true
	deeper := apiOf(s.ID, "OpenAI/v1 GET Prefix /v1")
	deeper.BasePath, deeper.Auth = "/open/secret", true
	g.serveAll(s, free, closed, deeper, snapshot.Consumer{ID: "cs-nobody"})
	statuses := map[int]int{}
	for _, path := range []string{
		"/closed/v1/a", "/open/secret/v1/a", "/open/%73ecret/v1/a", "/open/secre%74/v1/a", "/%6fpen/secret/v1/a", "/%63losed/v1/a",
		"/open/../closed/v1/a", "/open/v1/../../closed/v1/a", "/open/v1/%2e%2e/%2e%2e/closed/v1/a", "/open/v1/..%2f..%2fclosed/v1/a",
		"/open/v1/..%5c..%5cclosed/v1/a", "/open/v1/..;/..;/closed/v1/a", "/open/v1/%2e%2e;x=1/closed/v1/a", "/open/v1/.%2e/secret/v1/a",
		"/open/./secret/v1/a", "/open//secret/v1/a", "//closed/v1/a", "/open/%2fsecret/v1/a", "/open%2fsecret/v1/a", "/open%2Fv1/a", "/open;/v1/a",
		"/open/secret;x/v1/a", "/open/secret%3b/v1/a", "/closed;/v1/a", "/closed%00/v1/a", "/open/v1/%252e%252e/a", "/open/v1/%25%32e/a",
		`/open\..\closed/v1/a`, "/open/v1\\..\\..\\closed/v1/a", "/OPEN/secret/v1/a", "/open/v1/a#/../../closed", "/open/v1/a%23", "/open/v1/a%3f/../x",
		"http://a/closed/v1/a", "/open/v1/%c0%ae%c0%ae/a", "/open/v1/a%0d%0aX:%201", "/open/v1/\xc0\xae\xc0\xae/closed",
	} {
		mu.Lock()
		asked = nil
		mu.Unlock()
		status := rawAnswer(t, g.Addr(), "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		statuses[status]++
		mu.Lock()
		if status == http.StatusOK {
			require.Len(t, asked, 1, path)
			require.True(t, strings.HasPrefix(asked[0], "/open/v1/"), "%s was forwarded as %s", path, asked[0])
			require.NotContains(t, asked[0], "closed", path)
			require.NotContains(t, asked[0], "secret", path)
			require.NotContains(t, asked[0], "..", path)
		} else {
			require.Empty(t, asked, "%s reached the service and was answered %d", path, status)
			require.Contains(t, []int{400, 401, 404}, status, path)
		}
		mu.Unlock()
	}
	require.Positive(t, statuses[401])
	require.Positive(t, statuses[404])
	require.Greater(t, statuses[400], 10)
}
