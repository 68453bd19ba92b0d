package hub

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/secret"
)

func TestRetryAfterIsReadAsSecondsAndAsADate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": usualRetry, "7": 7 * time.Second, "0": 0, "99999999999999": maxRetry, "99999999999999999999": usualRetry, "100000": maxRetry, "-1": usualRetry, "soon": usualRetry,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
		now.Add(time.Hour).Format(http.TimeFormat): maxRetry,
	} {
		require.Equal(t, want, retryAfter(header, now), header)
	}
}

func noEnvironment(string) string { return "" }

func TestTheFileOfSourcesIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	write("hf.token", " hf_canary\n", 0o600)
	path := write("sources.yaml", "huggingface: {endpoint: 'https://hf.example', proxy: direct, tokenFile: hf.token}\nurl: {'m.example:1': {tokenFile: hf.token}}\n", 0o644)
	c, err := Load(path, noEnvironment)
	require.NoError(t, err)
	require.Equal(t, Site{Endpoint: "https://hf.example", Proxy: "direct", Token: secret.New("hf_canary")}, c.HuggingFace)
	require.Equal(t, "hf_canary", c.Mirrors["m.example:1"].Token.Reveal())
	_, err = New(c)
	require.NoError(t, err)

	c, err = Load("", func(name string) string { return map[string]string{"HF_ENDPOINT": "https://mirror.example"}[name] })
	require.NoError(t, err)
	require.Equal(t, "https://mirror.example", c.HuggingFace.Endpoint)

	write("open.token", "x", 0o644)
	write("empty.token", "\n", 0o600)
	write("two.token", "canary\ncanary\n", 0o600)
	for text, want := range map[string]string{
		"hugging: {}":                         "sources.yaml:1: there is no setting hugging",
		"huggingface: {token: canary}":        "sources.yaml:1: there is no setting token",
		"huggingface: {tokenFile: none}":      "huggingface.tokenFile: stat ",
		"modelscope: {tokenFile: open.token}": "may be read by others (mode 0644): run chmod 600 ",
		"url: {x: {tokenFile: empty.token}}":  "empty.token does not hold a token",
		"url: {x: {tokenFile: two.token}}":    "two.token does not hold a token",
		"url: {x: {endpoint: 'https://y'}}":   "url.x has no endpoint",
	} {
		_, err := Load(write("sources.yaml", text, 0o644), noEnvironment)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "canary")
	}
}

func TestASiteThatWouldGiveAwayItsTokenIsRefused(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]Config{
		"huggingface: a token would travel to hf.example in clear":         {HuggingFace: Site{Endpoint: "http://hf.example", Token: secret.New("x")}},
		"modelscope: the endpoint must be an https":                        {ModelScope: Site{Endpoint: "ftp://x"}},
		"huggingface: the endpoint must be an https:// or http:// address": {HuggingFace: Site{Endpoint: "https://u:canary@x"}},
		"huggingface: the proxy must be":                                   {HuggingFace: Site{Proxy: "canary"}},
	} {
		_, err := New(c)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "canary")
	}
}

func TestARedirectDoesNotLeaveTLS(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	hub := httptest.NewTLSServer(http.RedirectHandler(plain.URL+"/?signature=canary", http.StatusFound))
	defer hub.Close()
	s, err := newSite(Site{Endpoint: hub.URL, Proxy: direct}, "")
	require.NoError(t, err)
	s.client.Transport = hub.Client().Transport
	_, err = s.open(t.Context(), hub.URL+"/file", 0)
	require.ErrorContains(t, err, "a redirect leads to "+strings.TrimPrefix(plain.URL, "http://")+" in clear")
	require.NotContains(t, err.Error(), "canary")
}

func TestAnErrorNamesTheHostAndNotTheAddress(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	s, err := newSite(Site{Endpoint: gone.URL, Proxy: direct}, "")
	require.NoError(t, err)
	_, err = s.open(t.Context(), gone.URL+"/file?signature=canary", 0)
	require.ErrorContains(t, err, strings.TrimPrefix(gone.URL, "http://"))
	require.NotContains(t, err.Error(), "canary")
}

func TestAProxyIsAskedInPlaceOfTheHub(t *testing.T) {
	t.Parallel()
	var asked string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		fmt.Fprint(w, `{"siblings":[{"rfilename":"a","size":1}]}`)
	}))
	defer proxy.Close()
	hubs, err := New(Config{HuggingFace: Site{Endpoint: "http://hub.invalid/hf", Proxy: proxy.URL}})
	require.NoError(t, err)
	l, err := hubs.List(t.Context(), Source{Kind: HuggingFace, Name: "a/b", Revision: "refs/pr/1"})
	require.NoError(t, err)
	require.Equal(t, Listing{Files: []File{{Path: "a", Size: 1}}}, l)
	require.Equal(t, "http://hub.invalid/hf/api/models/a/b/revision/refs%2Fpr%2F1?blobs=true", asked)
}

func TestAListThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	for want, text := range map[string]string{
		"does not answer as a hub does": "<html>", "lists 0 files": `{"sha": "x"}`, `"a" is there twice`: `{"siblings":[{"rfilename":"a"},{"rfilename":"a"}]}`,
		"is not a SHA-256":     `{"siblings":[{"rfilename":"a","size":1,"lfs":{"sha256":"x","size":1}}]}`,
		"size of \"a\" is neg": `{"siblings":[{"rfilename":"a","size":-7}]}`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }))
		hubs, err := New(Config{HuggingFace: Site{Endpoint: server.URL, Proxy: direct}})
		require.NoError(t, err)
		_, err = hubs.List(t.Context(), Source{Kind: HuggingFace, Name: "a/b", Revision: "main"})
		require.ErrorContains(t, err, want)
		server.Close()
	}
}

func TestThePageListsTheSettingsOfSources(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/models.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(page), "## Hubs, mirrors")
	var want, listed []string
	for field := range reflect.TypeFor[siteYAML]().Fields() {
		want = append(want, field.Tag.Get("yaml"))
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Za-z.]+)` \\| ").FindAllStringSubmatch(section, -1) {
		listed = append(listed, row[1])
	}
	require.Equal(t, want, listed)
}
