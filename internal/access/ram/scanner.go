package ram

import (
	"encoding/json"
	"io"
	"strings"
)

// tokens reads JSON token by token, as json.Decoder does.
type tokens interface {
	Token() (json.Token, error)
	More() bool
	InputOffset() int64
}

// tokensOf reads a document. Of one that is not JSON, json.Decoder finds out where and why.
func tokensOf(document string) tokens {
	if !json.Valid([]byte(document)) {
		return json.NewDecoder(strings.NewReader(document))
	}
	return &scanner{text: document}
}

// scanner reads what json.Valid has found to be one JSON value, in a fraction of the time of a json.Decoder. What is neither a
// text nor a delimiter is a literal: policies have none.
type scanner struct {
	text string
	at   int
}

type literal string

// next skips what says nothing, and returns the byte that it stands at, 0 at the end.
func (s *scanner) next() byte {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// More reports whether the array or object that is being read has something more.
func (s *scanner) More() bool {
	before := s.at
	c := s.next()
	s.at = before // what has been read ends with its last token
	return c != 0 && c != ']' && c != '}'
}

func (s *scanner) InputOffset() int64 { return int64(s.at) }

// Token returns the next token, and io.EOF at the end.
func (s *scanner) Token() (json.Token, error) {
	switch c := s.next(); c {
	case 0:
		return nil, io.EOF
	case '{', '}', '[', ']':
		s.at++
		return json.Delim(c), nil
	case '"':
		return s.string()
	}
	start := s.at
	if end := strings.IndexAny(s.text[start:], " \t\r\n,]}"); end >= 0 {
		s.at += end
	} else {
		s.at = len(s.text)
	}
	return literal(s.text[start:s.at]), nil
}

func (s *scanner) string() (json.Token, error) {
	start := s.at
	for s.at++; s.text[s.at] != '"'; s.at++ {
		if s.text[s.at] == '\\' {
			s.at++ // what follows ends nothing
		}
	}
	s.at++
	quoted := s.text[start:s.at]
	if !strings.Contains(quoted, `\`) {
		return quoted[1 : len(quoted)-1], nil
	}
	var text string
	err := json.Unmarshal([]byte(quoted), &text)
	return text, err
}
