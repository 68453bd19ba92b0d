// Package probe asks an engine over HTTP how it does.
package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/engineshed/engineshed/internal/node/vllm"
	"github.com/engineshed/engineshed/internal/secret"
)

// Client asks engines. Every call waits as long as its context allows: a busy engine answers late.
type Client struct{ http *http.Client }

// New returns a Client that opens a connection for each question, as an engine that hangs keeps idle ones open.
func New() *Client {
	return &Client{&http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Load returns what the engine at addr says of its own work.
func (c *Client) Load(ctx context.Context, addr string) (vllm.Load, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+vllm.MetricsPath, nil)
	if err != nil {
		return vllm.Load{}, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return vllm.Load{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return vllm.Load{}, fmt.Errorf("the engine answers %s to a question for its metrics", response.Status)
	}
	return vllm.ReadLoad(response.Body)
}

// maxAnswer is how much of an answer is read; a trial's is a few hundred bytes.
const maxAnswer = 64 << 10

// Try sends the engine at addr a chat completion of one token, with its key, as a gateway would; one that does not generate
// is asked how alike two texts are, which all that embed and rerank can tell. It returns nil when the engine answers that.
func (c *Client) Try(ctx context.Context, addr, model string, key secret.Secret) error {
	status, answer, err := c.post(ctx, "http://"+addr+"/v1/chat/completions", key, map[string]any{
		"model": model, "max_tokens": 1, "messages": []map[string]string{{"role": "user", "content": "Hello"}},
	})
	if err == nil && status == http.StatusNotFound {
		status, answer, err = c.post(ctx, "http://"+addr+"/v1/score", key, map[string]any{
			"model": model, "queries": "Hello", "documents": []string{"Hello"},
		})
	}
	if err != nil {
		return err
	}
	var said struct {
		Choices []json.RawMessage `json:"choices"`
		Data    []json.RawMessage `json:"data"`
	}
	if status != http.StatusOK || json.Unmarshal(answer, &said) != nil || len(said.Choices)+len(said.Data) == 0 {
		return fmt.Errorf("the engine answers %d %s to a short request: %.200q", status, http.StatusText(status), answer)
	}
	return nil
}

func (c *Client) post(ctx context.Context, url string, key secret.Secret, body any) (status int, answer []byte, err error) {
	data, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+key.Reveal())
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return response.StatusCode, answer, err
}
