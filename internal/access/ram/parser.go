package ram

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parser reads tokens rather than into structs, to see members that come twice.
type parser struct{ tokens tokens }

// read checks the text of a document and hands it to parse. What parse complains about becomes an ErrMalformed.
func read(document string, maxCharacters int, parse func(parser) error) error {
	p := parser{tokensOf(document)}
	var err error
	switch n := utf8.RuneCountInString(document); {
	case n > maxCharacters:
		err = malformed("", "it has %d characters, at most %d are allowed", n, maxCharacters)
	case !utf8.ValidString(document):
		err = malformed("", "it is not valid UTF-8")
	default:
		err = parse(p)
	}
	if complaint, ok := errors.AsType[*complaint](err); ok {
		return complaint.fault(document, p.tokens.InputOffset())
	}
	return err
}

// complaint says what is wrong where.
type complaint struct{ path, text string }

func (c *complaint) Error() string { return c.path + ": " + c.text }

// fault adds the line of a document that has several; read is how much of it was read.
func (c *complaint) fault(document string, read int64) error {
	place := ""
	if c.path != "" {
		place = " at " + c.path
	}
	if strings.Contains(strings.TrimSpace(document), "\n") && read > 0 {
		place += fmt.Sprintf(" (line %d)", 1+strings.Count(document[:read], "\n"))
	}
	return ErrMalformed.Withf("The policy document is not valid%s: %s.", place, c.text)
}

func malformed(path, format string, args ...any) error {
	return &complaint{path, fmt.Sprintf(format, args...)}
}

// texts reads a string or an array of strings, each through check.
func (p parser) texts(path string, check func(text, path string) (string, error)) ([]string, error) {
	var all []string
	err := p.oneOrMore(path, func(first json.Token, path string) error {
		text, ok := first.(string)
		if !ok {
			return malformed(path, "it must be a string")
		}
		checked, err := check(text, path)
		all = append(all, checked)
		return err
	})
	if err == nil && len(all) == 0 {
		err = malformed(path, "it is empty")
	}
	return all, err
}

func (p parser) text(path string) (string, error) {
	token, err := p.token(path)
	if err != nil {
		return "", err
	}
	text, ok := token.(string)
	if !ok {
		return "", malformed(path, "it must be a string")
	}
	return text, nil
}

// oneOrMore calls element with the first token of each element of an array, or of the one value that stands in its place.
func (p parser) oneOrMore(path string, element func(first json.Token, path string) error) error {
	token, err := p.token(path)
	if err != nil {
		return err
	}
	if token != json.Delim('[') {
		return element(token, path)
	}
	for i := 0; p.tokens.More(); i++ {
		path := path + "[" + strconv.Itoa(i) + "]"
		token, err := p.token(path)
		if err != nil {
			return err
		}
		if err := element(token, path); err != nil {
			return err
		}
	}
	_, err = p.token(path) // the closing bracket
	return err
}

func (p parser) object(path string, member func(name, path string) error) error {
	token, err := p.token(path)
	if err != nil {
		return err
	}
	if token != json.Delim('{') {
		return malformed(path, "it must be an object")
	}
	return p.members(path, member)
}

// members reads an object whose opening brace is read.
func (p parser) members(path string, member func(name, path string) error) error {
	seen := map[string]bool{}
	for p.tokens.More() {
		token, err := p.token(path)
		if err != nil {
			return err
		}
		name := token.(string) // the decoder allows nothing else here
		path := strings.TrimPrefix(path+"."+name, ".")
		if seen[name] {
			return malformed(path, "it is there twice")
		}
		seen[name] = true
		if err := member(name, path); err != nil {
			return err
		}
	}
	_, err := p.token(path) // the closing brace
	return err
}

func (p parser) token(path string) (json.Token, error) {
	token, err := p.tokens.Token()
	if errors.Is(err, io.EOF) {
		return nil, malformed(path, "the document ends here, unfinished")
	}
	if err != nil {
		return nil, malformed(path, "it is not JSON: %s", err)
	}
	return token, nil
}
