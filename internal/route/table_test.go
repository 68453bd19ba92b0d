package route

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/snapshot"
)

func routes(specs ...string) []snapshot.Route {
	var all []snapshot.Route
	for i, spec := range specs { // METHODS TYPE PATH, "*" for all methods
		fields := strings.Fields(spec)
		r := snapshot.Route{ID: fmt.Sprintf("hr-%02d", i), Name: spec, PathType: strings.TrimSuffix(fields[1], "*"), Path: fields[2]}
		r.IgnoreCase = strings.HasSuffix(fields[1], "*")
		if fields[0] != "*" {
			r.Methods = strings.Split(fields[0], ",")
		}
		all = append(all, r)
	}
	return all
}

func api(id, base string, hosts []string, specs ...string) *snapshot.ModelAPI {
	return &snapshot.ModelAPI{
		ID: id, Name: "of " + id, GatewayID: "gw", Revision: 7, BasePath: base, Hosts: hosts, AnyHost: hosts == nil, Protocols: []string{"OpenAI/v1"},
		Targets: []snapshot.Target{{ServiceID: "svc"}}, Routes: routes(specs...),
	}
}

func table(t testing.TB, claimed []string, apis ...*snapshot.ModelAPI) *Table {
	t.Helper()
	compiled := make([]*API, len(apis))
	for i, a := range apis {
		var err error
		compiled[i], err = Compile(a)
		require.NoError(t, err)
	}
	return NewTable(slices.Values(compiled), claimed)
}

// find says "api route", "api 405 Allow", "api 404" or "none".
func find(tb *Table, r *Request) string {
	m := tb.Find(r)
	switch {
	case m.API == nil:
		return "none"
	case m.Route != nil:
		return m.API.ID + " " + m.Route.Name
	case m.Allow != "":
		return m.API.ID + " 405 " + m.Allow
	}
	return m.API.ID + " 404"
}

func TestHostThenLongestBasePath(t *testing.T) {
	t.Parallel()
	https := api("secure", "/", []string{"secure.example.com"}, "* Prefix /")
	https.Schemes = []string{"https"}
	tb := table(t, []string{"empty.example.com"},
		api("any", "/", nil, "* Prefix /"), api("any-api", "/api", nil, "* Prefix /"), api("any-api-v2", "/api/v2", nil, "* Prefix /"),
		api("wild", "/", []string{"*.example.com"}, "* Prefix /"), api("exact", "/only", []string{"a.example.com"}, "* Prefix /x"),
		api("zz-second", "/only", []string{"a.example.com"}, "* Prefix /"), https)
	for _, c := range []struct{ scheme, host, path, want string }{
		{"http", "elsewhere", "/v1", "any"},
		{"http", "elsewhere", "/api", "any-api"},
		{"http", "elsewhere", "/api/", "any-api"},
		{"http", "elsewhere", "/api/v1", "any-api"},
		{"http", "elsewhere", "/apiX/v1", "any"},
		{"http", "elsewhere", "/api/v2", "any-api-v2"},
		{"http", "elsewhere", "/api/v2/x", "any-api-v2"},
		{"http", "elsewhere", "/api/v2x/x", "any-api"},
		{"http", "elsewhere", "/api%2Fv2/x", "any"},
		{"http", "b.example.com", "/api", "wild"},
		{"http", "a.example.com", "/only/x", "exact"},
		{"http", "a.example.com", "/api", ""},
		{"http", "empty.example.com", "/api", ""},
		{"http", "secure.example.com", "/api", ""},
		{"https", "secure.example.com", "/api", "secure"},
	} {
		m := tb.Find(&Request{Host: c.host, Scheme: c.scheme, Path: c.path, Method: "GET"})
		got := ""
		if m.API != nil {
			got = m.API.ID
		}
		require.Equal(t, c.want, got, "%v", c)
	}
	require.Equal(t, "exact 404", find(tb, &Request{Host: "a.example.com", Path: "/only/y", Method: "GET"}), "no other API is asked")
	require.Equal(t, "/", tb.Find(&Request{Host: "elsewhere", Path: "/api", Method: "GET"}).Path)
}

