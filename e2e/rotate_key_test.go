package e2e

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

func TestAReplacedKeyOpensNothingWithinFiveSecondsAndCutsNothing(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	s.vllm += " --sim-inter-token-latency=100ms" // an answer takes some six seconds
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	ids, described := served(t, c, 1)
	url, old := described.text("PrivateConnectUrl"), described.text("ApiKey")
	whole, err := chat(t.Context(), url, old, "a long story", true)
	require.NoError(t, err)

	stream, beginning := openStream(t, url, old)
	_, err = c.call("RotateModelServiceApiKey", ids)
	require.NoError(t, err)
	replaced := time.Now()
	eventually(t, 5*time.Second, "the old key opens nothing", func() bool {
		return modelsStatus(t, url, old) == http.StatusUnauthorized
	})
	t.Logf("the old key was refused %s after the call", time.Since(replaced))
	rest, err := io.ReadAll(stream)
	require.NoError(t, err)
	require.NotEmpty(t, rest, "the stream is still under way")
	text, err := joinDeltas(beginning + string(rest))
	require.NoError(t, err)
	require.Equal(t, whole, text, "it is whole")
	after, err := c.call("DescribeModelService", ids)
	require.NoError(t, err)
	require.NotEqual(t, old, after.text("ApiKey"))
	require.Equal(t, http.StatusOK, modelsStatus(t, url, after.text("ApiKey")))
}

// modelsStatus asks for the models of a service, which a key opens or not.
func modelsStatus(t *testing.T, url, key string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/models", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	return response.StatusCode
}

// openStream begins a long answer and returns it behind its first line.
func openStream(t *testing.T, url, key string) (io.Reader, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/chat/completions",
		strings.NewReader(`{"model":"Qwen3-8B","stream":true,"messages":[{"role":"user","content":"a long story"}]}`))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { response.Body.Close() })
	require.Equal(t, http.StatusOK, response.StatusCode)
	lines := bufio.NewReader(response.Body)
	first, err := lines.ReadString('\n')
	require.NoError(t, err)
	return lines, first
}
