package apig_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/openapi"
)

type object = map[string]any

// described is an operation of the document, with a call of it.
type described struct {
	*openapi3.Operation
	method, target string
	body           any // nil: the operation takes none
}

// each walks every operation of the document, called with its examples.
func each(t *testing.T, visit func(t *testing.T, op described)) {
	t.Helper()
	document, err := api.LoadDocument(openapi.Files, "apig.yaml")
	require.NoError(t, err)
	for path, item := range document.Paths.Map() {
		for method, op := range item.Operations() {
			t.Run(op.OperationID, func(t *testing.T) { visit(t, example(t, method, path, op)) })
		}
	}
}

func example(t *testing.T, method, path string, op *openapi3.Operation) described {
	t.Helper()
	query := url.Values{}
	for _, parameter := range op.Parameters {
		value := schemaOf(parameter.Value).Example
		require.NotNil(t, value, "%s has an example", parameter.Value.Name)
		if parameter.Value.In == openapi3.ParameterInPath {
			path = strings.ReplaceAll(path, "{"+parameter.Value.Name+"}", value.(string))
			continue
		}
		if parameter.Value.Content != nil {
			text, err := json.Marshal(value)
			require.NoError(t, err)
			query.Set(parameter.Value.Name, string(text))
			continue
		}
		if number, ok := value.(float64); ok {
			value = strconv.FormatFloat(number, 'f', -1, 64)
		}
		query.Set(parameter.Value.Name, strings.Trim(strings.ReplaceAll(fmt.Sprint(value), " ", ","), "[]"))
	}
	d := described{Operation: op, method: method, target: path}
	if len(query) > 0 {
		d.target += "?" + query.Encode()
	}
	if op.RequestBody != nil {
		d.body = op.RequestBody.Value.Content.Get("application/json").Example
		require.IsType(t, object{}, d.body)
	}
	return d
}

// schemaOf is the schema of a parameter, which travels as text or as JSON.
func schemaOf(parameter *openapi3.Parameter) *openapi3.Schema {
	if content := parameter.Content.Get("application/json"); content != nil {
		return content.Schema.Value
	}
	return parameter.Schema.Value
}

func TestEveryOperationIsCompletelyDescribed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, op described) {
		require.NotEmpty(t, op.Summary)
		require.Contains(t, op.Extensions, "x-ram")
		require.Contains(t, op.Extensions, "x-errors")
		token := op.Parameters.GetByInAndName("query", "clientToken")
		require.Equal(t, token != nil, op.Extensions["x-client-token"] == true)
		for _, parameter := range op.Parameters {
			require.NotEmpty(t, parameter.Value.Description, parameter.Value.Name)
			if schema := schemaOf(parameter.Value); schema.Type.Is("array") && parameter.Value.Content == nil {
				require.Equal(t, "simple", schema.Extensions["x-rendering"], parameter.Value.Name)
				require.False(t, *parameter.Value.Explode, parameter.Value.Name)
			}
		}
		if op.RequestBody != nil {
			for name, property := range op.RequestBody.Value.Content.Get("application/json").Schema.Value.Properties {
				require.NotEmpty(t, property.Value.Description, name)
			}
		}
		if success := op.Responses.Status(http.StatusOK).Value.Content; success["text/event-stream"] == nil {
			require.NotNil(t, success.Get("application/json").Example)
		} else {
			require.NotEmpty(t, success["text/event-stream"].Schema.Value.Properties, "the events by their names")
		}
		require.NotNil(t, op.Responses.Default())
		require.Len(t, op.Responses.Map(), 2, "errors are the default response only")
	})
}

func TestEveryOperationRefusesAnUnsignedCall(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	each(t, func(t *testing.T, op described) {
		r := s.Request(op.method, op.target, nil)
		r.Header.Set("x-acs-action", op.OperationID)
		r.Header.Set("x-acs-version", "2024-03-27")
		a := s.Send(r)
		require.Equal(t, []any{400, "MissingParameter", "MissingParameter"}, []any{a.Status, a.Code, a.Body["code"]})
	})
}

func TestEveryOperationAnswersAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	each(t, func(t *testing.T, op described) {
		a := s.Call(apitest.RootKey, op.OperationID, op.method, op.target, op.body)
		require.Equal(t, 200, a.Status, a.Body)
		if stream := op.Responses.Status(http.StatusOK).Value.Content["text/event-stream"]; stream != nil {
			requireEvents(t, stream.Schema.Value, a)
			return
		}
		answers := op.Responses.Status(http.StatusOK).Value.Content.Get("application/json").Schema.Value
		require.NoError(t, answers.VisitJSON(a.Body, openapi3.VisitAsResponse()))
		requireDeclared(t, answers, a.Body, "")
		require.Equal(t, []any{"Ok", "success", a.Header.Get("x-acs-request-id")}, []any{a.Body["code"], a.Body["message"], a.Body["requestId"]})
	})
}

