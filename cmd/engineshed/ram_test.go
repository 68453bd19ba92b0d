package main

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/ram"
)

func TestTheVerbsOfUsersAndRoles(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	startUp(t, dir, freePorts(t))
	root, err := readCredentials(filepath.Join(dir, "credentials.json"))
	require.NoError(t, err)
	run := func(args ...string) string {
		t.Helper()
		out, complaint, err := verb(t, dir, args...)
		require.NoError(t, err, complaint)
		return out
	}
	account := regexp.MustCompile(`acs:ram::(\d+):root`).FindStringSubmatch(run("whoami"))[1]
	var made struct {
		AccessKey struct{ AccessKeyId, AccessKeySecret string }
	}
	out := run("ram", "user", "create", "alice", "--policy", "AliyunGPDBReadOnlyAccess", "--policy", "AliyunSTSAssumeRoleAccess", "--access-key", "-o", "json")
	require.NoError(t, json.Unmarshal([]byte(out), &made))
	require.Contains(t, run("ram", "user", "list"), "alice")
	_, complaint, err := verb(t, dir, "ram", "user", "delete", "alice")
	require.Error(t, err)
	require.Contains(t, complaint, "DeleteConflict.User.AccessKey")

	alice := []string{"--access-key-id", made.AccessKey.AccessKeyId, "--access-key-secret", made.AccessKey.AccessKeySecret}
	require.Contains(t, run(append([]string{"whoami"}, alice...)...), ":user/alice")
	run(append([]string{"instance", "list"}, alice...)...)
	api, err := sdk.New(sdk.Config{Endpoint: root.Endpoint, AccessKeyID: root.AccessKeyID, AccessKeySecret: root.AccessKeySecret})
	require.NoError(t, err)
	trust := `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"RAM":["acs:ram::` + account + `:root"]}}]}`
	_, err = api.CreateRole(t.Context(), ram.CreateRoleRequest{RoleName: "deployer", AssumeRolePolicyDocument: trust})
	require.NoError(t, err)
	lent := map[string]string{}
	for _, v := range regexp.MustCompile(`export ENGINESHED_(\w+)='(.*)'`).FindAllStringSubmatch(run(append([]string{"assume-role", "deployer"}, alice...)...), -1) {
		lent[v[1]] = v[2]
	}
	session := []string{"--access-key-id", lent["ACCESS_KEY_ID"], "--access-key-secret", lent["ACCESS_KEY_SECRET"], "--security-token", lent["SECURITY_TOKEN"]}
	require.Contains(t, run(append([]string{"whoami"}, session...)...), "role/deployer/engineshed-cli")
	_, complaint, err = verb(t, dir, append([]string{"instance", "list"}, session...)...)
	require.Error(t, err)
	require.Contains(t, complaint, "Forbidden.RAM")
	_, complaint, err = verb(t, dir, "assume-role", "deployer")
	require.Error(t, err)
	require.Contains(t, complaint, "assumes no roles")
}
