package vllm_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/node/vllm"
)

func TestAnEnginesMetricsSayWhatItHasToDo(t *testing.T) {
	load, err := vllm.ReadLoad(strings.NewReader(`# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a name with { and spaces"} 3.0
vllm:num_requests_running{engine="1",model_name="a name with { and spaces"} 1.0
vllm:num_requests_waiting{engine="0"} 2.0
vllm:prompt_tokens_total{engine="0"} 100
vllm:generation_tokens_total{engine="0"} 1e+01
vllm:request_success_total{finished_reason="stop"} 4.0
vllm:request_success_total{finished_reason="abort"} 1.0
python_gc_objects_collected_total{generation="0"} 9000.0
`))
	require.NoError(t, err)
	require.Equal(t, vllm.Load{Running: 4, Waiting: 2, Progress: 115}, load)
	require.Equal(t, 6, load.UnderWay())
}

func TestMetricsThatDoNotSayItAreAnError(t *testing.T) {
	for name, text := range map[string]string{
		"another program": "go_goroutines 7\n",
		"nothing":         "",
		"not a number":    "vllm:num_requests_running{} many\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := vllm.ReadLoad(strings.NewReader(text))
			require.Error(t, err)
		})
	}
}
