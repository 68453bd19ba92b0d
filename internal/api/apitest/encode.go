package apitest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// Encode renders an object as the official SDKs do: every parameter by its x-rendering.
func Encode(schema *openapi3.Schema, object map[string]any) url.Values {
	params := url.Values{}
	for name, value := range object {
		switch schema.Properties[name].Value.Extensions["x-rendering"] {
		case "json":
			params.Set(name, toJSON(value))
		case "simple":
			params.Set(name, commaList(value))
		default:
			flatten(params, name, value)
		}
	}
	return params
}

func toJSON(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // a test passed something that JSON cannot hold
	}
	return string(text)
}

func commaList(value any) string {
	var items []string
	for _, item := range value.([]any) {
		items = append(items, fmt.Sprint(item))
	}
	return strings.Join(items, ",")
}

func flatten(params url.Values, name string, value any) {
	switch value := value.(type) {
	case []any:
		for i, item := range value {
			flatten(params, name+"."+strconv.Itoa(i+1), item)
		}
	case map[string]any:
		for field, item := range value {
			flatten(params, name+"."+field, item)
		}
	default:
		params.Set(name, fmt.Sprint(value))
	}
}
