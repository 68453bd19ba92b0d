package apig_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/aiservice"
	"github.com/engineshed/engineshed/internal/api/apig"
	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/ingress"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/modelapi"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/secret"
)

// What the document says of the parameters of the original is what happens: docs/compatibility.md is made of it.

// with returns the call with one more parameter, in the query.
func (d described) with(name, value string) string {
	separator := "?"
	if strings.Contains(d.target, "?") {
		separator = "&"
	}
	return d.target + separator + name + "=" + value
}

// withMember returns the body with one more member.
func (d described) withMember(name string, value any) object {
	body := maps.Clone(d.body.(object))
	body[name] = value
	return body
}

func TestRefusedParametersAreRefused(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	each(t, func(t *testing.T, op described) {
		refused, _ := op.Extensions["x-refused"].(object)
		for name, reason := range refused {
			requireRefused := func(a apitest.Answer) {
				require.Equal(t, []any{400, "UnsupportedParameter"}, []any{a.Status, a.Code}, name)
				require.Equal(t, fmt.Sprintf("The parameter %s is not supported: %s.", name, reason), a.Body["message"])
				require.Nil(t, d.asked, "nothing of it reached the domain")
			}
			requireTaken := func(a apitest.Answer, value any) {
				require.Equal(t, 200, a.Status, "%s = %v asks for nothing: %v", name, value, a.Body)
				d.asked = nil
			}
			d.asked = nil
			for _, value := range []string{"true", "x", "1", "%7B%22enable%22%3Atrue%7D", "%5B%22x%22%5D"} {
				requireRefused(s.Call(apitest.RootKey, op.OperationID, op.method, op.with(name, value), op.body))
			}
			requireRefused(s.Call(apitest.RootKey, op.OperationID, op.method, op.with(name+".1", "x"), op.body))
			for _, value := range []string{"", "false", "False", "0", "%5B%5D"} {
				requireTaken(s.Call(apitest.RootKey, op.OperationID, op.method, op.with(name, value), op.body), value)
			}
			if op.body == nil {
				continue
			}
			for _, value := range []any{true, "x", 1, object{"enable": true}, []any{object{"type": "x"}}} {
				requireRefused(s.Call(apitest.RootKey, op.OperationID, op.method, op.target, op.withMember(name, value)))
			}
			taken := []any{nil, object{"enable": false}, []any{}} // if the document declares no other type
			declared := op.RequestBody.Value.Content.Get("application/json").Schema.Value.Properties[name]
			if declared != nil {
				require.True(t, declared.Value.Type.Is("boolean"), "add a value that asks for nothing")
				taken = []any{nil, false}
			}
			for _, value := range taken {
				requireTaken(s.Call(apitest.RootKey, op.OperationID, op.method, op.target, op.withMember(name, value)), value)
			}
		}
	})
}

func TestIgnoredParametersChangeNothing(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	each(t, func(t *testing.T, op described) {
		call := func(target string, body any) []any {
			d.asked = nil
			a := s.Call(apitest.RootKey, op.OperationID, op.method, target, body)
			require.Equal(t, 200, a.Status, "%s: %v", target, a.Body)
			delete(a.Body, "requestId")
			delete(a.Body, "RequestId")
			return []any{a.Body, d.asked}
		}
		plain := call(op.target, op.body)
		ignored, _ := op.Extensions["x-ignored"].([]any)
		for _, mark := range ignored {
			name := mark.(string)
			require.Nil(t, op.Parameters.GetByInAndName("query", name), "%s is declared", name)
			require.Equal(t, plain, call(op.with(name, "x"), op.body), name)
			if op.body != nil {
				require.Nil(t, op.RequestBody.Value.Content.Get("application/json").Schema.Value.Properties[name], "%s is declared", name)
				require.Equal(t, plain, call(op.target, op.withMember(name, object{"a": []any{"b"}})), name)
			}
		}
		if op.body == nil {
			return
		}
		schema := op.RequestBody.Value.Content.Get("application/json").Schema.Value
		full := clone(t, op.body).(object)
		for name, property := range schema.Properties {
			if _, there := full[name]; !there && property.Value.Extensions["x-no-effect"] == true {
				full[name] = property.Value.Example
			}
		}
		require.Equal(t, plain, call(op.target, full))
		marked(schema, full, other)
		require.Equal(t, plain, call(op.target, full), "with other values")
		stripped := marked(schema, full, func(members object, name string) { delete(members, name) })
		require.Subset(t, stripped, ineffective(schema), "the example has those that lie deeper")
		require.Equal(t, plain, call(op.target, full), "without %v", stripped)
	})
}

