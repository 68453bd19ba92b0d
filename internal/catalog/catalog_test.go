package catalog_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/catalog"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/modelfile/hub"
	"github.com/engineshed/engineshed/internal/node/vllm"
)

// small is a file with nothing but what it must have.
const small = "name: Acme-7B\ntask: generate\nsource: {huggingface: acme/acme-7b}\n"

// write makes a catalogue directory of files.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

func TestBuiltInModelsAreWhole(t *testing.T) {
	t.Parallel()
	c, err := catalog.Open("")
	require.NoError(t, err)
	require.NotEmpty(t, c.Names())
	for _, m := range c.Models() {
		require.NoError(t, m.Source.Check(), m.Name)
		require.Positive(t, m.Memory, m.Name)
		require.Equal(t, vllm.Arguments(), m.Arguments)
		require.Empty(t, m.Origin)
	}
	_, err = c.Find("nope")
	require.ErrorIs(t, err, catalog.ErrNotFound)
}

func TestAFileAddsAModel(t *testing.T) {
	t.Parallel()
	c, err := catalog.Open(write(t, map[string]string{"acme.yaml": `
name: Acme-7B
description: Ours.
task: embed
source:
  modelscope: acme/acme-7b
  revision: v1.2
memory: 17.5 GiB
accelerators: [2, 1]
engineVersion: 0.8.5
arguments:
  max-model-len: {default: 4096, max: 8192}
  dtype: {choices: [bfloat16, float16]}
  seed: {required: true, min: 1, max: 5}
  rope-theta: {type: number, min: 1, max: 1e6}
environment:
  VLLM_ATTENTION_BACKEND: FLASH_ATTN
`, "README.md": "not read", ".hidden.yaml": "not: read"}))
	require.NoError(t, err)
	m, err := c.Find("Acme-7B")
	require.NoError(t, err)
	require.Equal(t, hub.Source{Kind: hub.ModelScope, Name: "acme/acme-7b", Revision: "v1.2"}, m.Source)
	require.Equal(t, catalog.Embed, m.Task)
	require.EqualValues(t, 17.5*(1<<30), m.Memory)
	require.Equal(t, []int{1, 2}, m.Accelerators)
	require.Equal(t, "0.8.5", m.EngineVersion)
	require.Equal(t, map[string]string{"VLLM_ATTENTION_BACKEND": "FLASH_ATTN"}, m.Environment)
	require.Equal(t, "acme.yaml", m.Origin)
	require.Equal(t, "Acme-7B", c.Names()[len(c.Names())-1])
	require.Len(t, m.Arguments, len(vllm.Arguments())+1)
}

func TestTheArgumentsOfAFileAreItsLimits(t *testing.T) {
	t.Parallel()
	c, err := catalog.Open(write(t, map[string]string{"a.yaml": small + `
arguments:
  max-model-len: {default: 4096, max: 8192}
  seed: {required: true, max: 5}
  rope-theta: {type: number, min: 1, max: 1e6}
`, "b.yaml": strings.Replace(small, "Acme-7B", "Closed", 1) + "onlyTheseArguments: true\narguments: {enforce-eager: {}}\n"}))
	require.NoError(t, err)
	m, err := c.Find("Acme-7B")
	require.NoError(t, err)
	args, err := vllm.Serve{Model: "m", Addr: "127.0.0.1:1", Arguments: m.Arguments, Params: map[string]any{"seed": 3, "rope_theta": "2.5"}}.Args()
	require.NoError(t, err)
	require.Equal(t, []string{"--max-model-len=4096", "--rope-theta=2.5", "--seed=3"}, args[len(args)-3:])

	closed, err := c.Find("Closed")
	require.NoError(t, err)
	for want, check := range map[string]func() error{
		"InvalidParameter: The parameter ModelParams.max-model-len is not valid: it must be a whole number from 1 to 8192.": func() error {
			return m.Arguments.Validate(map[string]any{"seed": 1, "max-model-len": 8193})
		},
		"MissingParameter: The parameter ModelParams.seed is required by this model: a whole number from 0 to 5.": func() error {
			return m.Arguments.Validate(nil)
		},
		"InvalidParameter: The parameter ModelParams.dtype is not valid: it is not an engine argument that can be set here. Those that can: enforce-eager.": func() error {
			return closed.Arguments.Validate(map[string]any{"dtype": "auto"})
		},
	} {
		err := check()
		_, ok := fault.From(err)
		require.True(t, ok)
		require.EqualError(t, err, want)
	}
}

