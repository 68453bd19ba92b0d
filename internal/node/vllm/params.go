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

// Validate checks the ModelParams of a request: names against the allow-list, values against type and range. Names may
// be written with dashes or underscores; values as JSON or as text, since the official clients' maps often hold text.
// Its errors are InvalidParameter faults that name ModelParams.<name>.
func Validate(params map[string]any) error {
	_, err := renderParams(params)
	return err
}

// renderParams returns the arguments that params stand for, sorted by name.
func renderParams(params map[string]any) ([]string, error) {
	rendered := make(map[string]string, len(params))
	for _, name := range slices.Sorted(maps.Keys(params)) {
		argument, err := find(name)
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
	args := make([]string, 0, len(rendered))
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if word := rendered[name]; word != "" {
			args = append(args, word)
		}
	}
	return args, nil
}

func invalid(name, why string) error {
	const longest = 64
	if len(name) > longest {
		name = strings.ToValidUTF8(name[:longest], "") + "…"
	}
	return fault.InvalidParameter("ModelParams."+name, why)
}

func find(name string) (Argument, error) {
	plain := strings.ReplaceAll(name, "_", "-")
	for _, argument := range arguments {
		if argument.Name == plain {
			return argument, nil
		}
	}
	bare := strings.TrimLeft(plain, "-")
	if why, known := refused[strings.TrimPrefix(bare, "no-")]; known {
		return Argument{}, invalid(name, why)
	}
	if bare != plain && slices.ContainsFunc(arguments, func(a Argument) bool { return a.Name == bare }) {
		return Argument{}, invalid(name, "write the name without dashes before it: "+bare+".")
	}
	return Argument{}, invalid(name, "it is not an engine argument that can be set here. Those that can: "+names()+".")
}

func names() string {
	all := make([]string, len(arguments))
	for i, argument := range arguments {
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
		return "", errors.New("it must be true or false")
	case Choice:
		if slices.Contains(a.Choices, literal) {
			return "--" + a.Name + "=" + literal, nil
		}
		return "", fmt.Errorf("it must be one of %s", strings.Join(a.Choices, ", "))
	default:
		number, err := strconv.ParseFloat(literal, 64)
		whole := number == math.Trunc(number)
		if err != nil || isText && !plainNumber(literal) || a.Type == Integer && !whole || !(number >= a.Min && number <= a.Max) {
			return "", fmt.Errorf("it must be %s from %s to %s", map[Type]string{Integer: "a whole number", Number: "a number"}[a.Type], decimal(a.Min), decimal(a.Max))
		}
		return "--" + a.Name + "=" + decimal(number), nil
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
