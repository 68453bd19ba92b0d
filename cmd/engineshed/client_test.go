package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// verb runs a client verb against an installation and returns what it prints.
func verb(t *testing.T, dir string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := command(args...)
	cmd.Env = append(cmd.Env, "ENGINESHED_DATA_DIR="+dir)
	return capture(cmd)
}

func capture(cmd *exec.Cmd) (stdout, stderr string, err error) {
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err = cmd.Run()
	return out.String(), complaints.String(), err
}

func TestTheClientVerbsDoTheMainJob(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	i := startUp(t, dir, freePorts(t))

	out, progress, err := verb(t, dir, "model-service", "create", "--model", "Qwen3-0.6B", "--param", "max-model-len=4096", "--description", "trains")
	require.NoError(t, err, progress)
	require.Contains(t, progress, "deploying")
	require.Contains(t, progress, "active")
	require.NotContains(t, progress, "\x1b", "stderr is no terminal")
	id := field(t, out, "Model service")
	require.Equal(t, "active", field(t, out, "Status"))
	require.Equal(t, i.credentials.Gateway+"/services/"+id+"/v1", field(t, out, "Endpoint"))

	out, progress, err = verb(t, dir, "chat", id, "What", "is", "an engine shed?")
	require.NoError(t, err, progress)
	require.Empty(t, progress)
	require.NotEmpty(t, strings.TrimSpace(out))
	said := map[string]string{}
	piped := command("chat", id, "-o", "json", "--data-dir", dir)
	piped.Stdin = strings.NewReader("What is an engine shed?\n")
	spoken, progress, err := capture(piped)
	require.NoError(t, err, progress)
	require.NoError(t, json.Unmarshal([]byte(spoken), &said))
	require.Equal(t, strings.TrimSpace(out), said["content"])

	out, _, err = verb(t, dir, "ai-node", "list")
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(out, id), out)
	require.Contains(t, out, "unbound")

	var listed struct {
		ModelServices []map[string]any
	}
	out, _, err = verb(t, dir, "model-service", "list", "-o", "json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(out), &listed))
	require.Len(t, listed.ModelServices, 1)
	require.Equal(t, map[string]any{"max-model-len": "4096"}, listed.ModelServices[0]["ModelParams"])
	out, _, err = verb(t, dir, "model-service", "list")
	require.NoError(t, err)
	require.Contains(t, out, id)

	out, progress, err = verb(t, dir, "model-service", "delete", id)
	require.NoError(t, err, progress)
	require.Empty(t, out)
	require.Contains(t, progress, "deleted")
	_, complaint, err := verb(t, dir, "model-service", "describe", id)
	require.Error(t, err)
	require.Contains(t, complaint, "InvalidModelServiceId.NotFound")

	refusals(t, dir)
}

// refusals are one sentence each, on stderr, and no success.
func refusals(t *testing.T, dir string) {
	t.Helper()
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no model":       {[]string{"model-service", "create"}, "say which model with --model: DeepSeek"},
		"unknown model":  {[]string{"model-service", "create", "--model", "none"}, "InvalidModelName.NotFound"},
		"too many":       {[]string{"model-service", "create", "--model", "Qwen3-0.6B", "--replicas", "99"}, "99 free AI nodes are needed"},
		"unsafe param":   {[]string{"model-service", "create", "--model", "Qwen3-0.6B", "--param", "middleware=x"}, "ModelParams"},
		"broken param":   {[]string{"model-service", "create", "--model", "Qwen3-0.6B", "--param", "x"}, "NAME=VALUE"},
		"unknown format": {[]string{"ai-node", "list", "-o", "xml"}, "table or json"},
		"a wrong secret": {[]string{"ai-node", "list", "--access-key-id", "ESAKx", "--access-key-secret", "nonsense"}, "does not accept the access key ESAKx"},
		"nobody there":   {[]string{"ai-node", "list", "--endpoint", "http://127.0.0.1:1"}, "is `engineshed up` running?"},
		"nothing to say": {[]string{"chat", "ms-1", " "}, "nothing to ask"},
	} {
		out, complaint, err := verb(t, dir, c.args...)
		require.Error(t, err, name)
		require.Empty(t, out, name)
		require.True(t, strings.HasPrefix(complaint, "engineshed: "), complaint)
		require.Contains(t, complaint, c.says, name)
		require.Equal(t, 1, strings.Count(complaint, "\n"), complaint)
	}
}

func TestCredentialsAreLookedForWhereTheyAreSaidToBe(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	_, complaint, err := verb(t, empty, "ai-node", "list")
	require.Error(t, err)
	require.Contains(t, complaint, filepath.Join(empty, "credentials.json"))
	require.Contains(t, complaint, "engineshed up")

	broken := filepath.Join(t.TempDir(), "c.json")
	require.NoError(t, os.WriteFile(broken, []byte("{"), 0o600))
	_, complaint, err = verb(t, empty, "ai-node", "list", "--credentials", broken)
	require.Error(t, err)
	require.Contains(t, complaint, broken)

	byVariables := command("ai-node", "list")
	byVariables.Env = append(byVariables.Env, "ENGINESHED_ENDPOINT=http://127.0.0.1:1", "ENGINESHED_ACCESS_KEY_ID=a", "ENGINESHED_ACCESS_KEY_SECRET=b")
	_, complaint, err = capture(byVariables)
	require.Error(t, err)
	require.Contains(t, complaint, "nothing answers at http://127.0.0.1:1", "no file is needed")
}

// field returns the value in the row of a described thing.
func field(t *testing.T, table, name string) string {
	t.Helper()
	for line := range strings.Lines(table) {
		if rest, ok := strings.CutPrefix(line, name+"  "); ok {
			return strings.TrimSpace(rest)
		}
	}
	t.Fatalf("no %q in\n%s", name, table)
	return ""
}
