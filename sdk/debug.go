package sdk

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/engineshed/engineshed/sdk/apig"
)

// DebugHttpApi asks a Model API something through a gateway and calls each with every event as it arrives: the decision,
// the content, and last the result.
func (c *Client) DebugHttpApi(ctx context.Context, id string, request apig.DebugHttpApiRequest, each func(apig.DebugEvent) error) error {
	r, err := c.apig.DebugHttpApi(ctx, id, request, func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept", "text/event-stream, application/json")
		return c.signer.Sign(r, "DebugHttpApi", apigVersion)
	})
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		_, err := read[struct{}](r)
		return err
	}
	return readDebug(r.Body, each)
}

func readDebug(body io.Reader, each func(apig.DebugEvent) error) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 4<<20)
	var name string
	for lines.Scan() {
		if event, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			name = event
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var event apig.DebugEvent
		text, err := json.Marshal(map[string]json.RawMessage{name: json.RawMessage(data)})
		if err == nil {
			err = json.Unmarshal(text, &event)
		}
		if err != nil {
			return fmt.Errorf("read the event %s: %w", name, err)
		}
		if err := each(event); err != nil || event.Result != nil {
			return err
		}
	}
	return errors.Join(errCutShort, lines.Err())
}