// ineffective returns the names of the members that the document marks as without effect.
func ineffective(schema *openapi3.Schema) (names []string) {
	for name, property := range schema.Properties {
		if property.Value.Extensions["x-no-effect"] == true {
			names = append(names, name)
		}
		names = append(names, ineffective(property.Value)...)
	}
	if schema.Items != nil {
		names = append(names, ineffective(schema.Items.Value)...)
	}
	return names
}

func clone(t *testing.T, value any) any {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	var copied any
	require.NoError(t, json.Unmarshal(text, &copied))
	return copied
}

// marked changes the members without effect in value and returns their names.
func marked(schema *openapi3.Schema, value any, change func(members object, name string)) (names []string) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			names = append(names, marked(schema.Items.Value, item, change)...)
		}
	case object:
		for _, name := range slices.Collect(maps.Keys(value)) {
			property := schema.Properties[name]
			switch {
			case property == nil:
			case property.Value.Extensions["x-no-effect"] == true:
				change(value, name)
				names = append(names, name)
			default:
				names = append(names, marked(property.Value, value[name], change)...)
			}
		}
	}
	return names
}

// other gives a member another value of its type.
func other(members object, name string) {
	switch value := members[name].(type) {
	case bool:
		members[name] = !value
	case string:
		members[name] = value + "x"
	case float64:
		members[name] = value + 1
	}
}

// Every operation of the original says how much of it is served, and its parameters bear it out.
func TestEveryOperationSaysWhatItSupports(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, op described) {
		refused, _ := op.Extensions["x-refused"].(object)
		ignored, _ := op.Extensions["x-ignored"].([]any)
		for name, reason := range refused {
			require.NotContains(t, ignored, name)
			require.NotRegexp(t, `[.:]$`, reason, name)
		}
		require.True(t, slices.IsSortedFunc(ignored, func(a, b any) int { return strings.Compare(a.(string), b.(string)) }), "in order")
	})
}

// unsupported visits every member of a schema that marks values as unsupported, with its path and one of them.
func unsupported(schema *openapi3.Schema, path []string, visit func(path []string, value any)) {
	values, _ := schema.Extensions["x-unsupported"].([]any)
	for _, value := range values {
		visit(path, value)
	}
	if schema.Items != nil {
		unsupported(schema.Items.Value, append(slices.Clone(path), "0"), visit)
	}
	for name, property := range schema.Properties {
		unsupported(property.Value, append(slices.Clone(path), name), visit)
	}
}

// put sets the member at the path, and makes what lies above it.
func put(at any, path []string, value any) any {
	if len(path) == 0 {
		return value
	}
	if path[0] == "0" {
		list, _ := at.([]any)
		if len(list) == 0 {
			list = []any{nil}
		}
		list[0] = put(list[0], path[1:], value)
		return list
	}
	members, _ := at.(object)
	if members == nil {
		members = object{}
	}
	members[path[0]] = put(members[path[0]], path[1:], value)
	return members
}

// The domain itself refuses what the document says is not served, and takes the example that does not ask for it.
func TestUnsupportedValuesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	each(t, func(t *testing.T, op described) {
		if op.body == nil {
			return
		}
		target := w.replace(op.target)
		unsupported(op.RequestBody.Value.Content.Get("application/json").Schema.Value, nil, func(path []string, value any) {
			before := w.rows(t)
			body := put(clone(t, op.body), path, clone(t, value))
			a := w.Call(apitest.RootKey, op.OperationID, op.method, target, w.replace(encode(t, body)))
			require.Equal(t, []any{400, "UnsupportedParameter"}, []any{a.Status, a.Code}, "%v = %v: %v", path, value, a.Body)
			require.Equal(t, before, w.rows(t), "nothing is stored")
		})
	})
}

