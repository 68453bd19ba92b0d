package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

func TestModelsThatEmbedAndRerankAreServed(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	instance, nodes := newInstance(t, c, 2)
	for i, m := range []struct {
		model, path string
		body        map[string]any
		answered    string // a field of the answer that holds two things
	}{
		{"Qwen3-Embedding-0.6B", "/embeddings", map[string]any{"input": []string{"engine", "shed"}}, "data"},
		{"bge-reranker-v2-m3", "/rerank", map[string]any{"query": "engine", "documents": []string{"shed", "engine"}}, "results"},
	} {
		params := createParams(instance, nodes[i])
		params["ModelName"] = m.model
		made, err := c.call("CreateModelService", params)
		require.NoError(t, err)
		described := waitActive(t, c, instance, made.text("ModelServiceId"), 20*time.Second)
		m.body["model"] = m.model
		body, err := json.Marshal(m.body)
		require.NoError(t, err)
		var answer map[string]any
		eventually(t, 5*time.Second, "an answer over the gateway", func() bool {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, described.text("PrivateConnectUrl")+m.path, bytes.NewReader(body))
			require.NoError(t, err)
			request.Header.Set("Authorization", "Bearer "+described.text("ApiKey"))
			request.Header.Set("Content-Type", "application/json")
			response, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			defer response.Body.Close()
			return response.StatusCode == http.StatusOK && json.NewDecoder(response.Body).Decode(&answer) == nil
		})
		require.Len(t, answer[m.answered], 2)
		require.Equal(t, m.model, answer["model"])
	}
}
