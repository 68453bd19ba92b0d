package ram

import (
	"math/big"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/glob"
)

// operator compares what a request says about a key with the values of a condition.
type operator struct {
	kind    *kind
	negated bool
	valid   func(value string) bool
	matches func(values []string) func(got string) bool
}

// kind is what the values of an operator are.
type kind struct{ rule string }

var (
	texts     = kind{"a string"}
	numbers   = kind{"a number, such as 10 or -0.5"}
	dates     = kind{"a date of ISO 8601 with a time zone, such as 2026-01-31T08:00:00Z or 2026-01-31T08:00:00+08:00"}
	bools     = kind{"a truth value: true or false"}
	addresses = kind{"an IP address or CIDR block, such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32"}
)

// operators are all there are. A condition with another one is refused: it cannot be obeyed.
var operators = func() map[string]operator {
	all := map[string]operator{
		"StringEquals":           compare(&texts, parseText, func(got, want string) bool { return got == want }),
		"StringEqualsIgnoreCase": compare(&texts, parseText, strings.EqualFold),
		"StringLike":             compare(&texts, parseText, func(got, pattern string) bool { return glob.Match(pattern, got) }),
		"Bool":                   compare(&bools, parseBool, func(got, want bool) bool { return got == want }),
		"IpAddress":              compare(&addresses, parsePrefix, contains),
	}
	for name, fits := range map[string]func(order int) bool{
		"Equals":            func(order int) bool { return order == 0 },
		"LessThan":          func(order int) bool { return order < 0 },
		"LessThanEquals":    func(order int) bool { return order <= 0 },
		"GreaterThan":       func(order int) bool { return order > 0 },
		"GreaterThanEquals": func(order int) bool { return order >= 0 },
	} {
		all["Numeric"+name] = compare(&numbers, parseNumber, func(got, want *big.Rat) bool { return fits(got.Cmp(want)) })
		all["Date"+name] = compare(&dates, parseDate, func(got, want time.Time) bool { return fits(got.Compare(want)) })
	}
	for name, positive := range map[string]string{
		"StringNotEquals": "StringEquals", "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase", "StringNotLike": "StringLike",
		"NumericNotEquals": "NumericEquals", "DateNotEquals": "DateEquals", "NotIpAddress": "IpAddress",
	} {
		negated := all[positive]
		negated.negated = true
		all[name] = negated
	}
	return all
}()

func compare[T any](of *kind, parse func(string) (T, bool), holds func(got, want T) bool) operator {
	return operator{
		kind:  of,
		valid: func(value string) bool { _, ok := parse(value); return ok },
		matches: func(values []string) func(string) bool {
			wanted := make([]T, len(values))
			for i, value := range values {
				wanted[i], _ = parse(value) // they are valid
			}
			return func(text string) bool {
				got, ok := parse(text)
				return ok && slices.ContainsFunc(wanted, func(want T) bool { return holds(got, want) })
			}
		},
	}
}

func parseText(text string) (string, bool) { return text, true }

func parseBool(text string) (value, ok bool) {
	return text == "true", text == "true" || text == "false"
}

// No exponents: a short text could stand for a number that takes minutes to compare.
var numberPattern = regexp.MustCompile(`^[+-]?[0-9]+(\.[0-9]+)?$`)

func parseNumber(text string) (*big.Rat, bool) {
	if !numberPattern.MatchString(text) {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

// datePattern is stricter than package time, which takes one-digit hours and commas.
var datePattern = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)$`)

func parseDate(text string) (time.Time, bool) {
	if !datePattern.MatchString(text) {
		return time.Time{}, false
	}
	layout := time.RFC3339
	if text[16] != ':' { // 2026-01-31T08:00Z
		layout = "2006-01-02T15:04Z07:00"
	}
	date, err := time.Parse(layout, text)
	return date, err == nil
}

// parsePrefix reads an address as the block that holds nothing else. An IPv4 address is one however it is written.
func parsePrefix(text string) (netip.Prefix, bool) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return netip.Prefix{}, false
		}
		prefix = netip.PrefixFrom(address, address.BitLen())
	}
	if prefix.Addr().Is4In6() {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix, prefix.IsValid()
}

func contains(got, block netip.Prefix) bool { return got.IsSingleIP() && block.Contains(got.Addr()) }
