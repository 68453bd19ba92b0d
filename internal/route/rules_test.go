package route

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// written reads what a fuzzer wrote, a line for each thing:
//
//	claimed HOST
//	api HOST,… BASE                        "-" for any host
//	METHODS TYPE PATH [h:Name=Exact:value] [q:Name=Prefix:value]
//
// A route belongs to the API above it. Lines that say something else are left out.
func written(text string) (apis []*snapshot.ModelAPI, claimed []string) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[0] == "claimed":
			claimed = append(claimed, fields[1])
		case len(fields) == 3 && fields[0] == "api":
			var hosts []string
			if fields[1] != "-" {
				hosts = strings.Split(fields[1], ",")
				slices.Sort(hosts)
				hosts = slices.Compact(hosts)
			}
			apis = append(apis, api(fmt.Sprintf("api-%02d", len(apis)), fields[2], hosts))
		case len(fields) >= 3 && len(apis) > 0:
			a := apis[len(apis)-1]
			r := routes(strings.Join(fields[:3], " "))[0]
			r.ID = fmt.Sprintf("hr-%02d", 99-len(a.Routes)) // ids say nothing about an order
			r.Name = fmt.Sprint(len(a.Routes))
			for _, condition := range fields[3:] {
				place, rest, _ := strings.Cut(condition, ":")
				name, rest, _ := strings.Cut(rest, "=")
				kind, value, _ := strings.Cut(rest, ":")
				match := snapshot.ValueMatch{Name: name, Type: kind, Value: value}
				if place == "h" {
					r.Headers = append(r.Headers, match)
				} else {
					r.Query = append(r.Query, match)
				}
			}
			a.Routes = append(a.Routes, r)
		}
	}
	return apis, claimed
}

// byTheRules finds what find finds, from the rules as docs/model-apis.md has them, one after the other.
func byTheRules(apis []*snapshot.ModelAPI, claimed []string, r *Request) string {
	here := onHost(apis, claimed, r.Host)
	slices.SortStableFunc(here, func(a, b *snapshot.ModelAPI) int {
		return cmp.Or(cmp.Compare(len(canonicalBase(b)), len(canonicalBase(a))), cmp.Compare(a.ID, b.ID))
	})
	for _, a := range here {
		base := canonicalBase(a)
		below, under := strings.CutPrefix(r.Path, base)
		if !under || below != "" && below[0] != '/' {
			continue
		}
		return a.ID + " " + amongRoutes(a.Routes, cmp.Or(below, "/"), r)
	}
	return "none"
}

func canonicalBase(a *snapshot.ModelAPI) string {
	base, _ := Canonical(a.BasePath)
	return strings.TrimSuffix(base, "/")
}

// onHost are the APIs of the host's own name, else of the longest wildcard, else of any host.
func onHost(apis []*snapshot.ModelAPI, claimed []string, host string) (here []*snapshot.ModelAPI) {
	names := []string{host}
	for i := range host {
		if host[i] == '.' {
			names = append(names, "*"+host[i:])
		}
	}
	for _, name := range names {
		for _, a := range apis {
			if slices.Contains(a.Hosts, name) {
				here = append(here, a)
			}
		}
		if len(here) > 0 || slices.Contains(claimed, name) {
			return here
		}
	}
	for _, a := range apis {
		if a.AnyHost {
			here = append(here, a)
		}
	}
	return here
}

// candidate is a route whose path matches, and in which order it comes.
type candidate struct {
	snapshot.Route
	kind, literals int
	places         string // of a template: 0 for a literal segment, 1 for a parameter
	length         int
}

func amongRoutes(routes []snapshot.Route, path string, r *Request) string {
	var fitting []candidate
	for _, route := range routes {
		if c, ok := candidateOf(route, path); ok {
			fitting = append(fitting, c)
		}
	}
	slices.SortStableFunc(fitting, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(b.literals, a.literals), cmp.Compare(a.places, b.places),
			cmp.Compare(b.length, a.length), compareBools(a.IgnoreCase, b.IgnoreCase),
			cmp.Compare(len(b.Headers)+len(b.Query), len(a.Headers)+len(a.Query)), compareBools(len(a.Methods) == 0, len(b.Methods) == 0))
	})
	var methods []string
	wanting := false
	for _, c := range fitting {
		switch {
		case len(c.Methods) > 0 && !slices.Contains(c.Methods, r.Method):
			methods = append(methods, c.Methods...)
		case !wanted(c.Route, r):
			wanting = true
		default:
			return c.Name
		}
	}
	if wanting || len(methods) == 0 {
		return "404"
	}
	slices.Sort(methods)
	return "405 " + strings.Join(slices.Compact(methods), ", ")
}

