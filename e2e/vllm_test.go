//go:build vllm

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/node/vllm"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// A real engine imports a gigabyte of Python before it loads a model.
const loads = 8 * time.Minute

// realVLLM is what e2e/vllm/run installed.
func realVLLM(t *testing.T) string {
	t.Helper()
	program := os.Getenv("VLLM_PROGRAM")
	require.NotEmpty(t, program, "run this with make e2e-vllm: it installs vLLM and makes the models")
	return program
}

// stopwatch prints how long each step took.
type stopwatch struct{ last time.Time }

func (s *stopwatch) step(what string) {
	fmt.Printf("e2e-vllm: %6.1f s  %s\n", time.Since(s.last).Seconds(), what)
	s.last = time.Now()
}

func newStopwatch() *stopwatch { return &stopwatch{time.Now()} }

// realService is a model service whose engine is a real vLLM.
type realService struct {
	*shed
	caller   caller
	instance string
	service  string
	url, key string // of the gateway
}

// newRealService deploys the model with the ModelParams and waits until it answers over the gateway.
func newRealService(t *testing.T, model, modelParams string) *realService {
	t.Helper()
	s := newShed(t, pgtest.New(t))
	// Engines share this machine with whatever else it does.
	s.vllm = "env VLLM_CPU_KVCACHE_SPACE=1 nice -n 5 " + realVLLM(t)
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	instance, nodes := newInstance(t, c, 2) // one to spare, for the successor in a change
	params := createParams(instance, nodes...)
	params["ModelName"], params["ModelParams"], params["Replicas"] = model, modelParams, "1"
	made, err := c.call("CreateModelService", params)
	require.NoError(t, err)
	d := &realService{shed: s, caller: c, instance: instance, service: made.text("ModelServiceId")}
	t.Cleanup(func() {
		if t.Failed() {
			d.showLogs()
		}
	})
	described := waitActive(t, c, instance, d.service, loads)
	d.url, d.key = described.text("PrivateConnectUrl"), described.text("ApiKey")
	d.waitServed()
	return d
}

// waitServed waits until the gateway knows an engine that answers; a service is active a moment before.
func (d *realService) waitServed() {
	d.t.Helper()
	eventually(d.t.(*testing.T), 10*time.Second, "the gateway knows the engine", func() bool {
		status, _ := d.send(http.MethodGet, "/models", nil)
		return status == http.StatusOK
	})
}

func (d *realService) showLogs() {
	logs, _ := filepath.Glob(d.path("worker-host-a") + "/replicas/*/*.log")
	for _, path := range logs {
		text, _ := os.ReadFile(path)
		d.t.Logf("--- %s:\n%s", path, text[max(0, len(text)-shownOutput):])
	}
}

// send asks the service over the gateway; path is below its URL.
func (d *realService) send(method, path string, body any) (status int, text string) {
	d.t.Helper()
	return d.sendTo(d.url+path, d.key, method, body)
}

func (d *realService) sendTo(url, key, method string, body any) (status int, text string) {
	d.t.Helper()
	data, err := json.Marshal(body)
	require.NoError(d.t, err)
	request, err := http.NewRequestWithContext(d.t.(*testing.T).Context(), method, url, bytes.NewReader(data))
	require.NoError(d.t, err)
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(d.t, err)
	defer response.Body.Close()
	all, err := io.ReadAll(response.Body)
	require.NoError(d.t, err)
	return response.StatusCode, string(all)
}

// chatAnswer is what chat completions and their chunks have in common.
type chatAnswer struct {
	Choices []struct {
		Message, Delta struct{ Content string }
		FinishReason   string `json:"finish_reason"`
	}
	Usage *struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
	}
}

func question(stream bool) map[string]any {
	body := map[string]any{
		"model": "Qwen3-8B", "max_tokens": 24, "temperature": 0, "ignore_eos": true,
		"messages": []map[string]string{{"role": "user", "content": "What is an engine shed?"}},
	}
	if stream {
		body["stream"], body["stream_options"] = true, map[string]any{"include_usage": true}
	}
	return body
}

