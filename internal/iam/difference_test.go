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
		line := fmt.Sprintf("%s %s %s %s %s", d.Change, d.Kind, d.AccountID, d.Name, d.User)
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
		"Created AccessKey 1000000000000001 ESAKalice1 alice [status:  → Active]",
		"Created Attachment 1000000000000001 Custom ReadAll alice",
		"Created Attachment 1000000000000001 System ReadOnlyAccess alice",
	}, diff(oneUser))

	apply(t, store, oneUser)
	require.Empty(t, diff(oneUser))
	writeAll := strings.Replace(readAll, "Describe", "Create", 1)
	require.Equal(t, []string{
		"Changed Account 1000000000000001 apex  [name: acme → apex]",
		"Changed Policy 1000000000000001 ReadAll  [document: " + readAll + " → " + writeAll + "]",
		"Changed User 1000000000000001 alice  [displayName: Alice → A.]",
		"Changed AccessKey 1000000000000001 ESAKalice1 alice [secret:  → ]",
		"Deleted Attachment 1000000000000001 System ReadOnlyAccess alice",
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
		"Deleted AccessKey 1000000000000001 ESAKalice1 alice",
		"Deleted AccessKey 1000000000000001 ESAKapi1 alice",
		"Deleted Attachment 1000000000000001 Custom ReadAll alice",
		"Deleted Attachment 1000000000000001 System AdministratorAccess in rg-default alice",
		"Deleted Attachment 1000000000000001 System ReadOnlyAccess alice",
		"Deleted GroupMembership 1000000000000001 search alice",
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
