package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// newServer is an engine that serves "m", also called "alias".
func newServer(t *testing.T, k knobs, change func(*options)) *httptest.Server {
	t.Helper()
	o := options{names: []string{"m", "alias"}, root: "org/m", maxModelLen: 4096, maxNumSeqs: 16}
	if change != nil {
		change(&o)
	}
	server := httptest.NewServer(newEngine(k, o).handler())
	t.Cleanup(server.Close)
	return server
}

type reply struct {
	Object      string
	Model       string
	ID          string
	Fingerprint string `json:"system_fingerprint"`
	Choices     []struct {
		Text         string
		FinishReason *string `json:"finish_reason"`
		Message      struct{ Role, Content string }
		Delta        struct{ Role, Content string }
	}
	Usage *usageCounts
	Error json.RawMessage
}

func post(ctx context.Context, url string, body any) (*http.Response, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	return http.DefaultClient.Do(request)
}

// require.TestingT is what *testing.T and *rapid.T have in common.
func ask(t require.TestingT, url string, body map[string]any) (int, reply) {
	response, err := post(context.Background(), url, body)
	require.NoError(t, err)
	defer response.Body.Close()
	var r reply
	require.NoError(t, json.NewDecoder(response.Body).Decode(&r))
	return response.StatusCode, r
}

// askStreamed puts the pieces of a stream together.
func askStreamed(t require.TestingT, url string, body map[string]any) (text, finish string, pieces int, usage *usageCounts) {
	body["stream"], body["stream_options"] = true, map[string]any{"include_usage": true}
	response, err := post(context.Background(), url, body)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/event-stream; charset=utf-8", response.Header.Get("Content-Type"))
	all, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	events := strings.Split(strings.TrimSuffix(string(all), "\n\n"), "\n\n")
	require.Equal(t, "data: [DONE]", events[len(events)-1])
	for i, event := range events[:len(events)-1] {
		var chunk reply
		require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(event, "data: ")), &chunk))
		if len(chunk.Choices) == 0 {
			require.Equal(t, len(events)-2, i, "usage is the last chunk")
			usage = chunk.Usage
			continue
		}
		require.Nil(t, chunk.Usage)
		choice := chunk.Choices[0]
		require.Empty(t, finish, "nothing follows the end")
		text += choice.Text + choice.Delta.Content
		if choice.Text+choice.Delta.Content != "" {
			pieces++
		}
		if choice.FinishReason != nil {
			finish = *choice.FinishReason
		}
	}
	return text, finish, pieces, usage
}

func TestStreamedAndUnstreamedAnswersAreTheSame(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, nil)
	rapid.Check(t, func(t *rapid.T) {
		body, path := map[string]any{"model": rapid.SampledFrom([]string{"m", "alias"}).Draw(t, "model")}, "/v1/completions"
		prompt := rapid.StringN(0, 300, 600).Draw(t, "prompt")
		if rapid.Bool().Draw(t, "chat") {
			path = "/v1/chat/completions"
			body["messages"] = []map[string]string{{"role": "system", "content": "be brief"}, {"role": "user", "content": prompt}}
		} else {
			body["prompt"] = prompt
		}
		if rapid.Bool().Draw(t, "limited") {
			body["max_tokens"] = rapid.IntRange(1, 80).Draw(t, "max_tokens")
			body["ignore_eos"] = rapid.Bool().Draw(t, "ignore_eos")
		}
		if rapid.Bool().Draw(t, "stopped") {
			body["stop"] = rapid.SliceOfN(rapid.StringN(1, 3, 12), 0, 3).Draw(t, "stop")
		}

		status, whole := ask(t, server.URL+path, body)
		require.Equal(t, http.StatusOK, status)
		choice := whole.Choices[0]
		text, finish, pieces, usage := askStreamed(t, server.URL+path, body)
		require.Equal(t, choice.Text+choice.Message.Content, text)
		require.Equal(t, *choice.FinishReason, finish)
		require.Equal(t, whole.Usage, usage)
		require.Equal(t, usage.CompletionTokens, pieces)
		require.Equal(t, usage.PromptTokens+usage.CompletionTokens, usage.TotalTokens)
		if limit, ok := body["max_tokens"].(int); ok {
			require.LessOrEqual(t, usage.CompletionTokens, limit)
			require.True(t, finish == "stop" || usage.CompletionTokens == limit)
		}
	})
}

func TestTokensJoinedAreTheText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := strings.ToValidUTF8(rapid.String().Draw(t, "text"), "?")
		require.Equal(t, text, strings.Join(tokens(text), ""))
		require.NotContains(t, tokens(text), "")
	})
}

