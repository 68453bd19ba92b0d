package route

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// Canonical is the one form of a path: escapes of unreserved characters are undone, the others are in upper case, and
// what must be escaped is. It decides the match and is what is forwarded. An escaped slash stays one and never ends a
// segment. A path that two readers could read in two ways has no canonical form: one that does not begin with a slash,
// with empty or dot segments, however they are escaped, with control characters, or with bytes that are not UTF-8, of
// which lenient readers make dots and slashes.
func Canonical(path string) (string, bool) {
	if !strings.HasPrefix(path, "/") {
		return "", false
	}
	if strings.IndexFunc(path, special) >= 0 {
		var ok bool
		if path, ok = escape(path); !ok {
			return "", false
		}
	}
	for rest := path[1:]; ; {
		segment, after, more := strings.Cut(rest, "/")
		if segment == "" && more || dotted(segment) {
			return "", false
		}
		if !more {
			return path, true
		}
		rest = after
	}
}

// special reports what keeps a path from being canonical as it stands.
func special(c rune) bool { return c >= 0x80 || !plain(byte(c)) && c != '/' }

const hexDigits = "0123456789ABCDEF"

func escape(path string) (string, bool) {
	var out strings.Builder
	out.Grow(len(path) + 8)
	foreign := false
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '%':
			if i+2 >= len(path) {
				return "", false
			}
			high, low := unhex(path[i+1]), unhex(path[i+2])
			if high < 0 || low < 0 {
				return "", false
			}
			i += 2
			c = byte(high<<4 | low)
			if c < ' ' || c == 0x7f || c == '%' && escapedAgain(path[i+1:]) {
				return "", false
			}
			if unreserved(c) {
				out.WriteByte(c)
				continue
			}
		case c == '/' || plain(c):
			out.WriteByte(c)
			continue
		case c < ' ' || c == 0x7f || c == '\\' || c == '#' || c == '?':
			return "", false
		}
		foreign = foreign || c >= 0x80
		out.WriteByte('%')
		out.WriteByte(hexDigits[c>>4])
		out.WriteByte(hexDigits[c&15])
	}
	if foreign {
		decoded, err := url.PathUnescape(out.String())
		return out.String(), err == nil && utf8.ValidString(decoded)
	}
	return out.String(), true
}

// escapedAgain reports whether what follows an escaped percent sign makes it an escape once more.
func escapedAgain(rest string) bool {
	return len(rest) >= 2 && unhex(rest[0]) >= 0 && unhex(rest[1]) >= 0
}

// dotted reports whether a reader that splits a canonical segment at escaped slashes would find a dot segment.
func dotted(segment string) bool {
	if !strings.Contains(segment, ".") {
		return false
	}
	if strings.Contains(segment, "%") {
		segment = strings.NewReplacer("%2F", "/", "%5C", "/").Replace(segment)
	}
	for part := range strings.SplitSeq(segment, "/") {
		if name, _, _ := strings.Cut(part, ";"); name == "." || name == ".." {
			return true
		}
	}
	return false
}

// plain are the characters that a segment may hold unescaped (RFC 3986 pchar).
func plain(c byte) bool { return unreserved(c) || strings.IndexByte("!$&'()*+,;=:@", c) >= 0 }

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// Below reports whether path lies at or below base, which ends with no slash, and what is left of it: "/" at least.
func Below(path, base string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, base)
	switch {
	case !ok || rest != "" && rest[0] != '/':
		return "", false
	case rest == "":
		return "/", true
	}
	return rest, true
}
