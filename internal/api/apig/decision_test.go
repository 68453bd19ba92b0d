package apig_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/modelapi"
)

func TestARequestIsExplained(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	ask := func(body string) object {
		a := s.Call(apitest.RootKey, "DescribeRouteDecision", "POST", "/v1/route-decisions", body)
		require.Equal(t, 200, a.Status, a.Body)
		return a.Body["data"].(object)
	}
	got := ask(`{"host":"models.example.com","method":"PUT","path":"/a?b=c","scheme":"https","headers":{"X-Team":"a"},"model":"m","consumerId":"` + consumerID + `"}`)
	require.Equal(t, []any{modelapi.Question{
		Method: "PUT", Scheme: "https", Host: "models.example.com", Path: "/a?b=c", Headers: map[string]string{"X-Team": "a"},
		Model: "m", ConsumerID: consumerID,
	}}, d.asked)
	require.Equal(t, object{
		"status": 200.0, "reason": "forwarded", "path": "/chat/v1/chat/completions",
		"httpApi":       object{"httpApiId": apiID, "name": "chat", "basePath": "/chat", "revision": 2.0},
		"route":         object{"routeId": routeID, "name": "chat-completions", "pathType": "Exact", "path": "/v1/chat/completions", "protocol": "OpenAI/v1"},
		"authorization": "Allowed", "service": object{"serviceId": serviceID, "name": "ours", "modelServiceId": "ms" + body},
		"upstreamPath": "/v1/chat/completions", "model": "qwen-plus", "policies": []any{"AiStatistics"},
		"shares": []any{
			object{"serviceId": serviceID, "name": "ours", "model": "qwen-plus", "weight": 70.0}, object{"serviceId": serviceID, "weight": 30.0},
		},
		"scene": "LeastBusy", "candidates": []any{
			object{"serviceId": serviceID, "name": "ours", "model": "m", "rateLimit": 0.8, "queueSize": 50.0}, object{"serviceId": serviceID},
		},
		"fallback": object{"after": []any{"UpstreamCode"}, "services": []any{
			object{"serviceId": serviceID, "name": "ours", "model": "m", "upstreamPath": "/v1/chat/completions"}, object{"serviceId": serviceID},
		}},
		"firstByteTimeout": 3000.0, "trafficConfig": object{
			"connectTimeout": 0.0, "idleTimeout": 0.0, "maxConcurrency": 7.0, "maxQueue": 0.0, "replicaSelection": "PrefixAware",
		},
	}, got)
	require.Equal(t, object{
		"status": 405.0, "code": "method_not_allowed", "reason": "why", "path": "/nowhere", "allow": "POST", "policies": []any{},
	}, ask(`{"host":"h","path":"/nowhere"}`))
}
