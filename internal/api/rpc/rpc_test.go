package rpc_test

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/api/rpc"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/openapi"
)

// schemas returns the parameters of every operation.
func schemas(t testing.TB) map[string]*openapi3.Schema {
	t.Helper()
	document, err := api.LoadDocument(openapi.Files, "gpdb.yaml")
	require.NoError(t, err)
	found := map[string]*openapi3.Schema{}
	for _, item := range document.Paths.Map() {
		found[item.Post.OperationID] = item.Post.RequestBody.Value.Content.Get("application/json").Schema.Value
	}
	return found
}

func TestDecode(t *testing.T) {
	t.Parallel()
	type object = map[string]any
	operations := schemas(t)
	for name, c := range map[string]struct {
		operation string
		query     string
		want      object
		refused   string // the parameter named in the refusal
	}{
		"strings and numbers":         {"CreateModelService", "ModelName=m&Replicas=2&Description=", object{"ModelName": "m", "Replicas": int64(2), "Description": ""}, ""},
		"an unknown parameter":        {"CreateModelService", "ModelName=m&Unheard=1&Unheard.1.x=1", object{"ModelName": "m"}, ""},
		"another spelling":            {"CreateModelService", "modelname=m", object{}, ""},
		"booleans":                    {"CreateModelService", "EnablePublicConnection=true", object{"EnablePublicConnection": true}, ""},
		"a Python boolean":            {"CreateModelService", "EnablePublicConnection=False", object{"EnablePublicConnection": false}, ""},
		"no boolean":                  {"CreateModelService", "EnablePublicConnection=1", nil, "EnablePublicConnection"},
		"an exponent":                 {"CreateModelService", "Replicas=1e2", nil, "Replicas"},
		"a sign":                      {"CreateModelService", "Replicas=%2B1", nil, "Replicas"},
		"a leading zero":              {"CreateModelService", "Replicas=01", nil, "Replicas"},
		"a fraction":                  {"CreateModelService", "Replicas=1.0", nil, "Replicas"},
		"spaces":                      {"CreateModelService", "Replicas=+1", nil, "Replicas"},
		"an empty number":             {"CreateModelService", "Replicas=", nil, "Replicas"},
		"a number beyond 64 bits":     {"CreateModelService", "Replicas=99999999999999999999", nil, "Replicas"},
		"negative zero":               {"CreateModelService", "Replicas=-0", nil, "Replicas"},
		"a negative number":           {"CreateModelService", "Replicas=-1", object{"Replicas": int64(-1)}, ""},
		"json":                        {"CreateModelService", `AiNodes=["a","b"]&ModelParams={"x":1}`, object{"AiNodes": []any{"a", "b"}, "ModelParams": object{"x": int64(1)}}, ""},
		"json, flattened":             {"CreateModelService", "AiNodes.1=a&AiNodes.2=b", object{"AiNodes": []any{"a", "b"}}, ""},
		"json, empty list":            {"CreateModelService", "AiNodes=[]", object{"AiNodes": []any{}}, ""},
		"json, empty":                 {"CreateModelService", "AiNodes=", nil, "AiNodes"},
		"json, broken":                {"CreateModelService", `AiNodes=["a"`, nil, "AiNodes"},
		"json, duplicate member":      {"CreateModelService", `ModelParams={"x":1,"x":2}`, nil, "ModelParams"},
		"json and flattened":          {"CreateModelService", `AiNodes=["a"]&AiNodes.1=a`, nil, "AiNodes"},
		"a gap":                       {"CreateModelService", "AiNodes.1=a&AiNodes.3=b", nil, "AiNodes.3"},
		"from zero":                   {"CreateModelService", "AiNodes.0=a", nil, "AiNodes.0"},
		"not from one":                {"CreateModelService", "AiNodes.2=a", nil, "AiNodes.2"},
		"a huge index":                {"CreateModelService", "AiNodes.1000000000=a", nil, "AiNodes.1000000000"},
		"an index beyond the limit":   {"CreateModelService", "AiNodes.1001=a", nil, "AiNodes.1001"},
		"an index with a zero":        {"CreateModelService", "AiNodes.01=a", nil, "AiNodes.01"},
		"an index that is a word":     {"CreateModelService", "AiNodes.one=a", nil, "AiNodes.one"},
		"an empty index":              {"CreateModelService", "AiNodes.=a", nil, "AiNodes."},
		"a field of a string":         {"CreateModelService", "AiNodes.1.x=a", nil, "AiNodes.1"},
		"an index of a string":        {"CreateModelService", "ModelName.1=m", nil, "ModelName"},
		"repeated":                    {"CreateDBInstance", "Tag.1.Key=a&Tag.1.Value=b&Tag.2.Key=c", object{"Tag": []any{object{"Key": "a", "Value": "b"}, object{"Key": "c"}}}, ""},
		"repeated as json":            {"CreateDBInstance", `Tag=[{"Key":"a"}]`, object{"Tag": []any{object{"Key": "a"}}}, ""},
		"repeated, an unknown field":  {"CreateDBInstance", "Tag.1.Key=a&Tag.1.Scope=x", object{"Tag": []any{object{"Key": "a"}}}, ""},
		"repeated, no field":          {"CreateDBInstance", "Tag.1=x", nil, "Tag.1"},
		"repeated, value and fields":  {"CreateDBInstance", "Tag.1={}&Tag.1.Key=a", nil, "Tag.1"},
		"simple":                      {"DescribeDBInstances", "DBInstanceStatuses=a,b", object{"DBInstanceStatuses": []any{"a", "b"}}, ""},
		"simple, empty":               {"DescribeDBInstances", "DBInstanceStatuses=", object{"DBInstanceStatuses": []any{}}, ""},
		"simple, numbers":             {"DescribeModelOperatorUsage", "ApiKeyIds=1,2", object{"ApiKeyIds": []any{int64(1), int64(2)}}, ""},
		"simple, no number":           {"DescribeModelOperatorUsage", "ApiKeyIds=1,two", nil, "ApiKeyIds"},
		"simple, flattened":           {"DescribeDBInstances", "DBInstanceStatuses.1=a", object{"DBInstanceStatuses": []any{"a"}}, ""},
		"the same parameter twice":    {"CreateModelService", "ModelName=a&ModelName=b", nil, "ModelName"},
		"invalid UTF-8":               {"CreateModelService", "ModelName=%ff", nil, "ModelName"},
		"U+0000":                      {"CreateModelService", "ModelName=%00", nil, "ModelName"},
		"a value that looks like one": {"CreateModelService", "Description=true&ModelName=1", object{"Description": "true", "ModelName": "1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			params, err := url.ParseQuery(strings.NewReplacer(`"`, "%22", "{", "%7B", "}", "%7D").Replace(c.query))
			require.NoError(t, err)
			got, err := rpc.Decode(operations[c.operation], params)
			if c.refused == "" {
				require.NoError(t, err)
				require.Equal(t, c.want, got)
				return
			}
			f, ok := fault.From(err)
			require.True(t, ok, "%v", err)
			require.Equal(t, "InvalidParameter", f.Code)
			require.Contains(t, f.Message, "The parameter "+c.refused+" is not valid: ")
		})
	}
}

func TestAThousandItemsAreTheMost(t *testing.T) {
	t.Parallel()
	schema, params := schemas(t)["CreateModelService"], url.Values{}
	for n := 1; n <= rpc.MaxItems; n++ {
		params.Set("AiNodes."+strconv.Itoa(n), "a")
	}
	got, err := rpc.Decode(schema, params)
	require.NoError(t, err)
	require.Len(t, got["AiNodes"], rpc.MaxItems)
	params.Set("AiNodes."+strconv.Itoa(rpc.MaxItems+1), "a")
	_, err = rpc.Decode(schema, params)
	require.Error(t, err)
}

// What the official SDKs render is what the JSON form says, for every operation.
func TestDecodeOfEncodeIsTheSame(t *testing.T) {
	t.Parallel()
	for name, schema := range schemas(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				object := object(schema).Draw(t, "object")
				decoded, err := rpc.Decode(schema, apitest.Encode(schema, object))
				if err != nil {
					t.Fatalf("decode: %v", err)
				}
				require.Equal(t, object, decoded)
			})
		})
	}
}

// object generates some of the properties of schema, the required ones always.
func object(schema *openapi3.Schema) *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		drawn := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
			if slices.Contains(schema.Required, name) || rapid.Bool().Draw(t, name+"?") {
				drawn[name] = value(schema.Properties[name].Value).Draw(t, name)
			}
		}
		return drawn
	})
}

func value(schema *openapi3.Schema) *rapid.Generator[any] {
	switch {
	case schema.Type.Is("boolean"):
		return rapid.Bool().AsAny()
	case schema.Type.Is("integer"):
		return rapid.Int64().AsAny()
	case schema.Type.Is("array") && schema.Extensions["x-rendering"] == "simple" && schema.Items.Value.Type.Is("string"):
		return items(rapid.StringMatching(`[^,\x00]+`).AsAny())
	case schema.Type.Is("array"):
		return items(value(schema.Items.Value))
	case schema.Type.Is("object") && len(schema.Properties) > 0:
		return object(schema).AsAny()
	case schema.Type.Is("object"):
		return rapid.MapOf(text(), rapid.OneOf(text().AsAny(), rapid.Int64().AsAny(), rapid.Bool().AsAny())).AsAny()
	}
	return text().AsAny()
}

// items are one or more: an empty repeated list leaves no trace in the parameters.
func items(item *rapid.Generator[any]) *rapid.Generator[any] {
	return rapid.SliceOfN(item, 1, 12).AsAny()
}

func text() *rapid.Generator[string] {
	return rapid.String().Filter(func(s string) bool { return !strings.ContainsRune(s, 0) })
}

func FuzzDecode(f *testing.F) {
	operations := schemas(f)
	names := slices.Sorted(maps.Keys(operations))
	f.Add(uint8(0), "Tag.1.Key=a&Tag.2.Key=b&AINodeSpecInfos=%5B%5D")
	f.Add(uint8(1), "AiNodes.1=a&AiNodes.1000000000=b&ModelParams=%7B%7D&Replicas=-1")
	f.Fuzz(func(t *testing.T, operation uint8, query string) {
		params, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		_, err = rpc.Decode(operations[names[int(operation)%len(names)]], params)
		if _, ok := fault.From(err); err != nil && !ok {
			t.Fatalf("the refusal is no fault: %v", err)
		}
	})
}
