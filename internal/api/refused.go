package api

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/fault"
)

// refused are the parameters of the original that an operation does not take, each with what a caller should know:
// x-refused. To ignore one of them would be to promise something. One that asks for nothing is let pass: false, 0,
// empty, or an object of such.
type refused map[string]string

func readRefused(extensions map[string]any) (refused, error) {
	marked, ok := extensions["x-refused"].(map[string]any)
	if !ok && extensions["x-refused"] != nil {
		return nil, errors.New("x-refused is not an object of parameters and reasons")
	}
	found := refused{}
	for name, reason := range marked {
		if found[name], ok = reason.(string); !ok || found[name] == "" {
			return nil, fmt.Errorf("x-refused gives no reason for %s", name)
		}
	}
	return found, nil
}

// checkQuery refuses what the query asks for.
func (r refused) checkQuery(query url.Values) error {
	for _, key := range slices.Sorted(maps.Keys(query)) {
		name, _, _ := strings.Cut(key, ".")
		if reason, ok := r[name]; ok && slices.ContainsFunc(query[key], asksInText) {
			return fault.ErrUnsupported.Withf("The parameter %s is not supported: %s.", name, reason)
		}
	}
	return nil
}

// checkBody refuses what the members of a body ask for.
func (r refused) checkBody(members map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if reason, ok := r[name]; ok && asks(members[name]) {
			return fault.ErrUnsupported.Withf("The parameter %s is not supported: %s.", name, reason)
		}
	}
	return nil
}

func asksInText(text string) bool {
	return !slices.Contains([]string{"", "0", "false", "null", "[]", "{}"}, strings.ToLower(text))
}

func asks(value any) bool {
	switch value := value.(type) {
	case []any:
		return slices.ContainsFunc(value, asks)
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(value)), asks)
	}
	return value != nil && asksInText(fmt.Sprint(value))
}
