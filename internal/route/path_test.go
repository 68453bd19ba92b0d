package route

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestCanonicalPaths(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/":                       "/",
		"/v1/chat/completions":    "/v1/chat/completions",
		"/v1/":                    "/v1/",
		"/userdata/a%2Fb":         "/userdata/a%2Fb",
		"/userdata/a%2fb%20c":     "/userdata/a%2Fb%20c",
		"/v1/mod%65ls/%7Euser":    "/v1/models/~user",
		"/models/qwen:7b@x/a+b=c": "/models/qwen:7b@x/a+b=c",
		"/a%2Bb":                  "/a%2Bb",
		"/100%25.json":            "/100%25.json",
		"/文件":                     "/%E6%96%87%E4%BB%B6",
		"/%e6%96%87":              "/%E6%96%87",
		`/a"b<c>|d{e}`:            "/a%22b%3Cc%3E%7Cd%7Be%7D",
		"/...":                    "/...",
		"/a..b":                   "/a..b",
		"":                        "",
		"v1":                      "",
		"*":                       "",
		"http://b/v1":             "",
		"//v1":                    "",
		"/v1//x":                  "",
		"/v1/./x":                 "",
		"/v1/../x":                "",
		"/v1/..":                  "",
		"/v1/%2e%2E/x":            "",
		"/v1/.%2e":                "",
		"/v1/..;a/x":              "",
		"/u/..%2Fsecret":          "",
		"/u/a%2F..%2Fb":           "",
		"/u/..%5csecret":          "",
		"/u/%252e%252e":           "",
		"/u/%252F":                "",
		`/a\b`:                    "",
		"/a#b":                    "",
		"/a%0d%0ab":               "",
		"/a%00":                   "",
		"/a%7F":                   "",
		"/a\x01":                  "",
		"/%c0%ae%C0%AE/x":         "",
		"/a\xff":                  "",
		"/%E6%96":                 "",
		"/a%":                     "",
		"/a%2":                    "",
		"/a%zz":                   "",
	} {
		got, ok := Canonical(path)
		require.Equal(t, want, got, path)
		require.Equal(t, want != "", ok, path)
	}
}

func TestCanonicalFormIsTheSamePathAndOnlyOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		path := "/" + rapid.StringMatching(`([a-z.~/;]|%[0-9a-fA-F]{2}|[{" é\\])*`).Draw(t, "path")
		got, ok := Canonical(path)
		if !ok {
			return
		}
		again, ok := Canonical(got)
		require.True(t, ok)
		require.Equal(t, got, again)
		before, err := url.PathUnescape(path)
		require.NoError(t, err)
		after, err := url.PathUnescape(got)
		require.NoError(t, err)
		require.Equal(t, before, after)
		require.Equal(t, strings.Count(path, "/"), strings.Count(got, "/"), "segments are what they were")
		require.Equal(t, got, (&url.URL{Path: after, RawPath: got}).EscapedPath(), "it is sent as it is")
		for _, part := range strings.FieldsFunc(after, func(c rune) bool { return c == '/' || c == '\\' }) {
			require.NotContains(t, []string{".", ".."}, part)
		}
	})
}

func TestHosts(t *testing.T) {
	t.Parallel()
	hosts := Hosts[string]{"a.example.com": "exact", "*.example.com": "wildcard", "*.b.example.com": "longer", "example.org": "org"}
	for host, want := range map[string]string{
		"a.example.com": "exact", "c.example.com": "wildcard", "x.y.example.com": "wildcard", "x.b.example.com": "longer",
		"b.example.com": "wildcard", "example.com": "", "example.org": "org", "a.example.org": "", "": "", ".": "",
		"xexample.com": "", strings.Repeat("a.", 150) + "example.com": "",
	} {
		got, ok := hosts.Find(host)
		require.Equal(t, want, got, host)
		require.Equal(t, want != "", ok, host)
	}
	for header, want := range map[string]string{
		"A.Example.com:8090": "a.example.com", "a.example.com.": "a.example.com", "a": "a", "[::1]:80": "::1", "127.0.0.1:80": "127.0.0.1",
	} {
		require.Equal(t, want, Host(header))
	}
}
