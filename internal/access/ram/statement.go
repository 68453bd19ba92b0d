package ram

import (
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/glob"
)

// Effect is what a statement does to the requests it matches.
type Effect string

// The effects: a deny wins over every allow.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Document is a policy document that Parse accepted.
type Document struct {
	Statements []Statement
}

// Statement is one statement, ready to be matched. Exactly one of Actions and NotActions is set.
type Statement struct {
	Sid        string
	Effect     Effect
	Actions    []string // patterns in lower case
	NotActions []string // patterns in lower case
	Resources  []string // patterns
}

// Matches reports whether s is about a request to do action on the resource that goes by the spellings.
// The case of the action does not matter, that of the resource does.
func (s Statement) Matches(action string, spellings []string) bool {
	return s.matchesAction(strings.ToLower(action)) && s.matchesResource(spellings)
}

func (s Statement) matchesAction(action string) bool {
	if s.NotActions != nil {
		return !anyMatches(s.NotActions, action)
	}
	return anyMatches(s.Actions, action)
}

func (s Statement) matchesResource(spellings []string) bool {
	return slices.ContainsFunc(spellings, func(spelling string) bool { return anyMatches(s.Resources, spelling) })
}

func anyMatches(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return glob.Match(pattern, s) })
}
