package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"net/http"
	"slices"
	"strings"
)

// dimensions is the length of every vector.
const dimensions = 1024

// pooled is a request for vectors or scores.
type pooled struct {
	Model      string  `json:"model"`
	Input      prompts `json:"input"` // embeddings
	Format     string  `json:"encoding_format"`
	Dimensions *int    `json:"dimensions"`
	Query      *string `json:"query"` // rerank
	Documents  texts   `json:"documents"`
	TopN       int     `json:"top_n"`
	Queries    texts   `json:"queries"` // score, with documents, in one of four spellings
	Items      texts   `json:"items"`
	Text1      texts   `json:"text_1"`
	Text2      texts   `json:"text_2"`
	Data1      texts   `json:"data_1"`
	Data2      texts   `json:"data_2"`
}

func (p *pooled) model() string { return p.Model }

// prompts are one prompt or several, each a text or a list of token ids.
type prompts []string

func (p *prompts) UnmarshalJSON(data []byte) error {
	var several []onePrompt
	var one onePrompt
	if err := json.Unmarshal(data, &one); err == nil && one.given {
		several = []onePrompt{one}
	} else if err := json.Unmarshal(data, &several); err != nil {
		return errors.New("input must be a text, a list of texts, or lists of token ids")
	}
	for _, prompt := range several {
		*p = append(*p, prompt.text)
	}
	return nil
}

// pairs are the two sides of a score request, whichever of vLLM's four spellings they come in.
func (p *pooled) pairs() (left, right texts) {
	for _, sides := range [][2]texts{{p.Queries, p.Documents}, {p.Queries, p.Items}, {p.Text1, p.Text2}, {p.Data1, p.Data2}} {
		if len(sides[0]) > 0 && len(sides[1]) > 0 {
			return sides[0], sides[1]
		}
	}
	return nil, nil
}

// pool computes what texts mean, at the pace of a prompt: one slot for the request, one text after the other.
func (e *engine) pool(ctx context.Context, inputs []string) (vectors [][]float64, counts *usageCounts, err error) {
	counts = &usageCounts{}
	for _, input := range inputs {
		g := generation{prompt: tokens(input), finish: "stop"}
		g.promptTokens = max(1, len(g.prompt))
		if g.promptTokens > e.maxModelLen {
			return nil, nil, fmt.Errorf("This model's maximum context length is %d tokens. However, your request has %d input tokens. "+ //nolint:staticcheck // vLLM's own sentence
				"Please reduce the length of the input messages.", e.maxModelLen, g.promptTokens)
		}
		counts.PromptTokens += g.promptTokens
		counts.TotalTokens += g.promptTokens
		if err := e.generate(ctx, &g, nil); err != nil {
			return nil, nil, err
		}
		vectors = append(vectors, embed(g.prompt))
	}
	return vectors, counts, nil
}

// embed is a unit vector: the same for the same tokens, and the closer to another's the more tokens they share.
func embed(pieces []string) []float64 {
	vector := make([]float64, dimensions)
	vector[0] = 1 // of every text, so that also an empty one has a direction
	for _, piece := range pieces {
		digest := fnv.New64a()
		_, _ = digest.Write([]byte(strings.ToLower(strings.TrimSpace(piece))))
		for sum, n := digest.Sum64(), 0; n < 4; sum, n = sum>>16, n+1 {
			sign := 1.0
			if sum&(1<<15) != 0 {
				sign = -1
			}
			vector[1+sum%(dimensions-1)] += sign
		}
	}
	length := math.Sqrt(dot(vector, vector))
	for i := range vector {
		vector[i] /= length
	}
	return vector
}

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// embeddings answers /v1/embeddings.
func (e *engine) embeddings(w http.ResponseWriter, r *http.Request) {
	var p pooled
	if !e.read(w, r, &p) {
		return
	}
	switch {
	case len(p.Input) == 0:
		refuseHTTP(w, http.StatusBadRequest, "BadRequestError", "You must pass at least one prompt", nil)
		return
	case p.Dimensions != nil:
		refuseHTTP(w, http.StatusBadRequest, "BadRequestError", fmt.Sprintf("Model '%s' does not support Matryoshka embeddings; "+
			"dimensions must be unset (received dimensions=%d).", e.names[0], *p.Dimensions), nil)
		return
	case !slices.Contains([]string{"", "float", "base64"}, p.Format):
		refuseHTTP(w, http.StatusBadRequest, "BadRequestError", "encoding_format must be float or base64", nil)
		return
	}
	vectors, counts, ok := e.poolOrRefuse(w, r, p.Input)
	if !ok {
		return
	}
	data := make([]fields, len(vectors))
	for i, vector := range vectors {
		data[i] = fields{"index": i, "object": "embedding", "embedding": encoded(vector, p.Format)}
	}
	writeJSON(w, http.StatusOK, fields{
		"id": "embd-" + requestID(r), "object": "list", "created": e.now().Unix(), "model": e.names[0], "data": data, "usage": counts,
	})
}