func TestExactBeforeTemplateBeforePrefixBeforeRegex(t *testing.T) {
	t.Parallel()
	tb := table(t, nil, api("a", "/b", nil,
		"GET Exact /models", "GET Template /models/{folder}", "GET,POST,DELETE Template /userdata/{file}", "POST Template /userdata/{file}/move/{dest}",
		"GET Template /{x}/special", "GET Template /models/{folder}/x", "GET Exact /models/special",
		"POST Prefix /v1/files", "GET Prefix /v1/files/batch/", "* Regex /v1/fil.*", "* Regex /v[12]/.{3,}", "POST Exact /tasks", "GET Prefix /tasks",
		"GET Exact* /Folded", "GET Exact /folded", "GET Prefix* /PRE", "GET Regex* /RE/[a-c]", "GET Template* /T/{x}/End", "GET Exact /datei%20ä"))
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/models", "GET Exact /models"},
		{"GET", "/models/", "GET Exact /models"},
		{"POST", "/models", "405 GET"},
		{"GET", "/models/a", "GET Template /models/{folder}"},
		{"GET", "/models/a/", "GET Template /models/{folder}"},
		{"GET", "/models/a%2Fb", "GET Template /models/{folder}"},
		{"GET", "/models/a/b", "404"},
		{"GET", "/models/special", "GET Exact /models/special"},
		{"GET", "/x/special", "GET Template /{x}/special"},
		{"GET", "/models/special/x", "GET Template /models/{folder}/x"},
		{"DELETE", "/userdata/a", "GET,POST,DELETE Template /userdata/{file}"},
		{"PUT", "/userdata/a", "405 DELETE, GET, POST"},
		{"POST", "/userdata/a%2Fb/move/c%2Fd", "POST Template /userdata/{file}/move/{dest}"},
		{"GET", "/userdata/a/move/b", "405 POST"},
		{"GET", "/userdata", "404"},
		{"GET", "/userdata/", "404"},
		{"POST", "/v1/files", "POST Prefix /v1/files"},
		{"POST", "/v1/files/f/content", "POST Prefix /v1/files"},
		{"POST", "/v1/filesX", "* Regex /v[12]/.{3,}"},
		{"GET", "/v1/files/batch", "GET Prefix /v1/files/batch/"},
		{"GET", "/v1/files/batch/1", "GET Prefix /v1/files/batch/"},
		{"GET", "/v1/files/batches", "* Regex /v[12]/.{3,}"},
		{"GET", "/v1/fil", "* Regex /v[12]/.{3,}"},
		{"GET", "/v1/x", "404"},
		{"GET", "/xv1/abc", "404"},
		{"GET", "/tasks", "GET Prefix /tasks"},
		{"POST", "/tasks", "POST Exact /tasks"},
		{"PUT", "/tasks", "405 GET, POST"},
		{"GET", "/folded", "GET Exact /folded"},
		{"GET", "/FOLDED", "GET Exact* /Folded"},
		{"GET", "/MODELS", "404"},
		{"GET", "/pre/x", "GET Prefix* /PRE"},
		{"GET", "/prex", "404"},
		{"GET", "/re/B", "GET Regex* /RE/[a-c]"},
		{"GET", "/t/Any/eND", "GET Template* /T/{x}/End"},
		{"GET", "/datei%20%C3%A4", "GET Exact /datei%20ä"},
		{"GET", "/", "404"},
	} {
		got := find(tb, &Request{Path: "/b" + c.path, Method: c.method})
		require.Equal(t, "a "+c.want, got, "%s %s", c.method, c.path)
	}
}

