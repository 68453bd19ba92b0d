//go:build vllm

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/node/vllm"
)

// gone are what ModelParams may say to older versions of vLLM only.
var gone = []string{"--swap-space", "--calculate-kv-scales", "--no-calculate-kv-scales", "--quantization=bitsandbytes"}

// realFlag is a flag as vLLM's own parser knows it; see surface.py.
type realFlag struct {
	Names   []string
	Choices []string
	Values  int // 0, 1, or 2 for any number
}

type realFlags struct {
	Flags []realFlag
	Later map[string][]string // values that are checked after the command line was read
}

// readFlags asks vLLM for its command line.
func readFlags(t *testing.T) realFlags {
	t.Helper()
	python := filepath.Join(filepath.Dir(realVLLM(t)), "python")
	out, err := exec.CommandContext(t.Context(), python, "vllm/surface.py").Output()
	require.NoError(t, err)
	var read realFlags
	require.NoError(t, json.Unmarshal(out, &read))
	return read
}

func (r realFlags) find(name string) (realFlag, bool) {
	i := slices.IndexFunc(r.Flags, func(f realFlag) bool { return slices.Contains(f.Names, name) })
	if i < 0 {
		return realFlag{}, false
	}
	return r.Flags[i], true
}

// complaint says what is wrong with --name, or with --name=value where * is any value, for the real program; "" for nothing.
func (r realFlags) complaint(word string) string {
	name, value, valued := strings.Cut(word, "=")
	f, known := r.find(name)
	choices := f.Choices
	if choices == nil {
		choices = r.Later[strings.TrimPrefix(name, "--")]
	}
	switch {
	case slices.Contains(gone, name):
		if known {
			return name + " is there again"
		}
	case !known:
		return name + " is not a flag"
	case valued != (f.Values > 0):
		return fmt.Sprintf("%s takes %d values", name, f.Values)
	case value != "" && value != "*" && choices != nil && !slices.Contains(choices, value) && !slices.Contains(gone, word):
		return fmt.Sprintf("%s does not take %s, only %v", name, value, choices)
	}
	return ""
}

// complaints are those about any of the words.
func (r realFlags) complaints(words []string) (all []string) {
	for _, word := range words {
		if complaint := r.complaint(word); complaint != "" {
			all = append(all, complaint)
		}
	}
	return all
}

// words are all that ModelParams and the control plane itself may put on a command line.
func words() (all []string) {
	for _, a := range vllm.Arguments() {
		switch a.Type {
		case vllm.Boolean:
			all = append(all, "--"+a.Name)
			if a.On {
				all = append(all, "--no-"+a.Name)
			}
		case vllm.Choice:
			for _, choice := range a.Choices {
				all = append(all, "--"+a.Name+"="+choice)
			}
		default:
			all = append(all, "--"+a.Name+"=*")
		}
	}
	return append(all, "--host=*", "--port=*", "--served-model-name=*", "--tensor-parallel-size=*", "--gpu-memory-utilization=*", "--runner=pooling",
		"--revision=*", "--tokenizer-revision=*")
}

// spelled is a spelling of a flag in a help: --name VALUE, --name {a,b} or --name.
var spelled = regexp.MustCompile(`(--?[a-z][a-z-]*)(?: \{([^}]*)\}| ([A-Z_]+))?`)

// shownWords are what the stand-in's help says may be written.
func shownWords(help string) (all []string) {
	for _, m := range spelled.FindAllStringSubmatch(help, -1) {
		switch {
		case m[2] != "":
			for choice := range strings.SplitSeq(m[2], ",") {
				all = append(all, m[1]+"="+choice)
			}
		case m[3] != "":
			all = append(all, m[1]+"=*")
		default:
			all = append(all, m[1])
		}
	}
	return all
}

func TestRealVLLMKnowsEveryFlagOfOurs(t *testing.T) {
	watch := newStopwatch()
	real := readFlags(t)
	require.Empty(t, real.complaints(words()))
	help, err := exec.CommandContext(t.Context(), filepath.Join(binaries, "vllm-sim"), "serve", "--help=all").Output()
	require.NoError(t, err)
	shown := shownWords(string(help))
	require.Greater(t, len(shown), 90)
	require.Empty(t, real.complaints(shown))
	watch.step("every flag of the control plane and of vllm-sim is one of vLLM's")
}

var typeLine = regexp.MustCompile(`(?m)^# TYPE (vllm:\S+) (\S+)$`)

// compareSurface holds the stand-in's routes and metrics, and the names our own code reads, against those of the engine.
func (d *realService) compareSurface(simFlags ...string) {
	d.t.Helper()
	_, real := d.engine()
	addr := freeAddr(d.t)
	_, port, _ := strings.Cut(addr, ":")
	start(d.t, nil, "vllm-sim", append([]string{"serve", "Qwen3-8B", "--port", port}, simFlags...)...)
	sim := "http://" + addr
	eventually(d.t, 10*time.Second, "the stand-in answers", func() bool {
		answer, err := http.Get(sim + vllm.HealthPath)
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	read := func(url string) string {
		status, text := d.sendTo(url, "", http.MethodGet, nil)
		require.Equal(d.t, http.StatusOK, status, url)
		return text
	}
	var ours, theirs struct{ Paths map[string]map[string]any }
	require.NoError(d.t, json.Unmarshal([]byte(read(sim+"/openapi.json")), &ours))
	require.NoError(d.t, json.Unmarshal([]byte(read(real+"/openapi.json")), &theirs))
	require.NotEmpty(d.t, ours.Paths)
	for path, methods := range ours.Paths {
		for method := range methods {
			require.Contains(d.t, theirs.Paths[path], method, "vLLM has no %s %s", method, path)
		}
	}
	for _, path := range []string{vllm.HealthPath, vllm.VersionPath, vllm.MetricsPath} {
		read(real + path)
	}
	kinds := map[string]string{}
	metrics := read(real + vllm.MetricsPath)
	for _, m := range typeLine.FindAllStringSubmatch(metrics, -1) {
		kinds[m[1]] = m[2]
	}
	stand := typeLine.FindAllStringSubmatch(read(sim+vllm.MetricsPath), -1)
	require.Greater(d.t, len(stand), 10)
	for _, m := range stand {
		require.Equal(d.t, kinds[m[1]], m[2], "the kind of %s", m[1])
	}
	for _, name := range []string{
		vllm.MetricRequestsRunning, vllm.MetricRequestsWaiting, vllm.MetricPromptTokens, vllm.MetricGenerationTokens,
		vllm.MetricRequestSuccess, vllm.MetricTimeToFirstToken, vllm.MetricRequestLatency,
	} {
		require.Contains(d.t, kinds, name)
	}
}
