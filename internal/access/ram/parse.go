// Package ram reads RAM policy documents and says which requests their statements match.
package ram

import (
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/engineshed/engineshed/internal/fault"
)

// The lengths that documents may have, in characters.
const (
	MaxCharacters        = 6144
	MaxSessionCharacters = 1024
)

// ErrMalformed refuses a policy document; the message names the place in it.
var ErrMalformed = fault.New(fault.Invalid, "MalformedPolicyDocument",
	"The policy document is not valid.", "Correct the place that the message names; docs/access-control.md tells what a policy may say.")

// Document is a policy document that Parse accepted.
type Document struct {
	Statements []Statement
}

// Parse reads the document of a policy that is attached to users, groups and roles. It refuses, with ErrMalformed,
// whatever it does not understand: a member that is passed over in silence could be the one that was meant to restrict.
func Parse(document string) (Document, error) { return parse(document, MaxCharacters) }

// ParseSession reads the document that AssumeRole is called with. It differs from another one in its length alone.
func ParseSession(document string) (Document, error) { return parse(document, MaxSessionCharacters) }

func parse(document string, maxCharacters int) (Document, error) {
	var parsed Document
	err := read(document, maxCharacters, func(p parser) (err error) {
		parsed.Statements, err = documentOf(p, Statement.complete, func(p parser, s *Statement, name, path string) (err error) {
			if name == "Resource" {
				s.Resources, err = p.resources(path)
				return err
			}
			return p.member(s, name, path)
		})
		return err
	})
	if err != nil {
		return Document{}, err
	}
	return parsed, nil
}

// documentOf reads a document whose statements have the members that member reads, and are whole when complete agrees.
func documentOf[S any](p parser, complete func(S, string) error, member func(p parser, s *S, name, path string) error) ([]S, error) {
	var all []S
	var version string
	err := p.object("", func(name, path string) (err error) {
		switch name {
		case "Version":
			version, err = p.text(path)
		case "Statement":
			all, err = statements(p, path, complete, member)
		default:
			err = malformed(path, "there is no such member")
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case version != "1":
		return nil, malformed("Version", `it must be the string "1"`)
	case len(all) == 0:
		return nil, malformed("Statement", "at least one statement is required")
	}
	if _, err := p.tokens.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed("", "something follows the closing brace")
	}
	return all, nil
}

// statements reads an array of statements, or one that stands alone.
func statements[S any](
	p parser, path string, complete func(S, string) error, member func(p parser, s *S, name, path string) error,
) ([]S, error) {
	var all []S
	err := p.oneOrMore(path, func(first json.Token, path string) error {
		if first != json.Delim('{') {
			return malformed(path, "it must be an object")
		}
		var s S
		err := p.members(path, func(name, path string) error { return member(p, &s, name, path) })
		if err == nil {
			err = complete(s, path)
		}
		all = append(all, s)
		return err
	})
	return all, err
}

// member reads a member of a statement that is no Resource.
func (p parser) member(s *Statement, name, path string) (err error) {
	switch name {
	case "Sid":
		s.Sid, err = p.text(path)
	case "Effect":
		s.Effect, err = p.effect(path)
	case "Action":
		s.Actions, err = p.actions(path)
	case "NotAction":
		s.NotActions, err = p.actions(path)
	case "Condition":
		s.Conditions, err = p.conditions(path)
	case "NotResource":
		err = malformed(path, "NotResource is not supported; name the resources in Resource")
	case "Principal":
		err = malformed(path, "Principal belongs in trust policies; attach this policy to the user, group or role instead")
	default:
		err = malformed(path, "there is no such member")
	}
	return err
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

func (p parser) effect(path string) (Effect, error) {
	text, err := p.text(path)
	if err == nil && Effect(text) != Allow && Effect(text) != Deny {
		err = malformed(path, "it must be Allow or Deny, not %q", text)
	}
	return Effect(text), err
}

func (p parser) actions(path string) ([]string, error) {
	return p.texts(path, func(text, path string) (string, error) {
		if !isAction(text) {
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

// isAction reports whether text is PRODUCT:OPERATION, with wildcards anywhere, or a single *. A regular expression would be a
// quarter of what reading a policy costs.
func isAction(text string) bool {
	product, operation, both := strings.Cut(text, ":")
	return text == "*" || both && isMadeOf(product, "_.*?-") && isMadeOf(operation, "_./*?-")
}

// isMadeOf reports whether text is letters, digits and these signs, and not empty.
func isMadeOf(text, signs string) bool {
	for i := range len(text) {
		c := text[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if digit := c >= '0' && c <= '9'; !letter && !digit && strings.IndexByte(signs, c) < 0 {
			return false
		}
	}
	return text != ""
}
