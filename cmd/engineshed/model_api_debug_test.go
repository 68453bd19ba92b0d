package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk/apig"
)

func TestAModelAPIIsDebugged(t *testing.T) {
	t.Parallel()
	i := startUp(t, dataDir(t), freePorts(t))
	i.ok("model-api", "create", "chat", "--service", i.deploy().ModelServiceId, "--model", "Qwen3-0.6B")
	i.await("the gateway serves it", func() bool {
		return *inJSON[apig.HttpApiApiInfo](t, i.ok("model-api", "get", "chat", "-o", "json")).ServedEverywhere
	})
	for _, stream := range []string{"--stream", "--stream=false"} {
		out := i.ok("model-api", "debug", "chat", stream, "--model", "anything", "--param", "max_tokens=8", "say hello")
		for _, shown := range []string{
			`Model API +chat, revision 1`, `Route +chat-completions /chat/v1/chat/completions`, `Authorization +NotRequired`,
			`Service +ms-\w+ /v1/chat/completions`, `Model +Qwen3-0.6B`, `\[simulated\]`, `Status +200`, `First content +\d+ ms`,
			`Total +\d+ ms`, `Tokens +\d+ \(\d+ asked, \d+ answered\)`, `Request +[0-9a-f]{32}`,
		} {
			require.Regexp(t, shown, out, stream)
		}
	}
	body := filepath.Join(t.TempDir(), "body.json")
	require.NoError(t, os.WriteFile(body, []byte(`{"messages":[{"role":"user","content":"hello"}],"stream":true,"max_tokens":4}`), 0o600))
	all := inJSON[debugged](t, i.ok("model-api", "debug", "chat", "--body", body, "-o", "json"))
	require.Contains(t, all.Content, "[simulated]")
	require.EqualValues(t, 200, *all.Result.Status)
	require.LessOrEqual(t, *all.Result.FirstContentMs, all.Result.TotalMs)

	i.ok("model-api", "edit", "chat", "--auth")
	r := i.verb("", nil, "model-api", "debug", "chat", "hello")
	require.Error(t, r.err)
	require.Contains(t, r.stderr, "consumerId")
	consumer := i.consumer("alice")
	i.await("gateways know the consumer", func() bool {
		r = i.verb("", nil, "model-api", "debug", "chat", "--consumer-id", consumer, "-o", "json", "hello")
		require.Error(t, r.err)
		all = inJSON[debugged](t, r.stdout)
		return *all.Decision.Code == "consumer_not_authorized"
	})
	require.Contains(t, *all.Result.Error, "was not sent")
	i.allow(consumer, "chat")
	i.await("the consumer may call", func() bool {
		return i.verb("", nil, "model-api", "debug", "chat", "--consumer-id", consumer, "hello").err == nil
	})
	r = i.verb("", nil, "model-api", "debug", "chat", "--domain", "elsewhere.example.com", "--consumer-id", consumer, "hello")
	require.NoError(t, r.err, "the default environment answers for any host: %s", r.stdout)
	r = i.verb("", nil, "model-api", "debug", "chat", "--param", "x", "hello")
	require.Contains(t, r.stderr, "write name=value")

	kind, on := "Jwt", true
	found := inJSON[apig.HttpApiApiInfo](t, i.ok("model-api", "get", "chat", "-o", "json"))
	require.NoError(t, i.client.UpdateHttpApi(t.Context(), found.HttpApiId, apig.UpdateHttpApiRequest{
		BasePath: found.BasePath, EnableAuth: &on, AuthConfig: &apig.AuthConfig{AuthType: &kind},
	}))
	i.ok("model-api", "edit", "chat", "--auth=false")
	i.ok("model-api", "edit", "chat", "--auth")
	require.Regexp(t, `Authentication +consumers only, by Jwt`, i.ok("model-api", "get", "chat"), "consumers prove who they are as before")
	i.await("gateways ask for tokens", func() bool {
		r = i.verb("", nil, "model-api", "debug", "chat", "--consumer-id", consumer, "hello")
		return r.err != nil && strings.Contains(r.stderr, "by Jwt")
	})
}

func (i *installation) consumer(name string) string {
	i.t.Helper()
	mode, kind := "System", "Apikey"
	created, err := i.client.CreateConsumer(context.Background(), apig.CreateConsumerRequest{
		Name: name, ApikeyIdentityConfig: &apig.ApiKeyIdentityConfig{
			Type: &kind, Credentials: &[]apig.ApiKeyCredential{{GenerateMode: &mode}},
		},
	})
	require.NoError(i.t, err)
	return created.ConsumerId
}

func (i *installation) allow(consumer, api string) {
	i.t.Helper()
	found := inJSON[apig.HttpApiApiInfo](i.t, i.ok("model-api", "get", api, "-o", "json"))
	_, err := i.client.CreateConsumerAuthorizationRules(context.Background(), apig.CreateConsumerAuthorizationRulesRequest{
		AuthorizationRules: []apig.ConsumerAuthorizationRuleSpec{{
			ConsumerId: &consumer, ResourceType: "LLM", ResourceIdentifier: apig.AuthorizationResource{ResourceId: found.HttpApiId},
		}},
	})
	require.NoError(i.t, err)
}
