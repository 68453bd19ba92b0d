package vllm_test

import (
	"encoding/json"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/node/vllm"
)

func TestArgsAreTheSameEveryTime(t *testing.T) {
	t.Parallel()
	s := vllm.Serve{
		Model: "Qwen/Qwen3-8B", Names: []string{"Qwen/Qwen3-8B", "ms-1"}, Addr: "127.0.0.1:4000", TensorParallel: 2, MemoryFraction: 0.5,
		Params: map[string]any{"max_model_len": "4096", "dtype": "bfloat16", "enforce-eager": true, "enable-prefix-caching": "false", "seed": float64(7)},
	}
	for range 20 {
		args, err := s.Args()
		require.NoError(t, err)
		require.Equal(t, []string{
			"serve", "Qwen/Qwen3-8B", "--host=127.0.0.1", "--port=4000", "--served-model-name", "Qwen/Qwen3-8B", "ms-1",
			"--tensor-parallel-size=2", "--gpu-memory-utilization=0.450",
			"--dtype=bfloat16", "--no-enable-prefix-caching", "--enforce-eager", "--max-model-len=4096", "--seed=7",
		}, args)
	}
}

func TestArgsOfAPlainReplica(t *testing.T) {
	t.Parallel()
	args, err := vllm.Serve{Model: "m", Names: []string{"n"}, Addr: "[::1]:80"}.Args()
	require.NoError(t, err)
	require.Equal(t, []string{"serve", "m", "--host=::1", "--port=80", "--served-model-name=n", "--tensor-parallel-size=1"}, args)
	args, err = vllm.Serve{Model: "m", Addr: "[::1]:80", Pooling: true}.Args()
	require.NoError(t, err)
	require.Equal(t, []string{"serve", "m", "--host=::1", "--port=80", "--runner=pooling", "--tensor-parallel-size=1"}, args)
}

func TestArgsRefuseWhatTheCommandLineWouldMisread(t *testing.T) {
	t.Parallel()
	for _, s := range []vllm.Serve{
		{Model: "--config=/etc/passwd", Addr: "127.0.0.1:1"},
		{Model: "", Addr: "127.0.0.1:1"},
		{Model: "m", Names: []string{"a b"}, Addr: "127.0.0.1:1"},
		{Model: "m", Names: []string{"a", "--middleware"}, Addr: "127.0.0.1:1"},
		{Model: "m", Addr: "127.0.0.1"},
		{Model: "m", Addr: "127.0.0.1:1", Params: map[string]any{"middleware": "x"}},
	} {
		_, err := s.Args()
		require.Error(t, err, "%+v", s)
	}
}

func TestValidateAccepts(t *testing.T) {
	t.Parallel()
	for _, params := range []map[string]any{
		nil,
		{"max-model-len": 4096},
		{"max-model-len": int64(4096)},
		{"max-model-len": float64(4096)},
		{"max-model-len": json.Number("4096")},
		{"max_model_len": "4096"},
		{"enforce-eager": true},
		{"enforce_eager": "false"},
		{"block-size": 16},
		{"block-size": "16"},
		{"swap-space": 0.5},
		{"swap-space": "4"},
		{"quantization": "fp8", "kv-cache-dtype": "fp8_e4m3", "max-num-seqs": 1, "max-num-batched-tokens": 1e7},
	} {
		require.NoError(t, vllm.Arguments().Validate(params), "%v", params)
	}
}

