package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk/apig"
)

func TestFlagsSayWhereRequestsGo(t *testing.T) {
	t.Parallel()
	to := func(id, model, pattern string, weight int64) apig.HttpApiServiceConfig {
		return apig.HttpApiServiceConfig{
			ServiceId: id, ModelName: unlessNone(model), ModelNamePattern: unlessNone(pattern), Weight: unlessNone(weight),
		}
	}
	for name, c := range map[string]struct {
		services, routes []string
		model            string
		want             backend
	}{
		"one":              {[]string{"ms-1"}, nil, "", backend{"SingleService", []apig.HttpApiServiceConfig{to("ms-1", "", "", 0)}}},
		"one with a model": {[]string{"svc-1"}, nil, "a=b/c", backend{"SingleService", []apig.HttpApiServiceConfig{to("svc-1", "a=b/c", "", 0)}}},
		"a model behind":   {[]string{"svc-1/Qwen/Qwen3-8B"}, nil, "", backend{"SingleService", []apig.HttpApiServiceConfig{to("svc-1", "Qwen/Qwen3-8B", "", 0)}}},
		"by proportion": {[]string{"ms-1=70", "svc-1/a/b=30"}, nil, "", backend{"MultiServiceByRatio", []apig.HttpApiServiceConfig{
			to("ms-1", "", "", 70), to("svc-1", "a/b", "", 30),
		}}},
		"all to one": {[]string{"ms-1=100"}, nil, "m", backend{"MultiServiceByRatio", []apig.HttpApiServiceConfig{to("ms-1", "m", "", 100)}}},
		"by model name": {nil, []string{"org/qwen-*=ms-1", "gpt-4?=svc-1/gpt-4o", "*=ms-1/a=b"}, "", backend{"MultiServiceByModelName", []apig.HttpApiServiceConfig{
			to("ms-1", "", "org/qwen-*", 0), to("svc-1", "gpt-4o", "gpt-4?", 0), to("ms-1", "a=b", "*", 0),
		}}},
	} {
		got, err := readBackend(c.services, c.routes, "", c.model)
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
	for name, c := range map[string]struct {
		services, routes []string
		model, want      string
	}{
		"nothing":            {nil, nil, "", "say where requests go"},
		"both":               {[]string{"ms-1"}, []string{"*=ms-1"}, "", "give one of them"},
		"two without shares": {[]string{"ms-1", "ms-2"}, nil, "", "--service ms-1: of several services each has its share in percent"},
		"one without":        {[]string{"ms-1=50", "ms-2"}, nil, "", "--service ms-2: of several"},
		"a share in words":   {[]string{"ms-1=half", "ms-2=50"}, nil, "", "--service ms-1=half"},
		"a share alone":      {[]string{"=50", "ms-2=50"}, nil, "", "--service =50"},
		"one model for two":  {[]string{"ms-1=50", "ms-2=50"}, nil, "m", "--model goes with one service"},
		"one for routes":     {nil, []string{"*=ms-1"}, "m", "--model goes with one service"},
		"no pattern":         {nil, []string{"=ms-1"}, "", "write PATTERN=SERVICE"},
		"no service":         {nil, []string{"qwen-*"}, "", "--route qwen-*: write PATTERN=SERVICE"},
	} {
		_, err := readBackend(c.services, c.routes, "", c.model)
		require.ErrorContains(t, err, c.want, name)
	}
}

func TestObservedServicesMayHaveAShareAtMost(t *testing.T) {
	t.Parallel()
	strategy, mode := "ByObservability", "LeastBusy"
	watched := func(id, model string, share float64) apig.HttpApiServiceConfig {
		return apig.HttpApiServiceConfig{
			ServiceId: id, ModelName: unlessNone(model), MultiServiceRouteStrategy: &strategy,
			ObservabilityRouteConfig: &apig.ObservabilityRouteConfig{Mode: &mode, RateLimit: unlessNone(share)},
		}
	}
	got, err := readBackend([]string{"ms-1", "svc-1/a=b=12.5%", "svc-1/a=b"}, nil, mode, "")
	require.NoError(t, err)
	require.Equal(t, backend{"MultiServiceByObservability", []apig.HttpApiServiceConfig{
		watched("ms-1", "", 0), watched("svc-1", "a=b", 0.125), watched("svc-1", "a=b", 0),
	}}, got)
	got, err = readBackend([]string{"ms-1=100%"}, nil, mode, "m")
	require.NoError(t, err)
	require.Equal(t, []apig.HttpApiServiceConfig{watched("ms-1", "m", 1)}, got.services)
	for text, want := range map[string]string{
		"ms-1=70":   "--service ms-1=70: with --observe a service may have the share of the requests that it gets at most",
		"ms-1/m=70": "write svc-…=80% or svc-…/MODEL=80%",
		"ms-1=0%":   "with --observe", "ms-1=101%": "with --observe", "ms-1=-1%": "with --observe", "ms-1/m=b%": "with --observe", "=50%": "with --observe",
		"ms-1=NaN%": "with --observe",
	} {
		_, err := readBackend([]string{text}, nil, mode, "")
		require.ErrorContains(t, err, want, text)
	}
	_, err = readBackend(nil, []string{"*=ms-1"}, mode, "")
	require.ErrorContains(t, err, "give one of them")
	_, err = readBackend([]string{"ms-1", "ms-2"}, nil, mode, "m")
	require.ErrorContains(t, err, "--model goes with one service")
}

func TestAModelAPIOverSeveralServicesIsMadeAndShown(t *testing.T) {
	t.Parallel()
	i := startUp(t, dataDir(t), freePorts(t))
	service := i.deploy().ModelServiceId
	r := i.verb("", nil, "model-api", "create", "half", "--service", service+"=70", "--service", service+"/other=20")
	require.Error(t, r.err)
	require.Contains(t, r.stderr, "add up to 90")
	shown := i.ok("model-api", "create", "shared", "--service", service+"=70", "--service", service+"/other=30")
	require.Regexp(t, `(?m)^Services +by proportion\s*\n +70 % +`+service+`\s*\n +30 % +`+service+`, asked for other`, shown)
	shown = i.ok("model-api", "create", "named", "--route", "qwen-*="+service, "--route", "*="+service+"/other")
	require.Regexp(t, `(?m)^Services +by model name.*\n +qwen-\* +`+service+`\s*\n +\* +`+service+`, asked for other`, shown)

	r = i.verb("", nil, "model-api", "edit", "named", "--model", "m")
	require.Error(t, r.err)
	require.Contains(t, r.stderr, "has not exactly one service")
	i.ok("model-api", "edit", "named", "--statistics", "--no-deploy")
	require.Equal(t, `+ policyConfigs[AiStatistics]: {"aiStatisticsConfig":{"logRequestContent":false,"logResponseContent":false},"enable":true,"type":"AiStatistics"}`+"\n",
		i.ok("model-api", "diff", "named"), "what is not about services changes with several, too")
	document := inJSON[apig.HttpApiDocument](t, i.ok("model-api", "export", "named"))
	require.Equal(t, "qwen-*", *document.Services[0].ModelNamePattern)
	require.Equal(t, "other", *document.Services[1].ModelName)
}
