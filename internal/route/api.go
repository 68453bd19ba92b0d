package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// API is a Model API with its routes, compiled once for all the tables it is in. Only what is its own is here: what it
// shares with others is in one place for all of them. Among very many APIs little memory is touched then, to find a route
// in as well as to collect garbage.
type API struct {
	*common
	Owner    any // what keeps the API, for who finds it
	ID, Name string
	base     string // canonical, without its final slash: "" for /
	Hosts    []string
	Revision int64
	bases    *bases // of many APIs: it stands for all of one host
}

// common is what many APIs can share: compiled routes, and all that was published but what is each one's own.
type common struct {
	routing
	snapshot.ModelAPI
}

// ofAll is what was published without what is the API's own.
func ofAll(published snapshot.ModelAPI) snapshot.ModelAPI {
	published.ID, published.Name, published.BasePath, published.Hosts, published.Revision = "", "", "", nil, 0
	return published
}

// Published is what the API was compiled from. Of Shared it has no routes.
func (a *API) Published() *snapshot.ModelAPI {
	all := a.ModelAPI
	all.ID, all.Name, all.BasePath, all.Hosts, all.Revision = a.ID, a.Name, cmp.Or(a.base, "/"), a.Hosts, a.Revision
	return &all
}

// routing is the compiled routes of one API, or of many that have the same.
type routing struct {
	schemes   uint8
	exact     []entry // by length and path
	folded    []entry // the same of those in lower case
	templates []*Route
	prefixes  []*Route
	regexes   []*Route
}

// entry is an exact path and its route, with what most routes are found by.
type entry struct {
	path    string
	route   *Route
	methods methodSet // that the route takes without more conditions
}

func entryOf(r *Route) entry {
	e := entry{path: r.path.Value(), route: r}
	if len(r.headers)+len(r.query) == 0 {
		e.methods = r.methods &^ otherMethod
	}
	return e
}

// Compile refuses an API with a path or an expression that no request could match.
func Compile(published *snapshot.ModelAPI) (*API, error) {
	routes, err := compileRoutes(published)
	if err != nil {
		return nil, fmt.Errorf("model API %s: %w", published.ID, err)
	}
	return at(published, &common{*routes, ofAll(*published)})
}

// at puts what is common at the API's base path.
func at(published *snapshot.ModelAPI, c *common) (*API, error) {
	base, ok := Canonical(published.BasePath)
	if !ok {
		return nil, fmt.Errorf("model API %s: the base path %q", published.ID, published.BasePath)
	}
	base = strings.TrimSuffix(base, "/")
	text := published.ID + published.Name + base // one piece of memory, which is near when any of it is
	id, rest := text[:len(published.ID)], text[len(published.ID):]
	return &API{
		common: c, ID: id, Name: rest[:len(published.Name)], base: rest[len(published.Name):], Hosts: published.Hosts, Revision: published.Revision,
	}, nil
}

func compileRoutes(published *snapshot.ModelAPI) (*routing, error) {
	all := &routing{schemes: schemes(published.Schemes)}
	for _, spec := range published.Routes {
		r, err := compile(spec)
		if err != nil {
			return nil, err
		}
		if len(r.Targets) == 0 {
			r.Targets, r.Scene = published.Targets, published.Scene
		}
		switch {
		case r.Model == "": // what is asked for is kept by one service: a task, a file
			r.Fallback = nil
		case r.Fallback == nil:
			r.Fallback = published.Fallback
		}
		all.add(r)
	}
	for _, entries := range [][]entry{all.exact, all.folded} {
		slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Or(comparePaths(a.path, b.path), precedes(a.route, b.route)) })
	}
	for _, kind := range [][]*Route{all.templates, all.prefixes, all.regexes} {
		slices.SortStableFunc(kind, precedes)
	}
	return all, nil
}

func (a *routing) add(r *Route) {
	switch {
	case r.PathType == "Exact" && r.IgnoreCase:
		a.folded = append(a.folded, entryOf(r))
	case r.PathType == "Exact":
		a.exact = append(a.exact, entryOf(r))
	case r.PathType == "Template":
		a.templates = append(a.templates, r)
	case r.PathType == "Prefix":
		a.prefixes = append(a.prefixes, r)
	default:
		a.regexes = append(a.regexes, r)
	}
}