func TestValidateRefusesByName(t *testing.T) {
	t.Parallel()
	for name, values := range map[string][]any{
		"max-model-len":                {0, -1, 1e9, 1.5, "", "4k", "0x10", " 4096", "1_000", "NaN", "inf", math.NaN(), math.Inf(1), true, nil, []any{1}, map[string]any{}, json.Number("1e400")},
		"dtype":                        {"float8", "", 1, nil, "auto --middleware=x"},
		"enforce-eager":                {"yes", 1, "True", nil},
		"swap-space":                   {-1, "1e9"},
		"middleware":                   {"x"},
		"--middleware":                 {"x"},
		"config":                       {"/etc/passwd"},
		"--config":                     {"/etc/passwd"},
		"trust_remote_code":            {true},
		"trust-remote-code":            {"true"},
		"no-trust-remote-code":         {true},
		"api-key":                      {"x"},
		"host":                         {"0.0.0.0"},
		"port":                         {1},
		"--max-model-len":              {1},
		"Max-Model-Len":                {1},
		"":                             {1},
		"max-model-len=1 --middleware": {1},
	} {
		for _, value := range values {
			err := vllm.Arguments().Validate(map[string]any{name: value})
			f, ok := fault.From(err)
			require.True(t, ok, "%s=%v: %v", name, value, err)
			require.Equal(t, "InvalidParameter", f.Code)
			require.Contains(t, f.Message, "ModelParams."+name)
		}
	}
}

func TestValidateRefusesOneArgumentInTwoSpellings(t *testing.T) {
	t.Parallel()
	err := vllm.Arguments().Validate(map[string]any{"max-model-len": 1, "max_model_len": 2})
	require.ErrorContains(t, err, "given twice")
}

func TestValidateKeepsLongNamesOutOfItsMessage(t *testing.T) {
	t.Parallel()
	f, ok := fault.From(vllm.Arguments().Validate(map[string]any{strings.Repeat("é", 100_000): 1}))
	require.True(t, ok)
	require.Less(t, len(f.Message), 2000)
}

// Whatever Validate accepts is one word per argument, begins with --, and names an argument of the list.
func TestAcceptedParamsRenderToTheirOwnFlagsOnly(t *testing.T) {
	t.Parallel()
	allowed := map[string]bool{}
	for _, argument := range vllm.Arguments() {
		allowed["--"+argument.Name], allowed["--no-"+argument.Name] = true, true
	}
	rapid.Check(t, func(t *rapid.T) {
		params := rapid.MapOf(
			rapid.SampledFrom([]string{"dtype", "max-model-len", "enforce-eager", "seed", "swap_space", "config", "port"}),
			rapid.OneOf(rapid.Just[any](true), rapid.Map(rapid.Int(), toAny), rapid.Map(rapid.Float64(), toAny), rapid.Map(rapid.String(), toAny),
				rapid.Map(rapid.SampledFrom([]string{"auto", "half", "12", "false"}), toAny)),
		).Draw(t, "params")
		args, err := vllm.Serve{Model: "m", Addr: "127.0.0.1:1", Params: params}.Args()
		if err != nil {
			return
		}
		for _, word := range args[5:] {
			name, _, _ := strings.Cut(word, "=")
			if !allowed[name] {
				t.Fatalf("%v rendered %q", params, word)
			}
		}
	})
}

func toAny[T any](v T) any { return v }

// The stand-in refuses flags that it does not know, as vLLM does: every argument of the list must get past it.
func TestEveryArgumentIsOneTheEngineKnows(t *testing.T) {
	t.Parallel()
	sim := filepath.Join(t.TempDir(), "vllm-sim")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", sim, "github.com/engineshed/engineshed/cmd/vllm-sim").CombinedOutput()
	require.NoError(t, err, "%s", out)
	params := map[string]any{}
	for _, argument := range vllm.Arguments() {
		switch argument.Type {
		case vllm.Boolean:
			params[argument.Name] = !argument.On
		case vllm.Choice:
			params[argument.Name] = argument.Choices[0]
		default:
			params[argument.Name] = argument.Max
		}
	}
	args, err := vllm.Serve{Model: "m", Names: []string{"m", "n"}, Addr: "127.0.0.1:0", MemoryFraction: 1, Params: params}.Args()
	require.NoError(t, err)
	out, err = exec.CommandContext(t.Context(), sim, append([]string{"--sim-exit-after=1ms"}, args...)...).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 1, exit.ExitCode(), "%s", out)
	require.Contains(t, string(out), "simulated crash")
}