// requireEvents holds if every event is as the document says of the member of its name.
func requireEvents(t *testing.T, schema *openapi3.Schema, a apitest.Answer) {
	t.Helper()
	require.NotEmpty(t, a.Events)
	require.NotEmpty(t, a.Header.Get("x-acs-request-id"))
	for _, event := range a.Events {
		require.Contains(t, schema.Properties, event.Name)
		require.NoError(t, schema.Properties[event.Name].Value.VisitJSON(event.Data, openapi3.VisitAsResponse()))
		requireDeclared(t, schema.Properties[event.Name].Value, event.Data, event.Name)
	}
}

// requireDeclared holds if the document declares every member of an answer.
func requireDeclared(t *testing.T, schema *openapi3.Schema, value any, at string) {
	t.Helper()
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			requireDeclared(t, schema.Items.Value, item, at+"[]")
		}
	case object:
		declared := maps.Clone(schema.Properties)
		for _, part := range schema.AllOf {
			if declared == nil {
				declared = openapi3.Schemas{}
			}
			maps.Copy(declared, part.Value.Properties)
		}
		for name, member := range value {
			require.Contains(t, declared, name, at)
			requireDeclared(t, declared[name].Value, member, at+"."+name)
		}
	}
}

// Whoever may do everything in an account learns nothing about another: its ids answer as ids that do not exist, and
// as what cannot be an id at all. Whoever may do nothing gets the same denial for each.
func TestAStrangersIDAnswersAsAnUnknownOne(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	s.Users(map[string]string{
		"all":  `{"Version":"1","Statement":[{"Effect":"Allow","Action":"apig:*","Resource":"*"}]}`,
		"none": `{"Version":"1","Statement":[{"Effect":"Deny","Action":"apig:*","Resource":"*"}]}`,
	})
	covered := []string{ // an id of a path that is not in the list fails the test
		"httpApiId", "routeId", "gatewayId", "environmentId", "domainId", "serviceId", "consumerId", "consumerGroupId",
		"consumerAuthorizationRuleId", "revisionId",
	}
	each(t, func(t *testing.T, op described) {
		for _, parameter := range op.Parameters {
			if parameter.Value.In != openapi3.ParameterInPath {
				continue
			}
			require.Contains(t, covered, parameter.Value.Name)
			known := parameter.Value.Schema.Value.Example.(string)
			ask := func(keyID, id string) []any {
				target := strings.Replace(op.target, known, url.PathEscape(id), 1)
				a := s.Call(keyID, op.OperationID, op.method, target, op.body)
				return []any{a.Status, a.Code}
			}
			stranger := ask(apitest.NeighbourKey, known)
			require.Equal(t, 404, stranger[0])
			require.Contains(t, op.Extensions["x-errors"], stranger[1])
			for _, id := range []string{"gp-cccccccccccccccccccc", "short", strings.ToUpper(known), "a b", "%61", known + "x"} {
				require.Equal(t, stranger, ask(apitest.RootKey, id), id)
				require.Equal(t, stranger, ask(apitest.KeyOf("all"), id), id)
				require.Equal(t, []any{403, "NoPermission"}, ask(apitest.KeyOf("none"), id), id)
			}
			require.Equal(t, []any{403, "NoPermission"}, ask(apitest.KeyOf("none"), known))
		}
	})
}

// A statement about one resource allows that one and no other, on every operation that names one.
func TestAStatementForOneResourceIsForThatOne(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	var resources []string
	each(t, func(t *testing.T, op described) {
		arn, _ := op.Extensions["x-ram"].(object)["arn"].(string)
		if kind, parameter, ok := strings.Cut(strings.TrimPrefix(arn, "acs:apig:{region}:{account}:"), "/{"); ok {
			id := op.Parameters.GetByInAndName("path", strings.TrimSuffix(parameter, "}")).Schema.Value.Example
			resources = append(resources, fmt.Sprintf(`"acs:apig:*:%s:%s/%s"`, apitest.Account, kind, id))
		}
	})
	slices.Sort(resources)
	resources = slices.Compact(resources)
	require.Len(t, resources, 7)
	s.Users(map[string]string{
		"one": `{"Version":"1","Statement":[{"Effect":"Allow","Action":"apig:*","Resource":[` + strings.Join(resources, ",") + `]}]}`,
	})
	each(t, func(t *testing.T, op described) {
		arn, _ := op.Extensions["x-ram"].(object)["arn"].(string)
		named := strings.HasSuffix(arn, "}")
		a := s.Call(apitest.KeyOf("one"), op.OperationID, op.method, op.target, op.body)
		require.Equal(t, named, a.Status == 200, a.Body)
		if !named {
			require.Equal(t, []any{403, "NoPermission"}, []any{a.Status, a.Code})
			return
		}
		other := strings.Replace(op.target, body, "-1123456789abcdefghij", 1)
		require.Equal(t, 403, s.Call(apitest.KeyOf("one"), op.OperationID, op.method, other, op.body).Status)
	})
}
