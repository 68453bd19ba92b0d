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

// Statement is one statement, ready to be matched. Exactly one of Actions and NotActions is set.
type Statement struct {
	Sid        string
	Effect     Effect
	Actions    []string    // patterns in lower case
	NotActions []string    // patterns in lower case
	Resources  []string    // patterns
	Conditions []Condition // all of which must hold
}

// Request is what a statement is matched with.
type Request struct {
	action    string
	resources []string
	context   Context
}

// NewRequest returns the request to do action on the resource that goes by any of the spellings.
func NewRequest(action string, spellings []string, context Context) Request {
	return Request{strings.ToLower(action), spellings, context}
}

// Context returns what the request says about condition keys.
func (r Request) Context() Context { return r.context }

// Matches reports whether s is about the request. The case of the action does not matter, that of the resource does.
func (s *Statement) Matches(r Request) bool {
	if !s.MatchesAction(r) || !s.MatchesResource(r) {
		return false
	}
	for i := range s.Conditions {
		if !s.Conditions[i].Holds(r.context) {
			return false
		}
	}
	return true
}

// MatchesAction reports whether s is about the action of the request.
func (s *Statement) MatchesAction(r Request) bool {
	if s.NotActions != nil {
		return !anyMatches(s.NotActions, r.action)
	}
	return anyMatches(s.Actions, r.action)
}

// MatchesResource reports whether s is about the resource of the request.
func (s *Statement) MatchesResource(r Request) bool {
	for _, spelling := range r.resources {
		if anyMatches(s.Resources, spelling) {
			return true
		}
	}
	return false
}

// AsksTags reports whether a condition of s asks for a tag of the resource.
func (s *Statement) AsksTags() bool {
	return slices.ContainsFunc(s.Conditions, func(c Condition) bool { return strings.HasPrefix(c.key, resourceTag) })
}

func anyMatches(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return glob.Match(pattern, s) })
}
