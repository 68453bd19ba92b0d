// Package route finds the Model API and the route that a request asks for: for a gateway that serves it, and for the
// control plane that explains what a gateway would do.
package route

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unique"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// Request is what a route is found by.
type Request struct {
	Host   string // as Host returns it
	Scheme string // http or https
	Method string
	Path   string // canonical
	Query  string // as it was sent
	Header http.Header
}

// Route is a compiled route.
type Route struct {
	path     unique.Handle[string] // canonical; of a prefix without its final slash. The same text in many APIs is one
	methods  methodSet
	segments []string // of a template; "" takes any segment
	literals int
	regex    *regexp.Regexp
	headers  []condition
	query    []condition
	snapshot.Route
}

// condition asks something of a value.
type condition struct {
	snapshot.ValueMatch
	regex *regexp.Regexp
}

func compile(published snapshot.Route) (*Route, error) {
	r := &Route{Route: published, methods: methodsOf(published.Methods)}
	var err error
	switch r.PathType {
	case "Regex":
		if r.regex, err = whole(r.Path, r.IgnoreCase); err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Name, err)
		}
	case "Template":
		err = r.compileTemplate()
	case "Exact", "Prefix":
		path, ok := Canonical(r.Path)
		if !ok {
			err = fmt.Errorf("route %s: the path %q", r.Name, r.Path)
		}
		if r.PathType == "Prefix" {
			path = strings.TrimSuffix(path, "/")
		}
		if r.IgnoreCase {
			path = strings.ToLower(path)
		}
		r.path = unique.Make(path)
	default:
		err = fmt.Errorf("route %s: the path type %q", r.Name, r.PathType)
	}
	if err != nil {
		return nil, err
	}
	r.Headers = slices.Clone(r.Headers)
	for i := range r.Headers {
		r.Headers[i].Name = http.CanonicalHeaderKey(r.Headers[i].Name)
	}
	if r.headers, err = conditions(r.Headers); err == nil {
		r.query, err = conditions(r.Query)
	}
	if err != nil {
		return nil, fmt.Errorf("route %s: %w", r.Name, err)
	}
	return r, nil
}

func (r *Route) compileTemplate() error {
	for _, segment := range strings.Split(r.Path, "/")[1:] {
		if strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "}") {
			r.segments = append(r.segments, "")
			continue
		}
		canonical, ok := Canonical("/" + segment)
		if !ok || segment == "" {
			return fmt.Errorf("route %s: the path %q", r.Name, r.Path)
		}
		r.segments = append(r.segments, canonical[1:])
		r.literals++
	}
	return nil
}

// whole compiles an expression that must match a whole value.
func whole(expression string, ignoreCase bool) (*regexp.Regexp, error) {
	flags := "(?s:"
	if ignoreCase {
		flags = "(?si:"
	}
	return regexp.Compile("^" + flags + expression + ")$")
}

func conditions(published []snapshot.ValueMatch) ([]condition, error) {
	var all []condition
	for _, match := range published {
		c := condition{ValueMatch: match}
		switch match.Type {
		case "Exact", "Prefix":
		case "Regex":
			regex, err := whole(match.Value, false)
			if err != nil {
				return nil, err
			}
			c.regex = regex
		default:
			return nil, fmt.Errorf("the match type %q of %s", match.Type, match.Name)
		}
		all = append(all, c)
	}
	return all, nil
}

// holds reports whether one of the values is as the condition wants it.
func (c condition) holds(values []string) bool {
	return slices.ContainsFunc(values, func(value string) bool {
		switch c.Type {
		case "Exact":
			return value == c.Value
		case "Prefix":
			return strings.HasPrefix(value, c.Value)
		}
		return c.regex.MatchString(value)
	})
}

// precedes orders the routes of one kind: the longest path first, then who asks for more. Of equals the one that is
// listed first comes first: ids do not decide, because routes that APIs share have none.
func precedes(a, b *Route) int {
	return cmp.Or(
		cmp.Compare(b.literals, a.literals),
		literalsFirst(a.segments, b.segments),
		cmp.Compare(b.length(), a.length()),
		compareBools(a.IgnoreCase, b.IgnoreCase),
		cmp.Compare(len(b.headers)+len(b.query), len(a.headers)+len(a.query)),
		compareBools(len(a.Methods) == 0, len(b.Methods) == 0),
	)
}

// length is of the text that is compared; the names of a template's parameters are not.
func (r *Route) length() int {
	switch r.PathType {
	case "Regex":
		return len(r.Path)
	case "Template":
		return len(strings.Join(r.segments, "/"))
	}
	return len(r.path.Value())
}

// literalsFirst prefers the template whose first difference is a literal segment.
func literalsFirst(a, b []string) int {
	for i := range min(len(a), len(b)) {
		if c := compareBools(a[i] == "", b[i] == ""); c != 0 {
			return c
		}
	}
	return 0
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// takes reports whether the route is for the method.
func (r *Route) takes(method string, bit methodSet) bool {
	switch {
	case r.methods == 0:
		return true
	case bit == otherMethod:
		return slices.Contains(r.Methods, method)
	default:
		return r.methods&bit != 0
	}
}

// methodSet is which methods a route names; none is all.
type methodSet uint16

const otherMethod methodSet = 1 << 15

func methodsOf(names []string) (set methodSet) {
	for _, name := range names {
		set |= methodOf(name)
	}
	return set
}

func methodOf(name string) methodSet {
	switch name {
	case http.MethodGet:
		return 1
	case http.MethodPost:
		return 1 << 1
	case http.MethodPut:
		return 1 << 2
	case http.MethodPatch:
		return 1 << 3
	case http.MethodDelete:
		return 1 << 4
	case http.MethodHead:
		return 1 << 5
	case http.MethodOptions:
		return 1 << 6
	}
	return otherMethod
}

// wants reports whether headers and query are as the route wants them.
func (r *Route) wants(req *Request) bool {
	for _, c := range r.headers {
		if !c.holds(req.Header[c.Name]) {
			return false
		}
	}
	if len(r.query) == 0 {
		return true
	}
	values, _ := url.ParseQuery(req.Query) // what cannot be parsed is not forwarded either
	for _, c := range r.query {
		if !c.holds(values[c.Name]) {
			return false
		}
	}
	return true
}

// Rest returns what follows the route's path in a path below the base path: of a prefix what is under it, of others
// nothing.
func (r *Route) Rest(path string) string {
	if r.PathType == "Prefix" {
		return path[r.length():]
	}
	return ""
}
