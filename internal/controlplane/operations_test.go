package controlplane

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/openapi"
)

type object = map[string]any

// operation is an operation of any document.
type operation struct {
	*openapi3.Operation
	product, version string
	method, path     string
	paths            bool                        // of a product whose operations are methods and paths
	in               map[string]string           // where a parameter of a path-style operation travels: path or query
	schemas          map[string]*openapi3.Schema // of all parameters
	example          object                      // of all parameters together
}

func (o operation) name() string { return o.product + ":" + o.OperationID }

// mutates reports whether a call changes something, as x-ram says.
func (o operation) mutates() bool {
	level := o.Extensions["x-ram"].(object)["level"]
	return level != "get" && level != "list"
}

// takesToken reports whether a ClientToken makes the call happen once, and what the product calls it.
func (o operation) takesToken() (name string, takes bool) {
	takes, _ = o.Extensions["x-client-token"].(bool)
	if o.paths {
		return "clientToken", takes
	}
	return "ClientToken", takes
}

// everyOperation reads every operation of every document there is, in order.
func everyOperation(t testing.TB) (all []operation) {
	t.Helper()
	names, err := fs.Glob(openapi.Files, "*.yaml")
	require.NoError(t, err)
	for _, name := range names {
		document, err := api.LoadDocument(openapi.Files, name)
		require.NoError(t, err)
		product, _ := document.Extensions["x-product"].(string)
		for path, item := range document.Paths.Map() {
			for method, described := range item.Operations() {
				require.NotEmpty(t, product, name)
				op := operation{
					Operation: described, product: product, version: document.Info.Version, method: method, path: path,
					paths: path != "/"+described.OperationID, in: map[string]string{}, schemas: map[string]*openapi3.Schema{}, example: object{},
				}
				op.describe()
				all = append(all, op)
			}
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.name(), b.name()) })
	return all
}

func (o operation) describe() {
	for _, parameter := range o.Parameters {
		p := parameter.Value
		schema := p.Schema
		if content := p.Content.Get("application/json"); content != nil {
			schema = content.Schema
		}
		o.in[p.Name], o.schemas[p.Name] = p.In, schema.Value
		if schema.Value.Example != nil {
			o.example[p.Name] = schema.Value.Example
		}
	}
	if o.RequestBody != nil {
		body := o.RequestBody.Value.Content.Get("application/json")
		for name, property := range body.Schema.Value.Properties {
			o.schemas[name] = property.Value
		}
		example, _ := body.Example.(object)
		maps.Copy(o.example, example)
	}
}

// copied is a value that shares nothing with another.
func copied[T any](t testing.TB, value T) (fresh T) {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &fresh))
	return fresh
}

// request is a call of the operation with params that nobody has signed yet.
func (o operation) request(t testing.TB, base string, params object) *http.Request {
	t.Helper()
	path, values, rest := o.path, url.Values{}, object{}
	for name, value := range params {
		switch o.in[name] {
		case openapi3.ParameterInPath:
			path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(fmt.Sprint(value)))
		case openapi3.ParameterInQuery:
			values.Set(name, o.inQuery(t, name, value))
		default:
			rest[name] = value
		}
	}
	var body string
	if o.RequestBody != nil {
		text, err := json.Marshal(rest)
		require.NoError(t, err)
		body = string(text)
	}
	target := base + path
	if len(values) > 0 {
		target += "?" + values.Encode()
	}
	r, err := http.NewRequestWithContext(t.Context(), o.method, target, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// inQuery is the text of a parameter of a path-style operation: JSON, a comma list, or as it is.
func (o operation) inQuery(t testing.TB, name string, value any) string {
	t.Helper()
	list, isList := value.([]any)
	if o.Parameters.GetByInAndName(openapi3.ParameterInQuery, name).Content != nil {
		text, err := json.Marshal(value)
		require.NoError(t, err)
		return string(text)
	}
	if !isList {
		text, err := json.Marshal(value)
		require.NoError(t, err)
		return strings.Trim(string(text), `"`)
	}
	items := make([]string, len(list))
	for n, item := range list {
		items[n] = fmt.Sprint(item)
	}
	return strings.Join(items, ",")
}

// form are params as older clients send them to products whose operations are names.
func (o operation) form(params object) url.Values {
	return apitest.Encode(o.RequestBody.Value.Content.Get("application/json").Schema.Value, params)
}

// query returns the rows of a statement that the owner of the database runs.
func query[T any](i *installation, sql string, args ...any) []T {
	i.t.Helper()
	found, err := i.pool.Owner.Query(i.t.Context(), sql, args...)
	require.NoError(i.t, err)
	rows, err := pgx.CollectRows(found, pgx.RowToStructByName[T])
	require.NoError(i.t, err)
	return rows
}
