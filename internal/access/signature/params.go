package signature

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/engineshed/engineshed/internal/fault"
)

const (
	maxParams    = 2048 // an array of a thousand AI nodes, one parameter each, fits twice
	maxParamName = 128
)

// parseParams reads a query or a form. No name may come twice, nor be in earlier. The official Go SDK signs names
// without encoding them, so a name with other characters could make two requests sign alike.
func parseParams(raw string, earlier map[string]string) (map[string]string, error) {
	params := map[string]string{}
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" {
			continue
		}
		name, value, err := parseParam(pair)
		if err != nil {
			return nil, err
		}
		if _, ok := params[name]; ok {
			return nil, fault.InvalidParameter(name, "it is there more than once.")
		}
		if _, ok := earlier[name]; ok {
			return nil, fault.InvalidParameter(name, "it is both in the query and in the body.")
		}
		if len(params)+len(earlier) == maxParams {
			return nil, fault.ErrInvalid.Withf("There are more than %d parameters.", maxParams)
		}
		params[name] = value
	}
	return params, nil
}

func parseParam(pair string) (name, value string, err error) {
	rawName, rawValue, _ := strings.Cut(pair, "=")
	name, err = url.QueryUnescape(rawName)
	if err != nil || !validName(name) {
		return "", "", fault.ErrInvalid.Withf("The name of a parameter must be 1 to %d of A-Z a-z 0-9 _ . -", maxParamName)
	}
	value, err = url.QueryUnescape(rawValue)
	switch {
	case err != nil:
		return "", "", fault.InvalidParameter(name, "its percent-encoding is broken.")
	case !utf8.ValidString(value):
		return "", "", fault.InvalidParameter(name, "it is not UTF-8.")
	case strings.ContainsRune(value, 0):
		return "", "", fault.InvalidParameter(name, "it contains the character U+0000.")
	}
	return name, value, nil
}

func validName(name string) bool {
	return 0 < len(name) && len(name) <= maxParamName &&
		onlyOf(name, func(c byte) bool { return isAlphanumeric(c) || c == '_' || c == '.' || c == '-' })
}
