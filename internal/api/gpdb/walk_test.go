package gpdb_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/api/gpdb"
	"github.com/engineshed/engineshed/openapi"
)

// each walks every operation of the document, with the example of its request.
func each(t *testing.T, visit func(t *testing.T, op *openapi3.Operation, example object)) {
	t.Helper()
	document, err := api.LoadDocument(openapi.Files, "gpdb.yaml")
	require.NoError(t, err)
	for path, item := range document.Paths.Map() {
		t.Run(strings.TrimPrefix(path, "/"), func(t *testing.T) {
			example, ok := item.Post.RequestBody.Value.Content.Get("application/json").Example.(object)
			require.True(t, ok, "a request has an example")
			visit(t, item.Post, maps.Clone(example))
		})
	}
}

func TestEveryOperationIsCompletelyDescribed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, op *openapi3.Operation, _ object) {
		require.NotEmpty(t, op.Summary)
		require.Contains(t, op.Extensions, "x-ram")
		require.Contains(t, op.Extensions, "x-errors")
		request := op.RequestBody.Value.Content.Get("application/json").Schema
		require.Equal(t, "#/components/schemas/"+op.OperationID+"Request", request.Ref)
		require.NotNil(t, request.Value.AdditionalProperties.Has)
		require.False(t, *request.Value.AdditionalProperties.Has)
		_, takesToken := request.Value.Properties["ClientToken"]
		require.Equal(t, takesToken, op.Extensions["x-client-token"] == true)
		for name, property := range request.Value.Properties {
			require.NotEmpty(t, property.Value.Description, name)
			_, rendered := property.Value.Extensions["x-rendering"]
			require.Equal(t, property.Value.Type.Is("array") || property.Value.Type.Is("object"), rendered, name)
		}
		success := op.Responses.Status(http.StatusOK).Value.Content.Get("application/json")
		require.Contains(t, success.Schema.Value.Required, "RequestId")
		require.NotNil(t, success.Example)
		require.NotNil(t, op.Responses.Default())
		require.Len(t, op.Responses.Map(), 2, "errors are the default response only")
	})
}

func TestEveryOperationRefusesAnUnsignedCall(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	each(t, func(t *testing.T, op *openapi3.Operation, example object) {
		params := apitest.Encode(op.RequestBody.Value.Content.Get("application/json").Schema.Value, example)
		params.Set("Action", op.OperationID)
		params.Set("Version", "2016-05-03")
		for name, r := range map[string]*http.Request{
			"direct": s.Request(http.MethodPost, "/"+op.OperationID, nil),
			"RPC":    s.Request(http.MethodPost, "/?"+params.Encode(), nil),
		} {
			r.Header.Set("x-acs-action", op.OperationID)
			r.Header.Set("x-acs-version", "2016-05-03")
			a := s.Send(r)
			require.Contains(t, []int{400, 401, 403}, a.Status, name)
			require.Equal(t, "MissingParameter", a.Code, name)
		}
		r := s.Request(http.MethodPost, "/"+op.OperationID, nil)
		r.Header.Set("Authorization", "Bearer x")
		require.Equal(t, "UnsupportedSignature", s.Send(r).Code)
	})
}

func TestEveryOperationAnswersAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	each(t, func(t *testing.T, op *openapi3.Operation, example object) {
		if _, ok := example["DBInstanceId"]; ok {
			example["DBInstanceId"] = instanceA
		}
		schema := op.RequestBody.Value.Content.Get("application/json").Schema.Value
		answers := op.Responses.Status(http.StatusOK).Value.Content.Get("application/json").Schema.Value
		direct := s.JSON(apitest.RootKey, op.OperationID, example)
		rpc := s.RPC(apitest.RootKey, op.OperationID, apitest.Encode(schema, example))
		for name, a := range map[string]apitest.Answer{"direct": direct, "RPC": rpc} {
			require.Equal(t, 200, a.Status, "%s: %v", name, a.Body)
			require.NoError(t, answers.VisitJSON(a.Body, openapi3.VisitAsResponse()), name)
			require.Equal(t, a.Header.Get("x-acs-request-id"), a.Body["RequestId"], name)
			for member := range a.Body {
				require.Contains(t, answers.Properties, member, name)
			}
			delete(a.Body, "RequestId")
		}
		require.Equal(t, direct.Body, rpc.Body)
	})
}