func TestHeadersAndQueryDecide(t *testing.T) {
	t.Parallel()
	a := api("a", "/", nil, "GET Exact /x", "GET Exact /x", "GET Exact /x", "POST Exact /only")
	a.Routes[0].Name = "plain"
	a.Routes[1].Name, a.Routes[1].Headers = "header", []snapshot.ValueMatch{{Name: "x-kind", Type: "Prefix", Value: "gold"}}
	a.Routes[2].Name, a.Routes[2].Query = "query", []snapshot.ValueMatch{{Name: "a", Type: "Regex", Value: "[0-9]+"}, {Name: "b", Type: "Exact", Value: "1 2"}}
	a.Routes[3].Headers = []snapshot.ValueMatch{{Name: "X-Kind", Type: "Exact", Value: "gold"}}
	tb := table(t, nil, a)
	require.Equal(t, "a plain", find(tb, &Request{Path: "/x", Method: "GET"}))
	require.Equal(t, "a header", find(tb, &Request{Path: "/x", Method: "GET", Header: http.Header{"X-Kind": {"tin", "golden"}}}))
	require.Equal(t, "a query", find(tb, &Request{Path: "/x", Method: "GET", Query: "b=1+2&a=12"}))
	require.Equal(t, "a plain", find(tb, &Request{Path: "/x", Method: "GET", Query: "b=1+2&a=12x"}))
	require.Equal(t, "a 404", find(tb, &Request{Path: "/only", Method: "POST"}), "the method is not what is missing")
	require.Equal(t, "a 405 POST", find(tb, &Request{Path: "/only", Method: "GET"}))
}

func TestWhatCannotMatchIsRefused(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"* Exact /a/../b", "* Exact /a//b", "* Prefix a", "* Regex (", "* Template /a//{b}", "* Glob /a", "* Template /"} {
		_, err := Compile(api("a", "/", nil, spec))
		require.Error(t, err, spec)
	}
	_, err := Compile(api("a", "/a//b", nil))
	require.Error(t, err)
	bad := api("a", "/", nil, "* Exact /a")
	bad.Routes[0].Headers = []snapshot.ValueMatch{{Name: "a", Type: "Regex", Value: "("}}
	_, err = Compile(bad)
	require.Error(t, err)
}

// sharedTable is what a gateway makes of the APIs.
func sharedTable(t testing.TB, apis ...*snapshot.ModelAPI) *Table {
	t.Helper()
	var shared Shared
	compiled := make([]*API, len(apis))
	for i, a := range apis {
		var err error
		compiled[i], err = shared.Compile(a)
		require.NoError(t, err)
	}
	return NewTable(slices.Values(compiled), nil)
}

// crowd is a table of n APIs and how one after the other, in no order of theirs, is looked up: half of them by a host
// of their own, half by the base path on one host.
type crowd struct {
	n, next    int
	table      *Table
	host, path []byte // a request that has just been read is in the cache
	request    Request
}

func newCrowd(t testing.TB, n int) *crowd {
	t.Helper()
	apis := make([]*snapshot.ModelAPI, n)
	for i := range apis {
		hosts, base := []string{fmt.Sprintf("env-%020d.engineshed.localhost", i)}, "/"
		if i%2 == 0 {
			hosts, base = []string{"shared.example.com"}, fmt.Sprintf("/base-%d", i)
		}
		apis[i] = api(fmt.Sprintf("api-%020d", i), base, hosts, "POST Exact /v1/chat/completions", "POST Exact /v1/completions")
	}
	return &crowd{n: n, table: sharedTable(t, apis...), request: Request{Method: "POST", Scheme: "http"}}
}

// find looks one API up.
func (c *crowd) find() bool {
	k := c.next * 7919 % c.n
	c.next++
	r := &c.request
	if k%2 == 0 {
		c.path = append(append(strconv.AppendInt(append(c.path[:0], "/base-"...), int64(k), 10), "/v1/chat/completions"...), 0)
		r.Host, r.Path = "shared.example.com", unsafe.String(&c.path[0], len(c.path)-1)
	} else {
		c.host = append(c.host[:0], "env-00000000000000000000.engineshed.localhost"...)
		for i, rest := 23, k; rest > 0; i, rest = i-1, rest/10 {
			c.host[i] = byte('0' + rest%10)
		}
		r.Host, r.Path = unsafe.String(&c.host[0], len(c.host)), "/v1/chat/completions"
	}
	return c.table.Find(r).Route != nil
}

