package balance

import (
	"bytes"
	"strings"
)

// reader walks over JSON from its beginning, as far as it is wanted. It finds every value in a text that is JSON. In others it
// finds something or nothing, and always ends.
type reader struct {
	text []byte
	at   int
}

// peek is the next byte that is not space; 0 at the end.
func (r *reader) peek() byte {
	for ; r.at < len(r.text); r.at++ {
		if c := r.text[r.at]; strings.IndexByte(" \t\r\n", c) < 0 {
			return c
		}
	}
	return 0
}

func (r *reader) take(c byte) bool {
	if r.peek() == c {
		r.at++
		return true
	}
	return false
}

// fields walks over an object and calls f at the value of each field, which it reads or skips. It reports whether it came to
// the object's end, which it does not when f wants no more.
func (r *reader) fields(f func(name []byte) bool) bool {
	return r.list('{', '}', func() bool {
		name, ok := r.quoted()
		return ok && r.take(':') && f(name)
	})
}

// elements is fields of an array.
func (r *reader) elements(f func() bool) bool { return r.list('[', ']', f) }

func (r *reader) list(open, end byte, f func() bool) bool {
	if !r.take(open) {
		return false
	}
	if r.take(end) {
		return true
	}
	for f() {
		if !r.take(',') {
			return r.take(end)
		}
	}
	return false
}

// quoted reads a string as it is written, without its quotes.
func (r *reader) quoted() ([]byte, bool) {
	if !r.take('"') {
		return nil, false
	}
	for from := r.at; ; {
		next := bytes.IndexByte(r.text[r.at:], '"')
		if next < 0 {
			return nil, false
		}
		text := r.text[from : r.at+next]
		r.at += next + 1
		if backslashes := len(text) - len(bytes.TrimRight(text, `\`)); backslashes%2 == 0 {
			return text, true
		}
	}
}

// skip walks over a value.
func (r *reader) skip() bool {
	depth := 0
	for {
		switch r.peek() {
		case 0:
			return false
		case '"':
			if _, ok := r.quoted(); !ok {
				return false
			}
		case '{', '[':
			depth++
			r.at++
		case '}', ']':
			depth--
			r.at++
		case ',', ':':
			r.at++
		default:
			r.scalar()
		}
		if depth <= 0 {
			return depth == 0
		}
	}
}

// scalar walks over a number, true, false or null, and at least one byte.
func (r *reader) scalar() {
	r.at++
	for r.at < len(r.text) && strings.IndexByte(" \t\r\n,:\"[]{}", r.text[r.at]) < 0 {
		r.at++
	}
}
