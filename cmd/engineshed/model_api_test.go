package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk/apig"
)

// ran is what a verb printed.
type ran struct {
	stdout, stderr string
	err            error
}

// verb runs a verb against the installation, with stdin and more variables.
func (i *installation) verb(stdin string, env []string, args ...string) ran {
	i.t.Helper()
	cmd := command(append(args, "--data-dir", i.dir)...)
	cmd.Env = append(cmd.Env, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	return ran{stdout.String(), stderr.String(), err}
}

// ok runs a verb that must succeed and returns what it printed.
func (i *installation) ok(args ...string) string {
	i.t.Helper()
	r := i.verb("", nil, args...)
	require.NoError(i.t, r.err, r.stderr)
	return r.stdout
}

func inJSON[T any](t *testing.T, text string) (value T) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &value), text)
	return value
}

func TestAModelAPIIsEditedComparedAndRolledBack(t *testing.T) {
	t.Parallel()
	i := startUp(t, dataDir(t), freePorts(t))
	service := i.deploy()
	created := i.ok("model-api", "create", "chat", "--service", service.ModelServiceId)
	require.Contains(t, created, "by every gateway process", "it waits for them")
	api := func() apig.HttpApiApiInfo {
		return inJSON[apig.HttpApiApiInfo](t, i.ok("model-api", "get", "chat", "-o", "json"))
	}
	shown := i.ok("model-api", "get", "chat")
	require.Contains(t, shown, "by every gateway process")
	require.Contains(t, shown, "revision 1")

	require.Equal(t, "no differences\n", i.ok("model-api", "diff", "chat"))
	i.ok("model-api", "edit", "chat", "--model", "Qwen3-0.6B", "--description", "a note", "--no-deploy")
	require.Equal(t, `~ description: "" → "a note"`+"\n"+
		`+ services[`+service.ModelServiceId+`].modelName: "Qwen3-0.6B"`+"\n", i.ok("model-api", "diff", "chat"))
	i.ok("model-api", "deploy", "chat")
	i.ok("model-api", "edit", "chat", "--base-path", "/talk", "--keep-base-path", "--model", "")
	require.EqualValues(t, 3, api().DeployedRevision)
	difference := inJSON[apig.HttpApiDifference](t, i.ok("model-api", "diff", "chat", "--from", "2", "--to", "3", "-o", "json"))
	require.Equal(t, []apig.HttpApiChange{
		{Path: "basePath", Before: "/chat", After: "/talk"},
		{Path: "removeBasePathOnForward", Before: true, After: false},
		{Path: "services[" + service.ModelServiceId + "].modelName", Before: "Qwen3-0.6B"},
	}, difference.Changes)

	r := i.verb("", nil, "model-api", "edit", "chat", "--log-requests")
	require.NoError(t, r.err)
	require.Contains(t, r.stderr, "WARNING: All requests of this API are written into the log")
	r = i.verb("", nil, "model-api", "edit", "chat", "--log-requests=false")
	require.NoError(t, r.err)
	require.NotContains(t, r.stderr, "WARNING")
	policy := (*api().DeployConfigs[0].PolicyConfigs)[0]
	require.Equal(t, []any{"AiStatistics", true, false}, []any{policy.Type, *policy.Enable, *policy.AiStatisticsConfig.LogRequestContent})

	i.ok("model-api", "rollback", "chat", "1")
	require.Equal(t, []any{"/chat", int64(6)}, []any{api().BasePath, api().DeployedRevision})
	i.await("the gateway serves revision 6", func() bool { return *api().ServedEverywhere })
	revisions := i.ok("model-api", "revisions", "chat")
	require.Regexp(t, `(?m)^6 +yes +1 of 1 `, revisions)
	require.Regexp(t, `(?m)^1 +- +0 of 1 `, revisions)
	require.Len(t, inJSON[[]apig.HttpApiRevision](t, i.ok("model-api", "revisions", "chat", "-o", "json")), 6)
	r = i.verb("", nil, "model-api", "rollback", "chat", "9")
	require.Error(t, r.err)
	require.Contains(t, r.stderr, "has no revision 9")
	r = i.verb("", nil, "model-api", "rollback", "chat", "last")
	require.Contains(t, r.stderr, "is not the number of a revision")
}

func TestAModelAPIGoesOutAndComesBackAsADocument(t *testing.T) {
	t.Parallel()
	i := startUp(t, dataDir(t), freePorts(t))
	i.ok("model-api", "create", "chat", "--service", i.deploy().ModelServiceId)
	text := i.ok("model-api", "export", "chat")
	document := inJSON[apig.HttpApiDocument](t, text)
	require.Equal(t, []any{"chat", "default"}, []any{document.Name, document.Gateway})

	r := i.verb(text, nil, "model-api", "import", "-")
	require.NoError(t, r.err, r.stderr)
	require.Equal(t, "no differences\n", r.stdout)
	require.Contains(t, r.stderr, "chat is as it was; gateways serve revision 1")
	file := filepath.Join(t.TempDir(), "talk.json")
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(text, `chat"`, `talk"`)), 0o600))
	r = i.verb("", nil, "model-api", "import", file, "--dry-run")
	require.NoError(t, r.err, r.stderr)
	require.Contains(t, r.stdout, `+ basePath: "/talk"`)
	require.Contains(t, r.stderr, "talk would be created; nothing was changed")
	require.NotContains(t, i.ok("model-api", "list"), "talk")
	result := inJSON[apig.ImportedHttpApi](t, i.ok("model-api", "import", file, "-o", "json"))
	require.True(t, result.Created)
	require.EqualValues(t, 1, result.Revision)
	require.Contains(t, i.ok("model-api", "list"), "/talk")
	r = i.verb(`{"nam":"x"}`, nil, "model-api", "import", "-")
	require.Error(t, r.err)
	require.Contains(t, r.stderr, `unknown field "nam"`)

	editor := func(script string) []string {
		path := filepath.Join(t.TempDir(), "editor")
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700))
		return []string{"EDITOR=" + path, "VISUAL="}
	}
	r = i.verb("", editor(`sed -i 's#"/talk"#"/new"#' "$1"`), "model-api", "edit", "talk")
	require.NoError(t, r.err, r.stderr)
	require.Equal(t, "~ basePath: \"/talk\" → \"/new\"\n", r.stdout)
	r = i.verb("", editor("true"), "model-api", "edit", "talk")
	require.NoError(t, r.err)
	require.Contains(t, r.stderr, "nothing was changed")
	r = i.verb("", editor(`sed -i 's#"/new"#"/chat"#' "$1"`), "model-api", "edit", "talk")
	require.Error(t, r.err)
	require.Contains(t, r.stderr, "Conflict.ApiRouteConflict")
	_, kept, found := strings.Cut(r.stderr, "What you wrote is in ")
	require.True(t, found, "the work is not lost")
	kept = strings.TrimSpace(kept)
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(kept)) })
	again, err := os.ReadFile(kept)
	require.NoError(t, err)
	require.Contains(t, string(again), `"/chat"`)
	r = i.verb("", editor("exit 3"), "model-api", "edit", "talk")
	require.Contains(t, r.stderr, "nothing was changed")
	require.Error(t, r.err)
	r = i.verb("", nil, "model-api", "edit", "talk", "--no-deploy")
	require.Contains(t, r.stderr, "--no-deploy goes with")
}
