package protocol

import (
	"encoding/json"
	"strconv"
)

// Usage is how many tokens an answer says it took. Providers differ in whether Input holds the Cached ones: Anthropic's
// does not, all others' do.
type Usage struct {
	Known                                   bool // the answer said something
	Input, Output, Total, Cached, Reasoning int64
}

// mostTokens bounds what is believed.
const mostTokens = 1 << 40

// tokens is a count in any of the forms that are met: a number, or one in quotes.
type tokens struct {
	n    int64
	said bool
}

// UnmarshalJSON takes what is no count for nothing, so that the rest of the answer is still read.
func (t *tokens) UnmarshalJSON(text []byte) error {
	if len(text) > 1 && text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	if n, err := strconv.ParseFloat(string(text), 64); err == nil && n >= 0 && n <= mostTokens {
		*t = tokens{int64(n), true}
	}
	return nil
}

// reported is the usage in an answer, under the names that OpenAI, Anthropic, DashScope and vLLM give it.
type reported struct {
	Prompt     tokens `json:"prompt_tokens"`
	Input      tokens `json:"input_tokens"`
	Completion tokens `json:"completion_tokens"`
	Output     tokens `json:"output_tokens"`
	Total      tokens `json:"total_tokens"`
	CacheRead  tokens `json:"cache_read_input_tokens"`

	PromptDetails     details `json:"prompt_tokens_details"`
	InputDetails      details `json:"input_tokens_details"`
	CompletionDetails details `json:"completion_tokens_details"`
	OutputDetails     details `json:"output_tokens_details"`
}

type details struct {
	Cached    tokens `json:"cached_tokens"`
	Reasoning tokens `json:"reasoning_tokens"`
}

// takeRaw merges the text of a usage object.
func (u *Usage) takeRaw(text []byte) {
	var r reported
	if err := json.Unmarshal(text, &r); err == nil || isMistyped(err) {
		u.take(&r)
	}
}

// take merges what one event says: a later one is nearer to the end. Anthropic says the input first, the output last.
func (u *Usage) take(r *reported) {
	u.set(&u.Input, r.Prompt, r.Input)
	u.set(&u.Output, r.Completion, r.Output)
	u.set(&u.Cached, r.PromptDetails.Cached, r.InputDetails.Cached, r.CacheRead)
	u.set(&u.Reasoning, r.CompletionDetails.Reasoning, r.OutputDetails.Reasoning)
	switch {
	case r.Total.said:
		u.set(&u.Total, r.Total)
		if !r.Prompt.said && !r.Input.said && !r.Completion.said && !r.Output.said {
			u.set(&u.Input, r.Total) // a reranking reads only
		}
	case u.Known:
		u.Total = u.Input + u.Output
	}
}

func (u *Usage) set(to *int64, from ...tokens) {
	for _, t := range from {
		if t.said {
			*to, u.Known = t.n, true
		}
	}
}
