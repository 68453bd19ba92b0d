package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// Model services of ours behind one address: shared out by proportion, chosen by the name of the model, or asked when another
// service fails.
func TestOneModelAPIOverSeveralModelServices(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	nobody := freeAddr(t) // nothing listens there
	s.upstreams = []string{nobody}
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey).(*darabonba)
	instance, nodes := newInstance(t, c, 2)
	gateway, environment := seedGateway(t, c)
	services := map[string]string{}
	for i, model := range []string{"Qwen3-8B", "Qwen2.5-0.5B-Instruct"} {
		params := createParams(instance, nodes[i])
		params["ModelName"] = model
		made, err := c.call("CreateModelService", params)
		require.NoError(t, err)
		waitActive(t, c, instance, made.text("ModelServiceId"), 20*time.Second)
		made, err = c.roa("CreateService", "POST", "/v1/services", map[string]any{
			"gatewayId": gateway, "sourceType": "ModelService",
			"serviceConfigs": []any{map[string]any{"name": model, "modelServiceId": made.text("ModelServiceId")}},
		})
		services[model] = data(t, made, err)["serviceIds"].([]any)[0].(string)
	}
	big, small := services["Qwen3-8B"], services["Qwen2.5-0.5B-Instruct"]
	api := func(name, scene string, targets ...any) map[string]any {
		return map[string]any{
			"name": name, "type": "LLM", "modelCategory": "Text", "aiProtocols": []string{"OpenAI/v1"},
			"basePath": "/" + name, "removeBasePathOnForward": true,
			"deployConfigs": []any{map[string]any{
				"gatewayId": gateway, "gatewayType": "AI", "environmentId": environment, "autoDeploy": true, "backendScene": scene,
				"serviceConfigs": targets,
			}},
		}
	}
	share := func(service, model string, weight int) map[string]any {
		return map[string]any{"serviceId": service, "modelName": model, "weight": weight}
	}
	named := func(service, pattern, model string) map[string]any {
		return map[string]any{"serviceId": service, "modelNamePattern": pattern, "modelName": model}
	}
	// ask returns the status and the model that answered.
	ask := func(base, model string) (int, string) {
		t.Helper()
		body := `{"model":"` + model + `","messages":[{"role":"user","content":"hello"}]}`
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.gateway+base+"/v1/chat/completions", strings.NewReader(body))
		require.NoError(t, err)
		r.Host = environment + ".engineshed.localhost"
		r.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		var answer struct {
			Model string
			Error struct{ Code string }
		}
		require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
		return response.StatusCode, answer.Model + answer.Error.Code
	}
	for _, targets := range [][]any{
		{share(big, "Qwen3-8B", 70), share(small, "", 20)}, {share(big, "Qwen3-8B", 0), share(small, "", 100)}, {named(big, "a", ""), share(small, "", 100)},
	} {
		_, err := c.roa("CreateHttpApi", "POST", "/v1/http-apis", api("refused", "MultiServiceByRatio", targets...))
		refused(t, err, 400, "InvalidParameter.DeployConfigs")
	}

	made, err := c.roa("CreateHttpApi", "POST", "/v1/http-apis", api("split", "MultiServiceByRatio",
		share(big, "Qwen3-8B", 75), share(small, "Qwen2.5-0.5B-Instruct", 25)))
	split := data(t, made, err).text("httpApiId")
	eventually(t, 5*time.Second, "the API answers", func() bool { status, _ := ask("/split", "x"); return status == 200 })
	shares := func() map[string]int {
		got := map[string]int{}
		for range 100 {
			status, model := ask("/split", "whatever")
			require.Equal(t, 200, status)
			got[model]++
		}
		return got
	}
	require.Equal(t, map[string]int{"Qwen3-8B": 75, "Qwen2.5-0.5B-Instruct": 25}, shares())

	_, err = c.roa("CreateHttpApi", "POST", "/v1/http-apis", api("named", "MultiServiceByContent",
		named(big, "big-?", "Qwen3-8B"), named(small, "Qwen2.5*", ""), named(small, "big*", "Qwen2.5-0.5B-Instruct")))
	require.NoError(t, err)
	eventually(t, 5*time.Second, "the API answers", func() bool { status, _ := ask("/named", "big-1"); return status == 200 })
	for model, want := range map[string][]any{
		"big-1": {200, "Qwen3-8B"}, "big-10": {200, "Qwen2.5-0.5B-Instruct"}, "Qwen2.5-0.5B-Instruct": {200, "Qwen2.5-0.5B-Instruct"},
		"claude": {404, "model_not_found"}, "": {404, "model_not_found"},
	} {
		status, got := ask("/named", model)
		require.Equal(t, want, []any{status, got}, model)
	}

	made, err = c.roa("CreateService", "POST", "/v1/services", map[string]any{
		"gatewayId": gateway, "sourceType": "AI", "serviceConfigs": []any{map[string]any{"name": "dead", "aiServiceConfig": map[string]any{
			"provider": "openai", "protocols": []string{"OpenAI/v1"}, "address": "http://" + nobody, "apiKeys": []string{"sk-0123456789"},
		}}},
	})
	dead := data(t, made, err)["serviceIds"].([]any)[0].(string)
	falls := api("falls", "SingleService", map[string]any{"serviceId": dead})
	falls["deployConfigs"].([]any)[0].(map[string]any)["policyConfigs"] = []any{map[string]any{
		"type": "AiFallback", "enable": true, "aiFallbackConfig": map[string]any{"serviceConfigs": []any{
			map[string]any{"serviceId": small, "targetModelName": "not there"}, // the engine answers 404
			map[string]any{"serviceId": big, "targetModelName": "Qwen3-8B"},
		}},
	}}
	_, err = c.roa("CreateHttpApi", "POST", "/v1/http-apis", falls)
	require.NoError(t, err)
	eventually(t, 5*time.Second, "the third one in the list answers", func() bool { status, _ := ask("/falls", "whatever"); return status == 200 })
	_, model := ask("/falls", "whatever")
	require.Equal(t, "Qwen3-8B", model)

	changed := api("split", "MultiServiceByRatio", share(small, "Qwen2.5-0.5B-Instruct", 100))
	_, err = c.roa("UpdateHttpApi", "PUT", "/v1/http-apis/"+split, map[string]any{"basePath": "/split", "deployConfigs": changed["deployConfigs"]})
	require.NoError(t, err)
	eventually(t, 5*time.Second, "all go to one", func() bool {
		for range 4 {
			if _, model := ask("/split", "x"); model != "Qwen2.5-0.5B-Instruct" {
				return false
			}
		}
		return true
	})
	require.Equal(t, map[string]int{"Qwen2.5-0.5B-Instruct": 100}, shares())
	_, err = c.roa("DeleteService", "DELETE", "/v1/services/"+small, nil)
	require.Error(t, err, "it is in use, behind others")
}
