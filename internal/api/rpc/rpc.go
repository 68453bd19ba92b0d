// Package rpc turns the parameters of a call in the Action-and-form dialect into the JSON object the operation's
// schema describes.
package rpc

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/engineshed/engineshed/internal/api/strictjson"
	"github.com/engineshed/engineshed/internal/fault"
)

// MaxItems is how many items an array may have that travels as Name.1, Name.2, …
const MaxItems = 1000

// simple is the x-rendering of a comma list. The other renderings, json (Name=["a","b"]) and repeated (Name.1=a,
// Name.1.Field=a), cannot be mistaken for each other, so each is understood where the other is declared: clients of
// different ages disagree.
const simple = "simple"

// Decode returns the parameters that schema declares, typed. It ignores parameters that schema does not declare, and
// it does not validate: an item without a required field is for the schema to refuse.
func Decode(schema *openapi3.Schema, params url.Values) (map[string]any, error) {
	grouped, err := group(schema, params)
	if err != nil {
		return nil, err
	}
	object := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(grouped)) {
		if object[name], err = decode(schema.Properties[name].Value, name, grouped[name]); err != nil {
			return nil, err
		}
	}
	return object, nil
}

// tree is a parameter and those below it: Tag.1.Key is the value at "1" → "Key" of the tree of Tag.
type tree struct {
	value    string
	isSet    bool
	children map[string]*tree
}

// group builds the tree of each declared parameter.
func group(schema *openapi3.Schema, params url.Values) (map[string]*tree, error) {
	grouped := map[string]*tree{}
	for key, values := range params {
		path := strings.Split(key, ".")
		if _, declared := schema.Properties[path[0]]; !declared {
			continue
		}
		if len(values) != 1 {
			return nil, fault.InvalidParameter(key, "it is there more than once.")
		}
		if err := strictjson.Text(values[0]); err != nil {
			return nil, fault.InvalidParameter(key, err.Error()+".")
		}
		at := grouped[path[0]]
		if at == nil {
			at = &tree{}
			grouped[path[0]] = at
		}
		for _, step := range path[1:] {
			at = at.child(step)
		}
		at.value, at.isSet = values[0], true
	}
	return grouped, nil
}

func (t *tree) child(name string) *tree {
	if t.children == nil {
		t.children = map[string]*tree{}
	}
	if t.children[name] == nil {
		t.children[name] = &tree{}
	}
	return t.children[name]
}

func decode(schema *openapi3.Schema, name string, t *tree) (any, error) {
	switch {
	case t.isSet && len(t.children) > 0:
		return nil, fault.InvalidParameter(name, "it is there as one value and in parts.")
	case t.isSet:
		return decodeValue(schema, name, t.value)
	case schema.Type.Is(openapi3.TypeArray):
		return decodeItems(schema, name, t)
	case schema.Type.Is(openapi3.TypeObject):
		return decodeFields(schema, name, t)
	}
	return nil, fault.InvalidParameter(name, "it takes one value, not parts.")
}

// decodeItems reads Name.1, Name.2, …: from 1, without gaps, so that two readers count the same.
func decodeItems(schema *openapi3.Schema, name string, t *tree) (any, error) {
	items := make([]any, len(t.children))
	for step, child := range t.children {
		n, ok := index(step)
		if !ok || n > len(items) {
			return nil, fault.InvalidParameter(name+"."+step,
				fmt.Sprintf("items are numbered from 1 to at most %d, without gaps.", MaxItems))
		}
		item, err := decode(schema.Items.Value, name+"."+step, child)
		if err != nil {
			return nil, err
		}
		items[n-1] = item
	}
	return items, nil
}

var indexFormat = regexp.MustCompile(`^[1-9][0-9]{0,3}$`)

func index(step string) (int, bool) {
	if !indexFormat.MatchString(step) {
		return 0, false
	}
	n, err := strconv.Atoi(step)
	return n, err == nil && n <= MaxItems
}

// decodeFields reads Name.Field, Name.Other. Fields that the schema does not declare are ignored, as parameters are.
func decodeFields(schema *openapi3.Schema, name string, t *tree) (any, error) {
	object := map[string]any{}
	for field, child := range t.children {
		property, declared := schema.Properties[field]
		if !declared {
			continue
		}
		value, err := decode(property.Value, name+"."+field, child)
		if err != nil {
			return nil, err
		}
		object[field] = value
	}
	return object, nil
}

func decodeValue(schema *openapi3.Schema, name, text string) (any, error) {
	switch {
	case schema.Type.Is(openapi3.TypeString):
		return text, nil
	case schema.Type.Is(openapi3.TypeBoolean):
		return decodeBoolean(name, text)
	case schema.Type.Is(openapi3.TypeInteger):
		return decodeInteger(name, text)
	case schema.Type.Is(openapi3.TypeArray) && schema.Extensions["x-rendering"] == simple:
		return decodeList(schema.Items.Value, name, text)
	}
	value, err := strictjson.Decode([]byte(text))
	if err != nil {
		return nil, fault.InvalidParameter(name, err.Error()+".")
	}
	return value, nil
}

func decodeBoolean(name, text string) (any, error) {
	switch strings.ToLower(text) { // Python clients write True
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return nil, fault.InvalidParameter(name, "it takes true or false.")
}

var integerFormat = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

func decodeInteger(name, text string) (any, error) {
	if !integerFormat.MatchString(text) {
		return nil, fault.InvalidParameter(name, "it takes a whole number in decimal digits.")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, fault.InvalidParameter(name, "the number is out of range.")
	}
	return n, nil
}

// decodeList reads a comma list, whose items are words or numbers.
func decodeList(item *openapi3.Schema, name, text string) (any, error) {
	items := []any{}
	if text == "" {
		return items, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		value, err := decodeValue(item, name, word)
		if err != nil {
			return nil, err
		}
		items = append(items, value)
	}
	return items, nil
}