// All yields every compiled route.
func (a *API) All(yield func(*Route) bool) {
	all := &a.routing
	for _, entries := range [][]entry{all.exact, all.folded} {
		for _, e := range entries {
			if !yield(e.route) {
				return
			}
		}
	}
	for _, routes := range [][]*Route{all.templates, all.prefixes, all.regexes} {
		for _, r := range routes {
			if !yield(r) {
				return
			}
		}
	}
}

// comparePaths orders by length first, which is known without a look at the text.
func comparePaths(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }

// schemes is a set.
func schemes(names []string) (set uint8) {
	for _, name := range names {
		switch strings.ToLower(name) {
		case "http":
			set |= 1
		case "https":
			set |= 2
		}
	}
	return set
}

// serves reports whether there is something over the scheme: over all when the API names none.
func (a *routing) serves(scheme string) bool {
	return a.schemes == 0 || scheme == "http" && a.schemes&1 != 0 || scheme == "https" && a.schemes&2 != 0
}

// search is one look at routes.
type search struct {
	*Request
	method  methodSet // the one of the request
	path    string    // below the base path
	found   *Route
	refused []*Route // would do, for another method
	taken   bool     // a route takes path and method, but not headers or query
}

// find looks at exact paths before templates, prefixes and expressions. An exact path may be asked for with one slash
// more at its end.
func (a *routing) find(s *search) {
	if a.findExact(s, s.path) {
		return
	}
	trimmed := strings.TrimSuffix(s.path, "/")
	if trimmed != s.path && trimmed != "" && a.findExact(s, trimmed) {
		return
	}
	if len(a.templates) > 0 {
		count := strings.Count(trimmed, "/")
		for _, r := range a.templates {
			if len(r.segments) == count && r.matchesSegments(trimmed) && s.try(r) {
				return
			}
		}
	}
	var lower string
	for _, r := range a.prefixes {
		path := s.path
		if r.IgnoreCase {
			if lower == "" {
				lower = strings.ToLower(path)
			}
			path = lower
		}
		if _, ok := Below(path, r.path.Value()); ok && s.try(r) {
			return
		}
	}
	for _, r := range a.regexes {
		if r.regex.MatchString(s.path) && s.try(r) {
			return
		}
	}
}

func (a *routing) findExact(s *search, path string) bool {
	if s.tryAll(a.exact, path) {
		return true
	}
	return len(a.folded) > 0 && s.tryAll(a.folded, strings.ToLower(path))
}

// tryAll tries the routes of exactly this path.
func (s *search) tryAll(entries []entry, path string) bool {
	first, found := slices.BinarySearchFunc(entries, path, func(e entry, path string) int { return comparePaths(e.path, path) })
	if !found {
		return false
	}
	for _, e := range entries[first:] {
		if e.path != path {
			return false
		}
		if e.methods&s.method != 0 {
			s.found = e.route
			return true
		}
		if s.try(e.route) {
			return true
		}
	}
	return false
}

// try takes a route whose path matches if the rest of it does, too.
func (s *search) try(r *Route) bool {
	switch {
	case !r.takes(s.Method, s.method):
		s.refused = append(s.refused, r)
		return false
	case !r.wants(s.Request):
		s.taken = true
		return false
	}
	s.found = r
	return true
}

// matchesSegments compares a path of as many segments as the template has. A parameter is one segment and not empty.
func (r *Route) matchesSegments(path string) bool {
	for _, want := range r.segments {
		path = path[1:]
		segment, _, _ := strings.Cut(path, "/")
		path = path[len(segment):]
		switch {
		case want == "" && segment == "":
			return false
		case want == "" || want == segment:
		case r.IgnoreCase && strings.EqualFold(want, segment):
		default:
			return false
		}
	}
	return true
}

// allow lists the methods that the routes take.
func allow(routes []*Route) string {
	var methods []string
	for _, r := range routes {
		methods = append(methods, r.Methods...)
	}
	slices.Sort(methods)
	return strings.Join(slices.Compact(methods), ", ")
}
