package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

func TestUsageOfAModelAPI(t *testing.T) {
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
	made, err = c.roa("CreateHttpApi", "POST", "/v1/http-apis", map[string]any{
		"name": "chat", "type": "LLM", "modelCategory": "Text", "aiProtocols": []string{"OpenAI/v1"},
		"basePath": "/team", "removeBasePathOnForward": true,
		"deployConfigs": []any{map[string]any{
			"gatewayId": gateway, "gatewayType": "AI", "environmentId": environment, "autoDeploy": true, "backendScene": "SingleService",
			"serviceConfigs": []any{map[string]any{"serviceId": service, "modelName": "Qwen3-8B"}},
			"policyConfigs": []any{map[string]any{
				"type": "AiStatistics", "enable": true, "aiStatisticsConfig": map[string]any{"logRequestContent": false, "logResponseContent": false},
			}},
		}},
	})
	id := data(t, made, err).text("httpApiId")
	ask := func(stream bool) (status int, text string) {
		t.Helper()
		body := fmt.Sprintf(`{"model":"mine","stream":%t,"messages":[{"role":"user","content":"hello"}]}`, stream)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.gateway+"/team/v1/chat/completions", strings.NewReader(body))
		require.NoError(t, err)
		r.Host = environment + ".engineshed.localhost"
		r.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		read, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(read)
	}
	eventually(t, 5*time.Second, "the API answers", func() bool { status, _ := ask(false); return status == 200 })
	status, streamed := ask(true)
	require.Equal(t, 200, status)
	require.NotContains(t, streamed, `"total_tokens"`, "the client did not ask for the usage")

	var sum map[string]any
	eventually(t, 5*time.Second, "both requests are accounted for", func() bool {
		shown, err := c.roa("ListUsage", "GET", "/v1/usage?httpApi="+id+"&groupBy=api,service,model,endState", nil)
		for _, item := range data(t, shown, err)["items"].([]any) {
			if sum = item.(map[string]any); sum["endState"] == "complete" {
				streams, _ := sum["streamCount"].(json.Number).Int64()
				return streams == 1
			}
		}
		return false
	})
	require.Equal(t, []any{id, "chat", service, "qwen", "Qwen3-8B"},
		[]any{sum["httpApiId"], sum["httpApiName"], sum["serviceId"], sum["serviceName"], sum["model"]})
	require.Equal(t, json.Number("0"), sum["unknownCount"])
	require.NotEqual(t, json.Number("0"), sum["outputTokens"])

	cli := exec.CommandContext(t.Context(), filepath.Join(binaries, "engineshed"), "usage", "--api", "chat", "--by", "api,endState")
	cli.Env = append(cli.Environ(), "ENGINESHED_ENDPOINT=http://"+control.addr,
		"ENGINESHED_ACCESS_KEY_ID="+rootKey.id, "ENGINESHED_ACCESS_KEY_SECRET="+rootKey.secret)
	out, err := cli.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Regexp(t, `(?m)^API +ENDSTATE +REQUESTS`, string(out))
	require.Regexp(t, `(?m)^chat +complete +2 `, string(out))
}