// world serves the domain itself, with one resource of each kind, of the name that the examples give it.
type world struct {
	*apitest.Server
	replacer *strings.Replacer // of the ids in the examples by real ones
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db := pgtest.New(t)
	inserter, err := jobs.NewInserter(db.Control)
	require.NoError(t, err)
	box, err := secret.NewBox()
	require.NoError(t, err)
	entrances := ingress.New(ingress.Config{DB: db.Control, Jobs: inserter, Snapshot: box, BaseDomain: "localhost"})
	models := modelapi.New(modelapi.Config{DB: db.Control, Jobs: inserter, SubDomain: entrances.SubDomain})
	callers := consumer.New(consumer.Config{DB: db.Control, Jobs: inserter, Master: box, Snapshot: box})
	resources := resource.New(db.Control, slices.Concat(ingress.Kinds, consumer.Kinds, []resource.Kind{aiservice.Kind, modelapi.Kind})...)
	product, err := apig.Product(apig.Config{
		APIs: models, Routes: models, Gateways: entrances, Environments: entrances, Domains: entrances,
		Services:  aiservice.New(aiservice.Config{DB: db.Control, Jobs: inserter, Master: box, Snapshot: box}),
		Consumers: callers, Groups: callers, Rules: callers,
		Resources: resources,
	})
	require.NoError(t, err)
	w := &world{Server: apitest.With(t, apitest.Config{DB: db, Facts: resources}, product)}
	ctx, page := t.Context(), instance.Page{Number: 1, Size: 1}
	gateway, err := entrances.CreateGateway(ctx, apitest.Account, ingress.GatewaySpec{Name: "default"})
	require.NoError(t, err)
	domain, err := entrances.CreateDomain(ctx, apitest.Account, ingress.DomainSpec{Name: "models.example.com", Protocol: "HTTP"})
	require.NoError(t, err)
	environment := gateway.Environments[0].ID
	made := w.Call(apitest.RootKey, "CreateService", "POST", "/v1/services", object{
		"gatewayId": gateway.ID, "sourceType": "AI", "serviceConfigs": []any{object{"name": "qwen", "aiServiceConfig": object{
			"provider": "qwen", "protocols": []any{"OpenAI/v1"}, "apiKeys": []any{"sk-x"},
		}}},
	})
	require.Equal(t, 200, made.Status, made.Body)
	service := made.Body["data"].(object)["serviceIds"].([]any)[0].(string)
	api, err := models.Create(ctx, apitest.Account, modelapi.Spec{
		Name: "first", Type: "LLM", ModelCategory: "Text", AIProtocols: []string{"OpenAI/v1"}, BasePath: "/first",
		DeployConfigs: []modelapi.DeployConfig{{
			GatewayID: gateway.ID, EnvironmentID: environment, BackendScene: modelapi.SingleService,
			Services: []modelapi.ServiceConfig{{ServiceID: service}},
		}},
	})
	require.NoError(t, err)
	routes, _, err := models.ListRoutes(ctx, apitest.Account, api.ID, modelapi.RouteFilter{Page: page})
	require.NoError(t, err)
	alice, err := callers.Create(ctx, apitest.Account, consumer.Spec{Name: "alice"})
	require.NoError(t, err)
	group, err := callers.CreateGroup(ctx, apitest.Account, "search-team", "")
	require.NoError(t, err)
	w.replacer = strings.NewReplacer(apiID, api.ID, routeID, routes[0].ID, gatewayID, gateway.ID, environmentID, environment,
		serviceID, service, consumerID, alice.ID, groupID, group.ID, domainID, domain.ID)
	return w
}

func (w *world) replace(text string) string { return w.replacer.Replace(text) }

func encode(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return string(text)
}

// rows counts what a refused call must not leave.
func (w *world) rows(t *testing.T) (counts string) {
	t.Helper()
	require.NoError(t, w.DB.Owner.QueryRow(t.Context(), `
		SELECT concat_ws(' ', (SELECT count(*) FROM http_api), (SELECT count(*) FROM http_api_route), (SELECT count(*) FROM ai_service),
			(SELECT sum(version) FROM http_api), (SELECT sum(version) FROM ai_service), (SELECT count(*) FROM river_job))`).Scan(&counts))
	return counts
}
