package ram

import (
	"maps"
	"slices"
	"strings"
)

// Condition is one key of one operator, with the values that are compared with the request's.
type Condition struct {
	Operator string   // such as StringNotLike
	Key      string   // as it is written
	Values   []string // as they are written

	key     string // as Context has it
	negated bool
	matches func(got string) bool // any of Values
}

// Holds reports whether the condition is true of a request. One value that fits is enough; a negated operator is true
// exactly where its positive one is not: when the request's value differs from all, and when the request has none.
func (c *Condition) Holds(context Context) bool {
	got, present := context[c.key]
	return (present && c.matches(got.value)) != c.negated
}

// conditions reads {OPERATOR: {KEY: VALUE or [VALUE …]}}.
func (p parser) conditions(path string) ([]Condition, error) {
	var all []Condition
	err := p.object(path, func(name, path string) error {
		op, ok := operators[name]
		if !ok {
			return malformed(path, "there is no such operator; these are: %s", strings.Join(slices.Sorted(maps.Keys(operators)), ", "))
		}
		before := len(all)
		err := p.object(path, func(key, path string) error {
			c, err := p.condition(name, op, key, path)
			all = append(all, c)
			return err
		})
		if err == nil && len(all) == before {
			err = malformed(path, "it names no key")
		}
		return err
	})
	return all, err
}

func (p parser) condition(name string, op operator, key, path string) (Condition, error) {
	if err := checkKey(key, op.kind, path); err != nil {
		return Condition{}, err
	}
	values, err := p.texts(path, func(text, path string) (string, error) {
		if !op.valid(text) {
			return "", malformed(path, "%q is not %s", text, op.kind.rule)
		}
		return text, nil
	})
	return Condition{
		Operator: name, Key: key, Values: values, key: contextKey(key), negated: op.negated, matches: op.matches(values),
	}, err
}
