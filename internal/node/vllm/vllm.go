// Package vllm knows vLLM's command line, its health and its metrics, as pure functions and data.
package vllm

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"
)

// The paths a vLLM server answers without a key.
const (
	HealthPath  = "/health"
	MetricsPath = "/metrics"
	VersionPath = "/version"
)

// KeyVariable is the environment variable by which the server learns the key that it asks its clients for.
const KeyVariable = "VLLM_API_KEY"

// ModelsVariable is the environment variable by which an engine learns where the files of models are kept.
const ModelsVariable = "HF_HOME"

// HostVariables are what an operator sets for all engines of a host in the worker's environment: where models come from
// and are kept, and where the accelerators' libraries are. None of them holds a secret.
var HostVariables = []string{ModelsVariable, "HF_ENDPOINT", "HF_HUB_OFFLINE", "VLLM_USE_MODELSCOPE", "MODELSCOPE_CACHE", "LD_LIBRARY_PATH"}

// The metrics that tell whether an engine makes progress and how much waits.
const (
	MetricRequestsRunning  = "vllm:num_requests_running"
	MetricRequestsWaiting  = "vllm:num_requests_waiting"
	MetricPromptTokens     = "vllm:prompt_tokens_total"
	MetricGenerationTokens = "vllm:generation_tokens_total"
	MetricRequestSuccess   = "vllm:request_success_total"
	MetricTimeToFirstToken = "vllm:time_to_first_token_seconds"
	MetricRequestLatency   = "vllm:e2e_request_latency_seconds"
)

// Usable is how much of its share of an accelerator's memory an engine may take: the driver and the other engines'
// contexts need the rest, and vLLM refuses to start when less is free than it was told to use.
const Usable = 0.9

// Serve is one replica's engine: what it serves, where, and with how much of which hardware.
type Serve struct {
	Model          string         // the model's name or directory
	Names          []string       // the names clients may call it by; empty: Model alone
	Addr           string         // host:port to listen on
	Pooling        bool           // it embeds, scores or reranks, and does not generate
	TensorParallel int            // accelerators the replica runs on; 0 or 1: one, or none
	MemoryFraction float64        // share of each accelerator's memory; 0: no accelerator, the flag is left out
	Params         map[string]any // ModelParams, checked again
	Arguments      Set            // what Params may hold, with the model's defaults; nil: what every model takes
	Revision       string         // of Model, where the engine fetches it itself; "": what its hub takes for it
}

// Args renders the arguments that follow the engine's command: serve MODEL --name=value …, in an order that depends
// on nothing but s.
func (s Serve) Args() ([]string, error) {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, fmt.Errorf("the engine's address: %w", err)
	}
	for _, name := range append([]string{s.Model}, s.Names...) {
		if err := plainWord(name); err != nil {
			return nil, err
		}
	}
	set := s.Arguments
	if set == nil {
		set = arguments
	}
	params, err := set.render(s.Params)
	if err != nil {
		return nil, err
	}
	args := []string{"serve", s.Model, "--host=" + host, "--port=" + port}
	if s.Revision != "" {
		args = append(args, "--revision="+s.Revision, "--tokenizer-revision="+s.Revision)
	}
	args = append(args, servedNames(s.Names)...)
	if s.Pooling {
		args = append(args, "--runner=pooling")
	}
	args = append(args, "--tensor-parallel-size="+strconv.Itoa(max(1, s.TensorParallel)))
	if s.MemoryFraction > 0 {
		share := min(s.MemoryFraction, 1) * Usable
		args = append(args, "--gpu-memory-utilization="+strconv.FormatFloat(share, 'f', 3, 64))
	}
	return append(args, params...), nil
}

// servedNames is the one flag that cannot always be --name=value: argparse takes one value after "=", and several
// names are several values.
func servedNames(names []string) []string {
	switch len(names) {
	case 0:
		return nil
	case 1:
		return []string{"--served-model-name=" + names[0]}
	default:
		return append([]string{"--served-model-name"}, names...)
	}
}

// plainWord refuses a name that the command line would take for something else.
func plainWord(name string) error {
	if name == "" || strings.HasPrefix(name, "-") || strings.ContainsFunc(name, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}) {
		return fmt.Errorf("the model name %q cannot stand on a command line: it must not be empty, begin with a dash or hold a space", name)
	}
	return nil
}
