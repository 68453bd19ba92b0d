package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// Fallback, limits and the scene by observability, from the wire to what is published, and what a decision says of them.
func TestFallbackAndLimitsArePublishedAsTheyWereSent(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	c := newDarabonba(t, control.addr, rootKey).(*darabonba)
	gateway, environment := seedGateway(t, c)
	service := func(provider string) string {
		made, err := c.roa("CreateService", "POST", "/v1/services", map[string]any{
			"gatewayId": gateway, "sourceType": "AI", "serviceConfigs": []any{map[string]any{"name": provider, "aiServiceConfig": map[string]any{
				"provider": provider, "protocols": []string{"OpenAI/v1"}, "apiKeys": []string{"sk-0123456789"},
			}}},
		})
		return data(t, made, err)["serviceIds"].([]any)[0].(string)
	}
	qwen, deepseek, moonshot := service("qwen"), service("deepseek"), service("moonshot")
	config := func(fallback ...any) []any {
		observed := map[string]any{"mode": "LeastTotalLatency", "queueSize": 50, "rateLimit": 0.8}
		return []any{map[string]any{
			"gatewayId": gateway, "gatewayType": "AI", "environmentId": environment, "autoDeploy": true, "backendScene": "MultiServiceByRatio",
			"serviceConfigs": []any{
				map[string]any{"serviceId": qwen, "weight": 50, "multiServiceRouteStrategy": "ByObservability", "observabilityRouteConfig": observed},
				map[string]any{"serviceId": deepseek, "weight": 50, "modelName": "deepseek-chat"},
			},
			"policyConfigs": []any{map[string]any{"type": "AiFallback", "enable": len(fallback) > 0, "aiFallbackConfig": map[string]any{
				"onlyRedirectUpstreamCode": false, "serviceConfigs": fallback,
			}}},
		}}
	}
	again := map[string]any{"serviceId": moonshot, "passThroughModelName": true}
	other := map[string]any{"serviceId": moonshot, "passThroughModelName": false, "targetModelName": "kimi-k2"}
	body := func(deployConfigs []any) map[string]any {
		return map[string]any{
			"name": "chat", "type": "LLM", "modelCategory": "Text", "aiProtocols": []string{"OpenAI/v1"}, "basePath": "/chat",
			"removeBasePathOnForward": true, "firstByteTimeout": 3000, "trafficConfig": map[string]any{"maxConcurrency": 10, "maxQueue": 5},
			"deployConfigs": deployConfigs,
		}
	}
	_, err := c.roa("CreateHttpApi", "POST", "/v1/http-apis", body(config(map[string]any{
		"serviceId": moonshot, "passThroughModelName": true, "targetModelName": "kimi-k2",
	})))
	refused(t, err, 400, "InvalidParameter.DeployConfigs")
	made, err := c.roa("CreateHttpApi", "POST", "/v1/http-apis", body(config(other, again)))
	id := data(t, made, err).text("httpApiId")

	decide := func() answer {
		t.Helper()
		asked, err := c.roa("DescribeRouteDecision", "POST", "/v1/route-decisions", map[string]any{
			"host": environment + ".engineshed.localhost", "path": "/chat/v1/chat/completions", "model": "gpt-4o",
		})
		return data(t, asked, err)
	}
	var decision answer
	eventually(t, 10*time.Second, "it is published", func() bool {
		decision = decide()
		fallback, _ := decision["fallback"].(map[string]any)
		return decision["service"] != nil && fallback["services"].([]any)[0].(map[string]any)["upstreamPath"] != nil
	})
	text, err := json.Marshal(map[string]any{
		"scene": decision["scene"], "candidates": decision["candidates"], "fallback": decision["fallback"],
		"firstByteTimeout": decision["firstByteTimeout"], "trafficConfig": decision["trafficConfig"],
	})
	require.NoError(t, err)
	require.JSONEq(t, `{
		"scene": "LeastTotalLatency",
		"candidates": [
			{"serviceId": "`+qwen+`", "name": "qwen", "model": "gpt-4o", "rateLimit": 0.8, "queueSize": 50},
			{"serviceId": "`+deepseek+`", "name": "deepseek", "model": "deepseek-chat"}
		],
		"fallback": {
			"after": ["UpstreamCode", "ConnectFailure", "Ejection", "BrokenAnswer", "FirstByteTimeout"],
			"services": [
				{"serviceId": "`+moonshot+`", "name": "moonshot", "model": "kimi-k2", "upstreamPath": "/v1/chat/completions"},
				{"serviceId": "`+moonshot+`", "name": "moonshot", "model": "gpt-4o", "upstreamPath": "/v1/chat/completions"}
			]
		},
		"firstByteTimeout": 3000,
		"trafficConfig": {"connectTimeout": 0, "idleTimeout": 0, "maxConcurrency": 10, "maxQueue": 5, "replicaSelection": "LeastInFlight"}
	}`, string(text))

	published := func() (api snapshot.ModelAPI) {
		t.Helper()
		var body []byte
		require.NoError(t, s.db.Gateway.QueryRow(t.Context(), `SELECT body FROM published_item WHERE id = $1`, id).Scan(&body))
		require.NoError(t, json.Unmarshal(body, &api))
		return api
	}
	api := published()
	require.Equal(t, snapshot.SceneLeastTotal, api.Scene)
	require.Equal(t, []snapshot.Target{{ServiceID: qwen, Share: 0.8, Window: 50}, {ServiceID: deepseek, Model: "deepseek-chat"}}, api.Targets)
	require.Equal(t, &snapshot.Fallback{Targets: []snapshot.Target{{ServiceID: moonshot, Model: "kimi-k2"}, {ServiceID: moonshot}}}, api.Fallback)
	require.Equal(t, &snapshot.Limits{FirstContent: 3000, Concurrent: 10, Queued: 5}, api.Limits)

	shown, err := c.roa("GetHttpApi", "GET", "/v1/http-apis/"+id, nil)
	read := data(t, shown, err)
	_, err = c.roa("UpdateHttpApi", "PUT", "/v1/http-apis/"+id, map[string]any(read))
	require.NoError(t, err)
	diff, err := c.roa("DiffHttpApiRevision", "GET", "/v1/http-apis/"+id+"/diff?from=1", nil)
	compared := data(t, diff, err)
	require.Equal(t, []any{"1", []any{}}, []any{fmt.Sprint(compared["from"]), compared["changes"]}, "what was read and sent again is the same")

	_, err = c.roa("DeleteService", "DELETE", "/v1/services/"+moonshot, nil)
	refused(t, err, 409, "Conflict.ServiceInUse")
	_, err = c.roa("UpdateHttpApi", "PUT", "/v1/http-apis/"+id, map[string]any{"basePath": "/chat", "onlyChangeConfig": true, "deployConfigs": config()})
	require.NoError(t, err)
	_, err = c.roa("DeleteService", "DELETE", "/v1/services/"+moonshot, nil)
	refused(t, err, 409, "Conflict.ServiceInUse")
	_, err = c.roa("DeployHttpApi", "POST", "/v1/http-apis/"+id+"/deploy", map[string]any{})
	require.NoError(t, err)
	_, err = c.roa("DeleteService", "DELETE", "/v1/services/"+moonshot, nil)
	require.NoError(t, err, "no Model API names it any more")
	eventually(t, 5*time.Second, "gateways are told", func() bool { return published().Fallback == nil })
	require.NotNil(t, published().Limits, "what an update does not name stays")
}
