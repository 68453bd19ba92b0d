package modelapi

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBasePaths(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/", "/a", "/a/b", "/v1.2", "/a...b", "/..a", "/~user", "/services2", "/a;b", "/a/services", "/" + strings.Repeat("a", 255)} {
		require.NoError(t, checkBasePath(path), path)
	}
	for _, path := range []string{
		"a", "/a/", "//", "/a//b", "/a b", " /a", "/a ", "/a?b", "/a#b", "/a\n", "/.", "/a/..", "/../a", "/a/./b", "/a/..;x", "/%61", "/a%2fb",
		`/a\b`, "/ü", "/{a}", "/services", "/services/x", "/public", "/public/a", "/operator", "/operator/v1", "/" + strings.Repeat("a", 256),
	} {
		require.ErrorIs(t, checkBasePath(path), ErrBasePath, path)
	}
	require.ErrorContains(t, checkBasePath(""), "MissingParameter")
}

func TestMatches(t *testing.T) {
	t.Parallel()
	path := func(kind, value string) Match { return Match{Path: PathMatch{kind, value}} }
	good := path(Exact, "/a")
	good.Methods = []string{"GET", "POST"}
	good.Headers = []ValueMatch{{"x-kind", Regex, "^(a|b)$"}}
	good.QueryParams = []ValueMatch{{"q", Prefix, "x"}, {"r", Exact, ""}}
	for _, m := range []Match{
		good, path(Exact, "/"), path(Exact, "/a/"), path(Prefix, "/"), path(Prefix, "/a/b"), path(Regex, "/a/[0-9]{1,9}/.*"),
		path(Template, "/a/{b}/c/{d_1}"),
	} {
		require.NoError(t, m.check("/"), m)
	}
	with := func(change func(*Match)) Match {
		m := path(Exact, "/a")
		change(&m)
		return m
	}
	for name, m := range map[string]Match{
		"no path":           path(Exact, ""),
		"no type":           path("", "/a"),
		"relative":          path(Exact, "a"),
		"not anchored":      path(Regex, ".*"),
		"dots":              path(Prefix, "/a/.."),
		"doubled slash":     path(Exact, "//"),
		"empty segment":     path(Prefix, "/a//"),
		"escape":            path(Exact, "/a%2Fb"),
		"query":             path(Exact, "/a?b"),
		"brace":             path(Exact, "/{a}"),
		"half a parameter":  path(Template, "/a{b}"),
		"dots and more":     path(Exact, "/..;a/b"),
		"template's slash":  path(Template, "/{a}/"),
		"empty template":    path(Template, "/"),
		"open quotation":    path(Regex, `/\Qa`),
		"open parenthesis":  path(Regex, "/a)|(b"),
		"broken expression": path(Regex, "/("),
		"back-reference":    path(Regex, `/(a)\1`),
		"repeats":           path(Regex, "/((a{30}){30}){30}"),
		"too long":          path(Regex, "/"+strings.Repeat("a", 512)),
		"reserved":          path(Prefix, "/services/ms-1"),
		"lower-case method": with(func(m *Match) { m.Methods = []string{"get"} }),
		"method twice":      with(func(m *Match) { m.Methods = []string{"GET", "GET"} }),
		"CONNECT":           with(func(m *Match) { m.Methods = []string{"CONNECT"} }),
		"header name":       with(func(m *Match) { m.Headers = []ValueMatch{{"a b", Exact, "x"}} }),
		"header type":       with(func(m *Match) { m.Headers = []ValueMatch{{"a", "Suffix", "x"}} }),
		"header regex":      with(func(m *Match) { m.Headers = []ValueMatch{{"a", Regex, "("}} }),
		"nameless query":    with(func(m *Match) { m.QueryParams = []ValueMatch{{"", Exact, "x"}} }),
		"too many headers":  with(func(m *Match) { m.Headers = make([]ValueMatch, 17) }),
		"long value":        with(func(m *Match) { m.QueryParams = []ValueMatch{{"a", Exact, strings.Repeat("x", 257)}} }),
	} {
		require.ErrorIs(t, m.check("/"), ErrMatch, name)
	}
	services := path(Prefix, "/services/ms-1")
	require.NoError(t, services.check("/a"), "reserved is what a client asks for, base path and all")
}
