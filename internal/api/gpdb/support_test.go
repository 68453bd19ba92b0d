package gpdb_test

import (
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/modelservice"
)

// What the document marks as without effect changes nothing: docs/compatibility.md is made of it.
func TestIgnoredParametersChangeNothing(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	each(t, func(t *testing.T, op *openapi3.Operation, example object) {
		if _, ok := example["DBInstanceId"]; ok {
			example["DBInstanceId"] = instanceA
		}
		delete(example, "ClientToken")
		schema := op.RequestBody.Value.Content.Get("application/json").Schema.Value
		call := func() []any {
			d.spec, d.made, d.filter, d.page = modelservice.Spec{}, instance.Spec{}, instance.Filter{}, instance.Page{}
			a := s.RPC(apitest.RootKey, op.OperationID, apitest.Encode(schema, example))
			require.Equal(t, 200, a.Status, a.Body)
			delete(a.Body, "RequestId")
			return []any{a.Body, d.spec, d.made, d.filter, d.page}
		}
		var marked []string
		for name, property := range schema.Properties {
			if property.Value.Extensions["x-no-effect"] == true {
				require.NotNil(t, property.Value.Example, name)
				example[name] = property.Value.Example
				marked = append(marked, name)
			}
		}
		full := call()
		for _, name := range marked {
			delete(example, name)
		}
		require.Equal(t, full, call(), "without %v", marked)
		require.Equal(t, len(marked) > 0, op.Extensions["x-support"] == "partial")
	})
}
