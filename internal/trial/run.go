package trial

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/consumer"
)

const (
	maxAnswer = 16 << 20
	maxLine   = 1 << 20
)

// Run sends the request and tells what happens as it happens. It ends when ctx does, and with the request to the
// gateway then. Only emit fails it: what goes wrong with the request is part of the result.
func (t *Trial) Run(ctx context.Context, emit func(Event) error) error {
	if err := emit(Event{Decision: &t.decision}); err != nil {
		return err
	}
	if t.refusal != "" {
		return emit(Event{Result: &Result{Error: "The request was not sent: " + t.refusal}})
	}
	w := &watch{began: time.Now(), emit: emit}
	err := t.send(ctx, w)
	if w.broken != nil {
		return w.broken
	}
	w.result.Total = time.Since(w.began)
	if err != nil {
		w.result.Error = err.Error()
	}
	return emit(Event{Result: &w.result})
}

// watch keeps the times and passes the content on.
type watch struct {
	began  time.Time
	emit   func(Event) error
	result Result
	broken error // of emit
}

func (w *watch) content(c Content) error {
	if c == (Content{}) {
		return nil
	}
	if w.result.FirstContent == nil {
		took := time.Since(w.began)
		w.result.FirstContent = &took
	}
	w.broken = w.emit(Event{Content: &c})
	return w.broken
}

func (t *Trial) send(ctx context.Context, w *watch) error {
	request, err := t.request(ctx)
	if err != nil {
		return err
	}
	response, err := t.trials.client.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // the URL may carry the consumer's key
		}
		return fmt.Errorf("the gateway at %s did not answer: %w", t.trials.Gateway, err)
	}
	defer response.Body.Close()
	w.result.Status, w.result.RequestID = response.StatusCode, response.Header.Get("X-Request-Id")
	body := io.LimitReader(response.Body, maxAnswer)
	if response.StatusCode != http.StatusOK {
		return refused(response.Status, body)
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind == "text/event-stream" {
		return w.stream(body)
	}
	return w.whole(body)
}

func (t *Trial) request(ctx context.Context) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(t.trials.Gateway, "/")+t.target, bytes.NewReader(t.body))
	if err != nil {
		return nil, err
	}
	request.Host = t.host
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "engineshed-debug")
	if key := t.key; key != nil {
		switch key.source {
		case consumer.Header:
			request.Header.Set(key.name, key.key)
		case consumer.QueryString:
			request.URL.RawQuery = url.Values{key.name: {key.key}}.Encode()
		default:
			request.Header.Set("Authorization", "Bearer "+key.key)
		}
	}
	return request, nil
}

// refused is what an error answer says.
func refused(status string, body io.Reader) error {
	text, _ := io.ReadAll(io.LimitReader(body, 64<<10))
	var said struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(text, &said)
	message := said.Error.Message
	if message == "" {
		message = said.Message
	}
	if message == "" {
		message = fmt.Sprintf("%.500s", bytes.ToValidUTF8(bytes.TrimSpace(text), []byte("?")))
	}
	return fmt.Errorf("%s: %s", status, message)
}

// answer is a chat completion, or a piece of one.
type answer struct {
	Choices []struct {
		Message      *said   `json:"message"`
		Delta        *said   `json:"delta"`
		FinishReason *string `json:"finish_reason"`
	} `json:"choices"`
	Usage *Usage `json:"usage"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

type said struct {
	Content          *string `json:"content"`
	Reasoning        *string `json:"reasoning"`
	ReasoningContent *string `json:"reasoning_content"`
}

// take passes on what the answer says.
func (w *watch) take(text []byte) error {
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return fmt.Errorf("the answer is no chat completion: %w", err)
	}
	if a.Usage != nil {
		w.result.Usage = a.Usage
	}
	for _, choice := range a.Choices {
		if choice.FinishReason != nil {
			w.result.FinishReason = *choice.FinishReason
		}
		for _, piece := range []*said{choice.Message, choice.Delta} {
			if err := w.content(piece.content()); err != nil {
				return err
			}
		}
	}
	if a.Error != nil {
		return fmt.Errorf("the service stopped answering: %s", a.Error.Message)
	}
	return nil
}

func (s *said) content() (c Content) {
	if s == nil {
		return c
	}
	if s.Content != nil {
		c.Text = *s.Content
	}
	for _, reasoning := range []*string{s.Reasoning, s.ReasoningContent} {
		if reasoning != nil {
			c.Reasoning = *reasoning
		}
	}
	return c
}

func (w *watch) whole(body io.Reader) error {
	text, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	return w.take(text)
}

// stream reads server-sent events until data: [DONE].
func (w *watch) stream(body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			continue
		}
		if data = bytes.TrimSpace(data); string(data) == "[DONE]" {
			return nil
		}
		if err := w.take(data); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	return errors.New("the answer broke off: it ended without [DONE]")
}
