package route

// Table finds APIs by host and base path. It never changes; what a lookup costs does not depend on how many APIs there
// are.
type Table struct {
	hosts Hosts[site]
	any   site
}

// site is the APIs of one host. Most hosts have one.
type site struct {
	one     *API
	more    map[string]*API // all of them by base path, where there is more than one
	longest int             // of the base paths in more
}

// NewTable returns a table of the APIs. claimed are the hosts that answer for themselves even where no API does. Of two
// APIs in the same place the one with the smaller id is served.
func NewTable(apis func(yield func(*API) bool), claimed []string) *Table {
	t := &Table{hosts: make(Hosts[site], len(claimed))}
	for _, host := range claimed {
		t.hosts[host] = site{}
	}
	for a := range apis {
		for _, host := range a.Hosts {
			s := t.hosts[host]
			s.add(a)
			t.hosts[host] = s
		}
		if a.AnyHost {
			t.any.add(a)
		}
	}
	return t
}

func (s *site) add(a *API) {
	switch {
	case s.more != nil:
	case s.one == nil || s.one.base == a.base:
		if s.one == nil || a.ID < s.one.ID {
			s.one = a
		}
		return
	default:
		s.more = map[string]*API{s.one.base: s.one}
		s.longest = len(s.one.base)
	}
	if there := s.more[a.base]; there == nil || a.ID < there.ID {
		s.more[a.base] = a
		s.longest = max(s.longest, len(a.base))
	}
}

// find returns the API with the longest base path that path lies below, and what is left of the path.
func (s *site) find(path string) (a *API, below string) {
	if s.more == nil {
		if s.one == nil {
			return nil, ""
		}
		below, ok := Below(path, s.one.base)
		if !ok {
			return nil, ""
		}
		return s.one, below
	}
	for end := min(s.longest, len(path)); end >= 0; end-- {
		if end == 0 || end == len(path) || path[end] == '/' {
			if a := s.more[path[:end]]; a != nil {
				below, _ = Below(path, path[:end])
				return a, below
			}
		}
	}
	return nil, ""
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
	at, ok := t.hosts.Find(r.Host)
	if !ok {
		at = t.any
	}
	a, rest := at.find(r.Path)
	if a == nil || !a.serves(r.Scheme) {
		return Match{}
	}
	s := search{Request: r, method: methodOf(r.Method), path: rest}
	a.find(&s)
	m := Match{API: a, Route: s.found, Path: rest}
	if s.found == nil && !s.taken {
		m.Allow = allow(s.refused)
	}
	return m
}
