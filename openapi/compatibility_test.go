package openapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/node/vllm"
	"github.com/engineshed/engineshed/openapi"
)

// compatibility is what users read about how we decided.
const compatibility = "../docs/compatibility.md"

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	return string(text)
}

// table returns a part of a page, without its line breaks.
func table(t *testing.T, page, name string) []string {
	t.Helper()
	_, rest, found := strings.Cut(read(t, page), "<!-- table: "+name+" -->\n")
	require.True(t, found, name)
	part, _, found := strings.Cut(rest, "\n<!-- end -->")
	require.True(t, found, name)
	return strings.Split(strings.ReplaceAll(part, "\n  ", " "), "\n")
}

var writing sync.Mutex // the pages, by the tests of this package

// keep holds a table of a page against what documents and code say, or writes it anew when UPDATE_DOCS is set.
func keep(t *testing.T, page, name string, want []string) {
	t.Helper()
	if os.Getenv("UPDATE_DOCS") == "" {
		require.Equal(t, want, table(t, page, name), "run UPDATE_DOCS=1 go test ./openapi")
		return
	}
	writing.Lock()
	defer writing.Unlock()
	start := "<!-- table: " + name + " -->\n"
	before, rest, found := strings.Cut(read(t, page), start)
	require.True(t, found, name)
	_, after, found := strings.Cut(rest, "\n<!-- end -->")
	require.True(t, found, name)
	text := before + start + strings.Join(want, "\n") + "\n<!-- end -->" + after
	require.NoError(t, os.WriteFile(page, []byte(text), 0o600))
}

// documents returns one document for each product.
func documents(t *testing.T) []*openapi3.T {
	t.Helper()
	var found []*openapi3.T
	for _, name := range []string{"gpdb.yaml", "apig.yaml", "audit.yaml", "ram.yaml", "sts.yaml", "resourcemanager.yaml"} {
		document, err := api.LoadDocument(openapi.Files, name)
		require.NoError(t, err)
		found = append(found, document)
	}
	return found
}

// operations returns the operations of all products, those of each in the order of their names.
func operations(t *testing.T) []*openapi3.Operation {
	t.Helper()
	var found []*openapi3.Operation
	for _, document := range documents(t) {
		named := map[string]*openapi3.Operation{}
		for _, item := range document.Paths.Map() {
			for _, operation := range item.Operations() {
				require.NotContains(t, named, operation.OperationID)
				named[operation.OperationID] = operation
			}
		}
		for _, name := range slices.Sorted(maps.Keys(named)) {
			found = append(found, named[name])
		}
	}
	return found
}

// parts visits every member of a request's body, with its path.
func parts(operation *openapi3.Operation, visit func(path string, schema *openapi3.Schema)) {
	if operation.RequestBody == nil {
		return
	}
	var walk func(schema *openapi3.Schema, at string)
	walk = func(schema *openapi3.Schema, at string) {
		for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
			visit(at+name, schema.Properties[name].Value)
			walk(schema.Properties[name].Value, at+name+".")
		}
		if schema.Items != nil {
			walk(schema.Items.Value, at)
		}
	}
	walk(operation.RequestBody.Value.Content.Get("application/json").Schema.Value, "")
}

// refused returns what an operation refuses of the original: parameters, and values of parameters.
func refused(t *testing.T, operation *openapi3.Operation) []string {
	t.Helper()
	marked, _ := operation.Extensions["x-refused"].(map[string]any)
	list := slices.Sorted(maps.Keys(marked))
	for i, name := range list {
		list[i] = "`" + name + "`"
	}
	parts(operation, func(path string, schema *openapi3.Schema) {
		values, _ := schema.Extensions["x-unsupported"].([]any)
		for _, value := range values {
			text, err := json.Marshal(value)
			require.NoError(t, err)
			list = append(list, "`"+path+"`: `"+strings.ReplaceAll(string(text), `"`, "")+"`")
		}
	})
	return list
}

// ineffective returns the parameters that an operation accepts and ignores.
func ineffective(operation *openapi3.Operation) []string {
	var names []string
	ignored, _ := operation.Extensions["x-ignored"].([]any)
	for _, name := range ignored {
		names = append(names, name.(string))
	}
	parts(operation, func(path string, schema *openapi3.Schema) {
		switch schema.Extensions["x-no-effect"] {
		case true:
			names = append(names, path)
		case "kept":
			names = append(names, path+"` (kept)")
		}
	})
	slices.Sort(names)
	for i, name := range names {
		names[i] = "`" + name
		if !strings.HasSuffix(name, ")") {
			names[i] += "`"
		}
	}
	return names
}

func quoted(names []string) string { return "`" + strings.Join(names, "`, `") + "`" }

func TestPermissionsAreThoseOfTheDocument(t *testing.T) {
	t.Parallel()
	want := []string{"| operation | action | level | resource |", "|---|---|---|---|"}
	for _, operation := range operations(t) {
		ram := operation.Extensions["x-ram"].(map[string]any)
		resource := ram["resource"]
		if resource != "*" {
			resource = ram["arn"]
		}
		want = append(want, fmt.Sprintf("| %s | %s | %s | `%s` |", operation.OperationID, ram["action"], ram["level"], resource))
	}
	keep(t, compatibility, "permissions", want)
}

// Every operation of the original says what it supports, and the marks on its parameters say the same.
func TestOperationsAreListedWithWhatTheySupport(t *testing.T) {
	t.Parallel()
	want := []string{"| operation | support | refused | accepted, no effect |", "|---|---|---|---|"}
	for _, operation := range operations(t) {
		support, marked := operation.Extensions["x-support"].(string)
		not, without := refused(t, operation), ineffective(operation)
		if operation.Extensions["x-extension"] == true {
			require.False(t, marked, "%s is ours: it has no x-support", operation.OperationID)
			support = "supported (extension)"
		} else {
			whole := len(not) == 0 && len(without) == 0
			require.Equal(t, map[bool]string{true: "supported", false: "partial"}[whole], support,
				"the x-support of %s, of which is refused: %v, and without effect: %v", operation.OperationID, not, without)
		}
		want = append(want, fmt.Sprintf("| %s | %s | %s | %s |", operation.OperationID, support, strings.Join(not, ", "), strings.Join(without, ", ")))
	}
	keep(t, compatibility, "operations", want)
}

func TestExtensionsAreListed(t *testing.T) {
	t.Parallel()
	var want []string
	for _, document := range documents(t) {
		for schema, ref := range document.Components.Schemas {
			for name, property := range ref.Value.Properties {
				if property.Value.Extensions["x-extension"] == true {
					want = append(want, "- `"+schema+"."+name+"`")
				}
			}
		}
	}
	for _, operation := range operations(t) {
		if operation.Extensions["x-extension"] == true {
			want = append(want, "- operation `"+operation.OperationID+"`")
		}
		optional, _ := operation.Extensions["x-ram"].(map[string]any)["optional"].([]any)
		for _, action := range optional {
			want = append(want, fmt.Sprintf("- action `%s`", action))
		}
	}
	slices.Sort(want)
	keep(t, compatibility, "extensions", want)
}

func TestEngineArgumentsAreListed(t *testing.T) {
	t.Parallel()
	var names []string
	for _, argument := range vllm.Arguments() {
		names = append(names, argument.Name)
	}
	require.Equal(t, quoted(names)+".", strings.Join(table(t, compatibility, "arguments"), " "))
}
