package signature

import (
	"strings"
	"unicode/utf8"
)

const upperHex = "0123456789ABCDEF"

// encode percent-encodes as RFC 3986 says: everything but letters, digits and - . _ ~
func encode(s string) string {
	if onlyOf(s, isUnreserved) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + len(s)/2)
	for i := range len(s) {
		c := s[i]
		if isUnreserved(c) {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
	}
	return b.String()
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isUnreserved(c byte) bool {
	return isAlphanumeric(c) || c == '-' || c == '.' || c == '_' || c == '~'
}

func onlyOf(s string, allowed func(byte) bool) bool {
	for i := range len(s) {
		if !allowed(s[i]) {
			return false
		}
	}
	return true
}

// checkPath accepts a path in its one canonical spelling, so that what is signed, matched and authorized is the same
// bytes: no empty, "." or ".." segment, nothing encoded that need not be, no encoded slash, backslash or control.
func checkPath(path string) error {
	if !strings.HasPrefix(path, "/") {
		return ErrInvalidPath.Withf("The request target must be a path, not a whole address.")
	}
	if path == "/" {
		return nil
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		decoded, ok := decodeSegment(segment)
		if !ok || !utf8.ValidString(decoded) || segment == "" || segment == "." || segment == ".." {
			return ErrInvalidPath.Withf("The request path is not valid: its segments must not be empty, . or .., and only what must be percent-encoded may be, without slashes.")
		}
	}
	return nil
}

func decodeSegment(segment string) (string, bool) {
	if onlyOf(segment, isUnreserved) {
		return segment, true
	}
	var b strings.Builder
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		if isUnreserved(c) {
			b.WriteByte(c)
			continue
		}
		if c != '%' || i+2 >= len(segment) {
			return "", false
		}
		high, low := strings.IndexByte(upperHex, segment[i+1]), strings.IndexByte(upperHex, segment[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		c = byte(high<<4 | low)
		if isUnreserved(c) || c == '/' || c == '\\' || c < ' ' || c == 0x7f {
			return "", false
		}
		b.WriteByte(c)
		i += 2
	}
	return b.String(), true
}