// chatBothWays asks whole and streamed, and asserts that both say the same and count the same.
func (d *realService) chatBothWays() {
	d.t.Helper()
	status, text := d.send(http.MethodPost, "/chat/completions", question(false))
	require.Equal(d.t, http.StatusOK, status, text)
	var whole chatAnswer
	require.NoError(d.t, json.Unmarshal([]byte(text), &whole))
	require.Equal(d.t, 24, whole.Usage.CompletionTokens)
	require.Positive(d.t, whole.Usage.PromptTokens)
	require.Equal(d.t, "length", whole.Choices[0].FinishReason)

	status, text = d.send(http.MethodPost, "/chat/completions", question(true))
	require.Equal(d.t, http.StatusOK, status, text)
	said, err := joinDeltas(text)
	require.NoError(d.t, err)
	require.Equal(d.t, whole.Choices[0].Message.Content, said)
	events := strings.Split(strings.TrimSpace(text), "\n\n")
	var last chatAnswer
	require.NoError(d.t, json.Unmarshal([]byte(strings.TrimPrefix(events[len(events)-2], "data: ")), &last))
	require.Equal(d.t, whole.Usage, last.Usage)
}

// engine returns the process that the worker started, and the URL it listens on.
func (d *realService) engine() (pid int, url string) {
	d.t.Helper()
	for pid := range d.pids() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		for _, word := range strings.Split(string(line), "\x00") {
			if port, ok := strings.CutPrefix(word, "--port="); ok {
				return pid, "http://127.0.0.1:" + port
			}
		}
	}
	require.FailNow(d.t, "no engine runs")
	return 0, ""
}

// generated is how many tokens the engine says that it has made.
func (d *realService) generated() (n float64) {
	d.t.Helper()
	_, url := d.engine()
	_, metrics := d.sendTo(url+vllm.MetricsPath, "", http.MethodGet, nil)
	_, after, found := strings.Cut(metrics, "\n"+vllm.MetricGenerationTokens+`{engine="0",model_name="Qwen3-8B"} `)
	require.True(d.t, found)
	_, err := fmt.Sscan(after, &n)
	require.NoError(d.t, err)
	return n
}

// changeParams asks for other ModelParams while a client streams, and waits until they are in force. The client pauses
// between answers: without accelerators, an engine that answers without end leaves the processor to no other.
func (d *realService) changeParams(modelParams string) (streams int) {
	d.t.Helper()
	ids := map[string]string{"DBInstanceId": d.instance, "ModelServiceId": d.service}
	params := maps.Clone(ids)
	params["ModelParams"] = modelParams
	_, err := d.caller.call("ModifyModelService", params)
	require.NoError(d.t, err)
	pause := time.NewTicker(time.Second)
	defer pause.Stop()
	for deadline := time.Now().Add(loads); !isChanged(d.caller, ids); streams++ {
		require.True(d.t, time.Now().Before(deadline), "the service is as asked for: not within %s", loads)
		status, text := d.send(http.MethodPost, "/chat/completions", question(true))
		require.Equal(d.t, http.StatusOK, status, text)
		_, err := joinDeltas(text)
		require.NoError(d.t, err)
		<-pause.C
	}
	eventually(d.t.(*testing.T), 30*time.Second, "the engine before is gone", func() bool { return len(d.engines()) == 1 })
	return streams
}

// remove deletes the service and waits until nothing of its engine is left.
func (d *realService) remove() {
	d.t.Helper()
	ids := map[string]string{"DBInstanceId": d.instance, "ModelServiceId": d.service}
	_, err := d.caller.call("DeleteModelService", ids)
	require.NoError(d.t, err)
	eventually(d.t, 30*time.Second, "no process of the engine is left", func() bool { return len(d.pids()) == 0 })
	eventually(d.t, 10*time.Second, "the service is gone", func() bool {
		_, err := d.caller.call("DescribeModelService", ids)
		return err != nil
	})
	left, err := filepath.Glob(d.path("worker-host-a") + "/replicas/*")
	require.NoError(d.t, err)
	require.Empty(d.t, left)
}

