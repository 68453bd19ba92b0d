package protocol

import (
	"bytes"
	"encoding/json"
	"strings"
)

// event is an event of a stream, or a whole answer, in any of the protocols: as far as it is of interest here.
type event struct {
	ID        string          `json:"id"`
	RequestID string          `json:"request_id"`
	Model     string          `json:"model"`
	Usage     json.RawMessage `json:"usage"`
	Error     json.RawMessage `json:"error"`
	Choices   []choice        `json:"choices"` // OpenAI

	Type         string          `json:"type"`          // Anthropic, OpenAI's responses
	Delta        json.RawMessage `json:"delta"`         // Anthropic: an object; OpenAI's responses: a string
	Audio        json.RawMessage `json:"audio"`         // OpenAI's speech
	Image        json.RawMessage `json:"b64_json"`      // OpenAI's images
	ContentBlock *block          `json:"content_block"` // Anthropic
	Message      *event          `json:"message"`       // Anthropic's first event
	Response     *event          `json:"response"`      // OpenAI's responses
	Content      []block         `json:"content"`       // a whole answer of Anthropic
	Output       json.RawMessage `json:"output"`        // DashScope: an object; a whole response of OpenAI: a list
}

type choice struct {
	Text    string   `json:"text"`
	Delta   *message `json:"delta"`
	Message *message `json:"message"`
}

type message struct {
	Content          json.RawMessage `json:"content"`
	ReasoningContent string          `json:"reasoning_content"`
	Reasoning        json.RawMessage `json:"reasoning"`
	ToolCalls        json.RawMessage `json:"tool_calls"`
	FunctionCall     json.RawMessage `json:"function_call"`
	Refusal          string          `json:"refusal"`
	Audio            json.RawMessage `json:"audio"`
}

// block is a part of an answer of Anthropic, or what is added to one.
type block struct {
	Type        string          `json:"type"`
	Text        string          `json:"text"`
	Thinking    string          `json:"thinking"`
	PartialJSON string          `json:"partial_json"`
	Name        string          `json:"name"`
	Input       json.RawMessage `json:"input"`
}

// output is DashScope's.
type output struct {
	Text    string   `json:"text"`
	Choices []choice `json:"choices"`
}

// hasContent reports whether the event carries something of the answer itself.
func (e *event) hasContent() bool {
	for _, c := range e.Choices {
		if c.hasContent() {
			return true
		}
	}
	if e.ContentBlock != nil && e.ContentBlock.Type == "tool_use" {
		return true
	}
	if (isPresent(e.Delta) || isPresent(e.Audio)) && (strings.HasSuffix(e.Type, ".delta") || e.Type == "content_block_delta") {
		return true
	}
	if isPresent(e.Image) {
		return true
	}
	out := e.output()
	for _, c := range out.Choices {
		if c.hasContent() {
			return true
		}
	}
	return out.Text != ""
}

// isError reports whether the event tells of an error.
func (e *event) isError() bool {
	return isPresent(e.Error) || e.Type == "error" || e.Response != nil && isPresent(e.Response.Error)
}

func (e *event) output() (o output) {
	if len(e.Output) > 0 && e.Output[0] == '{' {
		_ = json.Unmarshal(e.Output, &o) // what is of another type is left out
	}
	return o
}

func (c *choice) hasContent() bool {
	for _, m := range []*message{c.Delta, c.Message} {
		if m != nil && (m.ReasoningContent != "" || m.Refusal != "" || isPresent(m.Content) || isPresent(m.Reasoning) ||
			isPresent(m.ToolCalls) || isPresent(m.FunctionCall) || isPresent(m.Audio)) {
			return true
		}
	}
	return c.Text != ""
}

// isPresent reports whether a value is something.
func isPresent(value json.RawMessage) bool {
	switch string(bytes.TrimSpace(value)) {
	case "", "null", `""`, "[]", "{}":
		return false
	}
	return true
}
