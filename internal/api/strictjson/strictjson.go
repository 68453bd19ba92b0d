// Package strictjson decodes JSON that two readers could not understand differently: no duplicate members, no invalid
// UTF-8, no trailing data, bounded depth.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may nest.
const MaxDepth = 32

// What is refused. The texts complete "The parameter NAME is not valid: …".
var (
	errSyntax  = errors.New("it is not valid JSON")
	errUTF8    = errors.New("it is not valid UTF-8")
	errDepth   = fmt.Errorf("it nests deeper than %d levels", MaxDepth)
	errNumber  = errors.New("it holds a number outside the range of 64 bits")
	errControl = errors.New("it holds the character U+0000")
)

// Decode returns data as nil, bool, int64, float64, string, []any or map[string]any. A whole number
// is an int64.
func Decode(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, errUTF8
	}
	if !json.Valid(data) { // trailing data is not valid either
		return nil, errSyntax
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return value(decoder, 0)
}

// Text refuses what no parameter may hold, in any dialect: invalid UTF-8 and U+0000, which Postgres does not store.
func Text(s string) error {
	if !utf8.ValidString(s) {
		return errUTF8
	}
	if strings.ContainsRune(s, 0) {
		return errControl
	}
	return nil
}

func value(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, errSyntax
	}
	switch token := token.(type) {
	case json.Delim:
		if depth++; depth > MaxDepth {
			return nil, errDepth
		}
		if token == '{' {
			return object(d, depth)
		}
		return array(d, depth)
	case json.Number:
		return number(token.String())
	case string:
		return token, Text(token)
	default: // bool or nil
		return token, nil
	}
}

func object(d *json.Decoder, depth int) (any, error) {
	members := map[string]any{}
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, errSyntax
		}
		if err := Text(name); err != nil {
			return nil, err
		}
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("it holds the member %q twice", name)
		}
		if members[name], err = value(d, depth); err != nil {
			return nil, err
		}
	}
	return members, end(d)
}

func array(d *json.Decoder, depth int) (any, error) {
	items := []any{}
	for d.More() {
		item, err := value(d, depth)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, end(d)
}

func end(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return errSyntax
	}
	return nil
}

func number(text string) (any, error) {
	if !strings.ContainsAny(text, ".eE") {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, errNumber
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, errNumber
	}
	if f == math.Trunc(f) && math.Abs(f) <= 1<<53 {
		return int64(f), nil // 1e2 and 100 are the same number
	}
	return f, nil
}
