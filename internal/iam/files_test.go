package iam_test

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/iam"
)

const readAll = `{"Version": "1", "Statement": [{"Effect": "Allow", "Action": "gpdb:Describe*", "Resource": "*"}]}`

// oneUser is a small policy directory: one user with a key and a policy of each type.
var oneUser = map[string]string{
	"accounts.yaml": `
accounts:
  - id: 1000000000000001
    name: acme
    policies:
      - {name: ReadAll, description: Sees everything., document: policies/read-all.json}
    users:
      - name: alice
        displayName: Alice
        accessKeys:
          - {id: ESAKalice1, secret: a-secret-of-30-characters-1234}
        policies:
          - {type: System, name: ReadOnlyAccess}
          - {type: Custom, name: ReadAll}
`,
	"policies/read-all.json": readAll,
}

func TestTheExampleDirectoryDoesWhatItsCommentsSay(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	loaded, err := iam.LoadDir(os.DirFS("../../policies/examples"), func(name string) string {
		require.True(t, strings.HasSuffix(name, "_ACCESS_KEY_SECRET"), name)
		return password
	})
	require.NoError(t, err)
	_, err = store.Apply(t.Context(), loaded)
	require.NoError(t, err)
	authorizer := access.NewAuthorizer(store, newBox(t), slog.New(slog.DiscardHandler))

	const one, another = "acs:gpdb::1000000000000001:dbinstance/gp-00000000000000000001", "acs:gpdb::1000000000000001:dbinstance/gp-00000000000000000002"
	for _, test := range []struct{ key, action, resource, group, denial string }{
		{"ESAKexampleAlice00000001", "gpdb:DescribeModelService", another, "", ""},
		{"ESAKexampleAlice00000001", "gpdb:CreateModelService", one, "", access.ImplicitDeny},
		{"ESAKexampleBob0000000001", "gpdb:CreateModelService", one, "", ""},
		{"ESAKexampleBob0000000001", "gpdb:CreateModelService", another, "", access.ImplicitDeny},
		{"ESAKexampleBob0000000001", "gpdb:ListSupportModels", "*", "", ""},
		{"ESAKexampleCarol00000001", "gpdb:CreateModelService", another, "", ""},
		{"ESAKexampleCarol00000001", "gpdb:DeleteModelService", another, "", access.ExplicitDeny},
		{"ESAKexampleNeighbour0001", "ram:CreateUser", "*", "", ""},
		{"ESAKexampleBob0000000001", "apig:DeleteHttpApi", "acs:apig::1000000000000001:httpapi/api-1", "rg-default", ""},
		{"ESAKexampleBob0000000001", "apig:DeleteHttpApi", "acs:apig::1000000000000001:httpapi/api-1", "rg-00000000000000000001", access.ImplicitDeny},
		{"ESAKexampleAlice00000001", "sts:AssumeRole", "acs:ram::1000000000000001:role/auditor", "", ""},
		{"ESAKexampleAlice00000001", "apig:DeleteHttpApi", "acs:apig::1000000000000001:httpapi/api-1", "rg-default", access.ImplicitDeny},
	} {
		key, err := store.Find(t.Context(), test.key)
		require.NoError(t, err)
		decision, err := authorizer.Authorize(t.Context(), key.Caller, access.Request{Action: test.action, Resources: []string{test.resource}, ResourceGroupID: test.group})
		require.NoError(t, err)
		require.Equal(t, test.denial, decision.NoPermissionType, "%v", test)
	}
}

// in puts an account's settings into a whole file.
func in(settings string) string {
	return "accounts:\n- id: 1000000000000001\n  name: acme\n" + settings
}

// each fills a format with the numbers to n.
func each(n int, format string) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf(format, i))
	}
	return all
}

