package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk/gpdb"
)

// lines are the words of each line of a table, without its heading.
func lines(table string) (rows [][]string) {
	for line := range strings.Lines(table) {
		rows = append(rows, strings.Fields(line))
	}
	return rows[1:]
}

func TestTheVerbsOfInstancesAndKeys(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	startUp(t, dir, freePorts(t))
	run := func(args ...string) string {
		t.Helper()
		out, complaint, err := verb(t, dir, args...)
		require.NoError(t, err, complaint)
		return out
	}
	refused := func(says string, args ...string) {
		t.Helper()
		_, complaint, err := verb(t, dir, args...)
		require.Error(t, err)
		require.Contains(t, complaint, says)
	}

	nodes := len(lines(run("ai-node", "list")))
	added := strings.Fields(run("ai-node", "add", "--count", "2", "--kind", "ADB.AIMedium.1"))
	require.Len(t, added, 2)
	require.Equal(t, 2, strings.Count(run("ai-node", "list"), "ADB.AIMedium.1"))
	require.Equal(t, added[:1], strings.Fields(run("ai-node", "delete", added[0])))
	require.Equal(t, added[1:], strings.Fields(run("ai-node", "delete", "--count", "1")), "the newest free one")
	require.Len(t, lines(run("ai-node", "list")), nodes)
	refused("InvalidAiNode.NotFound", "ai-node", "delete", added[0])
	refused("name the AI nodes", "ai-node", "delete")

	made := strings.TrimSpace(run("instance", "create", "--description", "second", "--tag", "team=search", "--nodes", "0"))
	require.Len(t, lines(run("instance", "list")), 2)
	require.Contains(t, run("instance", "list"), "team=search")
	require.Equal(t, "second", field(t, run("instance", "describe", made), "Description"))
	require.Empty(t, run("instance", "delete", made))
	require.Empty(t, run("instance", "delete", strings.TrimSpace(run("instance", "create"))))
	require.Len(t, lines(run("instance", "list")), 1)
	refused("InvalidDBInstanceId.NotFound", "instance", "delete", made)

	require.Equal(t, [][]string{{"default", "-", "127.0.0.1,192.0.2.0/24"}}, lines(run("security-ips", "add", "192.0.2.0/24")))
	run("security-ips", "set", "10.0.0.1", "10.0.0.2", "--array", "office")
	require.Equal(t, [][]string{{"default", "-", "127.0.0.1,192.0.2.0/24"}, {"office", "-", "10.0.0.1,10.0.0.2"}}, lines(run("security-ips", "list")))
	require.Equal(t, [][]string{{"default", "-", "127.0.0.1"}}, lines(run("security-ips", "delete", "192.0.2.0/24")))
	refused("InvalidSecurityIPList.Malformed", "security-ips", "add", "nonsense")

	run("model-service", "create", "--model", "Qwen3-0.6B")
	refused("OperationDenied.ModelServiceExists", "instance", "delete", lines(run("instance", "list"))[0][0])
	shown := run("operator-key", "create", "notebooks")
	id := field(t, shown, "Key")
	require.Len(t, lines(run("operator-key", "services")), 1)
	require.Eventually(t, func() bool {
		return askOperator(t, field(t, shown, "Endpoint"), field(t, shown, "ApiKey")) == http.StatusOK
	}, 5*time.Second, interval)
	require.NotContains(t, run("operator-key", "list"), field(t, shown, "ApiKey"))
	require.Eventually(t, func() bool {
		rows := lines(run("operator-key", "usage"))
		return len(rows) == 1 && rows[0][0] == "Qwen3-0.6B" && rows[0][1] == id && rows[0][2] == "1" && rows[0][7] != "0"
	}, patience, interval)
	var used gpdb.DescribeModelOperatorUsageResponse
	require.NoError(t, json.Unmarshal([]byte(run("operator-key", "usage", "-o", "json", "--by", "api_key")), &used))
	require.Len(t, used.Keys, 7)
	require.Empty(t, run("operator-key", "delete", id))
	require.Eventually(t, func() bool {
		return askOperator(t, field(t, shown, "Endpoint"), field(t, shown, "ApiKey")) == http.StatusUnauthorized
	}, 5*time.Second, interval)
	refused("InvalidApiKeyId.NotFound", "operator-key", "describe", id)
	refused("is not the number of a key", "operator-key", "delete", "mine")
}

// askOperator asks the operator endpoint a question and returns the status of the answer.
func askOperator(t *testing.T, endpoint, key string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint+"/chat/completions",
		strings.NewReader(`{"model":"Qwen3-0.6B","messages":[{"role":"user","content":"hello"}]}`))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(t, err)
	return answer.StatusCode
}
