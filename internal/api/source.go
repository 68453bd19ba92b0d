package api

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// source is where a call comes from. Nothing that the caller sent says so, but what a proxy of ours adds.
type source struct {
	ip     netip.Addr // zero when it is not known
	secure bool       // over TLS
}

func (s *server) source(r *http.Request) source {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return source{}
	}
	from := source{ip: plain(peer.Addr()), secure: r.TLS != nil}
	if !s.trusts(from.ip) {
		return from
	}
	from.secure = last(r.Header["X-Forwarded-Proto"]) == "https"
	from.ip = s.client(from.ip, r.Header["X-Forwarded-For"])
	return from
}

// client follows X-Forwarded-For from the right, where each proxy adds whom it was called by: the first that is no proxy
// of ours is the client. What stands to the left of it may be made up.
func (s *server) client(proxy netip.Addr, forwarded []string) netip.Addr {
	hop := proxy
	hops := strings.Split(strings.Join(forwarded, ","), ",")
	if len(forwarded) == 0 {
		return hop
	}
	for _, text := range slices.Backward(hops) {
		address, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return netip.Addr{}
		}
		if hop = plain(address); !s.trusts(hop) {
			return hop
		}
	}
	return hop
}

func (s *server) trusts(address netip.Addr) bool {
	return slices.ContainsFunc(s.TrustedProxies, func(block netip.Prefix) bool { return block.Contains(address) })
}

// plain is the address as policies compare it.
func plain(address netip.Addr) netip.Addr { return address.Unmap().WithZone("") }

// last is the last of comma-separated values, the one that was added nearest to us.
func last(values []string) string {
	list := strings.Split(strings.Join(values, ","), ",")
	return strings.ToLower(strings.TrimSpace(list[len(list)-1]))
}
