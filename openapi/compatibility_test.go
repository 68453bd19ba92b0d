package openapi_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/node/vllm"
	"github.com/engineshed/engineshed/openapi"
)

// page is what users read about how we decided.
func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/compatibility.md")
	require.NoError(t, err)
	return string(text)
}

// table returns a part of the page, without its line breaks.
func table(t *testing.T, name string) []string {
	t.Helper()
	_, rest, found := strings.Cut(page(t), "<!-- table: "+name+" -->\n")
	require.True(t, found, name)
	part, _, found := strings.Cut(rest, "\n<!-- end -->")
	require.True(t, found, name)
	return strings.Split(strings.ReplaceAll(part, "\n  ", " "), "\n")
}

// documents returns one document for each product.
func documents(t *testing.T) []*openapi3.T {
	t.Helper()
	var found []*openapi3.T
	for _, name := range []string{"gpdb.yaml", "apig.yaml"} {
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

// ineffective returns the parameters without effect in the body of an operation.
func ineffective(operation *openapi3.Operation) []string {
	if operation.RequestBody == nil {
		return nil
	}
	var names []string
	var walk func(schema *openapi3.Schema, at string)
	walk = func(schema *openapi3.Schema, at string) {
		for name, property := range schema.Properties {
			if property.Value.Extensions["x-no-effect"] == true {
				names = append(names, at+name)
			}
			walk(property.Value, at+name+".")
		}
		if schema.Items != nil {
			walk(schema.Items.Value, at)
		}
	}
	walk(operation.RequestBody.Value.Content.Get("application/json").Schema.Value, "")
	slices.Sort(names)
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
	require.Equal(t, want, table(t, "permissions"))
}

func TestParametersWithoutEffectAreListed(t *testing.T) {
	t.Parallel()
	var want []string
	for _, operation := range operations(t) {
		if names := ineffective(operation); names != nil {
			want = append(want, "- **"+operation.OperationID+"**: "+quoted(names)+".")
		}
	}
	require.Equal(t, want, table(t, "ineffective"))
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
	require.ElementsMatch(t, want, table(t, "extensions"))
}

func TestEngineArgumentsAreListed(t *testing.T) {
	t.Parallel()
	var names []string
	for _, argument := range vllm.Arguments() {
		names = append(names, argument.Name)
	}
	require.Equal(t, quoted(names)+".", strings.Join(table(t, "arguments"), " "))
}

// statuses are those of internal/api by the kind of a fault.
var statuses = map[string]string{
	"0": "500", "Invalid": "400", "Denied": "403", "NotFound": "404", "MethodNotAllowed": "405", "Conflict": "409",
	"TooLarge": "413", "UnsupportedMedia": "415", "Throttled": "429", "Unavailable": "503",
}

// faults returns the status of every code that the code can answer.
func faults(t *testing.T) map[string]string {
	t.Helper()
	declared := regexp.MustCompile(`\bNew\((?:fault\.)?(\w+),\s*"([A-Za-z.]+)"`)
	found := map[string]string{}
	require.NoError(t, filepath.WalkDir("../internal", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, match := range declared.FindAllStringSubmatch(string(source), -1) {
			if status, isKind := statuses[match[1]]; isKind {
				require.Contains(t, []string{"", status}, found[match[2]], "%s has two statuses", match[2])
				found[match[2]] = status
			}
		}
		return err
	}))
	return found
}

func TestErrorCodesAreListedWithTheirStatus(t *testing.T) {
	t.Parallel()
	var codes []any
	for _, document := range documents(t) {
		codes = append(codes, document.Extensions["x-common-errors"].([]any)...)
	}
	for _, operation := range operations(t) {
		codes = append(codes, operation.Extensions["x-errors"].([]any)...)
	}
	want, raised := map[string]string{}, faults(t)
	for _, code := range codes {
		require.Contains(t, raised, code, "the document promises a code that nothing answers")
		want[code.(string)] = raised[code.(string)]
	}
	listed := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\S+) \| (\d{3}) \| .+ \|$`).FindAllStringSubmatch(page(t), -1) {
		listed[row[1]] = row[2]
	}
	require.Equal(t, want, listed)
}