// encoded is the vector as JSON carries it: numbers, or the base64 of 32-bit floats.
func encoded(vector []float64, format string) any {
	if format != "base64" {
		return vector
	}
	var raw []byte
	for _, x := range vector {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(x)))
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// rerank answers /rerank and its spellings: documents by how much they have in common with the query.
func (e *engine) rerank(w http.ResponseWriter, r *http.Request) {
	var p pooled
	if !e.read(w, r, &p) {
		return
	}
	if p.Query == nil || len(p.Documents) == 0 || p.TopN < 0 {
		refuseHTTP(w, http.StatusBadRequest, "BadRequestError", "query and documents are required, and top_n must not be negative", nil)
		return
	}
	scores, counts, ok := e.scores(w, r, []string{*p.Query}, p.Documents)
	if !ok {
		return
	}
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	if p.TopN > 0 {
		order = order[:min(p.TopN, len(order))]
	}
	results := make([]fields, len(order))
	for place, i := range order {
		results[place] = fields{
			"index": i, "document": fields{"text": p.Documents[i], "multi_modal": nil}, "relevance_score": scores[i],
		}
	}
	writeJSON(w, http.StatusOK, fields{
		"id": "score-" + requestID(r), "model": e.names[0], "results": results,
		"usage": fields{"prompt_tokens": counts.PromptTokens, "total_tokens": counts.TotalTokens},
	})
}

// score answers /score: one text against each of the others, or pair by pair.
func (e *engine) score(w http.ResponseWriter, r *http.Request) {
	var p pooled
	if !e.read(w, r, &p) {
		return
	}
	left, right := p.pairs()
	if len(left) == 0 || len(left) != 1 && len(left) != len(right) {
		refuseHTTP(w, http.StatusBadRequest, "BadRequestError", "Input lengths must be either 1:1, 1:N or N:N", nil)
		return
	}
	scores, counts, ok := e.scores(w, r, left, right)
	if !ok {
		return
	}
	data := make([]fields, len(scores))
	for i, score := range scores {
		data[i] = fields{"index": i, "object": "score", "score": score}
	}
	writeJSON(w, http.StatusOK, fields{
		"id": "score-" + requestID(r), "object": "list", "created": e.now().Unix(), "model": e.names[0], "data": data, "usage": counts,
	})
}

// scores are from 0 to 1, one for each text on the right.
func (e *engine) scores(w http.ResponseWriter, r *http.Request, left, right []string) ([]float64, *usageCounts, bool) {
	vectors, counts, ok := e.poolOrRefuse(w, r, slices.Concat(left, right))
	if !ok {
		return nil, nil, false
	}
	scores := make([]float64, len(right))
	for i := range right {
		scores[i] = (1 + dot(vectors[i%len(left)], vectors[len(left)+i])) / 2
	}
	return scores, counts, true
}

// poolOrRefuse pools, or answers why it cannot.
func (e *engine) poolOrRefuse(w http.ResponseWriter, r *http.Request, inputs []string) ([][]float64, *usageCounts, bool) {
	vectors, counts, err := e.pool(r.Context(), inputs)
	switch {
	case err == nil:
		return vectors, counts, true
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // nobody is there to be answered
	}
	refuseHTTP(w, http.StatusBadRequest, "BadRequestError", err.Error(), nil)
	return nil, nil, false
}
