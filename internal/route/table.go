package route

import (
	"strings"
	"unsafe"
)

// Table finds APIs by host and base path. It never changes; what a lookup costs hardly depends on how many APIs there
// are.
type Table struct {
	hosts    *index
	any      site
	wildcard bool // there are hosts like *.example.com
}

// site is the APIs of one host. Most hosts have one, at /: all that is needed to find its route is here.
type site struct {
	api    *API     // nil: none
	routes *routing // of api, if its base path is /
}

// bases are the APIs of one host by their base paths.
type bases struct {
	index   *index
	longest int
}

// NewTable returns a table of the APIs. claimed are the hosts that answer for themselves even where no API does. Of two
// APIs in the same place the one with the smaller id is served.
func NewTable(apis func(yield func(*API) bool), claimed []string) *Table {
	n := len(claimed)
	for a := range apis {
		n += len(a.Hosts)
	}
	t := &Table{hosts: newIndex(n)}
	several := map[string][]*API{} // on a host
	put := func(host string) (*site, bool) {
		t.wildcard = t.wildcard || strings.HasPrefix(host, "*")
		return t.hosts.put(host)
	}
	for _, host := range claimed {
		put(host)
	}
	var anywhere []*API
	for a := range apis {
		for _, host := range a.Hosts {
			s, _ := put(host)
			if s.api == nil {
				*s = alone(a)
				continue
			}
			if several[host] == nil {
				several[host] = []*API{s.api}
			}
			several[host] = append(several[host], a)
		}
		if a.AnyHost {
			anywhere = append(anywhere, a)
		}
	}
	for host, all := range several {
		s, _ := put(host)
		*s = together(all)
	}
	t.any = together(anywhere)
	return t
}

// alone is the site of one API.
func alone(a *API) site {
	if a.base == "" {
		return site{a, &a.routing}
	}
	return site{api: a}
}

// together is the site of many APIs, or none.
func together(all []*API) site {
	if len(all) == 0 {
		return site{}
	}
	b := &bases{index: newIndex(len(all))}
	places := 0
	var one *API
	for _, a := range all {
		s, added := b.index.put(a.base)
		if added {
			places++
			b.longest = max(b.longest, len(a.base))
		}
		if added || a.ID < s.api.ID {
			*s = site{a, &a.routing}
		}
		one = s.api
	}
	if places == 1 {
		return alone(one)
	}
	return site{api: &API{bases: b}}
}

// find returns the API with the longest base path that path lies below, its routes, and what is left of the path.
func (s site) find(path string) (a *API, routes *routing, below string) {
	switch {
	case s.api == nil:
		return nil, nil, ""
	case s.routes != nil:
		return s.api, s.routes, path
	case s.api.bases != nil:
		return s.api.bases.find(path)
	}
	below, ok := Below(path, s.api.base)
	if !ok {
		return nil, nil, ""
	}
	return s.api, &s.api.routing, below
}

func (b *bases) find(path string) (a *API, routes *routing, below string) {
	for end := min(b.longest, len(path)); end >= 0; end-- {
		if end == 0 || end == len(path) || path[end] == '/' {
			if found, ok := b.index.find(path[:end]); ok {
				below, _ = Below(path, path[:end])
				return found.api, found.routes, below
			}
		}
	}
	return nil, nil, ""
}

// at is the site of a host: under its own name, or else under the longest wildcard, or else of any host.
func (t *Table) at(host string) site {
	if len(host) > longestHost {
		return t.any
	}
	if s, ok := t.hosts.find(host); ok {
		return s
	}
	for at := strings.IndexByte(host, '.'); t.wildcard && at >= 0; {
		var buffer [longestHost + 1]byte
		text := append(append(buffer[:0], '*'), host[at:]...)
		if s, ok := t.hosts.find(unsafe.String(&text[0], len(text))); ok { // it is not kept
			return s
		}
		next := strings.IndexByte(host[at+1:], '.')
		if next < 0 {
			break
		}
		at += 1 + next
	}
	return t.any
}

// Match is what was found. Without Route, nothing is served; Allow are then the methods that are, if there are any.
type Match struct {
	API   *API   // nil: no API answers at this host and path
	Route *Route // of API
	Path  string // what was asked for below the base path
	Allow string
}

// Find finds what a request asks for.
func (t *Table) Find(r *Request) Match {
	a, routes, rest := t.at(r.Host).find(r.Path)
	if a == nil || !routes.serves(r.Scheme) {
		return Match{}
	}
	s := search{Request: r, method: methodOf(r.Method), path: rest}
	routes.find(&s)
	m := Match{API: a, Route: s.found, Path: rest}
	if s.found == nil && !s.taken {
		m.Allow = allow(s.refused)
	}
	return m
}
