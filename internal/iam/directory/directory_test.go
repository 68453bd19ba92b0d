package directory_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access/ram"
	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/iam/directory"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/resourcegroup"
	"github.com/engineshed/engineshed/internal/secret"
)

const (
	account, neighbour = "1000000000000001", "1000000000000002"
	readAll            = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"gpdb:Describe*","Resource":"*"}]}`
	listAll            = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"gpdb:List*","Resource":"*"}]}`
	trustAll           = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"RAM":"acs:ram::` + account + `:root"}}]}`
)

// world is two accounts that only have their root keys.
type world struct {
	*pgtest.DB
	*directory.Directory
	store          *iam.Store
	resourceGroups *resourcegroup.Groups
}

func newWorld(t testing.TB) *world {
	t.Helper()
	box, err := secret.NewBox()
	require.NoError(t, err)
	w := &world{DB: pgtest.New(t)}
	w.Directory, w.store, w.resourceGroups = directory.New(w.Control, box), iam.New(w.Control, box), resourcegroup.New(w.Control)
	for id, key := range map[string]string{account: "ESAKroot1", neighbour: "ESAKroot2"} {
		require.NoError(t, w.store.EnsureRoot(t.Context(), iam.RootSpec{AccountID: id, AccountName: "acme", KeyID: key, Secret: secret.New("a-secret-of-30-characters-1234")}))
	}
	_, err = w.store.Apply(t.Context(), iam.Files{}) // brings the system policies
	require.NoError(t, err)
	return w
}

func (w *world) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := w.Owner.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// What is made without looking at it.
func (w *world) user(t testing.TB, name string) error {
	_, err := w.CreateUser(t.Context(), account, directory.User{Name: name})
	return err
}

func (w *world) group(t testing.TB, name string) error {
	_, err := w.CreateGroup(t.Context(), account, name, "")
	return err
}

func (w *world) role(t testing.TB, name string) error {
	_, err := w.CreateRole(t.Context(), account, directory.Role{Name: name, TrustPolicy: trustAll, MaxSessionSeconds: 3600})
	return err
}

func (w *world) policy(t testing.TB, name string) error {
	_, err := w.CreatePolicy(t.Context(), account, name, "", readAll)
	return err
}

func (w *world) version(t testing.TB, policy string, rotate bool) (directory.Version, error) {
	return w.CreateVersion(t.Context(), directory.VersionSpec{AccountID: account, PolicyName: policy, Document: listAll, Rotate: rotate})
}

func (w *world) attach(t testing.TB, kind directory.Kind, name, policyType, policy, group string) error {
	return w.Attach(t.Context(), directory.Attachment{
		AccountID: account, Policy: directory.PolicyName{Type: policyType, Name: policy},
		Principal: directory.Principal{Kind: kind, Name: name}, ResourceGroupID: group,
	})
}

// one makes a user, a group, a role, a policy and a resource group, whose id it returns.
func (w *world) one(t testing.TB) (groupID string) {
	t.Helper()
	for _, make := range []func(testing.TB, string) error{w.user, w.group, w.role, w.policy} {
		require.NoError(t, make(t, "one"))
	}
	group, err := w.resourceGroups.Create(t.Context(), account, "one", "One")
	require.NoError(t, err)
	return group.ID
}

// At its limit, each kind of thing takes one more and then none; another account is not concerned.
func TestThereIsRoomForAsManyAsIsWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, `INSERT INTO ram_user (id, account_id, name, source) SELECT '2' || lpad(n::text, 17, '0'), $1, 'n' || n, 'api' FROM generate_series(1, 4999) n`, account)
	w.exec(t, `INSERT INTO ram_group (id, account_id, name) SELECT '3' || lpad(n::text, 17, '0'), $1, 'n' || n FROM generate_series(1, 299) n`, account)
	w.exec(t, `INSERT INTO ram_role (id, account_id, name, trust_policy, max_session_seconds)
		SELECT '4' || lpad(n::text, 17, '0'), $1, 'n' || n, '', 3600 FROM generate_series(1, 999) n`, account)
	w.exec(t, `WITH made AS (INSERT INTO policy (account_id, name, default_version, source) SELECT $1, 'n' || n, 1, 'api' FROM generate_series(1, 1499) n RETURNING id)
		INSERT INTO policy_version (policy_id, version, document) SELECT id, 1, $2 FROM made`, account, readAll)
	for _, c := range []struct {
		make func(testing.TB, string) error
		full error
		says string
	}{
		{w.user, directory.ErrUserLimit, "5000"},
		{w.group, directory.ErrGroupLimit, "300"},
		{w.role, directory.ErrRoleLimit, "1000"},
		{w.policy, directory.ErrPolicyLimit, "1500"},
	} {
		require.NoError(t, c.make(t, "last"))
		err := c.make(t, "one-more")
		require.ErrorIs(t, err, c.full)
		require.ErrorContains(t, err, c.says)
		require.ErrorIs(t, c.make(t, "last"), c.full, "that is so whether the name is taken or not")
	}
	_, err := w.CreateUser(t.Context(), neighbour, directory.User{Name: "first"})
	require.NoError(t, err)
	require.NoError(t, w.DeleteUser(t.Context(), account, "n1"))
	require.NoError(t, w.user(t, "one-more"))
}

func TestAUserIsInTenGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.NoError(t, w.user(t, "alice"))
	for n := range 11 {
		name := fmt.Sprint("g", n)
		require.NoError(t, w.group(t, name))
		err := w.AddToGroup(t.Context(), account, "alice", name)
		if n == 10 {
			require.ErrorIs(t, err, directory.ErrUserGroupLimit)
			break
		}
		require.NoError(t, err)
	}
	groups, err := w.GroupsOf(t.Context(), account, "alice")
	require.NoError(t, err)
	require.Len(t, groups, 10)
	require.ErrorIs(t, w.AddToGroup(t.Context(), account, "alice", "g3"), directory.ErrUserGroupLimit)
	require.NoError(t, w.RemoveFromGroup(t.Context(), account, "alice", "g3"))
	require.ErrorIs(t, w.RemoveFromGroup(t.Context(), account, "alice", "g3"), directory.ErrNotInGroup)
	require.ErrorIs(t, w.AddToGroup(t.Context(), account, "alice", "g2"), directory.ErrInGroup)
	require.NoError(t, w.AddToGroup(t.Context(), account, "alice", "g10"))
}

// Custom and system policies count apart, and so do the account and each of its resource groups.
func TestAPrincipalHasTenCustomAndTwentySystemPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	scope := w.one(t)
	for n := range 12 {
		require.NoError(t, w.policy(t, fmt.Sprint("p", n)))
	}
	w.exec(t, `WITH made AS (INSERT INTO policy (name, default_version, source) SELECT 'System' || n, 1, 'system' FROM generate_series(0, 21) n RETURNING id)
		INSERT INTO policy_version (policy_id, version, document) SELECT id, 1, $1 FROM made`, readAll)
	for kind, full := range map[directory.Kind]error{
		directory.OfUser: directory.ErrUserPolicyLimit, directory.OfGroup: directory.ErrGroupPolicyLimit, directory.OfRole: directory.ErrRolePolicyLimit,
	} {
		for _, group := range []string{"", scope, resourcegroup.Default} {
			for policyType, c := range map[string]struct {
				prefix string
				limit  int
			}{directory.Custom: {"p", 10}, directory.System: {"System", 20}} {
				for n := range c.limit {
					require.NoError(t, w.attach(t, kind, "one", policyType, fmt.Sprint(c.prefix, n), group))
				}
				require.ErrorIs(t, w.attach(t, kind, "one", policyType, fmt.Sprint(c.prefix, c.limit), group), full)
			}
		}
	}
	policies, err := w.PoliciesOf(t.Context(), account, directory.Principal{Kind: directory.OfRole, Name: "one"})
	require.NoError(t, err)
	require.Len(t, policies, 30, "those of the whole account")
	require.True(t, slices.IsSortedFunc(policies, func(a, b directory.Policy) int { return strings.Compare(b.Type, a.Type) }), "system policies first")
	_, total, err := w.Attachments(t.Context(), directory.AttachedFilter{AccountID: account, PageNumber: 1, PageSize: 100})
	require.NoError(t, err)
	require.Equal(t, 3*3*30, total)
}

func TestAPolicyHasFiveVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.NoError(t, w.policy(t, "p"))
	numbers := func() (all []int) {
		versions, err := w.Versions(t.Context(), account, directory.PolicyName{Type: directory.Custom, Name: "p"})
		require.NoError(t, err)
		for _, v := range versions {
			all = append(all, v.Version)
		}
		return all
	}
	for range 4 {
		_, err := w.version(t, "p", true)
		require.NoError(t, err)
	}
	require.Equal(t, []int{5, 4, 3, 2, 1}, numbers(), "with room nothing is rotated out")
	_, err := w.version(t, "p", false)
	require.ErrorIs(t, err, directory.ErrVersionLimit)
	made, err := w.version(t, "p", true)
	require.NoError(t, err)
	require.Equal(t, []any{6, false, listAll}, []any{made.Version, made.IsDefault, made.Document})
	require.Equal(t, []int{6, 5, 4, 3, 1}, numbers(), "the oldest that is not in force")
	require.ErrorIs(t, w.DeleteVersion(t.Context(), account, "p", "v1"), directory.ErrDefaultVersion)
	require.ErrorIs(t, w.DeletePolicy(t.Context(), account, "p"), directory.ErrPolicyVersions)
	require.NoError(t, w.SetDefaultVersion(t.Context(), account, "p", "v6"))
	require.NoError(t, w.DeleteVersion(t.Context(), account, "p", "v5"))
	_, err = w.version(t, "p", false)
	require.NoError(t, err)
	require.Equal(t, []int{7, 6, 4, 3, 1}, numbers(), "a number is never used again")
	for _, id := range []string{"v5", "5", "v06", "V6", "v-6", "v99999999999", ""} {
		require.ErrorIs(t, w.SetDefaultVersion(t.Context(), account, "p", id), directory.ErrNoVersion, id)
	}
	for _, id := range []string{"v7", "v4", "v3", "v1"} {
		require.NoError(t, w.DeleteVersion(t.Context(), account, "p", id))
	}
	require.NoError(t, w.DeletePolicy(t.Context(), account, "p"))
}

// What something else depends on stays, and is told by which kind of thing it is held.
func TestWhatIsUsedStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	scope := w.one(t)
	_, _, err := w.CreateKey(t.Context(), account, "one")
	require.NoError(t, err)
	keys, err := w.Keys(t.Context(), account, "one")
	require.NoError(t, err)
	require.NoError(t, w.AddToGroup(t.Context(), account, "one", "one"))
	detach := func(kind directory.Kind, group string) error {
		return w.Detach(t.Context(), directory.Attachment{
			AccountID: account, Policy: directory.PolicyName{Type: directory.Custom, Name: "one"},
			Principal: directory.Principal{Kind: kind, Name: "one"}, ResourceGroupID: group,
		})
	}
	kinds := []directory.Kind{directory.OfUser, directory.OfGroup, directory.OfRole}
	for _, kind := range kinds {
		require.NoError(t, w.attach(t, kind, "one", directory.Custom, "one", scope))
		require.ErrorIs(t, detach(kind, ""), map[string]error{
			"User": directory.ErrNoUserPolicy, "Group": directory.ErrNoGroupPolicy, "Role": directory.ErrNoRolePolicy,
		}[kind.Name], "it is attached to the resource group only")
	}
	user := func() error { return w.DeleteUser(t.Context(), account, "one") }
	group := func() error { return w.DeleteGroup(t.Context(), account, "one") }
	role := func() error { return w.DeleteRole(t.Context(), account, "one") }
	policy := func() error { return w.DeletePolicy(t.Context(), account, "one") }
	for _, step := range []struct {
		remove func() error
		held   error
		undo   func() error
	}{
		{user, directory.ErrUserInGroups, nil},
		{group, directory.ErrGroupHasUsers, func() error { return w.RemoveFromGroup(t.Context(), account, "one", "one") }},
		{user, directory.ErrUserHasKeys, func() error { return w.DeleteKey(t.Context(), account, "one", keys[0].ID) }},
		{user, directory.ErrUserHasPolicies, nil},
		{policy, directory.ErrPolicyOfUser, func() error { return detach(directory.OfUser, scope) }},
		{group, directory.ErrGroupHasPolicies, nil},
		{policy, directory.ErrPolicyOfGroup, func() error { return detach(directory.OfGroup, scope) }},
		{role, directory.ErrRoleHasPolicies, nil},
		{policy, directory.ErrPolicyOfRole, func() error { return detach(directory.OfRole, scope) }},
	} {
		require.ErrorIs(t, step.remove(), step.held)
		if step.undo != nil {
			require.NoError(t, step.undo())
		}
	}
	for _, remove := range []func() error{user, group, role, policy} {
		require.NoError(t, remove())
	}
}

// Names are compared with case, as resources in policies are. Each account and each kind has its own.
func TestANameIsTakenOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.one(t)
	other := "One"
	for _, c := range []struct {
		make   func(testing.TB, string) error
		rename func(name, to string) error
		exists error
	}{
		{w.user, func(name, to string) error {
			_, err := w.UpdateUser(t.Context(), account, name, directory.UserChange{Name: &to})
			return err
		}, directory.ErrUserExists},
		{w.group, func(name, to string) error {
			_, err := w.UpdateGroup(t.Context(), account, name, &to, nil)
			return err
		}, directory.ErrGroupExists},
		{w.role, nil, directory.ErrRoleExists},
		{w.policy, nil, directory.ErrPolicyExists},
	} {
		err := c.make(t, "one")
		require.ErrorIs(t, err, c.exists)
		require.ErrorContains(t, err, " one.")
		require.NoError(t, c.make(t, other))
		require.ErrorIs(t, c.make(t, other), c.exists)
		if c.rename != nil {
			require.ErrorIs(t, c.rename("one", other), c.exists)
			require.NoError(t, c.rename("one", "one"), "to what it is called")
			require.NoError(t, c.rename(other, "oNE"))
			require.NoError(t, c.make(t, other))
		}
	}
	require.NoError(t, w.policy(t, "AdministratorAccess"), "a custom policy hides no system policy")
	p, _, err := w.Policy(t.Context(), account, directory.PolicyName{Type: directory.System, Name: "AdministratorAccess"})
	require.NoError(t, err)
	require.Equal(t, directory.FromSystem, p.Source)
	_, err = w.User(t.Context(), neighbour, "one")
	require.ErrorIs(t, err, directory.ErrNoUser)
}

// A renamed user is the same: its key, groups and policies stay.
func TestARenamedUserIsTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.one(t)
	key, _, err := w.CreateKey(t.Context(), account, "one")
	require.NoError(t, err)
	require.NoError(t, w.AddToGroup(t.Context(), account, "one", "one"))
	require.NoError(t, w.attach(t, directory.OfUser, "one", directory.Custom, "one", ""))
	before, err := w.store.Find(t.Context(), key.ID)
	require.NoError(t, err)
	name := "another"
	_, err = w.UpdateUser(t.Context(), account, "one", directory.UserChange{Name: &name})
	require.NoError(t, err)
	after, err := w.store.Find(t.Context(), key.ID)
	require.NoError(t, err)
	require.Equal(t, []string{before.Caller.UserID, "another"}, []string{after.Caller.UserID, after.Caller.UserName})
	require.Greater(t, after.Caller.PolicyEpoch, before.Caller.PolicyEpoch)
	policies, err := w.store.PoliciesOf(t.Context(), after.Caller)
	require.NoError(t, err)
	require.Len(t, policies.Account, 1)
}

func TestAKeyOpensUntilItIsPutAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.NoError(t, w.user(t, "alice"))
	key, _, err := w.CreateKey(t.Context(), account, "alice")
	require.NoError(t, err)
	found, err := w.store.Find(t.Context(), key.ID)
	require.NoError(t, err)
	require.Equal(t, []any{true, key.Secret.Reveal()}, []any{found.Active, found.Secret.Reveal()})
	require.NoError(t, w.SetKeyActive(t.Context(), account, "alice", key.ID, false))
	found, err = w.store.Find(t.Context(), key.ID)
	require.NoError(t, err)
	require.False(t, found.Active)
	for _, owner := range []struct{ account, user string }{{account, ""}, {neighbour, ""}} {
		require.ErrorIs(t, w.DeleteKey(t.Context(), owner.account, owner.user, key.ID), directory.ErrNoKey, "it is somebody else's")
	}
	require.ErrorIs(t, w.DeleteKey(t.Context(), account, "", "ESAKroot1"), directory.ErrManagedByFile)
	require.NoError(t, w.DeleteKey(t.Context(), account, "alice", key.ID))
	_, err = w.store.Find(t.Context(), key.ID)
	require.ErrorIs(t, err, signature.ErrUnknownKey)
	var row string
	require.ErrorIs(t, w.DeleteKey(t.Context(), account, "alice", key.ID), directory.ErrNoKey)
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT coalesce(string_agg(e::text, ''), '') FROM audit_event e`).Scan(&row))
	require.Contains(t, row, key.ID)
	require.NotContains(t, row, key.Secret.Reveal())
}

