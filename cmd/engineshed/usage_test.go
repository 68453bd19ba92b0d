package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk/apig"
)

func TestUsageIsShownByItsGroups(t *testing.T) {
	t.Parallel()
	id, name, empty, first := "api-1", "chat", "", int64(12)
	rows := usageRows([]apig.UsageSum{
		{HttpApiId: &id, HttpApiName: &name, Model: &empty, RequestCount: 3, InputTokens: 4, OutputTokens: 5, TotalTokens: 9, UnknownCount: 1, AverageDuration: 100},
		{HttpApiId: &id, HttpApiName: &empty, Model: &name, AverageFirstContent: &first},
	}, []string{"api", "model"})
	require.Equal(t, [][]string{
		{"API", "MODEL", "REQUESTS", "INPUT", "OUTPUT", "TOKENS", "UNKNOWN", "AVERAGE", "FIRST CONTENT"},
		{"chat", "-", "3", "4", "5", "9", "1", "100 ms", "-"},
		{"api-1", "chat", "0", "0", "0", "0", "0", "0 ms", "12 ms"},
	}, rows)
}

func TestRecordingIsWarnedOf(t *testing.T) {
	t.Parallel()
	configs := func(enable, request, response bool) *apig.HttpApiDeployConfigs {
		return &apig.HttpApiDeployConfigs{{PolicyConfigs: &apig.HttpApiPolicyConfigs{{
			Type: "AiStatistics", Enable: &enable,
			AiStatisticsConfig: &apig.AiStatisticsConfig{LogRequestContent: &request, LogResponseContent: &response},
		}}}}
	}
	require.Contains(t, recordingWarning(configs(true, true, true)), "All requests and answers of this API are written into the log")
	require.Contains(t, recordingWarning(configs(true, true, false)), "All requests of this API")
	require.Contains(t, recordingWarning(configs(true, false, true)), "All answers of this API")
	for _, quiet := range []*apig.HttpApiDeployConfigs{nil, {{}}, configs(true, false, false), configs(false, true, true)} {
		require.Empty(t, recordingWarning(quiet))
	}
}
