package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/alibabacloud-go/tea/tea"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

const apigVersion = "2024-03-27"

// roa calls an operation of apig with the official core, in its current signature (ACS3) or the older one (ROA-V1).
func (d *darabonba) roa(action, method, path string, body any) (answer, error) {
	oneAtATime.Lock()
	defer oneAtATime.Unlock()
	request := &openapi.OpenApiRequest{Query: map[string]*string{}}
	if path, query, ok := strings.Cut(path, "?"); ok {
		return d.roaQuery(action, method, path, query, request)
	}
	if body != nil {
		request.Body = body
	}
	return d.roaSend(action, method, path, request)
}

func (d *darabonba) roaQuery(action, method, path, query string, request *openapi.OpenApiRequest) (answer, error) {
	for _, pair := range strings.Split(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		request.Query[name] = tea.String(value)
	}
	return d.roaSend(action, method, path, request)
}

func (d *darabonba) roaSend(action, method, path string, request *openapi.OpenApiRequest) (answer, error) {
	result, err := d.client.CallApi(&openapi.Params{
		Action: tea.String(action), Version: tea.String(apigVersion), Protocol: tea.String("HTTP"), Method: tea.String(method),
		Pathname: tea.String(path), AuthType: tea.String("AK"), Style: tea.String("ROA"), ReqBodyType: tea.String("json"),
		BodyType: tea.String("json"),
	}, request, &dara.RuntimeOptions{})
	if err != nil {
		return nil, d.refusal(err)
	}
	decoded, _ := result["body"].(map[string]any)
	return decoded, nil
}

// data is the data of a successful answer.
func data(t *testing.T, a answer, err error) answer {
	t.Helper()
	require.NoError(t, err)
	require.Equal(t, "Ok", a["code"])
	decoded, _ := a["data"].(map[string]any)
	return decoded
}

// seedGateway makes a gateway and returns it with its default environment.
func seedGateway(t *testing.T, c *darabonba) (gateway, environment string) {
	t.Helper()
	made, err := c.roa("CreateGateway", "POST", "/v1/gateways", map[string]any{"name": "edge", "gatewayType": "AI"})
	gateway = data(t, made, err).text("gatewayId")
	shown, err := c.roa("GetGateway", "GET", "/v1/gateways/"+gateway, nil)
	environments := data(t, shown, err)["environments"].([]any)
	return gateway, environments[0].(map[string]any)["environmentId"].(string)
}

func TestAModelAPIOverAModelServiceOfOurs(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey).(*darabonba)
	instance, nodes := newInstance(t, c, 1)
	model := deploy(t, c, instance, nodes...)
	waitActive(t, c, instance, model, 20*time.Second)
	gateway, environment := seedGateway(t, c)

	made, err := c.roa("CreateService", "POST", "/v1/services", map[string]any{
		"gatewayId": gateway, "sourceType": "ModelService",
		"serviceConfigs": []any{map[string]any{"name": "qwen", "modelServiceId": model}},
	})
	service := data(t, made, err)["serviceIds"].([]any)[0].(string)
	api := map[string]any{
		"name": "chat", "type": "LLM", "modelCategory": "Text", "aiProtocols": []string{"OpenAI/v1"},
		"basePath": "/team", "removeBasePathOnForward": true,
		"deployConfigs": []any{map[string]any{
			"gatewayId": gateway, "gatewayType": "AI", "environmentId": environment, "autoDeploy": true, "backendScene": "SingleService",
			"serviceConfigs": []any{map[string]any{"serviceId": service, "modelName": "Qwen3-8B"}},
		}},
	}
	made, err = c.roa("CreateHttpApi", "POST", "/v1/http-apis", api)
	id := data(t, made, err).text("httpApiId")
	_, err = c.roa("CreateHttpApi", "POST", "/v1/http-apis", api)
	refused(t, err, 409, "Conflict.HttpApiNameDuplicate")

	host := environment + ".engineshed.localhost"
	ask := func(key string, stream bool) (status int, text string) {
		t.Helper()
		body, _ := json.Marshal(map[string]any{
			"model": "whatever the client calls it", "stream": stream,
			"messages": []map[string]string{{"role": "user", "content": "hello"}},
		})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.gateway+"/team/v1/chat/completions", strings.NewReader(string(body)))
		require.NoError(t, err)
		r.Host = host
		r.Header.Set("Content-Type", "application/json")
		if key != "" {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		read, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(read)
	}
	eventually(t, 5*time.Second, "the API answers", func() bool { status, _ := ask("", false); return status == 200 })
	_, whole := ask("", false)
	require.Contains(t, whole, "simulated")
	_, streamed := ask("", true)
	_, err = joinDeltas(streamed)
	require.NoError(t, err)

	// Consumers: no rule, nobody.
	_, err = c.roa("UpdateHttpApi", "PUT", "/v1/http-apis/"+id, map[string]any{
		"basePath": "/team", "enableAuth": true, "authConfig": map[string]any{"authType": "Apikey", "authMode": "Custom"},
	})
	require.NoError(t, err)
	made, err = c.roa("CreateConsumer", "POST", "/v1/consumers", map[string]any{
		"name": "alice", "enable": true, "gatewayType": "AI", "apikeyIdentityConfig": map[string]any{
			"type": "Apikey", "apikeySource": map[string]any{"source": "Default", "value": "Authorization"},
			"credentials": []any{map[string]any{"generateMode": "System"}},
		},
	})
	consumer := data(t, made, err).text("consumerId")
	shown, err := c.roa("GetConsumer", "GET", "/v1/consumers/"+consumer, nil)
	identity := data(t, shown, err)["apiKeyIdentityConfig"].(map[string]any)
	key := identity["credentials"].([]any)[0].(map[string]any)["apikey"].(string)
	eventually(t, 5*time.Second, "nobody may call without a key", func() bool { status, _ := ask("", false); return status == 401 })
	eventually(t, 5*time.Second, "a consumer without a rule may not", func() bool { status, _ := ask(key, false); return status == 403 })
	made, err = c.roa("CreateConsumerAuthorizationRules", "POST", "/v1/authorization-rules", map[string]any{
		"authorizationRules": []any{map[string]any{
			"consumerId": consumer, "resourceType": "LLM", "expireMode": "LongTerm",
			"resourceIdentifier": map[string]any{"resourceId": id, "environmentId": environment},
		}},
	})
	rule := data(t, made, err)["consumerAuthorizationRuleIds"].([]any)[0].(string)
	eventually(t, 5*time.Second, "one with a rule may", func() bool { status, _ := ask(key, false); return status == 200 })
	_, err = c.roa("RemoveConsumerAuthorizationRule", "DELETE", "/v1/authorization-rules/"+rule, nil)
	require.NoError(t, err)
	eventually(t, 5*time.Second, "until it is revoked", func() bool { status, _ := ask(key, false); return status == 403 })

	_, err = c.roa("DeleteHttpApi", "DELETE", "/v1/http-apis/"+id, nil)
	require.NoError(t, err)
	eventually(t, 5*time.Second, "the API is gone", func() bool { status, _ := ask(key, false); return status == 404 })
	_, err = c.roa("GetHttpApi", "GET", "/v1/http-apis/"+id, nil)
	refused(t, err, 404, "DatabaseError.RecordNotFound")
}
