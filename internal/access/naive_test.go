package access_test

import (
	"encoding/json"
	"math/big"
	"net"
	"strings"
	"time"
)

// The evaluator in this file is written from RAM's rules, in the plainest way, and shares no code with the authorizer: it
// reads documents with encoding/json, keeps a table for wildcards, counts decimals and compares bits.

// naiveOutcome is what a set of policies decides, and at which stage.
type naiveOutcome struct {
	allowed bool
	denial  string
	stage   string
}

// naiveWorld is everything a decision may depend on.
type naiveWorld struct {
	sessionPolicy string
	account       []string
	groups        map[string][]string
	action        string
	resources     []string
	group         string
	says          map[string]string // condition keys as they are documented
}

func (w naiveWorld) decide() naiveOutcome {
	if w.sessionPolicy != "" {
		if result := w.ask([]string{w.sessionPolicy}); result != "Allow" {
			return naiveOutcome{false, result, "SessionPolicy"}
		}
	}
	result, stage := w.ask(w.account), "AccountLevelIdentityBasedPolicy"
	if attached, ok := w.groups[w.group]; result == "ImplicitDeny" && w.group != "" && ok {
		result, stage = w.ask(attached), "ResourceGroupLevelIdentityBasedPolicy"
	}
	if result == "Allow" {
		return naiveOutcome{true, "", stage}
	}
	return naiveOutcome{false, result, stage}
}

func (w naiveWorld) ask(documents []string) string {
	result := "ImplicitDeny"
	for _, text := range documents {
		for _, statement := range naiveStatements(text) {
			if !w.fits(statement) {
				continue
			}
			if statement["Effect"] == "Deny" {
				return "ExplicitDeny"
			}
			result = "Allow"
		}
	}
	return result
}

// naiveStatements reads an array of statements, or one that stands alone.
func naiveStatements(text string) []map[string]any {
	var several struct{ Statement []map[string]any }
	var one struct{ Statement map[string]any }
	if json.Unmarshal([]byte(text), &several) == nil {
		return several.Statement
	}
	if err := json.Unmarshal([]byte(text), &one); err != nil {
		panic(err)
	}
	return []map[string]any{one.Statement}
}

func (w naiveWorld) fits(statement map[string]any) bool {
	action := false
	for _, pattern := range list(statement["Action"]) {
		action = action || wildcard(strings.ToUpper(pattern), strings.ToUpper(w.action))
	}
	if statement["NotAction"] != nil {
		action = true
		for _, pattern := range list(statement["NotAction"]) {
			action = action && !wildcard(strings.ToUpper(pattern), strings.ToUpper(w.action))
		}
	}
	resource := false
	for _, pattern := range list(statement["Resource"]) {
		for _, spelling := range w.resources {
			resource = resource || wildcard(pattern, spelling)
		}
	}
	return action && resource && w.meets(statement)
}

// meets reports whether all conditions of a statement hold.
func (w naiveWorld) meets(statement map[string]any) bool {
	conditions, _ := statement["Condition"].(map[string]any)
	for operator, keys := range conditions {
		for key, values := range keys.(map[string]any) {
			if !w.holds(operator, key, list(values)) {
				return false
			}
		}
	}
	return true
}

func list(value any) (texts []string) {
	switch value := value.(type) {
	case string:
		return []string{value}
	case []any:
		for _, element := range value {
			texts = append(texts, element.(string))
		}
	}
	return texts
}

func (w naiveWorld) holds(operator, key string, values []string) bool {
	negative := strings.Contains(operator, "Not")
	got, present := "", false
	for name, value := range w.says {
		if sameKey(name, key) {
			got, present = value, true
		}
	}
	if !present {
		return negative
	}
	for _, value := range values {
		if naiveCompare(strings.Replace(operator, "Not", "", 1), got, value) {
			return !negative
		}
	}
	return negative
}

// sameKey compares what stands before the tag's key without case.
func sameKey(a, b string) bool {
	headA, tagA, taggedA := strings.Cut(a, "/")
	headB, tagB, taggedB := strings.Cut(b, "/")
	return strings.EqualFold(headA, headB) && tagA == tagB && taggedA == taggedB
}

func naiveCompare(operator, got, want string) bool {
	switch operator {
	case "StringEquals":
		return got == want
	case "StringEqualsIgnoreCase":
		upperGot, upperWant := strings.ToUpper(got), strings.ToUpper(want)
		return upperGot == upperWant
	case "StringLike":
		return wildcard(want, got)
	case "Bool":
		return (got == "true" || got == "false") && got == want
	case "IpAddress":
		return inBlock(got, want)
	}
	var order int
	if how, numeric := strings.CutPrefix(operator, "Numeric"); numeric {
		x, y := decimal(got), decimal(want)
		if x == nil {
			return false
		}
		operator, order = how, x.Cmp(y)
	} else {
		operator, _ = strings.CutPrefix(operator, "Date")
		x, err := naiveDate(got)
		y, _ := naiveDate(want)
		if err != nil {
			return false
		}
		order = int(min(max(x.UnixNano()-y.UnixNano(), -1), 1))
	}
	switch operator {
	case "Equals":
		return order == 0
	case "LessThan":
		return order < 0
	case "LessThanEquals":
		return order <= 0
	case "GreaterThan":
		return order > 0
	case "GreaterThanEquals":
		return order >= 0
	}
	panic("operator " + operator)
}

// naiveDate reads a date with seconds or without.
func naiveDate(text string) (time.Time, error) {
	date, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Parse("2006-01-02T15:04Z07:00", text)
	}
	return date, nil
}

// decimal counts in units of 10⁻²⁰; nil is no number.
func decimal(text string) *big.Int {
	whole, part, _ := strings.Cut(text, ".")
	if strings.Trim(strings.TrimLeft(whole, "-"), "0123456789") != "" || strings.Trim(part, "0123456789") != "" || strings.Trim(text, "-") == "" {
		return nil
	}
	n, ok := new(big.Int).SetString(whole+part+strings.Repeat("0", 20-len(part)), 10)
	if !ok {
		return nil
	}
	return n
}

// inBlock compares the leading bits, one after the other.
func inBlock(address, block string) bool {
	if !strings.Contains(block, "/") {
		block += "/128"
		if !strings.Contains(block, ":") {
			block = strings.Replace(block, "/128", "/32", 1)
		}
	}
	ip := net.ParseIP(address)
	base, network, err := net.ParseCIDR(block)
	if ip == nil || err != nil || (ip.To4() == nil) != (base.To4() == nil) {
		return false
	}
	if ip4 := ip.To4(); ip4 != nil {
		ip, base = ip4, base.To4()
	}
	ones, bits := network.Mask.Size()
	ones -= bits - 8*len(ip) // an IPv4 address that is written as IPv6
	for bit := range ones {
		if (ip[bit/8]^base[bit/8])>>(7-bit%8)&1 != 0 {
			return false
		}
	}
	return true
}

// wildcard fills a table: fits[j] says whether the pattern so far fits the first j characters of s.
func wildcard(patternText, text string) bool {
	pattern, s := []rune(patternText), []rune(text)
	fits := make([]bool, len(s)+1)
	fits[0] = true
	for i := range pattern {
		next := make([]bool, len(s)+1)
		next[0] = fits[0] && pattern[i] == '*'
		for j := 1; j <= len(s); j++ {
			if pattern[i] == '*' {
				next[j] = next[j-1] || fits[j]
			} else {
				next[j] = fits[j-1] && (pattern[i] == '?' || pattern[i] == s[j-1])
			}
		}
		fits = next
	}
	return fits[len(s)]
}