func TestRealVLLMDoesTheMainJob(t *testing.T) {
	watch := newStopwatch()
	d := newRealService(t, "Qwen3-8B", `{"max-model-len": 512, "max-num-seqs": 8, "enforce-eager": true}`)
	watch.step("CreateModelService until the gateway answers")

	counted := d.generated()
	d.chatBothWays()
	require.InDelta(t, 2*24, d.generated()-counted, 0)
	watch.step("a chat whole and streamed, with the same words and usage, which the metrics count")

	status, text := d.send(http.MethodGet, "/models", nil)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, `"max_model_len":512`)
	watch.step("ModelParams in force")

	pid, _ := d.engine()
	d.compareSurface()
	watch.step("every route and metric of vllm-sim is one of vLLM's")

	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	ids := map[string]string{"DBInstanceId": d.instance, "ModelServiceId": d.service}
	eventually(t, 10*time.Second, "the state says that the engine was killed", func() bool {
		now, err := d.caller.call("DescribeModelService", ids)
		return err == nil && now.text("Status") == "degraded" && now.text("StatusReason") != ""
	})
	waitActive(t, d.caller, d.instance, d.service, loads)
	d.waitServed()
	again, _ := d.engine()
	require.NotEqual(t, pid, again)
	d.chatBothWays()
	watch.step("kill -9 of the engine until it answers again")

	before, _ := d.engine()
	streams := d.changeParams(`{"max-model-len": 1024, "max-num-seqs": 8, "enforce-eager": true}`)
	after, _ := d.engine()
	require.NotEqual(t, before, after)
	_, text = d.send(http.MethodGet, "/models", nil)
	require.Contains(t, text, `"max_model_len":1024`)
	d.chatBothWays()
	require.Positive(t, streams)
	watch.step(fmt.Sprintf("other ModelParams in force; %d streams meanwhile, none failed or was cut", streams))

	d.remove()
	watch.step("DeleteModelService until nothing is left")
}

func TestRealVLLMEmbeds(t *testing.T) {
	watch := newStopwatch()
	d := newRealService(t, "Qwen3-Embedding-0.6B", `{"max-model-len": 512, "enforce-eager": true}`)
	watch.step("CreateModelService of an embedding model until the gateway answers")
	status, text := d.send(http.MethodPost, "/embeddings", map[string]any{"model": "Qwen3-Embedding-0.6B", "input": []string{"engine", "shed"}})
	require.Equal(t, http.StatusOK, status, text)
	var answer struct {
		Data []struct {
			Object    string
			Embedding []float64
		}
		Usage map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(text), &answer))
	require.Len(t, answer.Data, 2)
	for _, one := range answer.Data {
		var squares float64
		for _, x := range one.Embedding {
			squares += x * x
		}
		require.InDelta(t, 1, squares, 1e-3)
		require.Equal(t, "embedding", one.Object)
	}
	require.Positive(t, answer.Usage["prompt_tokens"])
	d.compareSurface("--runner=pooling")
	d.remove()
	watch.step("embeddings, the routes of vllm-sim, and DeleteModelService")
}

func TestRealVLLMReranks(t *testing.T) {
	watch := newStopwatch()
	d := newRealService(t, "bge-reranker-v2-m3", `{"enforce-eager": true}`)
	watch.step("CreateModelService of a reranking model until the gateway answers")
	status, text := d.send(http.MethodPost, "/rerank", map[string]any{
		"model": "bge-reranker-v2-m3", "query": "Where do engines sleep?", "documents": []string{"In the shed.", "A recipe for soup."},
	})
	require.Equal(t, http.StatusOK, status, text)
	var answer struct {
		Results []struct {
			Index int
			Score float64 `json:"relevance_score"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(text), &answer))
	require.Len(t, answer.Results, 2)
	require.GreaterOrEqual(t, answer.Results[0].Score, answer.Results[1].Score)
	d.remove()
	watch.step("rerank and DeleteModelService")
}
