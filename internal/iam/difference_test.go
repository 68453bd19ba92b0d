package iam_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/iam"
)

// told is differences in lines. It fails when one of them holds the secret.
func told(t *testing.T, differences []iam.Difference) (lines []string) {
	t.Helper()
	for _, d := range differences {
		line := fmt.Sprintf("%s %s %s %s %s", d.Change, d.Kind, d.AccountID, d.Name, d.Of)
		for _, f := range d.Facts {
			line += fmt.Sprintf(" [%s: %s → %s]", f.Name, f.Before, f.After)
		}
		require.NotContains(t, line, "a-secret-of")
		lines = append(lines, line)
	}
	return lines
}

func TestADiffTellsWhatApplyWouldDo(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	_, err := store.ApplySystem(t.Context())
	require.NoError(t, err)
	diff := func(files map[string]string) []string {
		t.Helper()
		differences, err := store.Diff(t.Context(), load(t, files))
		require.NoError(t, err)
		return told(t, differences)
	}
	require.Equal(t, []string{
		"Created Account 1000000000000001 acme ",
		"Created Policy 1000000000000001 ReadAll  [description:  → Sees everything.] [document:  → " + readAll + "]",
		"Created User 1000000000000001 alice  [displayName:  → Alice]",
		"Created AccessKey 1000000000000001 ESAKalice1 user alice [status:  → Active]",
		"Created Attachment 1000000000000001 Custom ReadAll user alice",
		"Created Attachment 1000000000000001 System ReadOnlyAccess user alice",
	}, diff(oneUser))

	apply(t, store, oneUser)
	require.Empty(t, diff(oneUser))
	writeAll := strings.Replace(readAll, "Describe", "Create", 1)
	require.Equal(t, []string{
		"Changed Account 1000000000000001 apex  [name: acme → apex]",
		"Changed Policy 1000000000000001 ReadAll  [document: " + readAll + " → " + writeAll + "]",
		"Changed User 1000000000000001 alice  [displayName: Alice → A.]",
		"Changed AccessKey 1000000000000001 ESAKalice1 user alice [secret:  → ]",
		"Deleted Attachment 1000000000000001 System ReadOnlyAccess user alice",
	}, diff(with("acme", "apex", "displayName: Alice", "displayName: A.", "1234", "5678", "          - {type: System, name: ReadOnlyAccess}\n", "",
		readAll, writeAll)))

	exec(t, db.Control, `INSERT INTO access_key (id, account_id, user_id, secret_sealed, source)
		SELECT 'ESAKapi1', account_id, id, '', 'api' FROM ram_user`)
	exec(t, db.Control, `INSERT INTO ram_group (id, account_id, name) VALUES ('300000000000000000', $1, 'search')`, accountID)
	exec(t, db.Control, `INSERT INTO ram_group_member (user_id, group_id) SELECT id, '300000000000000000' FROM ram_user`)
	exec(t, db.Control, `INSERT INTO policy_attachment (user_id, policy_id, resource_group_id, source)
		SELECT u.id, p.id, 'rg-default', 'api' FROM ram_user u, policy p WHERE p.name = 'AdministratorAccess'`)
	everything := []string{
		"Deleted Policy 1000000000000001 ReadAll ",
		"Deleted User 1000000000000001 alice ",
		"Deleted AccessKey 1000000000000001 ESAKalice1 user alice",
		"Deleted AccessKey 1000000000000001 ESAKapi1 user alice",
		"Deleted GroupMembership 1000000000000001 search user alice",
		"Deleted Attachment 1000000000000001 Custom ReadAll user alice",
		"Deleted Attachment 1000000000000001 System AdministratorAccess in rg-default user alice",
		"Deleted Attachment 1000000000000001 System ReadOnlyAccess user alice",
	}
	require.Equal(t, everything, diff(none), "a user takes along what the API has given")
	differences, err := store.Apply(t.Context(), load(t, none))
	require.NoError(t, err)
	require.Equal(t, everything, told(t, differences))
}

func TestAnotherMasterKeyIsNoticed(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	other := iam.New(db.Control, newBox(t))
	require.NoError(t, other.CheckMasterKey(t.Context()), "nothing is sealed yet")
	apply(t, store, oneUser)
	require.NoError(t, store.CheckMasterKey(t.Context()))
	require.ErrorContains(t, other.CheckMasterKey(t.Context()), "does not open the access keys")
}

func TestGroupsRolesAndScopesComeFromFiles(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	_, err := store.ApplySystem(t.Context())
	require.NoError(t, err)
	files := with("    users:\n", `    groups:
      - name: search
        users: [alice]
        policies: [{type: System, name: AliyunGPDBFullAccess, resourceGroup: team}]
    roles:
      - name: deployer
        trustPolicy: policies/trust.json
        policies: [{type: Custom, name: ReadAll}]
    users:
`)
	files["policies/trust.json"] = trustPolicy
	_, err = store.Apply(t.Context(), load(t, files))
	require.ErrorContains(t, err, "accounts.yaml:10: account 1000000000000001 has no resource group team")

	exec(t, db.Control, `INSERT INTO account (id, name) VALUES ($1, 'acme')`, accountID)
	exec(t, db.Control, `INSERT INTO resource_group (id, account_id, name, display_name) VALUES ('rg-00000000000000000001', $1, 'team', '')`, accountID)
	differences, err := store.Apply(t.Context(), load(t, files))
	require.NoError(t, err)
	require.Subset(t, told(t, differences), []string{
		"Created Group 1000000000000001 search ",
		"Created Role 1000000000000001 deployer  [trustPolicy:  → " + trustPolicy + "] [maxSessionSeconds:  → 3600]",
		"Created GroupMembership 1000000000000001 search user alice",
		"Created Attachment 1000000000000001 System AliyunGPDBFullAccess in rg-00000000000000000001 group search",
		"Created Attachment 1000000000000001 Custom ReadAll role deployer",
	})
	require.False(t, apply(t, store, files))
	key, err := store.Find(t.Context(), "ESAKalice1")
	require.NoError(t, err)
	policies, err := store.PoliciesOf(t.Context(), key.Caller)
	require.NoError(t, err)
	require.Equal(t, []string{"System AliyunGPDBFullAccess"}, names(policies.ResourceGroups["rg-00000000000000000001"]))
}

func TestAGroupOrRoleOfTheAPIIsNotClaimed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ object, file, want string }{
		"group": {
			`INSERT INTO ram_group (id, account_id, name) VALUES ('300000000000000000', $1, 'taken')`, "    groups: [{name: taken}]\n",
			"accounts.yaml:7: account 1000000000000001 has a group taken that was made through the API",
		},
		"role": {
			`INSERT INTO ram_role (id, account_id, name, trust_policy, max_session_seconds) VALUES ('400000000000000000', $1, 'taken', '', 3600)`,
			"    roles: [{name: taken, trustPolicy: policies/trust.json}]\n",
			"accounts.yaml:7: account 1000000000000001 has a role taken that was made through the API",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, db := newStore(t)
			apply(t, store, oneUser)
			exec(t, db.Control, test.object, accountID)
			before := written(t, db.Control)
			files := with("    users:\n", test.file+"    users:\n")
			files["policies/trust.json"] = trustPolicy
			_, err := store.Apply(t.Context(), load(t, files))
			require.ErrorContains(t, err, test.want)
			require.Equal(t, before, written(t, db.Control))
		})
	}
}
