package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/ram"
)

const carolsFile = `
accounts:
  - id: "1000000000000077"
    name: files
    policies:
      - {name: Look, document: look.json}
    users:
      - name: carol
        accessKeys: [{id: ESAKcarol00000001, secret: carols-secret-0123456789}]
        policies: [{type: Custom, name: Look}]
`

const lookPolicy = `{"Version":"1","Statement":[{"Effect":"Allow","Action":["ram:List*","sts:Get*"],"Resource":"*"}]}`

func TestPolicyFilesAreComparedAndApplied(t *testing.T) {
	t.Parallel()
	m := terminal{t, dataDir(t)}
	endpoint := startUp(t, m.dir, freePorts(t)).credentials.Endpoint
	files := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(files, name), []byte(content), 0o600))
	}
	diff := func(status int, args ...string) string {
		t.Helper()
		out, complaint, err := verb(t, m.dir, append([]string{"policy", "diff"}, args...)...)
		if status == 0 {
			require.NoError(t, err, complaint)
			return out
		}
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, status, exit.ExitCode(), complaint)
		require.Equal(t, status == 2, complaint != "", complaint)
		require.NotContains(t, out+complaint, "carols-secret")
		return out + complaint
	}
	carol, err := sdk.New(sdk.Config{Endpoint: endpoint, AccessKeyID: "ESAKcarol00000001", AccessKeySecret: "carols-secret-0123456789"})
	require.NoError(t, err)
	listed := func() error {
		_, err := carol.ListUsers(t.Context(), ram.ListUsersRequest{})
		return err
	}

	write("accounts.yaml", carolsFile)
	write("look.json", lookPolicy)
	require.Contains(t, diff(1, files), "  + user carol\n  + access key ESAKcarol00000001 of user carol: status \"Active\"\n  + attachment Custom Look to user carol\n")
	require.Contains(t, m.run("policy apply --dry-run "+files), "5 to create, 0 to change, 0 to delete.")
	require.ErrorContains(t, listed(), "InvalidAccessKeyId.NotFound", "nothing was applied")
	require.Contains(t, m.run("policy apply "+files), "5 created, 0 changed, 0 deleted.")
	require.NoError(t, listed())
	require.Equal(t, "No differences.\n", diff(0, files))

	// A document that changes is shown line by line, and counts at the next call.
	write("look.json", strings.Replace(lookPolicy, `"ram:List*",`, "", 1))
	require.Contains(t, diff(1, files), `
  ~ policy Look
        ...
              "Effect": "Allow",
              "Action": [
      -         "ram:List*",
                "sts:Get*"
              ],
        ...
`)
	require.Contains(t, diff(1, files, "-o", "json"), `"Change": "Changed"`)
	m.run("policy apply " + files)
	require.ErrorContains(t, listed(), "NoPermission")

	// What is refused names its place, and nothing of the rest is applied.
	write("accounts.yaml", strings.NewReplacer("name: carol", "name: dave", "Custom, name: Look", "Custom, name: Unknown").Replace(carolsFile))
	require.Contains(t, diff(2, files), `accounts.yaml:10: there is no custom policy "Unknown"`)
	require.Contains(t, m.refused("policy apply "+files), "accounts.yaml:10")
	rootKey, err := readCredentials(filepath.Join(m.dir, "credentials.json"))
	require.NoError(t, err)
	write("accounts.yaml", strings.Replace(carolsFile, "name: files", "name: files\n    accessKeys: [{id: "+rootKey.AccessKeyID+", secret: carols-secret-0123456789}]", 1))
	require.Contains(t, diff(2, files), "accounts.yaml:5: the access key "+rootKey.AccessKeyID+" exists and was not made by a file")
	require.ErrorContains(t, listed(), "NoPermission", "carol is as she was")
	diff(2)
	diff(2, files, "--no-such-flag")
	write("other.key", "{}")
	require.Contains(t, diff(2, files, "--master-key-file", filepath.Join(files, "other.key")), "--master-key-file")

	write("accounts.yaml", "accounts: []")
	require.Contains(t, m.run("policy apply "+files), "0 created, 0 changed, 4 deleted.")
	require.ErrorContains(t, listed(), "InvalidAccessKeyId.NotFound")
}

func TestTextDiffKeepsWhatIsTheSame(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before, after string
		want          []string
	}{
		"new":          {"", `{"a":1}`, []string{"+ {", `+   "a": 1`, "+ }"}},
		"layout":       {`{"a":1}`, `{ "a": 1 }`, []string{"another layout of the same document"}},
		"one of three": {`[1,2,3]`, `[1,4,3]`, []string{"  [", "    1,", "-   2,", "+   4,", "    3", "  ]"}},
		"far apart":    {`[1,2,3,4,5,6,7]`, `[1,2,3,4,5,6]`, []string{"  ...", "    4,", "    5,", "-   6,", "-   7", "+   6", "  ]"}},
		"not JSON":     {"a\nb", "b", []string{"- a", "  b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, textDiff(test.before, test.after))
		})
	}
}
