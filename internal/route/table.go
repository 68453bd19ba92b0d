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
	hosts := make(map[string]*gathering, len(claimed))
	at := func(host string) *gathering {
		if hosts[host] == nil {
			hosts[host] = new(gathering)
		}
		return hosts[host]
	}
	for _, host := range claimed {
		at(host)
	}
	var anywhere gathering
	for a := range apis {
		for _, host := range a.Hosts {
			at(host).add(a)
		}
		if a.AnyHost {
			anywhere.add(a)
		}
	}
	t := &Table{any: anywhere.site()}
	sites := make(map[string]site, len(hosts))
	for host, g := range hosts {
		sites[host] = g.site()
		t.wildcard = t.wildcard || strings.HasPrefix(host, "*")
	}
	t.hosts = newIndex(sites)
	return t
}

// gathering is a site in the making.
type gathering struct {
	one  *API
	more map[string]site // all of them by base path, where there is more than one
}

func (g *gathering) add(a *API) {
	switch {
	case g.more != nil:
	case g.one == nil || g.one.base == a.base:
		if g.one == nil || a.ID < g.one.ID {
			g.one = a
		}
		return
	default:
		g.more = map[string]site{g.one.base: {g.one, g.one.routes}}
	}
	if there := g.more[a.base].api; there == nil || a.ID < there.ID {
		g.more[a.base] = site{a, a.routes}
	}
}

func (g *gathering) site() site {
	switch {
	case g.more != nil:
		b := &bases{index: newIndex(g.more)}
		for base := range g.more {
			b.longest = max(b.longest, len(base))
		}
		return site{api: &API{bases: b}}
	case g.one != nil && g.one.base == "":
		return site{g.one, g.one.routes}
	}
	return site{api: g.one}
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
	return s.api, s.api.routes, below
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
