package protocol

import "encoding/json"

// Question is what a request asks, each part cut.
type Question struct {
	Text     string // what the user said last, or the prompt
	System   string
	Messages string // all of them, as they were sent
}

// ReadQuestion finds what the JSON of a request asks. Whatever it does not know is shown as it was sent.
func ReadQuestion(body []byte, limit int) (q Question) {
	var r struct {
		Messages json.RawMessage `json:"messages"`
		System   json.RawMessage `json:"system"`
		Prompt   json.RawMessage `json:"prompt"`
		Input    json.RawMessage `json:"input"`
		Query    json.RawMessage `json:"query"`
	}
	if err := json.Unmarshal(body, &r); err != nil && !isMistyped(err) {
		return Question{Text: Cut(body, limit)}
	}
	var messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	_ = json.Unmarshal(r.Messages, &messages) // what is of another type is left out
	system := unquote(r.System)
	var text string
	for _, m := range messages {
		switch {
		case m.Role == "user":
			text = unquote(m.Content)
		case m.Role == "system" && system == "":
			system = unquote(m.Content)
		}
	}
	text = firstOf(text, unquote(r.Prompt), unquote(r.Query), unquote(r.Input))
	if text == "" && r.Messages == nil {
		text = string(body)
	}
	return Question{Cut([]byte(text), limit), Cut([]byte(system), limit), Cut(r.Messages, limit)}
}
