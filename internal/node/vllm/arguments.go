package vllm

import "slices"

// Type is the type of an engine argument's value.
type Type string

// The types of engine arguments. A value may arrive as JSON of that type or as the text of it.
const (
	Integer Type = "integer"
	Number  Type = "number"
	Boolean Type = "boolean"
	Choice  Type = "choice"
)

// Argument is an engine argument that ModelParams may set.
type Argument struct {
	Name        string // as on vLLM's command line, without the dashes before it
	Type        Type
	Min, Max    float64  // of an Integer or a Number, both allowed
	On          bool     // of a Boolean: vLLM's own default
	Choices     []string // of a Choice
	Description string
	Default     string // what an engine is told when ModelParams says nothing; "": nothing
	Required    bool   // ModelParams must say it
}

// Set are the arguments that the ModelParams of one model may hold, by name.
type Set []Argument

// arguments are all there are: whatever is not here is refused. An argument belongs here when no value of it can make
// the engine run code, read a file, open a connection or leave its accelerators.
var arguments = Set{
	{Name: "block-size", Type: Choice, Choices: []string{"1", "8", "16", "32", "64", "128", "256"}, Description: "Tokens in one block of the KV cache."},
	{Name: "calculate-kv-scales", Type: Boolean, Description: "Work out the scales of an fp8 KV cache while running; only older versions of vLLM know it."},
	{Name: "cpu-offload-gb", Type: Number, Min: 0, Max: 1024, Description: "GiB of weights kept in the host's memory, per accelerator."},
	{Name: "dtype", Type: Choice, Choices: []string{"auto", "half", "float16", "bfloat16", "float", "float32"}, Description: "Data type of weights and activations."},
	{Name: "enable-auto-tool-choice", Type: Boolean, Description: "Let the model decide to call a tool; needs tool-call-parser."},
	{Name: "enable-chunked-prefill", Type: Boolean, On: true, Description: "Split long prompts over several steps."},
	{Name: "enable-prefix-caching", Type: Boolean, On: true, Description: "Reuse the KV cache of a common beginning."},
	{Name: "enforce-eager", Type: Boolean, Description: "Run without CUDA graphs: starts faster, answers slower."},
	{Name: "kv-cache-dtype", Type: Choice, Choices: []string{"auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"}, Description: "Data type of the KV cache."},
	{Name: "long-prefill-token-threshold", Type: Integer, Min: 0, Max: 10_000_000, Description: "Prompts longer than this count as long."},
	{Name: "max-logprobs", Type: Integer, Min: 0, Max: 1000, Description: "Most log probabilities that a request may ask for."},
	{Name: "max-model-len", Type: Integer, Min: 1, Max: 10_000_000, Description: "Most tokens of prompt and answer together."},
	{Name: "max-num-batched-tokens", Type: Integer, Min: 1, Max: 10_000_000, Description: "Most tokens in one step."},
	{Name: "max-num-seqs", Type: Integer, Min: 1, Max: 65_536, Description: "Most requests answered at the same time."},
	{Name: "quantization", Type: Choice, Choices: []string{
		"awq", "awq_marlin", "bitsandbytes", "compressed-tensors", "experts_int8", "fp8", "gptq", "gptq_marlin", "modelopt", "modelopt_fp4", "moe_wna16", "mxfp4",
	}, Description: "How the weights are quantized; unset: as the model's own configuration says."},
	{Name: "reasoning-parser", Type: Choice, Choices: []string{"deepseek_r1", "glm45", "granite", "hunyuan_a13b", "mistral", "openai_gptoss", "qwen3"}, Description: "How the model marks its reasoning."},
	{Name: "scheduling-policy", Type: Choice, Choices: []string{"fcfs", "priority"}, Description: "Which waiting request comes first."},
	{Name: "seed", Type: Integer, Min: 0, Max: 4_294_967_295, Description: "Seed of the sampling."},
	{Name: "swap-space", Type: Number, Min: 0, Max: 1024, Description: "GiB of the host's memory to swap to, per accelerator; only older versions of vLLM know it."},
	{Name: "tool-call-parser", Type: Choice, Choices: []string{
		"deepseek_v3", "deepseek_v31", "glm45", "granite", "hermes", "internlm", "jamba", "kimi_k2", "llama3_json", "llama4_json", "llama4_pythonic", "mistral", "openai", "phi4_mini_json", "pythonic", "qwen3_coder", "qwen3_xml", "xlam",
	}, Description: "How the model writes a tool call."},
}

// refused says why an argument that vLLM has is not one that ModelParams may set. Whatever stands in neither table is
// refused too; these only get a better sentence.
var refused = map[string]string{
	"api-key":                  "the control plane gives every engine a key of its own.",
	"allowed-local-media-path": "it opens the host's files to requests.",
	"config":                   "it names a file that could set any argument.",
	"data-parallel-size":       "ask for Replicas instead.",
	"download-dir":             "it names a directory on the host.",
	"gpu-memory-utilization":   "the AI node decides it.",
	"host":                     "the control plane decides where engines listen.",
	"hf-token":                 "secrets are not engine arguments.",
	"middleware":               "it runs code inside the engine.",
	"model":                    "ModelName decides it.",
	"pipeline-parallel-size":   "the AI node decides it.",
	"port":                     "the control plane decides where engines listen.",
	"served-model-name":        "the control plane decides it.",
	"tensor-parallel-size":     "the AI node decides it.",
	"trust-remote-code":        "it runs code that comes with a model.",
	"worker-cls":               "it runs code inside the engine.",
}

// Arguments returns the engine arguments that ModelParams may set, by name. The slice is the caller's.
func Arguments() Set { return slices.Clone(arguments) }

// Refused says why no set may hold the argument, as a sentence; "" when one may.
func Refused(name string) string { return refused[name] }
