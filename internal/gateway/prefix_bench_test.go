package gateway_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// What BenchmarkPrefixAware asks of four simulated engines, each of which computes 10,000 tokens of prompts a second and
// keeps 40,000: people of several tenants, who each have one conversation after the other and think between its turns.
// All conversations of a tenant begin with the same long system prompt.
const (
	engines       = 4
	people        = 32
	conversations = 96
	turns         = 6
	systemWords   = 2000
	userWords     = 150
	answerTokens  = 60
	thought       = 600 * time.Millisecond // at most
)

var engineKnobs = []string{
	"--sim-prefill-latency=100ms", "--sim-time-to-first-token=5ms", "--sim-inter-token-latency=2ms",
	"serve", "demo", "--api-key=" + engineKey, "--num-gpu-blocks-override=2500", "--port=0",
}

// BenchmarkPrefixAware has the same conversations through a gateway, once with the least busy replica for each request and
// once with the one that has seen its beginning, and tells how long the first content takes and how much of the prompts the
// engines had computed before.
func BenchmarkPrefixAware(b *testing.B) {
	program := filepath.Join(b.TempDir(), "vllm-sim")
	out, err := exec.CommandContext(b.Context(), "go", "build", "-o", program, "github.com/engineshed/engineshed/cmd/vllm-sim").CombinedOutput()
	require.NoError(b, err, "%s", out)
	for _, tenants := range []int{1, 8, 16} {
		for _, choice := range []string{snapshot.LeastInFlight, snapshot.PrefixAware} {
			b.Run(fmt.Sprintf("tenants=%d/%s", tenants, choice), func(b *testing.B) {
				benchmarkReplicaChoice(b, program, tenants, choice)
			})
		}
	}
}

func benchmarkReplicaChoice(b *testing.B, program string, tenants int, choice string) {
	g := newRig(b)
	var first []time.Duration
	hits, queries := 0.0, 0.0
	for b.Loop() {
		addrs := make([]string, engines)
		for i := range addrs {
			addrs[i] = startEngine(b, program)
		}
		service := g.service(addrs...)
		target := snapshot.AIService{ID: ids.New(ids.AIService), ModelServiceID: service.ID}
		a := apiOf(target.ID, chatRoute)
		a.BasePath, a.RemoveBasePath, a.Limits = "/"+a.ID, true, &snapshot.Limits{ReplicaChoice: choice}
		g.serveAll(service, target, a)
		first = append(first, talk(b, g.at(a.BasePath+"/v1/chat/completions"), tenants)...)
		for _, addr := range addrs {
			page := get(b, "http://"+addr+"/metrics").body
			hits += engineMetric(b, page, "vllm:prefix_cache_hits_total")
			queries += engineMetric(b, page, "vllm:prefix_cache_queries_total")
		}
	}
	slices.Sort(first)
	milliseconds := func(part float64) float64 {
		return float64(first[int(part*float64(len(first)-1))].Microseconds()) / 1000
	}
	b.ReportMetric(milliseconds(0.5), "ms-p50")
	b.ReportMetric(milliseconds(0.99), "ms-p99")
	b.ReportMetric(100*hits/queries, "%-cached")
	b.ReportMetric(0, "ns/op") // a run is as long as it is
}

// startEngine runs a simulated engine until the benchmark ends.
func startEngine(b *testing.B, program string) (addr string) {
	b.Helper()
	engine := exec.CommandContext(b.Context(), program, engineKnobs...)
	said, err := engine.StderrPipe()
	require.NoError(b, err)
	require.NoError(b, engine.Start())
	b.Cleanup(func() {
		_ = engine.Process.Kill()
		_ = engine.Wait()
	})
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if _, after, found := strings.Cut(lines.Text(), "listening on http://"); found {
			go func() { _, _ = io.Copy(io.Discard, said) }()
			return after
		}
	}
	require.Fail(b, "the engine does not listen")
	return ""
}

func engineMetric(b *testing.B, page, name string) float64 {
	b.Helper()
	found := regexp.MustCompile(`(?m)^` + name + `\{[^}]*\} (\S+)$`).FindStringSubmatch(page)
	require.NotNil(b, found, name)
	value, err := strconv.ParseFloat(found[1], 64)
	require.NoError(b, err)
	return value
}

// talk has the conversations, of so many tenants, and returns how long each turn waited for the first content.
func talk(b *testing.B, url string, tenants int) []time.Duration {
	b.Helper()
	random := rand.New(rand.NewPCG(1, 2)) // the same ones each time
	words := func(n int) string {
		var text strings.Builder
		for range n {
			fmt.Fprintf(&text, "%04x ", random.IntN(1<<16))
		}
		return text.String()
	}
	systems := make([]string, tenants)
	for i := range systems {
		systems[i] = words(systemWords)
	}
	waiting := make(chan []message, conversations)
	for i := range conversations {
		conversation := []message{{"system", systems[i%tenants]}}
		for range turns {
			conversation = append(conversation, message{"user", words(userWords)})
		}
		waiting <- conversation
	}
	close(waiting)
	var mu sync.Mutex
	var all []time.Duration
	var group sync.WaitGroup
	for range people {
		group.Go(func() {
			for planned := range waiting {
				waited, err := converse(url, planned)
				mu.Lock()
				all = append(all, waited...)
				mu.Unlock()
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
	require.Len(b, all, conversations*turns)
	return all
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// converse has one conversation: what the user says is known, the answers are not.
func converse(url string, planned []message) (waited []time.Duration, err error) {
	said := planned[:1:1]
	for _, question := range planned[1:] {
		time.Sleep(rand.N(thought))
		said = append(said, question)
		answer, after, err := askOnce(url, said)
		if err != nil {
			return waited, err
		}
		waited = append(waited, after)
		said = append(said, message{"assistant", answer})
	}
	return waited, nil
}

var talker = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: people}}

// askOnce returns the answer to a chat, and after what time it began.
func askOnce(url string, said []message) (text string, after time.Duration, err error) {
	body, err := json.Marshal(map[string]any{"model": "demo", "stream": true, "max_tokens": answerTokens, "messages": said})
	if err != nil {
		return "", 0, err
	}
	began := time.Now()
	resp, err := talker.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data, found := strings.CutPrefix(lines.Text(), "data: ")
		if data == "[DONE]" {
			return text, after, nil
		}
		var chunk struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if !found || json.Unmarshal([]byte(data), &chunk) != nil || len(chunk.Choices) == 0 {
			continue
		}
		if text += chunk.Choices[0].Delta.Content; text != "" && after == 0 {
			after = time.Since(began)
		}
	}
	return "", 0, fmt.Errorf("status %d, and the answer ends with %q: %w", resp.StatusCode, text, lines.Err())
}
