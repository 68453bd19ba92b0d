package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// request is a chat completion or a completion; vLLM ignores fields it does not know, and so do we.
type request struct {
	Model               string         `json:"model"`
	Messages            []message      `json:"messages"` // chat completions
	Prompt              onePrompt      `json:"prompt"`   // completions
	MaxTokens           *int           `json:"max_tokens"`
	MaxCompletionTokens *int           `json:"max_completion_tokens"`
	MinTokens           int            `json:"min_tokens"`
	IgnoreEOS           bool           `json:"ignore_eos"`
	Stop                texts          `json:"stop"`
	N                   *int           `json:"n"`
	Stream              bool           `json:"stream"`
	StreamOptions       *streamOptions `json:"stream_options"`
}

func (r *request) model() string { return r.Model }

type streamOptions struct {
	IncludeUsage         bool `json:"include_usage"`
	ContinuousUsageStats bool `json:"continuous_usage_stats"`
}

type message struct {
	Role    string      `json:"role"`
	Content contentText `json:"content"`
}

// contentText is a string, null, or a list of parts of which the text ones count.
type contentText string

func (c *contentText) UnmarshalJSON(data []byte) error {
	var parts []struct {
		Text string `json:"text"`
	}
	if len(data) == 0 || data[0] != '[' {
		return json.Unmarshal(data, (*string)(c))
	}
	if err := json.Unmarshal(data, &parts); err != nil {
		return err
	}
	var all []string
	for _, part := range parts {
		all = append(all, part.Text)
	}
	*c = contentText(strings.Join(all, "\n"))
	return nil
}

// texts is one string or a list of them.
type texts []string

func (t *texts) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '[' {
		return json.Unmarshal(data, (*[]string)(t))
	}
	var one *string
	if err := json.Unmarshal(data, &one); err != nil || one == nil {
		return err
	}
	*t = texts{*one}
	return nil
}

// onePrompt is a string, a list of one string, or a list of token ids.
type onePrompt struct {
	given bool
	text  string
}

func (p *onePrompt) UnmarshalJSON(data []byte) error {
	var ids []json.Number
	if len(data) > 0 && data[0] == '[' && json.Unmarshal(data, &ids) == nil && !strings.Contains(string(data), `"`) {
		words := make([]string, len(ids))
		for i, id := range ids {
			words[i] = id.String()
		}
		*p = onePrompt{given: len(ids) > 0, text: strings.Join(words, " ")}
		return nil
	}
	var list texts
	if err := list.UnmarshalJSON(data); err != nil {
		return err
	}
	if len(list) > 1 {
		return errors.New("the simulated engine answers one prompt per request")
	}
	*p = onePrompt{given: len(list) == 1, text: strings.Join(list, "")}
	return nil
}

// generation is what a request asks the engine to produce.
type generation struct {
	prompt       []string // its tokens
	continued    string   // what stands between the prompt and the answer where another turn repeats them
	promptTokens int
	cachedTokens int // of the prompt, which were not computed again; known when the first token is there
	answer       []string
	length       int    // how many tokens are produced
	finish       string // why they end: stop or length
}

// token is the i-th token of the generation.
func (g generation) token(i int) string {
	if i < len(g.answer) {
		return g.answer[i]
	}
	return filler[(i-len(g.answer))%len(filler)]
}

// whole is the prompt with its answer, as another turn repeats them. The last token of the prompt is another one when more
// follows.
func (g generation) whole() []string {
	before := g.prompt[:max(0, len(g.prompt)-1)]
	var rest strings.Builder
	rest.WriteString(strings.Join(g.prompt[len(before):], "") + g.continued)
	for i := range g.length {
		rest.WriteString(g.token(i))
	}
	return slices.Concat(before, tokens(rest.String()))
}

// plan checks a request and works out what answers it. Its errors are sentences for the client.
func (r *request) plan(chat bool, maxModelLen int) (generation, error) {
	if err := r.check(chat); err != nil {
		return generation{}, err
	}
	prompt, last := r.Prompt.text, r.Prompt.text
	if chat {
		prompt, last = r.conversation()
	}
	g := generation{prompt: tokens(prompt), finish: "stop"}
	g.promptTokens = max(1, len(g.prompt))
	if chat {
		g.continued = opening("assistant")
	}
	room := maxModelLen - g.promptTokens
	limit := room
	if asked := r.limit(); asked != nil {
		limit = *asked
	}
	if room < 1 || limit > room {
		return generation{}, fmt.Errorf("This model's maximum context length is %d tokens. However, you requested %d tokens "+ //nolint:staticcheck // vLLM's own sentence, sent as it stands
			"(%d in the messages, %d in the completion). Please reduce the length of the messages or completion.",
			maxModelLen, g.promptTokens+max(limit, 0), g.promptTokens, max(limit, 0))
	}
	g.answer = tokens(cutAt(answer(prompt, last), r.Stop))
	g.length = max(len(g.answer), r.MinTokens)
	if r.IgnoreEOS {
		g.length = limit
	}
	if g.length > limit || r.IgnoreEOS {
		g.length, g.finish = limit, "length"
	}
	return g, nil
}

// limit is how many tokens the client wants at most; nil when it does not say.
func (r *request) limit() *int {
	if r.MaxCompletionTokens != nil {
		return r.MaxCompletionTokens
	}
	return r.MaxTokens
}

func (r *request) check(chat bool) error {
	limit := r.limit()
	switch {
	case chat && len(r.Messages) == 0:
		return errors.New("messages must hold at least one message")
	case chat && slices.ContainsFunc(r.Messages, func(m message) bool { return m.Role == "" }):
		return errors.New("every message must have a role")
	case !chat && !r.Prompt.given:
		return errors.New("prompt is required")
	case r.N != nil && *r.N != 1:
		return errors.New("n must be 1: the simulated engine gives one choice")
	case limit != nil && *limit < 1:
		return fmt.Errorf("max_tokens must be at least 1, got %d.", *limit) //nolint:staticcheck // a sentence for the client
	case r.MinTokens < 0 || limit != nil && r.MinTokens > *limit:
		return errors.New("min_tokens must be between 0 and max_tokens")
	case r.StreamOptions != nil && !r.Stream:
		return errors.New("Stream options can only be defined when `stream=True`.") //nolint:staticcheck // vLLM's own sentence
	}
	return nil
}

// conversation is the whole chat as one prompt, and the last thing that the user wrote.
func (r *request) conversation() (prompt, last string) {
	var all strings.Builder
	for _, m := range r.Messages {
		fmt.Fprintf(&all, "%s%s\n", opening(m.Role), m.Content)
		if m.Role == "user" {
			last = string(m.Content)
		}
	}
	return all.String(), last
}

func opening(role string) string { return role + ": " }
