// Package model finds where a request's body names its model and writes another name there, leaving every other byte.
package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
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
)

// Splice is a body with a piece of it replaced.
type Splice [3][]byte

// Len is how many bytes the body has.
func (s Splice) Len() int64 { return int64(len(s[0]) + len(s[1]) + len(s[2])) }

// joined is up to which size a body is put together. net/http sends what lies in one piece with its headers at once.
const joined = 64 << 10

// Reader reads the body from its start.
func (s Splice) Reader() io.ReadCloser {
	if s.Len() <= joined {
		return io.NopCloser(bytes.NewReader(slices.Concat(s[:]...)))
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(s[0]), bytes.NewReader(s[1]), bytes.NewReader(s[2])))
}

// WriteJSON replaces the value of the top-level field model, or puts the field first where there is none. A body that
// another reader could read otherwise is refused: with a second such field, or one in other letters.
func WriteJSON(body []byte, name string) (Splice, error) {
	value := quote(name)
	s := scanner{text: body}
	s.space()
	if !s.take('{') {
		return Splice{}, errNotObject
	}
	open := s.at
	start, end, empty, err := s.modelField()
	switch {
	case err != nil:
		return Splice{}, err
	case end > 0:
		return Splice{body[:start], value, body[end:]}, nil
	}
	field := append([]byte(`"model":`), value...)
	if !empty {
		field = append(field, ',')
	}
	return Splice{body[:open], field, body[open:]}, nil
}

func quote(name string) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(name) // strings never fail
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// scanner walks over JSON. It is strict about the outermost object; what is inside the values only has to be balanced,
// which is enough to know where each ends in every text that is JSON at all.
type scanner struct {
	text []byte
	at   int
}

// modelField returns where the value of the field model lies: end is 0 when there is none.
func (s *scanner) modelField() (start, end int, empty bool, err error) {
	s.space()
	if s.take('}') {
		return 0, 0, true, s.finish()
	}
	for {
		key, err := s.key()
		if err != nil {
			return 0, 0, false, err
		}
		s.space()
		if !s.take(':') {
			return 0, 0, false, errBroken
		}
		s.space()
		from := s.at
		if err := s.value(); err != nil {
			return 0, 0, false, err
		}
		if strings.EqualFold(key, "model") {
			if end > 0 || key != "model" {
				return 0, 0, false, errTwice
			}
			start, end = from, s.at
		}
		s.space()
		switch {
		case s.take(','):
			s.space()
		case s.take('}'):
			return start, end, false, s.finish()
		default:
			return 0, 0, false, errBroken
		}
	}
}

// key reads a field's name as every reader understands it.
func (s *scanner) key() (string, error) {
	from := s.at
	if err := s.quoted(); err != nil {
		return "", err
	}
	raw := s.text[from:s.at]
	if bytes.IndexByte(raw, '\\') < 0 {
		if len(raw) > len(`"model"`)+8 { // too long for any spelling of it
			return "", nil
		}
		return string(raw[1 : len(raw)-1]), nil
	}
	var key string
	if json.Unmarshal(raw, &key) != nil {
		return "", errBroken
	}
	return key, nil
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
			if err := s.quoted(); err != nil {
				return err
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

// quoted walks over a string at the speed of IndexByte; no byte is looked at more than twice.
func (s *scanner) quoted() error {
	if !s.take('"') {
		return errBroken
	}
	for end := -1; ; {
		if end < s.at {
			next := bytes.IndexByte(s.text[s.at:], '"')
			if next < 0 {
				return errBroken
			}
			end = s.at + next
		}
		escape := bytes.IndexByte(s.text[s.at:end], '\\')
		if escape < 0 {
			s.at = end + 1
			return nil
		}
		s.at += escape + 2
		if s.at > len(s.text) {
			return errBroken
		}
	}
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
