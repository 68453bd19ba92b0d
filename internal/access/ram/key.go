package ram

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// Context is what a request says about condition keys. Keys are compared without case, but for what follows a slash,
// which is the key of a tag.
type Context map[string]fact

// fact is a key as it was set, with its value.
type fact struct{ key, value string }

// Set gives a key its value.
func (c Context) Set(key, value string) { c[contextKey(key)] = fact{key, value} }

// Unset says that the request says nothing about the key.
func (c Context) Unset(key string) { delete(c, contextKey(key)) }

// Get returns what the request says about a key.
func (c Context) Get(key string) (value string, present bool) {
	f, present := c[contextKey(key)]
	return f.value, present
}

// All returns the keys, as they were set and in alphabetical order, with their values.
func (c Context) All() iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		for _, key := range slices.Sorted(maps.Keys(c)) {
			if f := c[key]; !yield(f.key, f.value) {
				return
			}
		}
	}
}

func contextKey(key string) string {
	name, tag, tagged := strings.Cut(key, "/")
	name = strings.ToLower(name)
	if tagged {
		name += "/" + tag
	}
	return name
}

const resourceTag = "acs:resourcetag/"

// The keys that every product has, with the kind of their values. Those of the last line never have a value here: there
// is no VPC, no resource directory, and no service that calls for somebody.
var commonKeys = map[string]*kind{
	"acs:currenttime": &dates, "acs:securetransport": &bools, "acs:mfapresent": &bools, "acs:sourceip": &addresses,
	"acs:principalarn": &texts,
	"acs:sourcevpc":    &texts, "acs:principalrdid": &texts, "acs:principalrdpath": &texts, "acs:service": &texts,
}

const commonKeyNames = "acs:CurrentTime, acs:SecureTransport, acs:SourceIp, acs:MFAPresent, acs:PrincipalARN, acs:SourceVpc, " +
	"acs:PrincipalRDId, acs:PrincipalRDPath, acs:Service, acs:ResourceTag/KEY and acs:RequestTag/KEY"

// isKey reports whether key is SERVICE:NAME in lower case, perhaps with /TAG behind.
func isKey(key string) bool {
	service, rest, both := strings.Cut(key, ":")
	name, tag, tagged := strings.Cut(rest, "/")
	return both && isMadeOf(service, "-") && isMadeOf(name, "_.-") && strings.ToLower(service+name) == service+name &&
		tagged == (tag != "") && !strings.Contains(tag, "\n")
}

// checkKey refuses a key that no request can have, and one that an operator of this kind can never find equal. What
// such a condition was meant to restrict would not be restricted.
func checkKey(written string, operator *kind, path string) error {
	key := contextKey(written)
	if !isKey(key) {
		return malformed(path, "%q is not PRODUCT:KEY, such as acs:SourceIp", written)
	}
	if !strings.HasPrefix(key, "acs:") || strings.HasPrefix(key, resourceTag) || strings.HasPrefix(key, "acs:requesttag/") {
		return nil
	}
	kind, ok := commonKeys[key]
	switch {
	case !ok:
		return malformed(path, "there is no such common key; these are: %s", commonKeyNames)
	case operator != &texts && operator != kind:
		return malformed(path, "its value is %s: this operator compares others", kind.rule)
	}
	return nil
}
