package instance

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/engineshed/engineshed/internal/fault"
)

// The refusals of a SecurityIPList.
var (
	ErrIPListMalformed = fault.New(fault.Invalid, "InvalidSecurityIPList.Malformed",
		"The parameter SecurityIPList must be a comma-separated list of IP addresses and CIDR blocks.",
		"Correct the entry that the message names.")
	ErrIPListDuplicate = fault.New(fault.Invalid, "InvalidSecurityIPList.Duplicate",
		"The parameter SecurityIPList names an address twice.", "Name it once.")
	ErrIPListLength = fault.New(fault.Invalid, "InvalidSecurityIPListLength.Malformed",
		"The IP array would have more than 1000 entries.", "Name CIDR blocks instead of single addresses, or use several arrays.")
)

const (
	maxIPEntries = 1000
	// DefaultIPList is what the array "default" of a new instance holds: no external address may call.
	DefaultIPList = "127.0.0.1"
	// DefaultIPArray is the name of the array that model services without one of their own follow.
	DefaultIPArray = "default"
)

// ParseIPList checks a SecurityIPList and returns its entries as written.
func ParseIPList(list string) ([]string, error) {
	entries := strings.Split(list, ",")
	if len(entries) > maxIPEntries {
		return nil, ErrIPListLength.Withf("The parameter SecurityIPList holds %d entries; at most %d are allowed.", len(entries), maxIPEntries)
	}
	seen := make(map[netip.Prefix]bool, len(entries))
	for i, entry := range entries {
		entries[i] = strings.TrimSpace(entry)
		prefix, err := parseEntry(entries[i])
		if err != nil {
			return nil, ErrIPListMalformed.Withf(
				"The entry %q of SecurityIPList is neither an IP address nor a CIDR block, such as 192.0.2.7 or 192.0.2.0/24.", entries[i])
		}
		if seen[prefix] {
			return nil, ErrIPListDuplicate.Withf("The parameter SecurityIPList names %s twice.", entries[i])
		}
		seen[prefix] = true
	}
	return entries, nil
}

// Prefixes turns the entries of a checked list into what a gateway matches.
func Prefixes(entries []string) ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, len(entries))
	for i, entry := range entries {
		prefix, err := parseEntry(entry)
		if err != nil {
			return nil, err
		}
		prefixes[i] = prefix
	}
	return prefixes, nil
}

func parseEntry(entry string) (netip.Prefix, error) {
	if strings.Contains(entry, "/") {
		prefix, err := netip.ParsePrefix(entry)
		return prefix.Masked(), err
	}
	addr, err := netip.ParseAddr(entry)
	if err != nil {
		return netip.Prefix{}, err
	}
	if addr.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%s has a zone", entry)
	}
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}
