package aiservice

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	maxAddresses = 100
	maxAddress   = 2048 // bytes of one URL
	maxHostName  = 253
)

// label is one part of a host name; names inside a network use the underscore too.
var label = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// numeric is the last part of what resolvers may read as an address in disguise: 127.1, 2130706433, 0x7f.1.
var numeric = regexp.MustCompile(`^([0-9]+|0x[0-9a-f]*)$`)

// checkURL returns the address of an AI service in its one canonical form, or says what is wrong with it. parameter
// names the address in what it says.
func checkURL(parameter, address string, allowed snapshot.AllowedUpstream) (string, error) {
	refuse := func(why string) (string, error) { return "", fault.InvalidParameter(parameter, why) }
	u, err := url.Parse(address)
	switch {
	case len(address) > maxAddress:
		return refuse(fmt.Sprintf("it is longer than %d bytes.", maxAddress))
	case err != nil || u.Opaque != "":
		return refuse("it is not a URL such as https://api.example.com/v1.")
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("it must begin with https:// or http://.")
	case u.User != nil:
		return refuse("it must not hold a user or a password; send keys in apiKeys.")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(address, "#"):
		return refuse("it must not have a query (?…) or a fragment (#…).")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	if u.RawPath != "" || u.Path != "" && u.Path != path.Clean(u.Path) || strings.ContainsFunc(u.Path, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return refuse("its path must be plain: no .., no empty segment, nothing %-encoded.")
	}
	for _, endpoint := range append(slices.Clone(openAIEndpoints), "messages") {
		if strings.HasSuffix(u.Path, "/"+endpoint) {
			return refuse("it must be the base URL, without /" + endpoint + " at its end.")
		}
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if strings.HasSuffix(u.Host, ":") {
		return refuse("it has a colon and no port.")
	}
	host, complaint := checkHost(u.Hostname(), port, allowed)
	if complaint != "" {
		return refuse(complaint)
	}
	if u.Port() != "" {
		u.Host = net.JoinHostPort(host, u.Port())
	} else {
		u.Host = strings.TrimSuffix(net.JoinHostPort(host, ""), ":")
	}
	return u.String(), nil
}

// checkHostPorts checks the addresses of a DNS or VIP service.
func checkHostPorts(parameter, sourceType string, addresses []string, allowed snapshot.AllowedUpstream) ([]string, error) {
	if len(addresses) == 0 {
		return nil, fault.InvalidParameter(parameter, "name at least one address such as "+examples[sourceType]+".")
	}
	if len(addresses) > maxAddresses {
		return nil, fault.InvalidParameter(parameter, fmt.Sprintf("it holds %d addresses; at most %d are allowed.", len(addresses), maxAddresses))
	}
	checked := make([]string, len(addresses))
	for i, address := range addresses {
		refuse := func(why string) ([]string, error) {
			return nil, fault.InvalidParameter(parameter, fmt.Sprintf("%.300q: %s", address, why))
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return refuse("write host:port, such as " + examples[sourceType] + ".")
		}
		host, complaint := checkHost(host, port, allowed)
		if complaint != "" {
			return refuse(complaint)
		}
		if _, err := netip.ParseAddr(host); err != nil && sourceType == VIP {
			return refuse("a VIP service takes IP addresses; names belong to sourceType DNS.")
		}
		checked[i] = net.JoinHostPort(host, port)
		if slices.Contains(checked[:i], checked[i]) {
			return refuse("it is named twice.")
		}
	}
	return checked, nil
}

var examples = map[string]string{DNS: "models.example.com:8000", VIP: "192.0.2.10:8000"}

// checkHost returns the host of an address in lower case, or what is wrong with it. An IP address is judged now; what a
// name resolves to is judged by gateways whenever they connect, because it changes.
func checkHost(host, port string, allowed snapshot.AllowedUpstream) (checked, complaint string) {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return "", "the port must be from 1 to 65535."
	}
	permits := func(addr netip.Addr) bool { return allowed.Check(netip.AddrPortFrom(addr, uint16(number))) == nil }
	if addr, err := netip.ParseAddr(host); err == nil {
		if !permits(addr) {
			return "", notAllowed(addr.String())
		}
		return addr.String(), ""
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	labels := strings.Split(host, ".")
	last := labels[len(labels)-1]
	misspelled := func(l string) bool { return !label.MatchString(l) }
	if len(host) > maxHostName || slices.ContainsFunc(labels, misspelled) || numeric.MatchString(last) {
		return "", fmt.Sprintf("%.80q is neither a host name nor an IP address.", host)
	}
	if last == "localhost" && !permits(netip.AddrFrom4([4]byte{127, 0, 0, 1})) && !permits(netip.IPv6Loopback()) {
		return "", notAllowed(host)
	}
	return host, ""
}

func notAllowed(host string) string {
	return host + " is no address on the Internet, and the operator of this installation did not allow it (--allow-upstream)."
}

// origin is what a key is given to: who holds a key for one origin has not agreed to send it to another.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Scheme + "://" + u.Host
}
