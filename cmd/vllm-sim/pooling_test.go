package main

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// decoded is the answer to a POST.
func decoded[T any](t require.TestingT, url string, body map[string]any) (status int, answer T) {
	response, err := post(context.Background(), url, body)
	require.NoError(t, err)
	defer response.Body.Close()
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
	return response.StatusCode, answer
}

func pooling(o *options) { o.pooling = true }

type embedded struct {
	Object string
	Data   []struct {
		Index     int
		Embedding json.RawMessage
	}
	Usage usageCounts
}

func TestEmbeddingsAreUnitVectorsThatDependOnTheTextOnly(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, pooling)
	rapid.Check(t, func(t *rapid.T) {
		input := rapid.SliceOfN(rapid.StringN(0, 60, 120), 1, 4).Draw(t, "input")
		status, whole := decoded[embedded](t, server.URL+"/v1/embeddings", map[string]any{"model": "m", "input": input})
		require.Equal(t, http.StatusOK, status)
		require.Len(t, whole.Data, len(input))
		require.Equal(t, whole.Usage.PromptTokens, whole.Usage.TotalTokens)
		for i, text := range input {
			var vector []float64
			require.NoError(t, json.Unmarshal(whole.Data[i].Embedding, &vector))
			require.Len(t, vector, dimensions)
			require.InDelta(t, 1, dot(vector, vector), 1e-9)
			_, alone := decoded[embedded](t, server.URL+"/v1/embeddings", map[string]any{"input": text})
			require.JSONEq(t, string(whole.Data[i].Embedding), string(alone.Data[0].Embedding))
		}
	})
}

func TestEmbeddingsInBase64AreTheSameVectors(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, pooling)
	_, numbers := decoded[embedded](t, server.URL+"/v1/embeddings", map[string]any{"input": []int{1, 2, 3}})
	_, packed := decoded[embedded](t, server.URL+"/v1/embeddings", map[string]any{"input": [][]int{{1, 2, 3}}, "encoding_format": "base64"})
	var want []float64
	var text string
	require.NoError(t, json.Unmarshal(numbers.Data[0].Embedding, &want))
	require.NoError(t, json.Unmarshal(packed.Data[0].Embedding, &text))
	raw, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	require.Len(t, raw, 4*dimensions)
	for i, x := range want {
		require.InDelta(t, x, math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])), 1e-6)
	}
}

type reranked struct {
	Results []struct {
		Index    int
		Document struct{ Text string }
		Score    float64 `json:"relevance_score"`
	}
	Usage usageCounts
}

func TestRerankPutsTheClosestDocumentFirst(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, pooling)
	body := map[string]any{
		"query": "Where do engines sleep?", "top_n": 2,
		"documents": []string{"A recipe for soup.", "In the shed, engines sleep.", "Where do engines sleep at night?"},
	}
	for _, path := range []string{"/rerank", "/v1/rerank", "/v2/rerank"} {
		status, answer := decoded[reranked](t, server.URL+path, body)
		require.Equal(t, http.StatusOK, status)
		require.Len(t, answer.Results, 2)
		require.Equal(t, 2, answer.Results[0].Index)
		require.Equal(t, "Where do engines sleep at night?", answer.Results[0].Document.Text)
		require.Equal(t, 1, answer.Results[1].Index)
		require.Greater(t, answer.Results[0].Score, answer.Results[1].Score)
		require.LessOrEqual(t, answer.Results[0].Score, 1.0)
		require.Positive(t, answer.Usage.TotalTokens)
	}
}

func TestScoresComePairByPairOrOneAgainstAll(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, pooling)
	type scored struct{ Data []struct{ Score float64 } }
	for _, body := range []map[string]any{
		{"queries": "same", "documents": []string{"same", "other"}},
		{"queries": "same", "items": []string{"same", "other"}},
		{"text_1": []string{"same", "same"}, "text_2": []string{"same", "other"}},
		{"data_1": "same", "data_2": []string{"same", "other"}},
	} {
		for _, path := range []string{"/score", "/v1/score"} {
			status, answer := decoded[scored](t, server.URL+path, body)
			require.Equal(t, http.StatusOK, status)
			require.Len(t, answer.Data, 2)
			require.InDelta(t, 1, answer.Data[0].Score, 1e-9)
			require.Less(t, answer.Data[1].Score, 0.9)
		}
	}
}

func TestPoolingRequestsItRefuses(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, func(o *options) { o.pooling, o.maxModelLen = true, 4 })
	for name, c := range map[string]struct {
		path   string
		body   map[string]any
		status int
	}{
		"no input":               {"/v1/embeddings", map[string]any{}, 400},
		"input of another shape": {"/v1/embeddings", map[string]any{"input": map[string]any{}}, 400},
		"too long":               {"/v1/embeddings", map[string]any{"input": "one two three four five"}, 400},
		"another model":          {"/v1/embeddings", map[string]any{"model": "x", "input": "a"}, 404},
		"other dimensions":       {"/v1/embeddings", map[string]any{"input": "a", "dimensions": 8}, 400},
		"unknown format":         {"/v1/embeddings", map[string]any{"input": "a", "encoding_format": "int4"}, 400},
		"no documents":           {"/rerank", map[string]any{"query": "a"}, 400},
		"no query":               {"/rerank", map[string]any{"documents": []string{"a"}}, 400},
		"uneven pairs":           {"/score", map[string]any{"text_1": []string{"a", "b"}, "text_2": []string{"a", "b", "c"}}, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, answer := decoded[reply](t, server.URL+c.path, c.body)
			require.Equal(t, c.status, status)
			require.NotEmpty(t, answer.Error)
		})
	}
}

func TestAModelDoesWhatItIsForOnly(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, nil)
	status, answer := decoded[fields](t, server.URL+"/v1/embeddings", map[string]any{"input": "a"})
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, fields{"detail": "Not Found"}, answer)
	server = newServer(t, knobs{}, pooling)
	status, _ = decoded[fields](t, server.URL+"/v1/chat/completions", map[string]any{"messages": []any{}})
	require.Equal(t, http.StatusNotFound, status)
}

func TestTokensBecomeTheTextAgain(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, nil)
	type tokenized struct {
		Count   int
		Tokens  []int
		Strings []string `json:"token_strs"`
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(1, 80, 160).Draw(t, "text")
		status, made := decoded[tokenized](t, server.URL+"/tokenize", map[string]any{"prompt": text, "return_token_strs": true})
		require.Equal(t, http.StatusOK, status)
		require.Len(t, made.Tokens, made.Count)
		require.Len(t, made.Strings, made.Count)
		_, back := decoded[struct{ Prompt string }](t, server.URL+"/detokenize", map[string]any{"tokens": made.Tokens})
		require.Equal(t, text, back.Prompt)
	})
	status, _ := decoded[reply](t, server.URL+"/detokenize", map[string]any{"tokens": []int{1 << 40}})
	require.Equal(t, http.StatusBadRequest, status)
	messages := []map[string]string{{"role": "user", "content": "hello"}}
	_, chat := decoded[tokenized](t, server.URL+"/tokenize", map[string]any{"messages": messages})
	_, answer := ask(t, server.URL+"/v1/chat/completions", map[string]any{"messages": messages})
	require.Equal(t, answer.Usage.PromptTokens, chat.Count)
}
