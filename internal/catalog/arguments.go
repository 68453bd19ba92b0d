package catalog

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/node/vllm"
)

var (
	argumentName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
	// plainChoice keeps paths and addresses from being what a model's argument is set to.
	plainChoice = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
)

// arguments are those of every model, as the file changes them, or with onlyTheseArguments the file's alone.
func (c *checker) arguments(f modelYAML) vllm.Set {
	general := vllm.Arguments()
	set := slices.Clone(general)
	if f.OnlyThese.is {
		set = vllm.Set{}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Arguments)) {
		argument, ok := c.argument(name, f.Arguments[name], general)
		if !ok {
			continue
		}
		if i := slices.IndexFunc(set, func(a vllm.Argument) bool { return a.Name == name }); i >= 0 {
			set[i] = argument
		} else {
			set = append(set, argument)
		}
	}
	slices.SortFunc(set, func(a, b vllm.Argument) int { return strings.Compare(a.Name, b.Name) })
	return set
}

// argument is one argument of the file: one of every model with narrower limits, or one that only this model takes.
func (c *checker) argument(name string, f argumentYAML, general vllm.Set) (a vllm.Argument, ok bool) {
	complaints := len(c.complaints)
	line := f.line()
	if why := vllm.Refused(strings.TrimPrefix(name, "no-")); why != "" {
		c.complain(line, "arguments.%s cannot be allowed: %s", name, why)
		return a, false
	}
	if i := slices.IndexFunc(general, func(a vllm.Argument) bool { return a.Name == name }); i >= 0 {
		a = c.narrow(general[i], f)
	} else {
		a = c.further(name, f)
	}
	a.Required = f.Required.is
	if f.Default.line > 0 {
		if err := a.Check(f.Default.is); err != nil && len(c.complaints) == complaints {
			c.complain(f.Default.line, "arguments.%s.default does not fit: %s", name, err)
		}
		a.Default = f.Default.is
	}
	return a, len(c.complaints) == complaints
}

// narrow is an argument of every model within the limits of the file.
func (c *checker) narrow(a vllm.Argument, f argumentYAML) vllm.Argument {
	if f.Type.line > 0 && f.Type.is != string(a.Type) {
		c.complain(f.Type.line, "arguments.%s is of the type %s", a.Name, a.Type)
	}
	c.fitting(a.Name, a.Type, f)
	for _, limit := range []struct {
		setting string
		of      number
		now     *float64
	}{{"min", f.Min, &a.Min}, {"max", f.Max, &a.Max}} {
		switch {
		case limit.of.line == 0:
		case limit.of.is < a.Min || limit.of.is > a.Max:
			c.complain(limit.of.line, "arguments.%s.%s must be %s", a.Name, limit.setting, a.Limit())
		default:
			*limit.now = limit.of.is
		}
	}
	for _, choice := range f.Choices {
		if !slices.Contains(a.Choices, choice.is) {
			c.complain(choice.line, "arguments.%s.choices: %q is not %s", a.Name, choice.is, a.Limit())
		}
	}
	if f.Choices != nil {
		a.Choices = plain(f.Choices)
	}
	return a
}

// further is an argument that only this model takes.
func (c *checker) further(name string, f argumentYAML) vllm.Argument {
	a := vllm.Argument{Name: name, Type: vllm.Type(f.Type.is), Min: f.Min.is, Max: f.Max.is, Choices: plain(f.Choices)}
	line := f.line()
	if !argumentName.MatchString(name) {
		c.complain(line, "arguments.%.64s: a name is small letters, digits and dashes, without dashes before it", name)
	}
	switch a.Type {
	case vllm.Integer, vllm.Number:
		if f.Min.line == 0 || f.Max.line == 0 {
			c.complain(line, "arguments.%s needs min and max: not every model takes it", name)
		}
	case vllm.Choice:
		if len(f.Choices) == 0 {
			c.complain(line, "arguments.%s needs choices", name)
		}
		for _, choice := range f.Choices {
			if !plainChoice.MatchString(choice.is) {
				c.complain(choice.line, "arguments.%s.choices: %q must be letters, digits, dots and dashes", name, choice.is)
			}
		}
	case vllm.Boolean:
	default:
		c.complain(line, "arguments.%s needs a type: integer, number, boolean or choice; not every model takes it", name)
		return a
	}
	c.fitting(name, a.Type, f)
	return a
}

// fitting complains about limits that the type has not, or that leave nothing.
func (c *checker) fitting(name string, kind vllm.Type, f argumentYAML) {
	numeric := kind == vllm.Integer || kind == vllm.Number
	switch {
	case !numeric && f.Min.line+f.Max.line > 0:
		c.complain(max(f.Min.line, f.Max.line), "arguments.%s is no number, it has no min and max", name)
	case kind != vllm.Choice && f.Choices != nil:
		c.complain(f.line(), "arguments.%s is of the type %s, it has no choices", name, kind)
	case f.Min.line > 0 && f.Max.line > 0 && f.Min.is > f.Max.is:
		c.complain(f.Max.line, "arguments.%s: max is less than min", name)
	}
}

// line is where the argument's first setting stands; 0 when it has none.
func (f argumentYAML) line() (first int) {
	lines := []int{f.Type.line, f.Default.line, f.Min.line, f.Max.line, f.Required.line}
	for _, choice := range f.Choices {
		lines = append(lines, choice.line)
	}
	for _, line := range lines {
		if line > 0 && (first == 0 || line < first) {
			first = line
		}
	}
	return first
}

func plain(texts []text) (all []string) {
	for _, t := range texts {
		all = append(all, t.is)
	}
	return all
}
