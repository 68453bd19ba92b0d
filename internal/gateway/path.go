package gateway

import (
	"strconv"
	"strings"
)

const servicesPath = "/services/"

// splitTarget takes the target of a request apart as it was sent: the id of the service, and the path that its engine
// is asked for. Only a target in its one plain form is accepted, so that what decides is also what is forwarded.
func splitTarget(target string) (id, rest string, refused *refusal) {
	path, _, _ := strings.Cut(target, "?")
	if !isPlain(path) {
		return "", "", errMalformed
	}
	under, ok := strings.CutPrefix(path, servicesPath)
	if !ok {
		return "", "", errUnknownURL
	}
	end := strings.IndexByte(under, '/')
	if end < 0 {
		return "", "", errUnknownURL
	}
	return under[:end], under[end:], nil
}

// isPlain refuses a path that two readers could read in two ways. A target that is a whole URL ("http://other/…") does
// not begin with a slash and is refused too: this is not a forward proxy.
func isPlain(path string) bool {
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "\\#") {
		return false
	}
	for rest := path[1:]; ; {
		segment, after, more := strings.Cut(rest, "/")
		if segment == "." || segment == ".." || segment == "" && more || !plainEscapes(segment) {
			return false
		}
		if !more {
			return true
		}
		rest = after
	}
}

// plainEscapes refuses escapes of what is special in a path (slash, backslash, dot, percent) and of control characters.
func plainEscapes(segment string) bool {
	for {
		at := strings.IndexByte(segment, '%')
		if at < 0 {
			return true
		}
		if at+3 > len(segment) {
			return false
		}
		c, err := strconv.ParseUint(segment[at+1:at+3], 16, 8)
		if err != nil || c < ' ' || c == 0x7f || strings.IndexByte(`/\.%`, byte(c)) >= 0 {
			return false
		}
		segment = segment[at+3:]
	}
}
