package catalog

import (
	"slices"
	"strconv"
	"strings"
)

// TooOld reports whether an engine of this version is known not to serve the model; "" is not known.
func (m Model) TooOld(engine string) bool {
	return m.EngineVersion != "" && engine != "" && slices.Compare(numbers(engine), numbers(m.EngineVersion)) < 0
}

// AsksForVersion reports whether any model asks for a version of the engine.
func (c *Catalog) AsksForVersion() bool {
	return slices.ContainsFunc(*c.models.Load(), func(m Model) bool { return m.EngineVersion != "" })
}

// numbers are the numbers of a version, without zeros at the end: 0.8 is 0.8.0.
func numbers(version string) (all []int) {
	for part := range strings.SplitSeq(version, ".") {
		n, _ := strconv.Atoi(part) // the patterns of both sides hold digits alone
		all = append(all, n)
	}
	for len(all) > 0 && all[len(all)-1] == 0 {
		all = all[:len(all)-1]
	}
	return all
}
