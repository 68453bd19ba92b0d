package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// terminal types verbs at an installation.
type terminal struct {
	t   *testing.T
	dir string
}

// run types what must succeed.
func (m terminal) run(line string, more ...string) string {
	m.t.Helper()
	out, complaint, err := verb(m.t, m.dir, append(strings.Fields(line), more...)...)
	require.NoError(m.t, err, "%s: %s", line, complaint)
	return out
}

// refused types what must fail.
func (m terminal) refused(line string) string {
	m.t.Helper()
	out, complaint, err := verb(m.t, m.dir, strings.Fields(line)...)
	require.Error(m.t, err, "%s: %s", line, out)
	return complaint
}

// file writes a file and returns its path.
func (m terminal) file(content string) string {
	m.t.Helper()
	path := filepath.Join(m.t.TempDir(), "file")
	require.NoError(m.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// deleteAsTold deletes what is refused at first, by doing what the refusal says comes first.
func (m terminal) deleteAsTold(line, code string) {
	m.t.Helper()
	complaint := m.refused(line)
	require.Contains(m.t, complaint, code)
	commands := regexp.MustCompile(`(?m)^  engineshed (.*)$`).FindAllStringSubmatch(complaint, -1)
	require.NotEmpty(m.t, commands, complaint)
	for _, command := range commands {
		m.run(command[1])
	}
	require.Contains(m.t, m.run(line), "is deleted")
}

const (
	oneInstance = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"gpdb:*","Resource":"*"}]}`
	allOfAPIG   = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"apig:*","Resource":"*"}]}`
)

func TestTheVerbsOfAccessControl(t *testing.T) {
	t.Parallel()
	m := terminal{t, dataDir(t)}
	instanceID := startUp(t, m.dir, freePorts(t)).credentials.DBInstanceID
	document := m.file(oneInstance)

	m.run("ram user create alice --policy AliyunGPDBReadOnlyAccess --access-key --comments", "builds the search")
	m.run("ram user create bob")
	require.Contains(t, m.refused("ram user update alice"), "--display-name")
	require.Contains(t, m.run("ram user update alice --display-name Alice"), "The user alice is changed.")
	require.Regexp(t, `alice +\d+ +api +Alice +builds the search`, m.run("ram user list"))

	require.Contains(t, m.refused("ram user create bob"), "). Choose another name", "the next step is told")
	m.run("ram group create search")
	m.run("ram group add-user search alice bob")
	m.run("ram group update search --name ranking")
	require.Regexp(t, `(?s)Group +ranking.*alice.*bob`, m.run("ram group show ranking"))
	require.Contains(t, m.run("ram group remove-user ranking bob"), "not in the group ranking any more")
	require.Regexp(t, `ranking +\d+ +api`, m.run("ram group list"))

	m.run("ram policy create One --document " + document + " --description first")
	require.Contains(t, m.run("ram policy update custom/One --description another"), "is changed")
	require.Regexp(t, `One +Custom +v1 +0 +api +another`, m.run("ram policy list --type custom"))
	require.Regexp(t, `AdministratorAccess +System`, m.run("ram policy list"))
	require.Equal(t, oneInstance+"\n", m.run("ram policy show One --document"))
	require.Contains(t, m.refused("ram policy update system/ReadOnlyAccess --description x"), "come with the program")

	m.run("resource-group create search --display-name Search")
	m.run("resource-group update search --display-name Searchers")
	require.Regexp(t, `search +rg-\w+ +Searchers`, m.run("resource-group list"))
	require.Contains(t, m.run("resource-group move search "+instanceID), "1 of 1")
	m.run("ram policy attach One --user alice --resource-group search")
	m.run("ram policy attach custom/One --group ranking")
	require.Regexp(t, `(?s)`+instanceID+` +gpdb.*One +Custom +user +alice +api`, m.run("resource-group show search"))
	require.Regexp(t, `(?s)group +ranking +the whole account +api.*user +alice +rg-\w+ +api`, m.run("ram policy who One"))
	require.Contains(t, m.refused("ram policy attach One"), "--user, --group and --role")
	require.Contains(t, m.refused("ram policy attach One --user alice --resource-group unknown"), "resource-group list")

	require.Contains(t, m.run("ram policy version create One --set-default --document "+m.file(allOfAPIG)), "v2, which is in force")
	for range 3 {
		m.run("ram policy version create One --document " + document)
	}
	require.Contains(t, m.refused("ram policy version create One --document "+document), "--rotate")
	require.Contains(t, m.run("ram policy version create One --rotate --document "+document), "v6, which is not in force")
	require.Regexp(t, `(?s)v6.*v2 +yes`, m.run("ram policy version list One"))
	require.Contains(t, m.refused("ram policy version delete One v2"), "ram policy version set-default One VERSION")
	m.run("ram policy version set-default One v6")
	m.run("ram policy version delete One v2")
	require.Contains(t, m.run("ram policy show One --version v3"), "in force is v6")

	require.Contains(t, m.refused("ram role create deployer"), "--trust")
	require.Regexp(t, `Arn +acs:ram::\d+:role/deployer`, m.run("ram role create deployer --trust user/alice"))
	m.run("ram role update deployer --trust bob --max-session-seconds 7200 --description lent")
	m.run("ram policy attach ReadOnlyAccess --role deployer")
	require.Regexp(t, `(?s)ReadOnlyAccess +System.*acs:ram::\d+:user/bob`, m.run("ram role show deployer"))
	require.Regexp(t, `deployer +acs:ram::\d+:role/deployer +7200 s +api +lent`, m.run("ram role list"))

	keyID := regexp.MustCompile(`ESAK\w+`).FindString(m.run("ram access-key list alice"))
	require.Contains(t, m.refused("ram access-key deactivate "+keyID), "--user")
	m.run("ram access-key deactivate " + keyID + " --user alice")
	require.Regexp(t, keyID+` +Inactive +api`, m.run("ram user show alice"))
	require.Contains(t, m.run("ram access-key activate "+keyID+" --user alice"), "is Active")
	require.Contains(t, m.run("ram access-key create alice -o json"), `"AccessKeySecret": "`)
	require.NotContains(t, m.run("ram access-key list alice -o json"), "Secret")

	m.deleteAsTold("ram user delete alice", "DeleteConflict.User.Group")
	m.deleteAsTold("ram policy delete One", "DeleteConflict.Policy.Group")
	m.deleteAsTold("ram role delete deployer", "DeleteConflict.Role.Policy")
	m.run("ram group add-user ranking bob")
	m.deleteAsTold("ram group delete ranking", "DeleteConflict.Group.User")
	m.deleteAsTold("resource-group delete search", "DeleteConflict.ResourceGroup.Resource")
}

// Whoever may see policies of the whole account only, as AliyunRAMFullAccess allows, is shown these.
func TestAnAdministratorOfIdentitiesSeesThem(t *testing.T) {
	t.Parallel()
	m := terminal{t, dataDir(t)}
	startUp(t, m.dir, freePorts(t))
	out := m.run("ram user create admin --policy AliyunRAMFullAccess --access-key")
	field := func(name string) string { return regexp.MustCompile(name + ` +(\S+)`).FindStringSubmatch(out)[1] }
	admin := " --access-key-id " + field("AccessKeyId") + " --access-key-secret " + field("AccessKeySecret")
	require.Regexp(t, `AliyunRAMFullAccess +System +the whole account`, m.run("ram user show admin"+admin))
	require.Regexp(t, `user +admin +the whole account`, m.run("ram policy who AliyunRAMFullAccess"+admin))
	require.Contains(t, m.refused("resource-group list"+admin), "NoPermission")
}
