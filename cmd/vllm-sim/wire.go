package main

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// envelope is what a completion, a chat completion and each of their chunks have in common.
type envelope struct {
	ID          string       `json:"id"`
	Object      string       `json:"object"`
	Created     int64        `json:"created"`
	Model       string       `json:"model"`
	Choices     []any        `json:"choices"`
	Usage       *usageCounts `json:"usage,omitempty"`
	Fingerprint string       `json:"system_fingerprint"`
}

type usageCounts struct {
	PromptTokens     int            `json:"prompt_tokens"`
	TotalTokens      int            `json:"total_tokens"`
	CompletionTokens int            `json:"completion_tokens"`
	Details          *promptDetails `json:"prompt_tokens_details,omitempty"`
}

type promptDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

// usage counts; as in vLLM, what was cached is told when the command line asks for it and there was something.
func (e *engine) usage(g *generation, produced int) *usageCounts {
	u := &usageCounts{PromptTokens: g.promptTokens, CompletionTokens: produced, TotalTokens: g.promptTokens + produced}
	if e.promptDetails && g.cachedTokens > 0 {
		u.Details = &promptDetails{g.cachedTokens}
	}
	return u
}

// form is how an answer is written on the wire.
type form interface {
	prefix() string // of the id
	object() string
	choice(text, finish string) any
	chunkObject() string
	opening() any // the chunk before the first token; nil for none
	delta(token string, finish any) any
}

type fields = map[string]any

type chatForm struct{}

func (chatForm) prefix() string      { return "chatcmpl-" }
func (chatForm) object() string      { return "chat.completion" }
func (chatForm) chunkObject() string { return "chat.completion.chunk" }

func (chatForm) choice(text, finish string) any {
	return fields{
		"index": 0, "logprobs": nil, "finish_reason": finish, "stop_reason": nil,
		"message": fields{"role": "assistant", "content": text, "refusal": nil, "tool_calls": []any{}},
	}
}

func (chatForm) opening() any {
	return fields{"index": 0, "delta": fields{"role": "assistant", "content": ""}, "logprobs": nil, "finish_reason": nil}
}

func (chatForm) delta(token string, finish any) any {
	choice := fields{"index": 0, "delta": fields{"content": token}, "logprobs": nil, "finish_reason": finish}
	if finish != nil {
		choice["stop_reason"] = nil
	}
	return choice
}

type textForm struct{}

func (textForm) prefix() string      { return "cmpl-" }
func (textForm) object() string      { return "text_completion" }
func (textForm) chunkObject() string { return "text_completion" }
func (textForm) opening() any        { return nil }

func (textForm) choice(text, finish string) any {
	return fields{"index": 0, "text": text, "logprobs": nil, "finish_reason": finish, "stop_reason": nil, "prompt_logprobs": nil}
}

func (textForm) delta(token string, finish any) any {
	return fields{"index": 0, "text": token, "logprobs": nil, "finish_reason": finish, "stop_reason": nil}
}

// sse writes server-sent events, one flush each.
type sse struct {
	w     http.ResponseWriter
	flush func() error
}

func (s sse) send(chunk any) error {
	data, err := json.Marshal(chunk)
	if err != nil {
		return err
	}
	return s.write(data)
}

func (s sse) done() error { return s.write([]byte("[DONE]")) }

func (s sse) write(data []byte) error {
	s.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	var event bytes.Buffer
	event.WriteString("data: ")
	event.Write(data)
	event.WriteString("\n\n")
	if _, err := event.WriteTo(s.w); err != nil {
		return err
	}
	return s.flush()
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

// refuseHTTP answers in the shape of vLLM's OpenAI server; param is the field at fault or nil.
func refuseHTTP(w http.ResponseWriter, status int, kind, message string, param any) {
	writeJSON(w, status, fields{"error": fields{"message": message, "type": kind, "param": param, "code": status}})
}