// candidateOf reports whether a route matches a path. One slash more at the end of an exact path or template is none.
func candidateOf(r snapshot.Route, path string) (c candidate, ok bool) {
	c = candidate{Route: r}
	own, _ := Canonical(r.Path)
	if r.IgnoreCase && r.PathType != "Regex" {
		own, path = strings.ToLower(own), strings.ToLower(path)
	}
	trimmed := strings.TrimSuffix(path, "/")
	switch r.PathType {
	case "Exact":
		if path != own && trimmed != "" && trimmed == own {
			c.kind = 1
			return c, true
		}
		return c, path == own
	case "Template":
		c.kind = 2
		return c, c.fitsTemplate(trimmed)
	case "Prefix":
		own = strings.TrimSuffix(own, "/")
		c.kind, c.length = 3, len(own)
		return c, path == own || strings.HasPrefix(path, own+"/")
	}
	c.kind, c.length = 4, len(r.Path)
	flags := "s"
	if r.IgnoreCase {
		flags = "si"
	}
	matched, err := regexp.MatchString("^(?"+flags+":"+r.Path+")$", path)
	return c, matched && err == nil
}

func (c *candidate) fitsTemplate(path string) bool {
	want, got := strings.Split(c.Path, "/"), strings.Split(path, "/")
	for i, segment := range want[1:] {
		if strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "}") {
			c.places += "1"
			c.length++
			if i+1 < len(got) && got[i+1] == "" {
				return false
			}
			continue
		}
		canonical, _ := Canonical("/" + segment)
		c.literals++
		c.places += "0"
		c.length += len(canonical)
		if i+1 < len(got) && canonical[1:] != got[i+1] && (!c.IgnoreCase || !strings.EqualFold(canonical[1:], got[i+1])) {
			return false
		}
	}
	return len(want) == len(got)
}

func wanted(route snapshot.Route, r *Request) bool {
	query, _ := url.ParseQuery(r.Query) // what cannot be parsed is not forwarded either
	holds := func(m snapshot.ValueMatch, values []string) bool {
		return slices.ContainsFunc(values, func(value string) bool {
			matched, _ := regexp.MatchString("^(?s:"+m.Value+")$", value)
			return m.Type == "Exact" && value == m.Value || m.Type == "Prefix" && strings.HasPrefix(value, m.Value) || m.Type == "Regex" && matched
		})
	}
	for _, m := range route.Headers {
		if !holds(m, r.Header.Values(m.Name)) {
			return false
		}
	}
	for _, m := range route.Query {
		if !holds(m, query[m.Name]) {
			return false
		}
	}
	return true
}

// FuzzFind writes APIs and a request. What is found is what the rules say: alone and among APIs that share their routes.
func FuzzFind(f *testing.F) {
	const defaults = "api - /\nPOST Exact /v1/chat/completions\nPOST Exact /v1/completions\nGET,POST,PUT,PATCH,DELETE Prefix /v1/files\n" +
		"GET Exact /models\nGET Template /models/{folder}\nGET,POST,DELETE Template /userdata/{file}\nPOST Template /userdata/{file}/move/{dest}\n"
	const hosts = "claimed empty.x.com\napi x.com,*.x.com /\n* Prefix /\napi *.a.x.com /api/v2\n* Prefix /\napi *.a.x.com /api\nGET Exact /y\napi - /api\nGET Prefix /\n"
	const cases = "api - /b\nGET Exact /Folded\nGET Exact* /folded\nGET Prefix* /PRE\n* Regex* /RE/[a-c]\nGET Template* /T/{x}/End\n* Regex /v[12]/.{3,}\n" +
		"POST Prefix /v1/files\nGET Prefix /v1/files/batch/\nGET Template /{x}/special\nGET Template /models/{f}\n* Exact /tasks\nPOST Exact /tasks\n"
	const conditions = "api - /\n* Exact /x\n* Exact /x h:X-Kind=Prefix:gold\n* Exact /x h:X-Kind=Exact:gold q:a=Regex:[0-9]+\nPOST Exact /only h:X-Kind=Exact:gold\n"
	equals := "api - /\n" + strings.Repeat("GET Regex /v1/.*\nGET,POST Regex /v1/.+\nGET Prefix /v1\nPOST,GET Prefix /v1/\n", 8)
	for _, seed := range []struct{ config, host, method, path, query, kind string }{
		{defaults, "a", "POST", "/v1/chat/completions", "", ""},
		{defaults, "a", "GET", "/v1/files/f-1/content", "x=1", ""},
		{defaults, "a", "GET", "/models/a%2Fb/", "", ""},
		{defaults, "a", "PUT", "/userdata/a", "", ""},
		{defaults, "a", "POST", "/userdata/a%2Fb/move/c", "", ""},
		{hosts, "b.a.x.com", "GET", "/api/v2/x", "", ""},
		{hosts, "b.a.x.com", "GET", "/other", "", ""},
		{hosts, "empty.x.com", "GET", "/api", "", ""},
		{hosts, "elsewhere", "GET", "/api", "", ""},
		{hosts, "x.com", "GET", "/api", "", ""},
		{cases, "a", "GET", "/b/FOLDED", "", ""},
		{cases, "a", "GET", "/b/folded/", "", ""},
		{cases, "a", "GET", "/b/re/B", "", ""},
		{cases, "a", "GET", "/b/t/Any/eND", "", ""},
		{cases, "a", "GET", "/b/models/special", "", ""},
		{cases, "a", "GET", "/b/v1/files/batch", "", ""},
		{cases, "a", "POST", "/b/tasks/", "", ""},
		{conditions, "a", "GET", "/x", "a=12", "gold"},
		{conditions, "a", "GET", "/x", "a=x", "golden"},
		{conditions, "a", "POST", "/only", "", "tin"},
		{equals, "a", "GET", "/v1/x", "", ""},
		{equals, "a", "POST", "/v1", "", ""},
	} {
		f.Add(seed.config, seed.host, seed.method, seed.path, seed.query, seed.kind)
	}
	f.Fuzz(func(t *testing.T, config, host, method, path, query, kind string) {
		path, ok := Canonical(path)
		if !ok || len(host) > longestHost || len(config) > 4<<10 {
			return
		}
		requireTheRules(t, config, &Request{Host: host, Method: method, Path: path, Query: query, Header: http.Header{"X-Kind": {kind}}})
	})
}

