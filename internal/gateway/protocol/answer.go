// Package protocol reads what an answer says about itself while it passes: tokens, model, id, and when its content begins.
package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

const (
	// maxLine is how much of a line of a stream is kept to be read as a whole.
	maxLine = 64 << 10
	// maxHeld is how much of a line may be held back from the client until it is known what it is.
	maxHeld = 4 << 10
	// maxKeptLine is how much memory a quiet stream may keep.
	maxKeptLine = 4 << 10
	// maxLooks is in how many events a model's name is looked for.
	maxLooks = 8
	// maxRecorded is up to which size a JSON answer is taken apart to be recorded.
	maxRecorded = 1 << 20
)

// Answer reads one answer. The zero value takes it for anything. It is not for concurrent use.
type Answer struct {
	Usage   Usage
	Model   string // as the answer names it
	ID      string
	Content bool // content has come: not headers, comments, roles or pings
	Stream  bool // events, not one document
	Failed  bool // an event has come that tells of an error
	Final   bool // an event has come that says that the answer of a chat is over: more than its usage does not follow
	Ended   bool // the event has come that ends the stream of a chat: nothing follows

	kind  kind
	strip bool
	looks int

	line     []byte // the start of a line that has been passed on, or is held back
	held     int    // how much of line is held back
	long     bool   // the line is too long to be kept: fields reads it
	dropped  bool   // the line before was taken out
	document fields
	text     *text
}

type kind int

const (
	opaque kind = iota // anything: only its first byte is news
	document
	events
)

// Begin says which headers the answer has. With strip, the event of an OpenAI stream that tells the usage and nothing
// else is taken out.
func (a *Answer) Begin(contentType, contentEncoding string, strip bool) {
	if contentEncoding != "" && !strings.EqualFold(contentEncoding, "identity") {
		return
	}
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	switch {
	case media == "text/event-stream":
		a.kind, a.Stream, a.strip = events, true, strip
	case media == "application/json" || strings.HasSuffix(media, "+json"):
		a.kind = document
	case media == "application/x-ndjson":
		a.Stream = true
	}
}

// Events reports whether the answer is read event by event.
func (a *Answer) Events() bool { return a.kind == events }

// Record keeps what is answered, up to limit bytes of each part.
func (a *Answer) Record(limit int) { a.text = newText(limit) }

// Unhold moves what was held back to the front of into, where the next piece follows it.
func (a *Answer) Unhold(into []byte) int {
	if a.held == 0 {
		return 0
	}
	n := copy(into, a.line[:a.held])
	if n == a.held {
		a.line, a.held = a.line[:0], 0
	} else {
		a.line, a.held = append(a.line[:0], a.line[n:a.held]...), a.held-n
	}
	return n
}

// Read reads a piece of the answer, which begins with what was held back, and returns how much of it, moved together at
// its front, is to be passed on. Unless it is the last piece, the start of a line that may have to be taken out is held
// back.
func (a *Answer) Read(piece []byte, last bool) int {
	switch a.kind {
	case events:
		return a.readEvents(piece, last)
	case document:
		a.document.write(piece)
		a.text.addDocument(piece)
	case opaque:
		a.Content = a.Content || len(piece) > 0
	}
	return len(piece)
}

func (a *Answer) readEvents(piece []byte, last bool) int {
	kept, rest := 0, piece
	for {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			break
		}
		if !a.takesOut(rest[:end]) {
			kept += copy(piece[kept:], rest[:end])
		}
		rest = rest[end:]
	}
	if len(rest) == 0 {
		return kept
	}
	if a.strip && !last && len(a.line) == 0 && !a.long && (mayBeUsage(rest) || a.dropped && string(rest) == "\r") {
		a.line, a.held = append(a.line, rest...), len(rest)
		return kept
	}
	a.begin(rest)
	return kept + copy(piece[kept:], rest)
}

// takesOut reads the end of a line, or a whole one, and reports whether it is not to be passed on.
func (a *Answer) takesOut(line []byte) bool {
	if len(a.line) == 0 && !a.long {
		blank := len(bytes.TrimRight(line, "\r\n")) == 0
		a.dropped = a.dropped && blank || a.event(line) && a.strip
		return a.dropped
	}
	a.begin(line) // its start has been passed on
	if a.long {
		a.Content = true // nothing else is that long
		a.takeFields()
		a.long, a.document = false, fields{}
	} else {
		a.event(a.line)
	}
	a.dropped = false
	if a.line = a.line[:0]; cap(a.line) > maxKeptLine {
		a.line = nil
	}
	return false
}