func TestABadFileIsRefusedWithItsPlace(t *testing.T) {
	t.Parallel()
	user := func(settings string) string { return in("  users:\n  - name: alice\n" + settings) }
	key := func(settings string) string { return user("    accessKeys: [{id: ESAKalice1, " + settings + "}]\n") }
	const canary = "canary-secret-canary"
	for name, test := range map[string]struct {
		file string
		want string
	}{
		"no accounts":               {"", "a.yaml:1: there are no accounts in it"},
		"only a comment":            {"# nothing", "a.yaml:1: there are no accounts in it"},
		"not YAML":                  {"accounts: [", "a.yaml:"},
		"two documents":             {"accounts: []\n---\naccounts: []", "a.yaml: something follows"},
		"unknown setting":           {in("  title: x\n"), "a.yaml:4: there is no setting title"},
		"setting twice":             {in("  name: other\n"), "a.yaml:4: mapping key \"name\" already defined at line 3"},
		"mapping instead of list":   {in("  users: {name: alice}\n"), "a.yaml:4: a list or a mapping belongs here"},
		"list instead of value":     {"accounts:\n- id: [1]\n  name: acme\n", "a.yaml:2: a plain value belongs here"},
		"account without id":        {"accounts:\n- name: acme\n", "a.yaml:2: the id of the account is missing"},
		"account without name":      {"accounts:\n- id: 1000000000000001\n", "a.yaml:2: the name of the account is missing"},
		"short account id":          {"accounts:\n- id: 42\n  name: acme\n", `a.yaml:2: the id of the account must be 16 digits, not "42"`},
		"account twice":             {in("") + "- id: 1000000000000001\n  name: acme\n", "a.yaml:4: account 1000000000000001 is there already, at a.yaml:2"},
		"bad user name":             {in("  users: [{name: a/b}]\n"), `a.yaml:4: the name of a user must be 1 to 64`},
		"user twice":                {in("  users: [{name: a}, {name: a}]\n"), `a.yaml:4: user a is there already, at a.yaml:4`},
		"user without name":         {in("  users: [{displayName: x}]\n"), `a.yaml:4: the name of a user is missing`},
		"long display name":         {user("    displayName: " + strings.Repeat("x", 129)), "a.yaml:6: the displayName has more than 128"},
		"key without secret":        {key("status: Active"), "a.yaml:6: access key ESAKalice1 needs exactly one of"},
		"key with two secrets":      {key("secret: " + canary + ", secretEnv: X"), "a.yaml:6: access key ESAKalice1 needs exactly one of"},
		"short secret":              {key("secret: canary"), "a.yaml:6: the secret of an access key must be 16"},
		"secret with a space":       {key("secret: '" + canary + " x'"), "a.yaml:6: the secret of an access key must be 16"},
		"secret in a list":          {key("secret: [" + canary + "]"), "a.yaml:6: a plain value belongs here"},
		"secret instead of key":     {user("    accessKeys: " + canary), "a.yaml:6: a list or a mapping belongs here"},
		"variable that is not set":  {key("secretEnv: NOT_SET"), "a.yaml:6: the environment variable NOT_SET is not set"},
		"missing secret file":       {key("secretFile: none"), "a.yaml:6: read none:"},
		"secret file outside":       {key("secretFile: ../etc/passwd"), "a.yaml:6: ../etc/passwd does not lie in the policy directory"},
		"absolute secret file":      {key("secretFile: /etc/passwd"), "a.yaml:6: /etc/passwd does not lie in the policy directory"},
		"secret file for all":       {key("secretFile: open.secret"), "a.yaml:6: others may read the secret in open.secret"},
		"bad status":                {key("secret: " + canary + ", status: On"), "a.yaml:6: the status of an access key must be Active or Inactive"},
		"bad key id":                {user("    accessKeys: [{id: 'AK!', secret: " + canary + "}]"), "a.yaml:6: the id of an access key must be 8"},
		"key id twice":              {in("  accessKeys: [{id: ESAKroot1, secret: " + canary + "}]\n  users:\n  - name: a\n    accessKeys: [{id: ESAKroot1, secret: " + canary + "}]\n"), "a.yaml:7: access key ESAKroot1 is there already, at a.yaml:4"},
		"three keys":                {in("  accessKeys: [{id: ESAKroot1, secretEnv: A}, {id: ESAKroot2, secretEnv: A}, {id: ESAKroot3, secretEnv: A}]"), "the account has 3 access keys"},
		"bad policy name":           {in("  policies: [{name: a b, document: ok.json}]"), "a.yaml:4: the name of a policy must be 1 to 128"},
		"policy twice":              {in("  policies: [{name: a, document: ok.json}, {name: a, document: ok.json}]"), "a.yaml:4: policy a is there already"},
		"policy without document":   {in("  policies: [{name: a}]"), "a.yaml:4: the document of a policy is missing"},
		"missing document":          {in("  policies: [{name: a, document: none.json}]"), "a.yaml:4: read none.json:"},
		"document not JSON":         {in("  policies: [{name: a, document: a.yaml}]"), "a.yaml:4: a.yaml: The policy document is not valid"},
		"document with a condition": {in("  policies: [{name: a, document: condition.json}]"), "a.yaml:4: condition.json: The policy document is not valid at Statement[0].Condition"},
		"unknown type":              {user("    policies: [{type: system, name: ReadOnlyAccess}]"), "a.yaml:6: the type of an attached policy must be System or Custom"},
		"unknown system policy":     {user("    policies: [{type: System, name: Nothing}]"), `a.yaml:6: there is no system policy "Nothing"`},
		"unknown custom policy":     {user("    policies: [{type: Custom, name: Nothing}]"), `a.yaml:6: there is no custom policy "Nothing"`},
		"policy of another account": {"accounts:\n- {id: 1000000000000002, name: b, policies: [{name: P, document: ok.json}]}\n- {id: 1000000000000001, name: a, users: [{name: u, policies: [{type: Custom, name: P}]}]}\n", `a.yaml:3: there is no custom policy "P"`},
		"policy attached twice":     {user("    policies: [{type: System, name: ReadOnlyAccess}, {type: System, name: ReadOnlyAccess}]"), `a.yaml:6: policy ReadOnlyAccess of user alice is there already`},
		"bad group name":            {in("  groups: [{name: a_b}]\n"), "a.yaml:4: the name of a group must be 1 to 64"},
		"group twice":               {in("  groups: [{name: a}, {name: a}]\n"), "a.yaml:4: group a is there already"},
		"long comments":             {in("  groups: [{name: a, comments: " + strings.Repeat("x", 129) + "}]\n"), "a.yaml:4: the comments has more than 128"},
		"unknown member":            {user("") + "  groups:\n  - name: g\n    users: [alice, bob]\n", `a.yaml:8: there is no user "bob" under users`},
		"member twice":              {user("") + "  groups: [{name: g, users: [alice, alice]}]\n", "a.yaml:6: user alice of group g is there already"},
		"eleven groups": {
			user("") + "  groups: [" + strings.Join(each(11, "{name: g%d, users: [alice]}"), ", ") + "]\n",
			"a.yaml:6: the user alice is in more than 10 groups",
		},
		"bad role name":       {in("  roles: [{name: a_b, trustPolicy: trust.json}]\n"), "a.yaml:4: the name of a role must be 1 to 64"},
		"role twice":          {in("  roles: [{name: a, trustPolicy: trust.json}, {name: a, trustPolicy: trust.json}]\n"), "a.yaml:4: role a is there already"},
		"role without trust":  {in("  roles: [{name: a}]\n"), "a.yaml:4: the trustPolicy of a role is missing"},
		"trust in a policy":   {in("  roles: [{name: a, trustPolicy: ok.json}]\n"), "a.yaml:4: ok.json: The policy document is not valid"},
		"short sessions":      {in("  roles: [{name: a, trustPolicy: trust.json, maxSessionSeconds: 60}]\n"), "a.yaml:4: maxSessionSeconds must be a number from 3600 to 43200"},
		"unequal seconds":     {in("  roles: [{name: a, trustPolicy: trust.json, maxSessionSeconds: 03600}]\n"), "a.yaml:4: maxSessionSeconds must be"},
		"policy of a group":   {in("  groups: [{name: g, policies: [{type: Custom, name: P}]}]\n"), `a.yaml:4: there is no custom policy "P"`},
		"policy twice in one": {user("    policies: [{type: System, name: ReadOnlyAccess, resourceGroup: g}, {type: System, name: ReadOnlyAccess, resourceGroup: g}]"), "a.yaml:6: policy ReadOnlyAccess of user alice is there already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := dir(map[string]string{
				"a.yaml": test.file, "ok.json": readAll, "trust.json": trustPolicy,
				"condition.json": strings.Replace(readAll, `"Resource"`, `"Condition": {"Like": {}}, "Resource"`, 1),
			})
			files["open.secret"] = &fstest.MapFile{Data: []byte(canary), Mode: 0o644}
			_, err := iam.LoadDir(files, noEnv)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), canary[:7])
		})
	}
}

