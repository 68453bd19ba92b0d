// Package model finds where a request's body names its model and writes another name there, leaving every other byte.
package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// deepest is how far values may be nested.
const deepest = 256

// Why a model could not be written. The messages are for the client.
var (
	errNotObject = errors.New("the body is not a JSON object")
	errBroken    = errors.New("the body is not valid JSON")
	errDeep      = errors.New("the body's JSON is nested too deeply")
	errTwice     = errors.New("the body names its model more than once")
	errAgain     = errors.New("the body has its stream or stream_options more than once")
)

// Splice is a body with pieces of it replaced.
type Splice [5][]byte

func quote(name string) []byte {
	if isPlain(name) { // as names are; an encoder would cost more than all else here
		return append(append(append(make([]byte, 0, len(name)+2), '"'), name...), '"')
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(name) // strings never fail
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

func isPlain[T string | []byte](name T) bool {
	for i := range len(name) {
		if c := name[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// scanner walks over JSON. It is strict about the outermost object; what is inside the values only has to be balanced,
// which is enough to know where each ends in every text that is JSON at all.
type scanner struct {
	text  []byte
	at    int
	users int // how many strings within values were "user"
}

// key reads a field's name as every reader understands it.
func (s *scanner) key() ([]byte, error) {
	from := s.at
	if err := s.quoted(); err != nil {
		return nil, err
	}
	raw := s.text[from:s.at]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	if !json.Valid(raw) {
		return nil, errBroken
	}
	return []byte(decoded(raw)), nil
}

func (s *scanner) value() error {
	if s.at == len(s.text) {
		return errBroken
	}
	switch s.text[s.at] {
	case '"':
		return s.quoted()
	case '{', '[':
		return s.nested()
	}
	from := s.at
	for s.at < len(s.text) && strings.IndexByte("+-.0123456789Eaeflnrstu", s.text[s.at]) >= 0 {
		s.at++
	}
	if !json.Valid(s.text[from:s.at]) {
		return errBroken
	}
	return nil
}

// nested walks over an object or array.
func (s *scanner) nested() error {
	var open [deepest]byte
	depth := 0
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case '"':
			from := s.at
			if err := s.quoted(); err != nil {
				return err
			}
			if string(s.text[from:s.at]) == `"user"` {
				s.users++
			}
			continue
		case '{', '[':
			if depth == deepest {
				return errDeep
			}
			open[depth] = c + 2 // '}' is '{'+2, ']' is '['+2
			depth++
		case '}', ']':
			depth--
			if open[depth] != c {
				return errBroken
			}
			if depth == 0 {
				s.at++
				return nil
			}
		}
		s.at++
	}
	return errBroken
}

// quoted walks over a string at the speed of IndexByte: of what is escaped only quotes make it stop, and no byte is looked
// at more than twice.
func (s *scanner) quoted() error {
	if !s.take('"') {
		return errBroken
	}
	from := s.at
	for {
		end := bytes.IndexByte(s.text[s.at:], '"')
		if end < 0 {
			return errBroken
		}
		end += s.at
		s.at = end + 1
		if !escaped(s.text[from:end]) {
			return nil
		}
		from = s.at
	}
}

// escaped reports whether what follows text, in a string, is escaped: an odd number of backslashes is before it.
func escaped(text []byte) bool {
	odd := false
	for i := len(text) - 1; i >= 0 && text[i] == '\\'; i-- {
		odd = !odd
	}
	return odd
}

func (s *scanner) space() {
	for s.at < len(s.text) && strings.IndexByte(" \t\r\n", s.text[s.at]) >= 0 {
		s.at++
	}
}

func (s *scanner) take(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// finish wants nothing after the object.
func (s *scanner) finish() error {
	s.space()
	if s.at < len(s.text) {
		return errBroken
	}
	return nil
}