// Whoever may do everything in an account learns nothing about another: its ids answer as ids that do not exist, and
// as what cannot be an id at all. Whoever may do nothing gets the same denial for each.
func TestAStrangersIDAnswersAsAnUnknownOne(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	s.Users(map[string]string{
		"all":  `{"Version":"1","Statement":[{"Effect":"Allow","Action":"gpdb:*","Resource":"*"}]}`,
		"none": `{"Version":"1","Statement":[{"Effect":"Deny","Action":"gpdb:*","Resource":"*"}]}`,
	})
	covered := []string{"DBInstanceId", "ModelServiceId", "AINodePoolId", "ApiKeyId"} // an id that is in neither list fails the test
	unused := []string{
		"RegionId", "ResourceGroupId", "NewResourceGroupId", "OwnerId", "ResourceOwnerId", "BackupId", "ZoneId", "StandbyZoneId", "VPCId", "VpcId", "VSwitchId", "StandbyVSwitchId",
	}
	each(t, func(t *testing.T, op *openapi3.Operation, example object) {
		for name := range op.RequestBody.Value.Content.Get("application/json").Schema.Value.Properties {
			if strings.HasSuffix(name, "Id") {
				require.Contains(t, slices.Concat(covered, unused), name)
			}
		}
		if _, ok := example["DBInstanceId"]; !ok {
			return
		}
		ask := func(keyID, id string) []any {
			example["DBInstanceId"] = id
			a := s.JSON(keyID, op.OperationID, example)
			return []any{a.Status, a.Code}
		}
		notFound, denied := []any{404, "InvalidDBInstanceId.NotFound"}, []any{403, "Forbidden.RAM"}
		for _, id := range []string{"gp-cccccccccccccccccccc", "gp-short", "ms-aaaaaaaaaaaaaaaaaaaa", instanceA + "/x", "*", "gp-AAAAAAAAAAAAAAAAAAAA"} {
			require.Equal(t, notFound, ask(apitest.RootKey, id), id)
			require.Equal(t, notFound, ask(apitest.KeyOf("all"), id), id)
			require.Equal(t, denied, ask(apitest.KeyOf("none"), id), id)
		}
		require.Equal(t, notFound, ask(apitest.NeighbourKey, instanceA), "the instance of another account")
		require.Equal(t, denied, ask(apitest.KeyOf("none"), instanceA))
	})
}

func TestADomainRefusalReachesTheCaller(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	d.err = errBound
	a := s.JSON(apitest.RootKey, "CreateModelService", object{"DBInstanceId": instanceA, "ModelName": "m", "AiNodes": []string{"a"}})
	require.Equal(t, []any{409, "OperationDenied.AiNodeBound", "The AI node is used. Do something else.", "Do something else."},
		[]any{a.Status, a.Code, a.Body["Message"], a.Body["Recommend"]})
}

func TestBadInputIsRefusedAtTheEdge(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	for name, c := range map[string]struct {
		with object
		says string
	}{
		"no nodes":         {object{"AiNodes": []string{}}, "AiNodes"},
		"repeated nodes":   {object{"AiNodes": []string{"a", "a"}}, "AiNodes"},
		"no replicas":      {object{"Replicas": 0}, "Replicas"},
		"minus one":        {object{"Replicas": -1}, "Replicas"},
		"a billion":        {object{"Replicas": 1000000000}, "at most 1000"},
		"another engine":   {object{"InferenceEngine": "sglang"}, "InferenceEngine"},
		"params, a string": {object{"ModelParams": "--middleware x"}, "ModelParams"},
		"public, a string": {object{"EnablePublicConnection": "yes"}, "EnablePublicConnection"},
		"unknown":          {object{"Gpus": 1}, "Gpus"},
	} {
		params := object{"DBInstanceId": instanceA, "ModelName": "m", "AiNodes": []string{"a"}}
		maps.Copy(params, c.with)
		a := s.JSON(apitest.RootKey, "CreateModelService", params)
		require.Equal(t, []any{400, "InvalidParameter"}, []any{a.Status, a.Code}, name)
		require.Contains(t, a.Body["Message"], c.says, name)
	}
	a := s.RPC(apitest.RootKey, "CreateDBInstance", url.Values{
		"RegionId": {apitest.Region}, "AINodeSpecInfos.1.AINodeSpec": {"s"}, "AINodeSpecInfos.1.AINodeNum": {"0"},
	})
	require.Contains(t, a.Body["Message"], "The parameter AINodeSpecInfos.1.AINodeNum is not valid: it takes a whole number from 1 to 999.")
	require.Empty(t, d.spec.DBInstanceID, "nothing of it reached the domain")
}

func TestModelsAreNeverNull(t *testing.T) {
	t.Parallel()
	product, err := gpdb.Product(gpdb.Config{Models: func() []string { return nil }, Region: apitest.Region})
	require.NoError(t, err)
	a := apitest.New(t, product).JSON(apitest.RootKey, "ListSupportModels", object{})
	require.Equal(t, object{"modelNames": []any{}}, a.Body["ModelNames"])
}
