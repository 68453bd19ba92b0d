package main

import (
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk/apig"
)

func TestFlagsSayTimeoutsAndLimits(t *testing.T) {
	t.Parallel()
	read := func(args ...string) (traffic, error) {
		cmd := &cobra.Command{}
		addTrafficFlags(cmd.Flags())
		require.NoError(t, cmd.ParseFlags(args))
		return readTraffic(cmd)
	}
	none, err := read()
	require.NoError(t, err)
	require.False(t, none.some())
	require.Nil(t, none.config(&apig.TrafficConfig{}))

	got, err := read("--first-packet-timeout", "3s", "--connect-timeout", "500ms", "--max-queue", "0", "--fallback", "svc-1", "--fallback", "svc-2/m")
	require.NoError(t, err)
	require.True(t, got.some() && got.fallsBack())
	require.Equal(t, []any{int32(3000), []string{"svc-1", "svc-2/m"}}, []any{*got.firstPacket, *got.fallback})
	before := apig.TrafficConfig{MaxConcurrency: unlessNone(int32(7)), MaxQueue: unlessNone(int32(9))}
	config := got.config(&before)
	require.Equal(t, []int32{500, 7, 0}, []int32{*config.ConnectTimeout, *config.MaxConcurrency, *config.MaxQueue})
	require.EqualValues(t, 9, *before.MaxQueue, "what was read stays as it was")

	for _, duration := range []string{"1us", "1000h", "-1000h"} {
		_, err := read("--idle-timeout", duration)
		require.ErrorContains(t, err, "--idle-timeout", duration)
		require.ErrorContains(t, err, "give whole milliseconds, at most 596h31m23.647s", duration)
	}
}

func TestAModelAPIFallsBackAndIsLimitedByFlags(t *testing.T) {
	t.Parallel()
	i := startUp(t, dataDir(t), freePorts(t))
	service := i.deploy().ModelServiceId
	shown := i.ok("model-api", "create", "chat", "--observe", "LeastBusy", "--service", service+"=80%", "--service", service+"/other",
		"--fallback", service+"/second", "--fallback", service, "--first-packet-timeout", "3s", "--idle-timeout", "1m", "--max-concurrency", "10",
		"--max-queue", "20", "--replica-selection", "PrefixAware")
	for _, line := range []string{
		`Services +by what gateways observe: LeastBusy\n +up to 80 % +` + service + `\n +any share +` + service + `, asked for other`,
		`Fallback +when the services before fail\n +1 +` + service + `, asked for second\n +2 +` + service,
		`First packet +within 3s\nIdle +within 1m0s\nConcurrency +10 at a time, 20 more wait\nReplicas +PrefixAware`,
	} {
		require.Regexp(t, line, shown)
	}
	api := inJSON[apig.HttpApiApiInfo](t, i.ok("model-api", "get", "chat", "-o", "json"))
	require.Equal(t, []any{"MultiServiceByObservability", int32(3000), int32(60000)},
		[]any{*api.DeployConfigs[0].BackendScene, api.FirstByteTimeout, *api.TrafficConfig.IdleTimeout})

	out := i.ok("model-api", "debug", "chat", "--model", "Qwen3-0.6B", "--param", "max_tokens=4", "hello")
	for _, line := range []string{
		`Chosen by +LeastBusy, of\n +up to 80 % +` + service + ` Qwen3-0.6B\n +any share +` + service + ` other`,
		`Fallback +after a 4xx or 5xx, no connection, too many failures lately, a broken answer, a late first packet`,
		` 1 +` + service + ` /v1/chat/completions second\n +2 +` + service + ` /v1/chat/completions Qwen3-0.6B`,
		`First packet +within 3s`,
	} {
		require.Regexp(t, line, out)
	}

	out = i.ok("model-api", "decision", "chat", "/v1/responses")
	require.Regexp(t, `Route +responses /chat/v1/responses\n`, out)
	require.Regexp(t, `Why +The request is forwarded to one of 2 services, the one that the gateway process observes to have the fewest requests under way`, out)
	decision := inJSON[apig.RouteDecision](t, i.ok("model-api", "decision", "chat", "/v1/responses", "--model", "m", "--header", "x-team=a", "-o", "json"))
	require.Equal(t, []any{int32(200), "m", int32(3000)}, []any{decision.Status, *decision.Model, *decision.FirstByteTimeout})
	require.Regexp(t, `Refused +405 method_not_allowed: .*POST`, i.ok("model-api", "decision", "chat", "/v1/responses", "--method", "GET"))
	require.Contains(t, i.verb("", nil, "model-api", "decision", "chat", "/v1/responses", "--header", "x").stderr, "write name=value")

	shown = i.ok("model-api", "edit", "chat", "--fallback", service+"/third", "--fallback-upstream-codes-only", "--max-queue", "0", "--first-packet-timeout", "0")
	require.Regexp(t, `Fallback +after a 4xx or 5xx of the services before\n +1 +`+service+`, asked for third\nIdle`, shown)
	require.Regexp(t, `Concurrency +10 at a time *\n`, shown)
	require.NotContains(t, shown, "First packet")
	require.Contains(t, i.ok("model-api", "diff", "chat", "--from", "1", "--to", "2"), "- trafficConfig.maxQueue: 20\n")
	document := inJSON[apig.HttpApiDocument](t, i.ok("model-api", "export", "chat"))
	require.Equal(t, "third", *(*(*document.PolicyConfigs)[0].AiFallbackConfig.ServiceConfigs)[0].TargetModelName)
	require.NotContains(t, i.ok("model-api", "edit", "chat", "--fallback", ""), "Fallback")
	r := i.verb("", nil, "model-api", "edit", "chat", "--fallback-upstream-codes-only")
	require.Error(t, r.err)
	require.Contains(t, r.stderr, "goes with a fallback: say --fallback")
	r = i.verb("", nil, "model-api", "edit", "chat", "--max-concurrency", "0", "--max-queue", "5")
	require.Contains(t, r.stderr, "without maxConcurrency no request ever waits")
}
