package route

import (
	"net"
	"strings"
)

// longestHost is how long a host name can be.
const longestHost = 253

// Hosts is something for each of many host names, exact or *.example.com.
type Hosts[T any] map[string]T

// Find returns what there is for host: under its own name, or else under the longest wildcard.
func (h Hosts[T]) Find(host string) (found T, ok bool) {
	if len(host) > longestHost {
		return found, false
	}
	if found, ok = h[host]; ok {
		return found, true
	}
	for at := strings.IndexByte(host, '.'); at >= 0; {
		if found, ok = h.wildcard(host[at:]); ok {
			return found, true
		}
		next := strings.IndexByte(host[at+1:], '.')
		if next < 0 {
			return found, false
		}
		at += 1 + next
	}
	return found, false
}

func (h Hosts[T]) wildcard(suffix string) (found T, ok bool) {
	var buffer [longestHost + 1]byte
	found, ok = h[string(append(append(buffer[:0], '*'), suffix...))] // the compiler makes no string of it
	return found, ok
}

// Host is the name in a Host header: lower case, without port and final dot.
func Host(header string) string {
	host := header
	if strings.LastIndexByte(header, ':') >= 0 {
		if name, _, err := net.SplitHostPort(header); err == nil {
			host = name
		}
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
