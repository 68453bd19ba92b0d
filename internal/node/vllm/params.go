package vllm

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/engineshed/engineshed/internal/fault"
)

// Validate checks the ModelParams of a request: names against the set, values against type and range. Names may be
// written with dashes or underscores; values as JSON or as text, since the official clients' maps often hold text. Its
// errors are InvalidParameter and MissingParameter faults that name ModelParams.<name>.
func (s Set) Validate(params map[string]any) error {
	_, err := s.render(params)
	return err
}

// render returns the arguments that params and the set's defaults stand for, sorted by name.
func (s Set) render(params map[string]any) ([]string, error) {
	rendered := make(map[string]string, len(params))
	for _, name := range slices.Sorted(maps.Keys(params)) {
		argument, err := s.find(name)
		if err != nil {
			return nil, err
		}
		if _, twice := rendered[argument.Name]; twice {
			return nil, invalid(name, fmt.Sprintf("%s is given twice, with dashes and with underscores.", argument.Name))
		}
		word, err := argument.render(params[name])
		if err != nil {
			return nil, invalid(name, err.Error()+".")
		}
		rendered[argument.Name] = word
	}
	if err := s.complete(rendered); err != nil {
		return nil, err
	}
	args := make([]string, 0, len(rendered))
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if word := rendered[name]; word != "" {
			args = append(args, word)
		}
	}
	return args, nil
}

// complete adds the defaults of arguments that are not given.
func (s Set) complete(rendered map[string]string) (err error) {
	for _, argument := range s {
		if _, given := rendered[argument.Name]; given {
			continue
		}
		switch {
		case argument.Default != "":
			if rendered[argument.Name], err = argument.render(argument.Default); err != nil {
				return invalid(argument.Name, "its default does not fit: "+err.Error()+".")
			}
		case argument.Required:
			return fault.MissingParameter("").Withf("The parameter ModelParams.%s is required by this model: %s.", argument.Name, argument.Limit())
		}
	}
	return nil
}

// Value returns what params say of the argument, else its default, as text; "" for nothing. params are valid.
func (s Set) Value(name string, params map[string]any) string {
	for given, value := range params {
		if strings.ReplaceAll(given, "_", "-") == name {
			literal, _ := literalOf(value)
			return literal
		}
	}
	if i := s.index(name); i >= 0 {
		return s[i].Default
	}
	return ""
}

func (s Set) index(name string) int {
	return slices.IndexFunc(s, func(a Argument) bool { return a.Name == name })
}

func invalid(name, why string) error {
	const longest = 64
	if len(name) > longest {
		name = strings.ToValidUTF8(name[:longest], "") + "…"
	}
	return fault.InvalidParameter("ModelParams."+name, why)
}

func (s Set) find(name string) (Argument, error) {
	plain := strings.ReplaceAll(name, "_", "-")
	if i := s.index(plain); i >= 0 {
		return s[i], nil
	}
	bare := strings.TrimLeft(plain, "-")
	if why, known := refused[strings.TrimPrefix(bare, "no-")]; known {
		return Argument{}, invalid(name, why)
	}
	if bare != plain && s.index(bare) >= 0 {
		return Argument{}, invalid(name, "write the name without dashes before it: "+bare+".")
	}
	return Argument{}, invalid(name, "it is not an engine argument that can be set here. Those that can: "+s.names()+".")
}

func (s Set) names() string {
	all := make([]string, len(s))
	for i, argument := range s {
		all[i] = argument.Name
	}
	return strings.Join(all, ", ")
}

// render returns the argument with its value as one word of a command line, or "" where nothing needs to be said: not
// every flag of vLLM has a --no- form, so a false that is the default is left out. Its error is a sentence without its full stop.
func (a Argument) render(value any) (string, error) {
	literal, isText := literalOf(value)
	switch a.Type {
	case Boolean:
		switch literal {
		case "true":
			return "--" + a.Name, nil
		case "false":
			if !a.On {
				return "", nil
			}
			return "--no-" + a.Name, nil
		}
	case Choice:
		if slices.Contains(a.Choices, literal) {
			return "--" + a.Name + "=" + literal, nil
		}
	default:
		number, err := strconv.ParseFloat(literal, 64)
		whole := number == math.Trunc(number)
		if err == nil && (!isText || plainNumber(literal)) && (a.Type != Integer || whole) && number >= a.Min && number <= a.Max {
			return "--" + a.Name + "=" + decimal(number), nil
		}
	}
	return "", errors.New("it must be " + a.Limit())
}

// Check says why the argument cannot have the value, as a sentence without its full stop.
func (a Argument) Check(value any) error {
	_, err := a.render(value)
	return err
}

// Limit says which values the argument may have.
func (a Argument) Limit() string {
	switch a.Type {
	case Boolean:
		return "true or false"
	case Choice:
		return "one of " + strings.Join(a.Choices, ", ")
	case Integer:
		return fmt.Sprintf("a whole number from %s to %s", decimal(a.Min), decimal(a.Max))
	default:
		return fmt.Sprintf("a number from %s to %s", decimal(a.Min), decimal(a.Max))
	}
}

// literalOf returns a JSON value as text, and whether it was a string; "" for what is no scalar.
func literalOf(value any) (literal string, isText bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), false
	case json.Number:
		return v.String(), true
	case float64:
		return decimal(v), false
	case int:
		return strconv.Itoa(v), false
	case int32:
		return strconv.FormatInt(int64(v), 10), false
	case int64:
		return strconv.FormatInt(v, 10), false
	}
	return "", false
}

// plainNumber refuses what ParseFloat takes beyond JSON's numbers: hexadecimal, inf, nan, underscores.
func plainNumber(literal string) bool { return strings.Trim(literal, "0123456789.-+eE") == "" }

func decimal(number float64) string { return strconv.FormatFloat(number, 'f', -1, 64) }
