package wire

import (
	"net/textproto"
	"strings"
)

// The classes of bytes.
const (
	TokenByte  uint8 = 1 << iota // of methods and of names of headers
	TargetByte                   // of targets: no control characters and no spaces
	TextByte                     // of values: no control characters but tabs
)

// Class says which classes a byte is of.
var Class = func() (set [256]uint8) {
	for c := range set {
		if c > ' ' && c != 0x7f {
			set[c] |= TargetByte | TextByte
		}
		if c == ' ' || c == '\t' {
			set[c] |= TextByte
		}
		if '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			set[c] |= TokenByte
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		set[c] |= TokenByte
	}
	return set
}()

// IsToken reports whether a text can be a method or the name of a header.
func IsToken[T string | []byte](text T) bool { return len(text) > 0 && all(text, TokenByte) }

// IsText reports whether a text can be the value of a header.
func IsText[T string | []byte](text T) bool { return all(text, TextByte) }

func all[T string | []byte](text T, class uint8) bool {
	for i := range len(text) {
		if Class[text[i]]&class == 0 {
			return false
		}
	}
	return true
}

// IsNumber reports whether a text consists of digits.
func IsNumber[T string | []byte](text T) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return len(text) > 0
}

// Trim takes the spaces and tabs around a value away.
func Trim(value []byte) []byte {
	for len(value) > 0 && (value[0] == ' ' || value[0] == '\t') {
		value = value[1:]
	}
	for len(value) > 0 && (value[len(value)-1] == ' ' || value[len(value)-1] == '\t') {
		value = value[:len(value)-1]
	}
	return value
}

// names are the usual headers as they are written in a map, by how they come.
var names = func() map[string]string {
	usual := []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Access-Control-Allow-Origin", "Authorization", "Cache-Control", "Connection",
		"Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Date", "Host", "Keep-Alive", "Origin", "Referer", "Server",
		"Traceparent", "Transfer-Encoding", "User-Agent", "Vary", "X-Accel-Buffering", "X-Api-Key", "X-Forwarded-For", "X-Request-Id",
		"X-Stainless-Arch", "X-Stainless-Async", "X-Stainless-Lang", "X-Stainless-Os", "X-Stainless-Package-Version",
		"X-Stainless-Read-Timeout", "X-Stainless-Retry-Count", "X-Stainless-Runtime", "X-Stainless-Runtime-Version",
	}
	found := map[string]string{}
	for _, name := range usual {
		found[name], found[strings.ToLower(name)] = name, name
	}
	return found
}()

// Canonical is the name of a header as it is written in a map. The usual ones cost no memory.
func Canonical(name string) string {
	if known, ok := names[name]; ok {
		return known
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

// CanonicalOf is Canonical of what is no string yet.
func CanonicalOf(name []byte) string {
	if known, ok := names[string(name)]; ok {
		return known
	}
	return textproto.CanonicalMIMEHeaderKey(string(name))
}

// HasOption reports whether a Connection header says this.
func HasOption(connection []string, option string) bool {
	for _, value := range connection {
		for one := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(textproto.TrimString(one), option) {
				return true
			}
		}
	}
	return false
}
