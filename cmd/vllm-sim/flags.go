package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// kind is how argparse reads a flag's values.
type kind int

const (
	text    kind = iota
	whole        // a whole number
	size         // a whole number, or one like 32k, 1M
	real         // a number
	many         // one value or more: --name a b
	switch_      // --name alone
	toggle       // --name and --no-name
)

type engineFlag struct {
	name    string // with dashes between the words; underscores are accepted too
	short   string // another spelling, "" for none
	kind    kind
	choices []string // nil: any value
}

// engineFlags are the flags of `vllm serve` that the stand-in knows. It accepts dangerous ones as vLLM does: refusing
// them is the control plane's part.
var engineFlags = []engineFlag{
	// the server
	{name: "host"},
	{name: "port", kind: whole},
	{name: "api-key", kind: many},
	{name: "served-model-name", kind: many},
	{name: "middleware"},
	{name: "chat-template"},
	{name: "chat-template-content-format", choices: []string{"auto", "string", "openai"}},
	{name: "response-role"},
	{name: "root-path"},
	{name: "ssl-keyfile"},
	{name: "ssl-certfile"},
	{name: "allowed-origins"},
	{name: "uvicorn-log-level", choices: []string{"critical", "error", "warning", "info", "debug", "trace"}},
	{name: "disable-uvicorn-access-log", kind: toggle},
	{name: "disable-fastapi-docs", kind: toggle},
	{name: "enable-log-requests", kind: toggle},
	{name: "enable-request-id-headers", kind: toggle},
	{name: "enable-prompt-tokens-details", kind: toggle},
	{name: "enable-force-include-usage", kind: toggle},
	{name: "enable-server-load-tracking", kind: toggle},
	{name: "enable-auto-tool-choice", kind: toggle},
	{name: "tool-call-parser"},
	{name: "reasoning-parser"},
	{name: "disable-log-stats", kind: switch_},
	{name: "config"},
	// the model
	{name: "model"},
	{name: "tokenizer"},
	{name: "tokenizer-mode", choices: []string{"auto", "hf", "slow", "mistral", "custom"}},
	{name: "trust-remote-code", kind: toggle},
	{name: "revision"},
	{name: "code-revision"},
	{name: "tokenizer-revision"},
	{name: "download-dir"},
	{name: "load-format"},
	{name: "config-format"},
	{name: "hf-config-path"},
	{name: "hf-token"},
	{name: "hf-overrides"},
	{name: "generation-config"},
	{name: "override-generation-config"},
	{name: "runner", choices: []string{"auto", "generate", "pooling", "draft"}},
	{name: "dtype", choices: []string{"auto", "half", "float16", "bfloat16", "float", "float32"}},
	{name: "seed", kind: whole},
	{name: "max-model-len", kind: size},
	{name: "quantization", short: "-q"},
	{name: "enforce-eager", kind: toggle},
	{name: "max-logprobs", kind: whole},
	{name: "limit-mm-per-prompt"},
	// the cache
	{name: "block-size", kind: whole, choices: []string{"1", "8", "16", "32", "64", "128", "256"}},
	{name: "gpu-memory-utilization", kind: real},
	{name: "swap-space", kind: real},
	{name: "kv-cache-dtype", choices: []string{"auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "fp8_ds_mla"}},
	{name: "kv-cache-memory-bytes", kind: size},
	{name: "num-gpu-blocks-override", kind: whole},
	{name: "enable-prefix-caching", kind: toggle},
	{name: "prefix-caching-hash-algo"},
	{name: "cpu-offload-gb", kind: real},
	{name: "calculate-kv-scales", kind: toggle},
	// parallelism
	{name: "tensor-parallel-size", short: "-tp", kind: whole},
	{name: "pipeline-parallel-size", short: "-pp", kind: whole},
	{name: "data-parallel-size", short: "-dp", kind: whole},
	{name: "enable-expert-parallel", kind: toggle},
	{name: "distributed-executor-backend", choices: []string{"external_launcher", "mp", "ray", "uni"}},
	{name: "max-parallel-loading-workers", kind: whole},
	{name: "disable-custom-all-reduce", kind: toggle},
	{name: "worker-cls"},
	// the scheduler
	{name: "max-num-seqs", kind: size},
	{name: "max-num-batched-tokens", kind: size},
	{name: "long-prefill-token-threshold", kind: whole},
	{name: "scheduling-policy", choices: []string{"fcfs", "priority"}},
	{name: "enable-chunked-prefill", kind: toggle},
	{name: "async-scheduling", kind: toggle},
	// the rest
	{name: "enable-lora", kind: toggle},
	{name: "max-loras", kind: whole},
	{name: "max-lora-rank", kind: whole},
	{name: "lora-modules", kind: many},
	{name: "speculative-config"},
	{name: "compilation-config", short: "-cc"},
	{name: "kv-transfer-config"},
	{name: "additional-config"},
	{name: "enable-sleep-mode", kind: toggle},
	{name: "otlp-traces-endpoint"},
}

// options are the flags that have an effect here.
type options struct {
	addr        string
	names       []string // what the model may be called; the first one is used in answers and metrics
	root        string   // the model that was asked for
	keys        []string // what clients may present; empty: no key is asked for
	maxModelLen int
	maxNumSeqs  int

	prefixCaching bool
	blockSize     int  // tokens
	blocks        int  // that the cache has room for
	promptDetails bool // answers tell what was cached

	pooling bool // it answers with vectors and scores, and does not generate
}

// parseServe reads what follows `serve`.
func parseServe(args []string, getenv func(string) string) (options, error) {
	values, positional, err := parseFlags(args)
	if err != nil {
		return options{}, err
	}
	if len(positional) == 0 {
		return options{}, errors.New("the following arguments are required: model_tag")
	}
	o := options{
		addr:        net.JoinHostPort(values.last("host", "127.0.0.1"), values.last("port", "8000")),
		names:       values.all("served-model-name", positional[0]),
		root:        positional[0],
		keys:        values.all("api-key", getenv("VLLM_API_KEY")),
		maxModelLen: values.size("max-model-len", 32768),
		maxNumSeqs:  values.size("max-num-seqs", 256),

		prefixCaching: values.last("enable-prefix-caching", "true") == "true",
		blockSize:     values.size("block-size", 16),
		blocks:        values.size("num-gpu-blocks-override", 16384),
		promptDetails: values.last("enable-prompt-tokens-details", "false") == "true",

		pooling: values.last("runner", "auto") == "pooling",
	}
	o.keys = slices.DeleteFunc(o.keys, func(key string) bool { return key == "" })
	if min(o.maxModelLen, o.maxNumSeqs, o.blocks) < 1 {
		return options{}, errors.New("--max-model-len, --max-num-seqs and --num-gpu-blocks-override must be positive")
	}
	return o, nil
}

type flagValues map[string][]string

func (v flagValues) all(name, otherwise string) []string {
	if len(v[name]) > 0 {
		return v[name]
	}
	return []string{otherwise}
}

func (v flagValues) last(name, otherwise string) string {
	all := v.all(name, otherwise)
	return all[len(all)-1]
}

func (v flagValues) size(name string, otherwise int) int {
	n, _ := parseSize(v.last(name, strconv.Itoa(otherwise))) // checked when it was read
	return n
}

// parseFlags reads args as argparse would: unknown flags and surplus words are complaints, the last value wins.
func parseFlags(args []string) (flagValues, []string, error) {
	values := flagValues{}
	var positional, unrecognized []string
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if !looksLikeFlag(word) {
			if len(positional) == 0 {
				positional = append(positional, word)
			} else {
				unrecognized = append(unrecognized, word)
			}
			continue
		}
		name, value, explicit := strings.Cut(word, "=")
		f, off, ok := findFlag(name)
		if !ok {
			unrecognized = append(unrecognized, word)
			continue
		}
		taken, rest, err := f.take(name, value, explicit, off, args)
		if err != nil {
			return nil, nil, fmt.Errorf("argument --%s: %w", f.name, err)
		}
		values[f.name], args = taken, rest
	}
	if len(unrecognized) > 0 {
		return nil, nil, fmt.Errorf("unrecognized arguments: %s", strings.Join(unrecognized, " "))
	}
	return values, positional, nil
}

// looksLikeFlag is argparse's rule: a dash makes a flag, but for a negative number or a lone dash.
func looksLikeFlag(word string) bool {
	if len(word) < 2 || word[0] != '-' {
		return false
	}
	_, err := strconv.ParseFloat(word, 64)
	return err != nil
}

// findFlag finds a flag by any of its spellings; off tells that it was --no-name.
func findFlag(name string) (f engineFlag, off, ok bool) {
	long, isLong := strings.CutPrefix(name, "--")
	long = strings.ReplaceAll(long, "_", "-")
	for _, f := range engineFlags {
		switch {
		case isLong && long == f.name, f.short != "" && name == f.short:
			return f, false, true
		case isLong && f.kind == toggle && long == "no-"+f.name:
			return f, true, true
		}
	}
	return engineFlag{}, false, false
}

// take returns the flag's values and the arguments that are left.
func (f engineFlag) take(spelled, value string, explicit, off bool, args []string) (taken, rest []string, err error) {
	if f.kind == switch_ || f.kind == toggle {
		if explicit {
			return nil, nil, fmt.Errorf("ignored explicit argument %q of %s", value, spelled)
		}
		return []string{strconv.FormatBool(!off)}, args, nil
	}
	n := 0
	for !explicit && n < len(args) && !looksLikeFlag(args[n]) && (n == 0 || f.kind == many) {
		n++
	}
	taken, rest = args[:n], args[n:]
	if explicit {
		taken = []string{value}
	}
	if len(taken) == 0 {
		return nil, nil, errors.New("expected one argument")
	}
	for _, value := range taken {
		if err := f.check(value); err != nil {
			return nil, nil, err
		}
	}
	return taken, rest, nil
}

func (f engineFlag) check(value string) error {
	var err error
	switch f.kind {
	case whole:
		_, err = strconv.Atoi(value)
	case size:
		_, err = parseSize(value)
	case real:
		_, err = strconv.ParseFloat(value, 64)
	}
	if err != nil {
		return fmt.Errorf("invalid value: %q", value)
	}
	if f.choices != nil && !slices.Contains(f.choices, value) {
		return fmt.Errorf("invalid choice: %q (choose from %s)", value, strings.Join(f.choices, ", "))
	}
	return nil
}

// parseSize reads 4096, 4k (4000) and 4K (4096), as vLLM does.
func parseSize(value string) (int, error) {
	scale := map[string]int{"k": 1e3, "m": 1e6, "g": 1e9, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
	if n := len(value); n > 1 && scale[value[n-1:]] > 0 {
		number, err := strconv.ParseFloat(value[:n-1], 64)
		return int(number * float64(scale[value[n-1:]])), err
	}
	return strconv.Atoi(value)
}

// help is one flag as argparse's help shows it.
func (f engineFlag) help() string {
	value := " " + strings.ToUpper(strings.ReplaceAll(f.name, "-", "_"))
	switch {
	case f.kind == switch_:
		return "--" + f.name
	case f.kind == toggle:
		return "--" + f.name + ", --no-" + f.name
	case f.choices != nil:
		value = " {" + strings.Join(f.choices, ",") + "}"
	case f.kind == many:
		value += " [" + strings.TrimSpace(value) + " ...]"
	}
	shown := "--" + f.name + value
	if f.short != "" {
		shown += ", " + f.short + value
	}
	return shown
}
