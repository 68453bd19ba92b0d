package snapshot

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// AllowedUpstream decides which addresses of upstream services may be dialled: public ones, and what the operator
// opted in. Both control plane (at save) and gateway (at dial, on the resolved address) ask it. The zero value allows
// public addresses alone.
type AllowedUpstream struct {
	Prefixes []netip.Prefix   // --allow-upstream CIDR
	Pairs    []netip.AddrPort // --allow-upstream ip:port
}

// ErrUpstreamNotAllowed says that an address is neither public nor opted in.
var ErrUpstreamNotAllowed = errors.New("the address is not a public one, and the operator did not allow it with --allow-upstream")

// ParseAllowedUpstream reads the values of --allow-upstream: CIDR blocks and ip:port pairs, comma-separated. Its
// complaints come all together.
func ParseAllowedUpstream(values []string) (AllowedUpstream, error) {
	var allowed AllowedUpstream
	var complaints []error
	for entry := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			complaints = append(complaints, allowed.add(entry))
		}
	}
	if err := errors.Join(complaints...); err != nil {
		return AllowedUpstream{}, err
	}
	return allowed, nil
}

func (a *AllowedUpstream) add(entry string) error {
	if strings.Contains(entry, "/") {
		prefix, err := netip.ParsePrefix(entry)
		if err != nil {
			return fmt.Errorf("--allow-upstream %q is not a CIDR block such as 10.1.0.0/16", entry)
		}
		if prefix != prefix.Masked() {
			return fmt.Errorf("--allow-upstream %s has bits behind its mask: write %s, or the narrower block that you mean", entry, prefix.Masked())
		}
		if prefix.Addr().Is4In6() {
			return fmt.Errorf("--allow-upstream %s: write an IPv4 block as IPv4", entry)
		}
		a.Prefixes = append(a.Prefixes, prefix)
		return nil
	}
	pair, err := netip.ParseAddrPort(entry)
	if err != nil || pair.Port() == 0 || pair.Addr().Zone() != "" {
		return fmt.Errorf("--allow-upstream %q is neither a CIDR block such as 10.1.0.0/16 nor an address with a port such as 10.1.2.3:8000", entry)
	}
	a.Pairs = append(a.Pairs, unmapped(pair))
	return nil
}

// Check refuses an address that may not be dialled, with ErrUpstreamNotAllowed. An IPv6 address that stands for an
// IPv4 one (NAT64, 6to4, Teredo) may be dialled where that one may.
func (a AllowedUpstream) Check(addr netip.AddrPort) error {
	addr = unmapped(addr)
	if a.optedIn(addr) {
		return nil
	}
	allowed := isPublic(addr.Addr())
	for _, inner := range embedded(addr.Addr()) {
		inner := netip.AddrPortFrom(inner, addr.Port())
		allowed = allowed && (a.optedIn(inner) || isPublic(inner.Addr()))
	}
	if !allowed {
		return fmt.Errorf("%s: %w", addr, ErrUpstreamNotAllowed)
	}
	return nil
}

// optedIn knows no address with a zone: such an address means another machine on every link.
func (a AllowedUpstream) optedIn(addr netip.AddrPort) bool {
	for _, prefix := range a.Prefixes {
		if prefix.Contains(addr.Addr()) {
			return true
		}
	}
	for _, pair := range a.Pairs {
		if pair == addr {
			return true
		}
	}
	return false
}

// unmapped turns ::ffff:192.0.2.1 into 192.0.2.1: a socket makes no difference between them.
func unmapped(addr netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}

// notPublic are the blocks of IPv4 that are no place on the Internet (RFC 6890). The blocks for documentation are
// public: nothing answers there.
var notPublic = prefixes(
	"0.0.0.0/8",      // this host
	"10.0.0.0/8",     // private
	"100.64.0.0/10",  // shared behind carriers' NAT; clouds keep metadata there
	"127.0.0.0/8",    // loopback
	"169.254.0.0/16", // link-local; clouds keep metadata there
	"172.16.0.0/12",  // private
	"192.0.0.0/24",   // protocol assignments; a cloud keeps metadata there
	"192.168.0.0/16", // private
	"198.18.0.0/15",  // benchmarks inside a network
	"224.0.0.0/4",    // multicast
	"240.0.0.0/4",    // reserved, and the broadcast address
)

// The blocks of IPv6 that matter.
var (
	global = netip.MustParsePrefix("2000::/3")     // all there is on the Internet; the rest is local or reserved
	nat64  = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixTo4 = netip.MustParsePrefix("2002::/16")    // RFC 3056
	teredo = netip.MustParsePrefix("2001::/32")    // RFC 4380
)

// isPublic judges the address as it stands.
func isPublic(addr netip.Addr) bool {
	if !addr.IsValid() || addr.Zone() != "" {
		return false
	}
	if addr.Is6() {
		return global.Contains(addr) || nat64.Contains(addr)
	}
	for _, prefix := range notPublic {
		if prefix.Contains(addr) {
			return false
		}
	}
	return true
}

// embedded returns the IPv4 addresses that a router reads out of an IPv6 one and may send its packets to.
func embedded(addr netip.Addr) []netip.Addr {
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[12:]))}
	case sixTo4.Contains(addr):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	case teredo.Contains(addr):
		server, client := [4]byte(b[4:8]), [4]byte(b[12:])
		for i := range client {
			client[i] ^= 0xff
		}
		return []netip.Addr{netip.AddrFrom4(server), netip.AddrFrom4(client)}
	}
	return nil
}

func prefixes(blocks ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(blocks))
	for i, block := range blocks {
		parsed[i] = netip.MustParsePrefix(block)
	}
	return parsed
}