// A document that cannot be read is never stored, and the place of the fault is named.
func TestADocumentIsReadBeforeItIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.one(t)
	const unknown = `{"Version":"1","Statement":[` +
		`{"Effect":"Allow","Action":"a:b","Resource":"*"},{"Effect":"Deny","Action":"a:b","Resource":"*","Condition":{"StringIs":{"acs:SourceIp":"1"}}}]}`
	long := strings.Replace(readAll, "gpdb:Describe*", "gpdb:"+strings.Repeat("x", ram.MaxCharacters), 1)
	for document, place := range map[string]string{unknown: "Statement[1].Condition.StringIs", long: "6144", trustAll: "Statement[0].Principal", "": "unfinished"} {
		_, err := w.CreatePolicy(t.Context(), account, "p", "", document)
		require.ErrorIs(t, err, ram.ErrMalformed)
		require.ErrorContains(t, err, place)
		_, err = w.CreateVersion(t.Context(), directory.VersionSpec{AccountID: account, PolicyName: "one", Document: document, SetAsDefault: true})
		require.ErrorIs(t, err, ram.ErrMalformed)
		require.ErrorContains(t, err, place)
	}
	document := readAll
	_, err := w.CreateRole(t.Context(), account, directory.Role{Name: "r", TrustPolicy: document, MaxSessionSeconds: 3600})
	require.ErrorIs(t, err, ram.ErrMalformed)
	require.ErrorContains(t, err, "Statement[0].Action")
	_, err = w.UpdateRole(t.Context(), account, "one", directory.RoleChange{TrustPolicy: &document})
	require.ErrorIs(t, err, ram.ErrMalformed)
	var kept int
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT count(*) FROM policy_version v JOIN policy p ON p.id = v.policy_id WHERE account_id = $1`, account).Scan(&kept))
	require.Equal(t, 1, kept)
}