func TestAnswersDependOnThePromptAndNothingElse(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, nil)
	text := func(messages ...map[string]any) string {
		status, r := ask(t, server.URL+"/v1/chat/completions", map[string]any{"model": "m", "messages": messages})
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "assistant", r.Choices[0].Message.Role)
		require.Equal(t, "stop", *r.Choices[0].FinishReason)
		require.Equal(t, "vllm-sim", r.Fingerprint)
		require.Equal(t, "chat.completion", r.Object)
		return r.Choices[0].Message.Content
	}
	hello := map[string]any{"role": "user", "content": "hello"}
	first := text(hello)
	require.True(t, strings.HasPrefix(first, "[simulated] "), first)
	require.Contains(t, first, "“hello”")
	require.Equal(t, first, text(hello))
	require.Equal(t, first, text(map[string]any{"role": "user", "content": []map[string]string{{"type": "text", "text": "hello"}}}))
	require.NotEqual(t, first, text(map[string]any{"role": "user", "content": "hello!"}))
	require.NotEqual(t, first, text(map[string]any{"role": "system", "content": "be brief"}, hello))
}

func TestRequestsItRefuses(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, nil)
	chat := []map[string]string{{"role": "user", "content": "x"}}
	for name, c := range map[string]struct {
		path   string
		body   any
		status int
		kind   string
	}{
		"unknown model":          {"chat/completions", map[string]any{"model": "other", "messages": chat}, 404, "NotFoundError"},
		"no messages":            {"chat/completions", map[string]any{"model": "m"}, 400, "BadRequestError"},
		"message without role":   {"chat/completions", map[string]any{"model": "m", "messages": []map[string]string{{"content": "x"}}}, 400, "BadRequestError"},
		"no prompt":              {"completions", map[string]any{"model": "m"}, 400, "BadRequestError"},
		"two prompts":            {"completions", map[string]any{"model": "m", "prompt": []string{"a", "b"}}, 400, "BadRequestError"},
		"prompt of another type": {"completions", map[string]any{"model": "m", "prompt": true}, 400, "BadRequestError"},
		"n is 2":                 {"chat/completions", map[string]any{"model": "m", "messages": chat, "n": 2}, 400, "BadRequestError"},
		"no tokens":              {"chat/completions", map[string]any{"model": "m", "messages": chat, "max_tokens": 0}, 400, "BadRequestError"},
		"too many tokens":        {"chat/completions", map[string]any{"model": "m", "messages": chat, "max_tokens": 4096}, 400, "BadRequestError"},
		"prompt too long":        {"completions", map[string]any{"model": "m", "prompt": strings.Repeat("a ", 5000)}, 400, "BadRequestError"},
		"min above max":          {"completions", map[string]any{"model": "m", "prompt": "x", "min_tokens": 3, "max_tokens": 2}, 400, "BadRequestError"},
		"options, no stream":     {"completions", map[string]any{"model": "m", "prompt": "x", "stream_options": map[string]any{}}, 400, "BadRequestError"},
		"no object":              {"completions", "text", 400, "BadRequestError"},
	} {
		response, err := post(t.Context(), server.URL+"/v1/"+c.path, c.body)
		require.NoError(t, err, name)
		var got struct {
			Error struct {
				Message, Type string
				Code          int
			}
		}
		require.NoError(t, json.NewDecoder(response.Body).Decode(&got), name)
		response.Body.Close()
		require.Equal(t, c.status, response.StatusCode, name)
		require.Equal(t, c.status, got.Error.Code, name)
		require.Equal(t, c.kind, got.Error.Type, name)
		require.NotEmpty(t, got.Error.Message, name)
	}
}

func TestWrongContentTypeAndBrokenJSON(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, nil)
	for contentType, want := range map[string]string{"text/plain": "Bad Request", "application/json": "BadRequestError"} {
		response, err := http.Post(server.URL+"/v1/completions", contentType, strings.NewReader(`{"model":`))
		require.NoError(t, err)
		var got struct{ Error struct{ Type string } }
		require.NoError(t, json.NewDecoder(response.Body).Decode(&got))
		response.Body.Close()
		require.Equal(t, http.StatusBadRequest, response.StatusCode)
		require.Equal(t, want, got.Error.Type)
	}
}

func TestKeyIsAskedForWhereVLLMAsksForIt(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, func(o *options) { o.keys = []string{"right", "other"} })
	get := func(path, authorization string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		require.NoError(t, err)
		if authorization != "" {
			request.Header.Set("Authorization", authorization)
		}
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	for _, open := range []string{"/health", "/metrics", "/version", "/ping", "/openapi.json"} {
		status, _ := get(open, "")
		require.Equal(t, http.StatusOK, status, open)
	}
	for _, wrong := range []string{"", "Bearer ", "Bearer wrong", "right", "Basic right", "Bearer  right"} {
		for _, path := range []string{"/v1/models", "/v2/rerank"} {
			status, body := get(path, wrong)
			require.Equal(t, http.StatusUnauthorized, status, wrong)
			require.JSONEq(t, `{"error":"Unauthorized"}`, body)
		}
	}
	for _, right := range []string{"Bearer right", "bearer other"} {
		status, body := get("/v1/models", right)
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, body, `"id":"alias"`)
	}
}

