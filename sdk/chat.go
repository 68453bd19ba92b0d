package sdk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/engineshed/engineshed/sdk/gpdb"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"` // system, user or assistant
	Content string `json:"content"`
}

// Endpoint is where a gateway answers chat completions: a model service, or a Model API of the Text scenario.
type Endpoint struct {
	BaseURL string // to which /chat/completions is appended
	APIKey  string // of the model service or the consumer; "": none is asked for
	Model   string
}

// What has become active or was deployed is known to every gateway a moment later. Until then a gateway answers 404.
const (
	routeTimeout  = 5 * time.Second
	routeInterval = 100 * time.Millisecond
)

// Chat asks an active service through the gateway and calls each with every piece of the answer as it arrives. The
// service must come from DescribeModelService of a caller who may read its ApiKey.
func (c *Client) Chat(ctx context.Context, service *gpdb.DescribeModelServiceResponse, messages []Message, each func(text string) error) error {
	return c.ChatAt(ctx, Endpoint{service.PrivateConnectUrl, service.ApiKey, service.ModelName}, messages, each)
}

// ChatAt asks an endpoint of a gateway and calls each with every piece of the answer as it arrives.
func (c *Client) ChatAt(ctx context.Context, at Endpoint, messages []Message, each func(text string) error) error {
	body, err := json.Marshal(map[string]any{"model": at.Model, "messages": messages, "stream": true})
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	answer, err := c.ask(ctx, at, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return gatewayError(answer)
	}
	return readEvents(answer.Body, each)
}

// ask sends the question until the gateway knows the endpoint.
func (c *Client) ask(ctx context.Context, at Endpoint, body []byte) (*http.Response, error) {
	for deadline := time.Now().Add(routeTimeout); ; {
		answer, err := c.post(ctx, at, body)
		if err != nil || answer.StatusCode != http.StatusNotFound || time.Now().After(deadline) {
			return answer, err
		}
		_ = answer.Body.Close()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(routeInterval):
		}
	}
}

func (c *Client) post(ctx context.Context, at Endpoint, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at.BaseURL+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	if at.APIKey != "" {
		r.Header.Set("Authorization", "Bearer "+at.APIKey)
	}
	return c.http.Do(r)
}

func gatewayError(answer *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	var said struct {
		Error struct {
			Message string `json:"message"`
			Code    any    `json:"code"`
		} `json:"error"`
	}
	refusal := &Error{StatusCode: answer.StatusCode, Code: "GatewayRefused", Message: fmt.Sprintf("The gateway answered %s.", answer.Status)}
	if json.Unmarshal(body, &said) == nil && said.Error.Message != "" {
		refusal.Message = said.Error.Message
		if code, ok := said.Error.Code.(string); ok && code != "" {
			refusal.Code = code
		}
	}
	return refusal
}

// chunk is one event of a streamed answer.
type chunk struct {
	Choices []struct {
		Delta Message `json:"delta"`
	} `json:"choices"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

var errCutShort = errors.New("the answer ended before it was complete")

// readEvents reads server-sent events until data: [DONE].
func readEvents(body io.Reader, each func(string) error) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		if data = strings.TrimSpace(data); data == "[DONE]" {
			return nil
		}
		if err := readChunk(data, each); err != nil {
			return err
		}
	}
	return errors.Join(errCutShort, lines.Err())
}

func readChunk(data string, each func(string) error) error {
	var c chunk
	if err := json.Unmarshal([]byte(data), &c); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if c.Error != nil {
		return fmt.Errorf("the model stopped answering: %s", c.Error.Message)
	}
	for _, choice := range c.Choices {
		if choice.Delta.Content == "" {
			continue
		}
		if err := each(choice.Delta.Content); err != nil {
			return err
		}
	}
	return nil
}