// BenchmarkFind looks APIs up among more and more.
func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newCrowd(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if !c.find() {
					b.Fatal("not found")
				}
			}
		})
	}
}

// Not parallel: it measures. The best of many short rounds is what the others of a busy machine disturbed least.
func TestLookupAmongTenThousandTakesAtMostTwiceAsLongAsAmongTen(t *testing.T) {
	const rounds, lookups, limit = 40, 10_000, 2
	crowds := []*crowd{newCrowd(t, 10), newCrowd(t, 1000), newCrowd(t, 10_000)}
	best := make([]time.Duration, len(crowds))
	for range rounds {
		for i, c := range crowds {
			began := time.Now()
			for range lookups {
				if !c.find() {
					require.Fail(t, "not found")
				}
			}
			if took := time.Since(began) / lookups; best[i] == 0 || took < best[i] {
				best[i] = took
			}
		}
	}
	ratio := float64(best[2]) / float64(best[0])
	t.Logf("a lookup among 10: %v, 1,000: %v, 10,000: %v; %.2f times as long, allowed %d", best[0], best[1], best[2], ratio, limit)
	require.LessOrEqual(t, ratio, float64(limit))
}

func TestEqualRoutesAreSharedAndOthersAreNot(t *testing.T) {
	t.Parallel()
	var shared Shared
	compile := func(a *snapshot.ModelAPI) *API {
		t.Helper()
		for i := range a.Routes {
			a.Routes[i].ID = a.ID + a.Routes[i].ID
		}
		before := *a
		compiled, err := shared.Compile(a)
		require.NoError(t, err)
		require.Equal(t, before, *a, "what was published is left as it was")
		return compiled
	}
	one := compile(api("a", "/a", []string{"a"}, "POST Exact /v1/x", "GET Prefix /v1/files"))
	two := compile(api("b", "/b", []string{"b"}, "POST Exact /v1/x", "GET Prefix /v1/files"))
	require.Same(t, one.common, two.common)
	require.Equal(t, []string{"a", "b"}, []string{one.ID, two.ID})
	other := api("c", "/c", []string{"c"}, "POST Exact /v1/x", "GET Prefix /v1/files")
	other.Targets = []snapshot.Target{{ServiceID: "svc", Model: "m"}}
	three := compile(other)
	require.NotSame(t, one.common, three.common)
	require.Equal(t, "m", three.exact[0].route.Targets[0].Model)
	require.Empty(t, one.exact[0].route.Targets[0].Model)
	require.NotSame(t, one.common, compile(api("d", "/d", []string{"d"}, "POST Exact /v1/x")).common)
	require.NotSame(t, one.common, compile(api("e", "/e", []string{"e"}, "PUT Exact /v1/x", "GET Prefix /v1/files")).common)
	_, err := shared.Compile(api("f", "//", nil, "POST Exact /v1/x"))
	require.ErrorContains(t, err, "f")
	_, err = shared.Compile(api("g", "/", nil, "POST Regex /("))
	require.ErrorContains(t, err, "g")
	runtime.KeepAlive([]*API{one, two, three})
}

func TestRoutesThatNobodyHasAreForgotten(t *testing.T) {
	t.Parallel()
	var shared Shared
	for i := range 5000 {
		_, err := shared.Compile(api("a", "/", nil, fmt.Sprintf("POST Exact /v1/x%d", i)))
		require.NoError(t, err)
		if i%500 == 0 {
			runtime.GC()
		}
	}
	require.Less(t, len(shared.known), 4000)
}

func TestFindingAllocatesNothing(t *testing.T) {
	tb := table(t, nil, api("a", "/base", []string{"*.example.com"}, "POST Exact /v1/chat/completions", "GET Template /models/{x}"))
	for _, r := range []Request{
		{Host: "a.example.com", Path: "/base/v1/chat/completions", Method: "POST"}, {Host: "a.example.com", Path: "/base/models/a", Method: "GET"},
	} {
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if tb.Find(&r).Route == nil {
				panic("not found")
			}
		}))
	}
}