func TestAFileOverridesABuiltInModelInItsPlace(t *testing.T) {
	t.Parallel()
	before, err := catalog.Open("")
	require.NoError(t, err)
	c, err := catalog.Open(write(t, map[string]string{"a.yaml": "name: Qwen3-8B\ntask: generate\nsource: {directory: /srv/qwen3-8b}\n"}))
	require.NoError(t, err)
	require.Equal(t, before.Names(), c.Names())
	m, err := c.Find("Qwen3-8B")
	require.NoError(t, err)
	require.Equal(t, hub.Source{Kind: hub.Directory, Name: "/srv/qwen3-8b"}, m.Source)
	require.Zero(t, m.Memory)
}

func TestReloadedFilesThatAreRefusedChangeNothing(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{"a.yaml": small})
	c, err := catalog.Open(dir)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.yaml"), []byte("name: [\n"), 0o600))
	require.ErrorContains(t, c.Reload(), "b.yaml:")
	require.Contains(t, c.Names(), "Acme-7B")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.yaml"), []byte(strings.Replace(small, "Acme-7B", "Other", 1)), 0o600))
	require.NoError(t, c.Reload())
	require.Contains(t, c.Names(), "Other")
}

func TestABadFileIsRefusedWithItsPlace(t *testing.T) {
	t.Parallel()
	source := func(s string) string { return "name: A\ntask: generate\nsource: " + s + "\n" }
	for name, c := range map[string]struct{ text, want string }{
		"empty":                  {"", "a.yaml:1: there is nothing in it"},
		"unknown setting":        {small + "memroy: 1 GiB\n", "a.yaml:4: there is no setting memroy"},
		"unknown in source":      {source("{hugging: a/b}"), "a.yaml:3: there is no setting hugging"},
		"unknown in an argument": {small + "arguments:\n  seed: {mni: 1}\n", "a.yaml:5: there is no setting mni"},
		"a setting twice":        {small + "task: embed\n", `a.yaml:4: mapping key "task" already defined at line 2`},
		"two documents":          {small + "---\n" + small, "a.yaml: something follows the first YAML document"},
		"no name":                {"task: generate\nsource: {huggingface: a/b}\n", "a.yaml:1: name is missing"},
		"a name with a slash":    {strings.Replace(small, "Acme-7B", "a/b", 1), "a.yaml:1: name must be at most 128 letters"},
		"a list as name":         {strings.Replace(small, "Acme-7B", "[a]", 1), "a.yaml:1: a plain value belongs here"},
		"no task":                {"name: A\nsource: {huggingface: a/b}\n", "a.yaml:1: task is missing"},
		"another task":           {strings.Replace(small, "generate", "draw", 1), `a.yaml:2: task must be generate, embed or rerank, not "draw"`},
		"no source":              {"name: A\ntask: generate\n", "a.yaml:1: source is missing"},
		"two sources":            {source("{huggingface: a/b, url: 'https://x'}"), "a.yaml:3: source has two places"},
		"a way out in a name":    {source("{huggingface: a/..}"), "a.yaml:3: source: the repository"},
		"a way out in a branch":  {source("{huggingface: a/b, revision: a/../../b}"), "a.yaml:3: source: the revision"},
		"a relative directory":   {source("{directory: models/a}"), "a.yaml:3: source: the directory"},
		"a password":             {source("{url: 'https://u:p@x/'}"), "a.yaml:3: source: an address must not hold a password"},
		"another scheme":         {source("{url: 'file:///etc'}"), "a.yaml:3: source: the address"},
		"a revision of a URL":    {source("{url: 'https://x/', revision: a}"), "a.yaml:3: source: a source of kind url has no revision"},
		"memory without unit":    {small + "memory: 17\n", `a.yaml:4: memory must be a number of GiB or MiB such as 17 GiB, not "17"`},
		"half an accelerator":    {small + "accelerators: [0.5]\n", "a.yaml:4: accelerators must be whole numbers from 1 to 64"},
		"a word as accelerators": {small + "accelerators: [two]\n", "a.yaml:4: a number belongs here"},
		"a bad version":          {small + "engineVersion: latest\n", "a.yaml:4: engineVersion must be a version"},
		"a forbidden argument":   {small + "arguments:\n  trust-remote-code: {type: boolean}\n", "a.yaml:5: arguments.trust-remote-code cannot be allowed: it runs code"},
		"another type":           {small + "arguments:\n  seed: {type: boolean}\n", "a.yaml:5: arguments.seed is of the type integer"},
		"a wider limit":          {small + "arguments:\n  max-num-seqs: {max: 1000000}\n", "a.yaml:5: arguments.max-num-seqs.max must be a whole number from 1 to 65536"},
		"another choice":         {small + "arguments:\n  dtype: {choices: [int4]}\n", `a.yaml:5: arguments.dtype.choices: "int4" is not one of auto`},
		"a default out of range": {small + "arguments:\n  seed: {max: 5, default: 6}\n", "a.yaml:5: arguments.seed.default does not fit: it must be a whole number from 0 to 5"},
		"min above max":          {small + "arguments:\n  seed: {min: 5, max: 4}\n", "a.yaml:5: arguments.seed: max is less than min"},
		"a new one, no type":     {small + "arguments:\n  rope-theta: {min: 1}\n", "a.yaml:5: arguments.rope-theta needs a type"},
		"a new one, no range":    {small + "arguments:\n  rope-theta: {type: number}\n", "a.yaml:5: arguments.rope-theta needs min and max"},
		"a new one, a path":      {small + "arguments:\n  lora: {type: choice, choices: [/etc/passwd]}\n", `a.yaml:5: arguments.lora.choices: "/etc/passwd" must be letters`},
		"dashes":                 {small + "arguments:\n  --x: {type: boolean}\n", "a.yaml:5: arguments.--x: a name is small letters"},
		"choices of a number":    {small + "arguments:\n  seed: {choices: ['1']}\n", "a.yaml:5: arguments.seed is of the type integer, it has no choices"},
		"our own variable":       {small + "environment:\n  VLLM_API_KEY: x\n", "a.yaml:5: environment.VLLM_API_KEY is set by the control plane"},
		"a preload":              {small + "environment:\n  LD_PRELOAD: /x.so\n", "a.yaml:5: environment.LD_PRELOAD"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := catalog.Open(write(t, map[string]string{"a.yaml": c.text}))
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := catalog.Open(write(t, map[string]string{"a.yaml": small, "b.yaml": small}))
	require.ErrorContains(t, err, "b.yaml: the model Acme-7B stands in a.yaml already")
	_, err = catalog.Open(t.TempDir())
	require.ErrorContains(t, err, "there is no *.yaml file in it")
	_, err = catalog.Open("/nowhere")
	require.ErrorContains(t, err, "no such file")
}

func TestTheMemoryThatIsNeededFollowsTheParameters(t *testing.T) {
	t.Parallel()
	c, err := catalog.Open("")
	require.NoError(t, err)
	m, err := c.Find("Qwen3-32B")
	require.NoError(t, err)
	const gib = 1 << 30
	for _, test := range []struct {
		params map[string]any
		want   int64
	}{
		{nil, 74 * gib},
		{map[string]any{"quantization": "fp8"}, 37 * gib},
		{map[string]any{"dtype": "float32"}, 148 * gib},
		{map[string]any{"cpu_offload_gb": "10"}, 54 * gib}, // of each of two accelerators
		{map[string]any{"cpu-offload-gb": 1000}, 0},
	} {
		require.Equal(t, test.want, m.MemoryFor(test.params, 2), "%v", test.params)
	}
}

func TestVersionsAreComparedAsNumbers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		needs, has string
		tooOld     bool
	}{
		{"0.8.5", "0.8.5", false},
		{"0.8.5", "0.8.4", true},
		{"0.8.5", "0.10", false},
		{"0.10", "0.9.9", true},
		{"0.8", "0.8.0", false},
		{"0.8.0", "0.8", false},
		{"0.8.0.1", "0.8", true},
		{"1", "0.32.0", true},
		{"", "0.1", false},
		{"0.8", "", false},
	} {
		require.Equal(t, c.tooOld, catalog.Model{EngineVersion: c.needs}.TooOld(c.has), "%+v", c)
	}
}
