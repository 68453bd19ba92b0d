package protocol

import (
	"bytes"
	"encoding/json"
	"strings"
)

// text records what is answered. A nil one records nothing.
type text struct {
	answer, reasoning, toolCalls *Clip
	whole                        []byte // of a document, as long as it is small enough to be taken apart
	raw                          *Clip  // of a document
}

func newText(limit int) *text {
	return &text{answer: NewClip(limit), reasoning: NewClip(limit), toolCalls: NewClip(limit), raw: NewClip(limit)}
}

func (t *text) addDocument(piece []byte) {
	if t == nil {
		return
	}
	t.raw.add(piece)
	if len(t.whole)+len(piece) <= maxRecorded {
		t.whole = append(t.whole, piece...)
	} else {
		t.whole = nil
	}
}

func (t *text) addEvent(e *event) {
	if t == nil {
		return
	}
	if len(e.Choices) > 0 {
		t.addChoice(&e.Choices[0])
	}
	for _, b := range e.Content {
		t.addBlock(b)
	}
	if out := e.output(); len(out.Choices) > 0 {
		t.addChoice(&out.Choices[0])
	} else if out.Text != "" {
		t.grow(out.Text)
	}
	switch {
	case e.Type == "content_block_delta":
		var b block
		_ = json.Unmarshal(e.Delta, &b) // what is of another type is left out
		t.addBlock(b)
	case e.Type == "content_block_start" && e.ContentBlock != nil:
		t.toolCalls.Add(e.ContentBlock.Name)
	case strings.HasPrefix(e.Type, "response.output_text"):
		t.answer.Add(unquote(e.Delta))
	case strings.HasPrefix(e.Type, "response.reasoning"):
		t.reasoning.Add(unquote(e.Delta))
	}
}

// grow is for protocols whose events may hold the answer so far, or what is new of it.
func (t *text) grow(so string) {
	if t.answer.continues(so) {
		t.answer.Set(so)
	} else {
		t.answer.Add(so)
	}
}

func (t *text) addChoice(c *choice) {
	t.answer.Add(c.Text)
	for _, m := range []*message{c.Delta, c.Message} {
		if m == nil {
			continue
		}
		t.answer.Add(unquote(m.Content))
		t.reasoning.Add(m.ReasoningContent)
		t.reasoning.Add(unquote(m.Reasoning))
		for _, calls := range []json.RawMessage{m.ToolCalls, m.FunctionCall} {
			if isPresent(calls) {
				t.toolCalls.Add(string(calls))
			}
		}
	}
}

func (t *text) addBlock(b block) {
	t.answer.Add(b.Text)
	t.reasoning.Add(b.Thinking)
	t.toolCalls.Add(b.PartialJSON)
	if b.Type == "tool_use" {
		t.toolCalls.Add(b.Name + string(b.Input))
	}
}

func (t *text) parts() (answer, reasoning, toolCalls string) {
	if t == nil {
		return "", "", ""
	}
	if len(t.whole) > 0 {
		var e event
		if err := json.Unmarshal(t.whole, &e); err == nil || isMistyped(err) {
			t.addEvent(&e)
		}
	}
	answer, reasoning, toolCalls = t.answer.String(), t.reasoning.String(), t.toolCalls.String()
	if answer+reasoning+toolCalls == "" {
		answer = t.raw.String()
	}
	return answer, reasoning, toolCalls
}

// unquote is a string, or any other value as it is written.
func unquote(value json.RawMessage) string {
	var s string
	if !isPresent(value) || json.Unmarshal(value, &s) == nil {
		return s
	}
	return string(bytes.TrimSpace(value))
}
