// Package ram reads RAM policy documents and says which requests their statements match.
package ram

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/engineshed/engineshed/internal/fault"
)

// MaxCharacters is the length a policy document may have.
const MaxCharacters = 6144

// ErrMalformed refuses a policy document; the message names the place in it.
var ErrMalformed = fault.New(fault.Invalid, "MalformedPolicyDocument", "The policy document is not valid.")

// An action is PRODUCT:OPERATION, with wildcards anywhere, or a single *.
var actionPattern = regexp.MustCompile(`^(\*|[A-Za-z0-9_.*?-]+:[A-Za-z0-9_./*?-]+)$`)

// Parse reads a policy document and refuses, with ErrMalformed, whatever it does not understand: a member that is
// passed over in silence could be the one that was meant to restrict.
func Parse(document string) (Document, error) {
	if n := utf8.RuneCountInString(document); n > MaxCharacters {
		return Document{}, malformed("", "it has %d characters, at most %d are allowed", n, MaxCharacters)
	}
	if !utf8.ValidString(document) {
		return Document{}, malformed("", "it is not valid UTF-8")
	}
	p := parser{json.NewDecoder(strings.NewReader(document))}
	parsed, err := p.document()
	if err != nil {
		return Document{}, err
	}
	if _, err := p.tokens.Token(); !errors.Is(err, io.EOF) {
		return Document{}, malformed("", "something follows the closing brace")
	}
	return parsed, nil
}

func malformed(path, format string, args ...any) error {
	place := "The policy document is not valid: "
	if path != "" {
		place = "The policy document is not valid at " + path + ": "
	}
	return ErrMalformed.Withf("%s%s.", place, fmt.Sprintf(format, args...))
}

func (p parser) document() (Document, error) {
	var parsed Document
	var version string
	err := p.object("", func(name, path string) (err error) {
		switch name {
		case "Version":
			version, err = p.text(path)
		case "Statement":
			parsed.Statements, err = p.statements(path)
		default:
			err = unknown(name, path)
		}
		return err
	})
	switch {
	case err != nil:
		return Document{}, err
	case version != "1":
		return Document{}, malformed("Version", `it must be the string "1"`)
	case len(parsed.Statements) == 0:
		return Document{}, malformed("Statement", "at least one statement is required")
	}
	return parsed, nil
}

// statements reads an array of statements, or one that stands alone.
func (p parser) statements(path string) ([]Statement, error) {
	var all []Statement
	err := p.oneOrMore(path, func(first json.Token, path string) error {
		if first != json.Delim('{') {
			return malformed(path, "it must be an object")
		}
		statement, err := p.statement(path)
		all = append(all, statement)
		return err
	})
	return all, err
}

func (p parser) statement(path string) (Statement, error) {
	var s Statement
	err := p.members(path, func(name, path string) (err error) {
		switch name {
		case "Sid":
			s.Sid, err = p.text(path)
		case "Effect":
			s.Effect, err = p.effect(path)
		case "Action":
			s.Actions, err = p.actions(path)
		case "NotAction":
			s.NotActions, err = p.actions(path)
		case "Resource":
			s.Resources, err = p.resources(path)
		default:
			err = unknown(name, path)
		}
		return err
	})
	if err != nil {
		return Statement{}, err
	}
	return s, s.complete(path)
}

func (s Statement) complete(path string) error {
	switch {
	case s.Effect == "":
		return malformed(path, "Effect is required")
	case s.Actions == nil && s.NotActions == nil:
		return malformed(path, "Action or NotAction is required")
	case s.Actions != nil && s.NotActions != nil:
		return malformed(path, "Action and NotAction cannot stand together")
	case s.Resources == nil:
		return malformed(path, "Resource is required")
	}
	return nil
}

func unknown(name, path string) error {
	switch name {
	case "Condition":
		return malformed(path, "conditions are not supported yet; write the statement without one only if it is right without it")
	case "NotResource":
		return malformed(path, "NotResource is not supported; name the resources in Resource")
	case "Principal":
		return malformed(path, "Principal belongs in trust policies; attach this policy to the user instead")
	}
	return malformed(path, "there is no such member")
}

func (p parser) effect(path string) (Effect, error) {
	text, err := p.text(path)
	if err == nil && Effect(text) != Allow && Effect(text) != Deny {
		err = malformed(path, "it must be Allow or Deny, not %q", text)
	}
	return Effect(text), err
}

func (p parser) actions(path string) ([]string, error) {
	return p.texts(path, func(text, path string) (string, error) {
		if !actionPattern.MatchString(text) {
			return "", malformed(path, "%q is not PRODUCT:OPERATION, such as gpdb:DescribeModelService, gpdb:* or *", text)
		}
		return strings.ToLower(text), nil
	})
}

func (p parser) resources(path string) ([]string, error) {
	return p.texts(path, func(text, path string) (string, error) {
		if !strings.HasPrefix(text, "acs:") && !strings.HasPrefix(text, "*") {
			return "", malformed(path, "%q is not an ARN, such as acs:gpdb:*:*:dbinstance/* or *", text)
		}
		return text, nil
	})
}