// requireTheRules has a request found by the rules, by a table and by one of APIs that share their routes. It reports
// whether the APIs could be compiled at all.
func requireTheRules(t require.TestingT, config string, r *Request) bool {
	apis, claimed := written(config)
	var shared Shared
	var own, common []*API
	for _, a := range apis {
		compiled, err := Compile(a)
		again, sharedErr := shared.Compile(a)
		require.Equal(t, err == nil, sharedErr == nil)
		if err != nil {
			return false
		}
		requirePublished(t, a, compiled, again)
		own, common = append(own, compiled), append(common, again)
	}
	want := byTheRules(apis, claimed, r)
	require.Equal(t, want, find(NewTable(slices.Values(own), claimed), r), "as the control plane explains %v among %s", r, config)
	require.Equal(t, want, find(NewTable(slices.Values(common), claimed), r), "as a gateway serves %v among %s", r, config)
	return true
}

// requirePublished has compiled APIs say what they were compiled from, their base path in its one plain form.
func requirePublished(t require.TestingT, a *snapshot.ModelAPI, own, common *API) {
	want := *a
	base, _ := Canonical(a.BasePath)
	want.BasePath = cmp.Or(strings.TrimSuffix(base, "/"), "/")
	require.Equal(t, want, *own.Published())
	want.Routes = nil
	require.Equal(t, want, *common.Published())
}

func TestTableAgreesWithTheRulesAsWritten(t *testing.T) {
	t.Parallel()
	segment := rapid.SampledFrom([]string{"a", "b", "B", "ab", "a%2Fb"})
	path := rapid.Custom(func(t *rapid.T) string {
		return "/" + strings.Join(rapid.SliceOfN(segment, 0, 4).Draw(t, "segments"), "/")
	})
	host := rapid.SampledFrom([]string{"x.com", "a.x.com", "*.x.com", "b.a.x.com", "*.a.x.com", "y.com"})
	line := rapid.Custom(func(t *rapid.T) string {
		where := path.Draw(t, "path")
		kind := rapid.SampledFrom([]string{"Exact", "Exact*", "Template", "Template*", "Prefix", "Prefix*", "Regex", "Regex*"}).Draw(t, "type")
		switch kind[:5] {
		case "Templ":
			where = strings.ReplaceAll("/a"+strings.TrimSuffix(where, "/"), "/b", "/{x}")
		case "Regex":
			where = strings.ReplaceAll(where, "b", ".*")
		}
		methods := rapid.SampledFrom([]string{"*", "*", "GET", "POST", "GET,POST", "PURGE"}).Draw(t, "methods")
		return methods + " " + kind + " " + where + rapid.SampledFrom([]string{"", "", " h:x-kind=Prefix:gold", " q:a=Regex:[0-9]+"}).Draw(t, "condition")
	})
	rapid.Check(t, func(t *rapid.T) {
		var config []string
		for range rapid.IntRange(1, 4).Draw(t, "apis") {
			hosts := cmp.Or(strings.Join(rapid.SliceOfN(host, 0, 2).Draw(t, "hosts"), ","), "-")
			config = append(config, "api "+hosts+" "+path.Draw(t, "base"))
			config = append(config, rapid.SliceOfN(line, 0, 30).Draw(t, "routes")...)
		}
		if rapid.Bool().Draw(t, "claimed") {
			config = append(config, "claimed "+host.Draw(t, "claim"))
		}
		r := &Request{
			Host: strings.TrimPrefix(host.Draw(t, "host"), "*."), Path: path.Draw(t, "asked"), Method: rapid.SampledFrom([]string{"GET", "POST", "PURGE", "PUT"}).Draw(t, "method"),
			Query: rapid.SampledFrom([]string{"", "a=1", "a=x&a=2"}).Draw(t, "query"), Header: http.Header{"X-Kind": {rapid.SampledFrom([]string{"tin", "golden"}).Draw(t, "kind")}},
		}
		if rapid.Bool().Draw(t, "slash") && r.Path != "/" {
			r.Path += "/"
		}
		require.True(t, requireTheRules(t, strings.Join(config, "\n"), r))
	})
}
