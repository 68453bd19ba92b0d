package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// outcome is what a gateway answers: its own refusal by its code, or the service's answer.
func (s *shed) outcome(t *testing.T, method, host, target, key string) (status int, code string) {
	t.Helper()
	at, err := url.Parse(s.gateway)
	require.NoError(t, err)
	at.Opaque = target // as it stands
	r := &http.Request{Method: method, URL: at, Host: host, Header: http.Header{"Content-Type": {"application/json"}}}
	if method == http.MethodPost {
		const body = `{"model":"m","messages":[{"role":"user","content":"hello"}],"max_tokens":1}`
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := http.DefaultTransport.RoundTrip(r.WithContext(t.Context()))
	require.NoError(t, err)
	defer response.Body.Close()
	var said struct {
		Error struct{ Code string } `json:"error"`
	}
	_ = json.NewDecoder(response.Body).Decode(&said)
	return response.StatusCode, said.Error.Code
}

func TestADecisionIsWhatTheGatewayDoes(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey).(*darabonba)
	instance, nodes := newInstance(t, c, 1)
	model := deploy(t, c, instance, nodes...)
	waitActive(t, c, instance, model, 20*time.Second)
	gateway, environment := seedGateway(t, c)
	made, err := c.roa("CreateDomain", "POST", "/v1/domains", map[string]any{"name": "*.models.example.com", "protocol": "HTTP"})
	domain := data(t, made, err).text("domainId")
	made, err = c.roa("CreateService", "POST", "/v1/services", map[string]any{
		"gatewayId": gateway, "sourceType": "ModelService",
		"serviceConfigs": []any{map[string]any{"name": "qwen", "modelServiceId": model}},
	})
	service := data(t, made, err)["serviceIds"].([]any)[0].(string)
	create := func(name, basePath string, auth bool) string {
		made, err := c.roa("CreateHttpApi", "POST", "/v1/http-apis", map[string]any{
			"name": name, "type": "LLM", "aiProtocols": []string{"OpenAI/v1"}, "basePath": basePath, "enableAuth": auth,
			"authConfig": map[string]any{"authType": "Apikey", "authMode": "Custom"},
			"deployConfigs": []any{map[string]any{
				"gatewayId": gateway, "environmentId": environment, "autoDeploy": true, "backendScene": "SingleService",
				"serviceConfigs": []any{map[string]any{"serviceId": service, "modelName": "Qwen3-8B"}}, "customDomainIds": []string{domain},
			}},
		})
		return data(t, made, err).text("httpApiId")
	}
	create("open", "/", false)
	guarded := create("guarded", "/team", true)
	callers := map[string]string{"": ""} // key by consumer id
	for _, name := range []string{"alice", "bob"} {
		made, err := c.roa("CreateConsumer", "POST", "/v1/consumers", map[string]any{
			"name": name, "apikeyIdentityConfig": map[string]any{"type": "Apikey", "credentials": []any{map[string]any{"apikey": "key-of-" + name + "-0123456789", "generateMode": "Custom"}}},
		})
		id := data(t, made, err).text("consumerId")
		callers[id] = "key-of-" + name + "-0123456789"
		if name == "alice" {
			_, err := c.roa("CreateConsumerAuthorizationRules", "POST", "/v1/authorization-rules", map[string]any{
				"authorizationRules": []any{map[string]any{"consumerId": id, "resourceType": "LLM", "resourceIdentifier": map[string]any{"resourceId": guarded}}},
			})
			require.NoError(t, err)
		}
	}
	host := environment + ".engineshed.localhost"
	eventually(t, 10*time.Second, "everything is served", func() bool {
		status, _ := s.outcome(t, "POST", host, "/team/v1/chat/completions", "key-of-alice-0123456789")
		_, code := s.outcome(t, "POST", host, "/team/v1/chat/completions", "key-of-bob-0123456789")
		return status == 200 && code == "consumer_not_authorized"
	})

	compared := map[string]int{}
	for _, host := range []string{host, strings.ToUpper(host) + ":80", "a.models.example.com", "127.0.0.1"} {
		for _, method := range []string{"POST", "GET"} {
			for _, target := range []string{
				"/v1/chat/completions", "/v1/chat/completions/", "/v1/ch%61t/completions?a=b", "/v1/chat%2Fcompletions", "/V1/chat/completions",
				"/v1//chat/completions", "/v1/../v1/chat/completions", "/team/v1/chat/completions", "/teams/v1/chat/completions", "/team",
				"/services/ms-x/v1/models", "/%73ervices/x", "/", "/v1/%2e%2e/x",
			} {
				for consumer, key := range callers {
					if consumer != "" && !strings.HasPrefix(target, "/team/") {
						continue // nobody asks who they are
					}
					status, code := s.outcome(t, method, host, target, key)
					question := map[string]any{"host": host, "method": method, "path": target}
					if consumer != "" {
						question["consumerId"] = consumer
					}
					asked, err := c.roa("DescribeRouteDecision", "POST", "/v1/route-decisions", question)
					decision := data(t, asked, err)
					what := method + " " + host + target + " as " + key
					if strings.HasPrefix(target, "/services/") {
						require.Contains(t, decision.text("reason"), "reserved", what)
						continue
					}
					got, _ := decision["code"].(string)
					require.Equal(t, code, got, "%s: %v", what, decision)
					if code == "" {
						status = 200 // whatever the engine said
					}
					require.Equal(t, strconv.Itoa(status), fmt.Sprint(decision["status"]), what)
					compared[code]++
				}
			}
		}
	}
	for _, code := range []string{"", "invalid_url", "unknown_url", "method_not_allowed", "invalid_api_key", "consumer_not_authorized"} {
		require.NotZero(t, compared[code], "%q occurred: %v", code, compared)
	}
}