// stream is an open stream of events.
type stream struct{ lines *bufio.Reader }

func openStream(t *testing.T, url string) stream {
	t.Helper()
	return openStreamUntil(t.Context(), t, url)
}

func openStreamUntil(ctx context.Context, t *testing.T, url string) stream {
	t.Helper()
	response, err := post(ctx, url+"/v1/chat/completions", map[string]any{
		"stream": true, "messages": []map[string]string{{"role": "user", "content": "hello"}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { response.Body.Close() })
	require.Equal(t, http.StatusOK, response.StatusCode)
	return stream{bufio.NewReader(response.Body)}
}

func (s stream) next(t *testing.T) string {
	t.Helper()
	event, err := s.lines.ReadString('\n')
	require.NoError(t, err)
	_, err = s.lines.ReadString('\n')
	require.NoError(t, err)
	return event
}

// metric returns the value of a metric, labels and all.
func metric(t *testing.T, url, name string) string {
	t.Helper()
	response, err := http.Get(url + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return value
		}
	}
	t.Fatalf("no metric %s", name)
	return ""
}

func awaitMetric(t *testing.T, url, name, want string) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for ; metric(t, url, name) != want; <-tick.C {
		require.True(t, time.Now().Before(end), "%s is not %s", name, want)
	}
}

const labels = `{engine="0",model_name="m"}`

func TestClientThatLeavesEndsItsGeneration(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{interTokenLatency: time.Hour}, nil)
	ctx, leave := context.WithCancel(t.Context())
	streamed := openStreamUntil(ctx, t, server.URL)
	streamed.next(t)
	awaitMetric(t, server.URL, "vllm:num_requests_running"+labels, "1")
	unstreamed := make(chan error, 1)
	go func() {
		response, err := post(ctx, server.URL+"/v1/completions", map[string]any{"prompt": "hello"})
		if err == nil {
			response.Body.Close()
		}
		unstreamed <- err
	}()
	awaitMetric(t, server.URL, "vllm:num_requests_running"+labels, "2")
	leave()
	require.Error(t, <-unstreamed)
	awaitMetric(t, server.URL, "vllm:num_requests_running"+labels, "0")
	require.Equal(t, "2", metric(t, server.URL, `vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"}`))
}

func TestRequestsBeyondMaxNumSeqsWait(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{interTokenLatency: time.Hour}, func(o *options) { o.maxNumSeqs = 1 })
	ctx, leave := context.WithCancel(t.Context())
	openStreamUntil(ctx, t, server.URL).next(t)
	second := make(chan string, 1)
	go func() { second <- openStream(t, server.URL).next(t) }()
	awaitMetric(t, server.URL, "vllm:num_requests_waiting"+labels, "1")
	leave()
	require.Contains(t, <-second, "assistant")
	require.Equal(t, "0", metric(t, server.URL, "vllm:num_requests_waiting"+labels))
}

func TestMetricsCountWhatUsageSays(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, nil)
	var prompt, completion int
	for range 3 {
		_, r := ask(t, server.URL+"/v1/completions", map[string]any{"prompt": "count me", "max_tokens": 7})
		prompt += r.Usage.PromptTokens
		completion += r.Usage.CompletionTokens
	}
	require.Equal(t, 21, completion)
	require.Equal(t, "21", metric(t, server.URL, "vllm:generation_tokens_total"+labels))
	require.Equal(t, strconv.Itoa(prompt), metric(t, server.URL, "vllm:prompt_tokens_total"+labels))
	require.Equal(t, "3", metric(t, server.URL, "vllm:time_to_first_token_seconds_count"+labels))
	require.Equal(t, "3", metric(t, server.URL, "vllm:e2e_request_latency_seconds_count"+labels))
	require.Equal(t, "3", metric(t, server.URL, `vllm:request_success_total{engine="0",finished_reason="length",model_name="m"}`))
}

func TestIgnoreEOSFillsUpToTheLimit(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, nil)
	_, r := ask(t, server.URL+"/v1/completions", map[string]any{"prompt": "x", "max_tokens": 500, "ignore_eos": true})
	require.Equal(t, 500, r.Usage.CompletionTokens)
	require.Equal(t, "length", *r.Choices[0].FinishReason)
	_, r = ask(t, server.URL+"/v1/completions", map[string]any{"prompt": "x", "min_tokens": 300})
	require.Equal(t, 300, r.Usage.CompletionTokens)
	require.Equal(t, "stop", *r.Choices[0].FinishReason)
}

func TestTokenIDsAreAPrompt(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, nil)
	_, r := ask(t, server.URL+"/v1/completions", map[string]any{"prompt": []int{1, 22, 333}})
	require.Contains(t, r.Choices[0].Text, "“1 22 333”")
}