func TestAllComplaintsComeTogether(t *testing.T) {
	t.Parallel()
	_, err := iam.LoadDir(dir(map[string]string{
		"a.yaml": in("  colour: red\n  users: [{name: a/b}]\n"),
		"b.yaml": "accounts: [",
		"c.yaml": in("  policies: [{name: P, document: none.json}]\n"),
	}), noEnv)
	for _, complaint := range []string{
		"a.yaml:4: there is no setting colour", "a.yaml:5: the name of a user", "b.yaml:",
		"c.yaml:2: account 1000000000000001 is there already, at a.yaml:2", "c.yaml:4: read none.json",
	} {
		require.ErrorContains(t, err, complaint)
	}
}

func TestADirectoryWithoutYAMLIsRefused(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]fs.FS{
		"empty":          dir(nil),
		"other files":    dir(map[string]string{"README": "x", ".hidden.yaml": "x", "sub/a.yaml": "x"}),
		"does not exist": os.DirFS("/does/not/exist"),
	} {
		_, err := iam.LoadDir(files, noEnv)
		require.ErrorContains(t, err, "policy directory", name)
	}
}

func TestASecretInAFileThatOthersMayReadIsRefused(t *testing.T) {
	t.Parallel()
	files := dir(oneUser)
	files["accounts.yaml"].Mode = 0o644
	_, err := iam.LoadDir(files, noEnv)
	require.ErrorContains(t, err, "accounts.yaml:11: a secret stands in a file that others may read: run chmod 600 accounts.yaml")
}

func TestASecretComesFromAFileOrAVariable(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	files := dir(map[string]string{
		"a.yml": in(`  accessKeys:
  - {id: ESAKfile1, secretFile: keys/one}
  - {id: ESAKenv01, secretEnv: THE_SECRET}
`),
		"keys/one": "a-secret-of-a-file-with-newline\n",
	})
	files["a.yml"].Mode = 0o644
	loaded, err := iam.LoadDir(files, func(name string) string { return map[string]string{"THE_SECRET": "a-secret-of-the-environment"}[name] })
	require.NoError(t, err)
	_, err = store.Apply(t.Context(), loaded)
	require.NoError(t, err)
	for id, want := range map[string]string{"ESAKfile1": "a-secret-of-a-file-with-newline", "ESAKenv01": "a-secret-of-the-environment"} {
		key, err := store.Find(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want, key.Secret.Reveal())
		require.True(t, key.Caller.IsRoot())
	}
}
