package e2e

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// What a gateway finds out about a service from the requests of others is what its owner reads.
func TestTheHealthOfAServiceIsWhatGatewaysFind(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	addr := freeAddr(t) // nothing listens there yet
	s.upstreams = []string{addr}
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey).(*darabonba)
	gateway, environment := seedGateway(t, c)
	made, err := c.roa("CreateService", "POST", "/v1/services", map[string]any{
		"gatewayId": gateway, "sourceType": "VIP", "serviceConfigs": []any{map[string]any{"name": "ours", "addresses": []string{addr}}},
	})
	service := data(t, made, err)["serviceIds"].([]any)[0].(string)
	_, err = c.roa("CreateHttpApi", "POST", "/v1/http-apis", map[string]any{
		"name": "chat", "type": "LLM", "modelCategory": "Text", "aiProtocols": []string{"OpenAI/v1"},
		"basePath": "/chat", "removeBasePathOnForward": true,
		"deployConfigs": []any{map[string]any{
			"gatewayId": gateway, "gatewayType": "AI", "environmentId": environment, "autoDeploy": true, "backendScene": "SingleService",
			"serviceConfigs": []any{map[string]any{"serviceId": service}},
		}},
	})
	require.NoError(t, err)
	ask := func() int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.gateway+"/chat/v1/chat/completions", strings.NewReader(`{"model":"m"}`))
		require.NoError(t, err)
		r.Host = environment + ".engineshed.localhost"
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		return response.StatusCode
	}
	health := func() map[string]any {
		t.Helper()
		got, err := c.roa("GetService", "GET", "/v1/services/"+service, nil)
		return data(t, got, err)
	}
	eventually(t, 5*time.Second, "the gateway is heard of", func() bool { return health()["healthStatus"] == "Healthy" })
	eventually(t, 5*time.Second, "the API answers", func() bool { return ask() == 503 })
	for range 5 {
		require.Equal(t, 503, ask())
	}
	eventually(t, 5*time.Second, "the service is found unhealthy", func() bool { return health()["healthStatus"] == "Unhealthy" })
	found := health()
	require.Equal(t, []any{addr}, found["outlierEndpoints"])
	reports := found["gatewayHealth"].([]any)
	require.Len(t, reports, 1)
	require.Contains(t, reports[0].(map[string]any)["message"], "failed again and again")

	listener, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	there := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	require.NoError(t, there.Listener.Close())
	there.Listener = listener
	there.Start()
	t.Cleanup(there.Close)
	require.Equal(t, 200, ask(), "nobody else can be asked, so it is")
	eventually(t, 5*time.Second, "the service is well again", func() bool { return health()["healthStatus"] == "Healthy" })
	require.NotContains(t, health(), "gatewayHealth")
}