// begin keeps the start of a line, or hands it on when it becomes too long.
func (a *Answer) begin(text []byte) {
	if !a.long && len(a.line)+len(text) <= maxLine {
		a.line = append(a.line, text...)
		return
	}
	if !a.long {
		a.long = true
		data, _ := bytes.CutPrefix(a.line, []byte("data:"))
		a.document.write(data)
		a.line = nil
	}
	a.document.write(text)
}

// mayBeUsage reports whether the start of a line may be one of the event that tells the usage. What is long, or has a
// choice, is not.
func mayBeUsage(start []byte) bool {
	data, ok := bytes.CutPrefix(start, []byte("data:"))
	if !ok {
		return strings.HasPrefix("data:", string(start))
	}
	if data = bytes.TrimLeft(data, " "); len(start) > maxHeld || len(data) > 0 && data[0] != '{' {
		return false
	}
	_, choices, found := bytes.Cut(data, []byte(`"choices"`))
	choices = bytes.TrimLeft(choices, " :[")
	return !found || len(choices) == 0 || choices[0] == ']'
}

// Inside of a string their last quotes would be escaped.
var usageName, errorName = []byte(`"usage"`), []byte(`"error"`)

// event reads a whole line and reports whether it tells the usage and nothing else.
func (a *Answer) event(line []byte) bool {
	if name, ok := bytes.CutPrefix(line, []byte("event:")); ok {
		a.Failed = a.Failed || string(bytes.TrimSpace(name)) == "error"
		return false
	}
	data, ok := bytes.CutPrefix(line, []byte("data:"))
	data = bytes.TrimSpace(data)
	a.Ended = a.Ended || ok && isEnd(data)
	a.Final = a.Final || a.Ended || ok && hasReason(data)
	if !ok || len(data) == 0 || data[0] != '{' {
		return false
	}
	tells := bytes.Contains(data, usageName)
	if a.Content && !tells && !bytes.Contains(data, errorName) && a.text == nil && (a.Model != "" || a.looks >= maxLooks) {
		return false
	}
	a.looks++
	var e event
	if err := json.Unmarshal(data, &e); err != nil && !isMistyped(err) {
		return false
	}
	a.take(&e)
	return tells && isPresent(e.Usage) && e.Choices != nil && len(e.Choices) == 0
}

var (
	done         = []byte("[DONE]")
	finishReason = []byte(`"finish_reason"`)
	messageStop  = []byte(`"message_stop"`)
)

// isEnd reports whether an event is OpenAI's or Anthropic's last one. Inside of a text the quotes would be escaped.
func isEnd(data []byte) bool { return bytes.Equal(data, done) || bytes.Contains(data, messageStop) }

// hasReason reports whether an event says why the answer is over.
func hasReason(data []byte) bool {
	_, reason, found := bytes.Cut(data, finishReason)
	reason = bytes.TrimLeft(reason, ": ")
	return found && len(reason) > 0 && reason[0] == '"'
}

// isMistyped reports whether a field was of another type than is known; all others were read.
func isMistyped(err error) bool {
	var mistyped *json.UnmarshalTypeError
	return errors.As(err, &mistyped)
}

func (a *Answer) take(e *event) {
	for _, part := range []*event{e, e.Message, e.Response} {
		if part == nil {
			continue
		}
		a.name(part.Model, firstOf(part.ID, part.RequestID))
		a.Usage.take(part.Usage)
	}
	a.Failed = a.Failed || e.isError()
	a.Content = a.Content || e.hasContent()
	a.text.addEvent(e)
}

func (a *Answer) name(model, id string) {
	if a.Model == "" {
		a.Model = model
	}
	if a.ID == "" {
		a.ID = id
	}
}

func (a *Answer) takeFields() {
	f := &a.document
	a.name(textOf(f.model), textOf(f.id))
	a.Usage.take(f.usage)
}

// textOf is a string as it is meant; "" for everything else.
func textOf(value []byte) string {
	if n := len(value); n == 0 {
		return ""
	} else if n >= 2 && value[0] == '"' && value[n-1] == '"' && bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : n-1])
	}
	return decoded(value)
}

func decoded(value []byte) (s string) {
	_ = json.Unmarshal(value, &s) // what is no string is not said
	return s
}

// End says that nothing follows.
func (a *Answer) End() {
	switch {
	case a.kind == document:
		a.document.endValue()
		a.takeFields()
	case a.long:
		a.takeFields()
	case len(a.line) > 0:
		a.event(a.line) // a stream may end without an end of line
	}
	a.line, a.held, a.long = nil, 0, false
}

// Recorded is what was recorded: the answer, what was thought before it, and the calls of tools as JSON.
func (a *Answer) Recorded() (answer, reasoning, toolCalls string) { return a.text.parts() }

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
