package iam_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// none removes everything that came from files.
var none = map[string]string{"accounts.yaml": "accounts: []"}

// with is oneUser after replacing texts in it.
func with(replacements ...string) map[string]string {
	files := maps.Clone(oneUser)
	for name, content := range files {
		files[name] = strings.NewReplacer(replacements...).Replace(content)
	}
	return files
}

// policiesOf are the policies of the user behind alice's key.
func policiesOf(t testing.TB, store *iam.Store) []access.AttachedPolicy {
	t.Helper()
	key, err := store.Find(t.Context(), "ESAKalice1")
	require.NoError(t, err)
	policies, err := store.PoliciesOf(t.Context(), key.Caller)
	require.NoError(t, err)
	return policies.Account
}

func names(policies []access.AttachedPolicy) (names []string) {
	for _, p := range policies {
		names = append(names, p.Type+" "+p.Name)
	}
	return names
}

func TestAUserHasTheAttachedPoliciesAndNoOthers(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	apply(t, store, oneUser)

	policies := policiesOf(t, store)
	require.ElementsMatch(t, []string{"System ReadOnlyAccess", "Custom ReadAll"}, names(policies))
	for _, p := range policies {
		if p.Name == "ReadAll" {
			require.Equal(t, readAll, p.Document)
			require.Regexp(t, `^[0-9]+/v1$`, p.VersionID)
		}
	}
	key, err := store.Find(t.Context(), "ESAKalice1")
	require.NoError(t, err)
	for _, who := range [][2]string{{neighbour, key.Caller.UserID}, {accountID, ""}, {accountID, "200000000000000000"}} {
		policies, err := store.PoliciesOf(t.Context(), access.Caller{Identity: access.User, AccountID: who[0], UserID: who[1]})
		require.NoError(t, err)
		require.Empty(t, policies.Account, "%v", who)
	}
}

func TestTheSameFilesAgainWriteNothing(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ensureRoot(t, store)
	require.True(t, apply(t, store, oneUser))
	before := written(t, db.Control)
	require.False(t, apply(t, store, oneUser))
	changed, err := store.ApplySystem(t.Context())
	require.NoError(t, err)
	require.False(t, changed)
	ensureRoot(t, store)
	require.Equal(t, before, written(t, db.Control))
}

func TestWithoutFilesOnlySystemPoliciesAreApplied(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	apply(t, store, oneUser)
	before := written(t, db.Control)
	changed, err := store.ApplySystem(t.Context())
	require.NoError(t, err)
	require.False(t, changed)
	require.Equal(t, before, written(t, db.Control))
}

func TestAnEditIsInForceOnAnotherProcessAtItsNextCall(t *testing.T) {
	t.Parallel()
	db, box := pgtest.New(t), newBox(t)
	store := iam.New(db.Control, box)
	pool, err := postgres.Open(t.Context(), db.ControlURL)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	other := iam.New(pool, box)

	apply(t, store, oneUser)
	before, err := other.Find(t.Context(), "ESAKalice1")
	require.NoError(t, err)
	old := policiesOf(t, other)

	edited := with("gpdb:Describe*", "gpdb:List*")
	require.True(t, apply(t, store, edited))

	after, err := other.Find(t.Context(), "ESAKalice1")
	require.NoError(t, err)
	require.Greater(t, after.Caller.PolicyEpoch, before.Caller.PolicyEpoch)
	require.Equal(t, before.Caller.UserID, after.Caller.UserID)
	fresh := policiesOf(t, other)
	require.Len(t, fresh, 2)
	require.NotEqual(t, old, fresh)
	for _, p := range fresh {
		if p.Name == "ReadAll" {
			require.Regexp(t, `/v2$`, p.VersionID)
			require.Contains(t, p.Document, "gpdb:List*")
		}
	}
	require.Equal(t, epoch(t, db.Control, accountID), after.Caller.PolicyEpoch)
}

func TestWhatIsRemovedFromTheFilesIsGone(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ensureRoot(t, store)
	apply(t, store, oneUser)
	require.True(t, apply(t, store, none))
	_, err := store.Find(t.Context(), "ESAKalice1")
	require.ErrorIs(t, err, signature.ErrUnknownKey)
	require.Zero(t, one[int](t, db.Control, `SELECT count(*) FROM ram_user`))
	require.Zero(t, one[int](t, db.Control, `SELECT count(*) FROM policy WHERE source = 'file'`))
	_, err = store.Find(t.Context(), rootKeyID)
	require.NoError(t, err, "the root key is none of the files' business")
	require.False(t, apply(t, store, none))
}

func TestEachEditChangesWhatItSays(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		replace []string
		query   string
		want    string
	}{
		"account name": {[]string{"name: acme", "name: Acme Inc."}, `SELECT name FROM account`, "Acme Inc."},
		"display name": {[]string{"displayName: Alice", "displayName: A."}, `SELECT display_name FROM ram_user`, "A."},
		"description":  {[]string{"Sees everything.", "Sees."}, `SELECT description FROM policy WHERE name = 'ReadAll'`, "Sees."},
		"key status":   {[]string{"1234}", "1234, status: Inactive}"}, `SELECT status FROM access_key`, "Inactive"},
		"key id":       {[]string{"ESAKalice1", "ESAKalice2"}, `SELECT string_agg(id, ',') FROM access_key`, "ESAKalice2"},
		"user name":    {[]string{"name: alice", "name: alicia"}, `SELECT string_agg(name, ',') FROM ram_user`, "alicia"},
		"policy name":  {[]string{"name: ReadAll", "name: ReadMost"}, `SELECT string_agg(name, ',') FROM policy WHERE source = 'file'`, "ReadMost"},
		"attachment": {
			[]string{"type: System, name: ReadOnlyAccess", "type: System, name: AdministratorAccess"},
			`SELECT string_agg(p.name, ',' ORDER BY p.name) FROM policy_attachment JOIN policy p ON p.id = policy_id`, "AdministratorAccess,ReadAll",
		},
		"attachment removed": {
			[]string{"- {type: Custom, name: ReadAll}", ""},
			`SELECT string_agg(p.name, ',' ORDER BY p.name) FROM policy_attachment JOIN policy p ON p.id = policy_id`, "ReadOnlyAccess",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, db := newStore(t)
			apply(t, store, oneUser)
			before := epoch(t, db.Control, accountID)
			require.True(t, apply(t, store, with(test.replace...)))
			require.Equal(t, test.want, one[string](t, db.Control, test.query))
			require.Equal(t, before+1, epoch(t, db.Control, accountID))
			require.False(t, apply(t, store, with(test.replace...)))
			require.True(t, apply(t, store, oneUser), "back again")
		})
	}
}

func TestAKeyMovesFromAUserWhoGoesToOneWhoComes(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	apply(t, store, oneUser)
	apply(t, store, with("name: alice", "name: bob", "1000000000000001", neighbour))
	key, err := store.Find(t.Context(), "ESAKalice1")
	require.NoError(t, err)
	require.Equal(t, "bob", key.Caller.UserName)
	require.Equal(t, neighbour, key.Caller.AccountID)
}

func TestASecretSealedUnderALostKeyFileIsSealedAgain(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	apply(t, store, oneUser)
	other := iam.New(db.Control, newBox(t))
	require.True(t, apply(t, other, oneUser))
	key, err := other.Find(t.Context(), "ESAKalice1")
	require.NoError(t, err)
	require.Equal(t, password, key.Secret.Reveal())
}

func TestOnlyTouchedAccountsGetANewEpoch(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	two := maps.Clone(oneUser)
	two["b.yaml"] = "accounts: [{id: 1000000000000002, name: neighbour, users: [{name: bob}]}]"
	apply(t, store, two)
	mine, theirs := epoch(t, db.Control, accountID), epoch(t, db.Control, neighbour)
	two["b.yaml"] = "accounts: [{id: 1000000000000002, name: neighbour, users: [{name: carol}]}]"
	apply(t, store, two)
	require.Equal(t, mine, epoch(t, db.Control, accountID))
	require.Equal(t, theirs+1, epoch(t, db.Control, neighbour))
}

func TestFiveVersionsOfAPolicyStay(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	for i := range 8 {
		apply(t, store, with("gpdb:Describe*", fmt.Sprintf("gpdb:Describe%d*", i)))
	}
	require.Equal(t, "4,5,6,7,8", one[string](t, db.Control, `
		SELECT string_agg(version::text, ',' ORDER BY version) FROM policy_version JOIN policy p ON p.id = policy_id
		WHERE p.name = 'ReadAll'`))
	require.Contains(t, policiesOf(t, store)[1].Document, "gpdb:Describe7*")
}

func TestANewProgramsSystemPoliciesAreInForceInAllAccounts(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	two := maps.Clone(oneUser)
	two["b.yaml"] = "accounts: [{id: 1000000000000002, name: neighbour}]"
	apply(t, store, two)
	mine, theirs := epoch(t, db.Control, accountID), epoch(t, db.Control, neighbour)

	next := store.WithSystem(fstest.MapFS{
		"ReadOnlyAccess.json": {Data: []byte(readAll)},
		"NewAccess.json":      {Data: []byte(readAll)},
	})
	changed, err := next.ApplySystem(t.Context())
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, mine+1, epoch(t, db.Control, accountID))
	require.Equal(t, theirs+1, epoch(t, db.Control, neighbour))
	require.Equal(t, "NewAccess,ReadOnlyAccess", one[string](t, db.Control,
		`SELECT string_agg(name, ',' ORDER BY name) FROM policy WHERE source = 'system'`))
	require.Equal(t, readAll, policiesOf(t, store)[0].Document)

	older := store.WithSystem(fstest.MapFS{"NewAccess.json": {Data: []byte(readAll)}})
	_, err = older.ApplySystem(t.Context())
	require.NoError(t, err)
	require.Contains(t, names(policiesOf(t, store)), "System ReadOnlyAccess", "attached, so it stays")
}

func TestABadSystemPolicyIsRefused(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	_, err := store.WithSystem(fstest.MapFS{"Bad.json": {Data: []byte("{}")}}).ApplySystem(t.Context())
	require.ErrorContains(t, err, "system policy Bad.json")
	require.Empty(t, written(t, db.Control))
}

func TestWhatWasMadeThroughTheAPIStays(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	apply(t, store, oneUser)
	exec(t, db.Control, `INSERT INTO ram_user (id, account_id, name, source) VALUES ('300000000000000000', $1, 'api', 'api')`, accountID)
	exec(t, db.Control, `INSERT INTO access_key (id, account_id, user_id, secret_sealed, source) VALUES ('ESAKapi1', $1, '300000000000000000', '', 'api')`, accountID)
	exec(t, db.Control, `WITH p AS (INSERT INTO policy (account_id, name, default_version, source) VALUES ($1, 'Api', 1, 'api') RETURNING id)
		INSERT INTO policy_version (policy_id, version, document) SELECT id, 1, $2 FROM p`, accountID, readAll)
	exec(t, db.Control, `INSERT INTO policy_attachment (policy_id, user_id, source)
		SELECT id, '300000000000000000', 'api' FROM policy WHERE name IN ('Api', 'ReadOnlyAccess')`)
	exec(t, db.Control, `INSERT INTO policy_attachment (policy_id, user_id, source)
		SELECT p.id, u.id, 'api' FROM policy p, ram_user u WHERE p.name = 'Api' AND u.name = 'alice'`)

	require.False(t, apply(t, store, oneUser))
	require.ElementsMatch(t, []string{"System ReadOnlyAccess", "Custom ReadAll", "Custom Api"}, names(policiesOf(t, store)))
	require.True(t, apply(t, store, none))
	require.Equal(t, "api ESAKapi1 Api 2", one[string](t, db.Control, `
		SELECT format('%s %s %s %s', (SELECT name FROM ram_user), (SELECT id FROM access_key),
		              (SELECT name FROM policy WHERE account_id IS NOT NULL), (SELECT count(*) FROM policy_attachment))`))
}

func TestAFileThatClaimsAnObjectOfTheAPIIsRefusedWhole(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ object, want string }{
		"user": {
			`INSERT INTO ram_user (id, account_id, name, source) VALUES ('300000000000000000', '1000000000000001', 'alice', 'api')`,
			"accounts.yaml:8: account 1000000000000001 has a user alice that was made through the API",
		},
		"policy": {
			`INSERT INTO policy (account_id, name, default_version, source) VALUES ('1000000000000001', 'ReadAll', 1, 'api')`,
			"accounts.yaml:6: account 1000000000000001 has a policy ReadAll that was made through the API",
		},
		"access key": {
			`INSERT INTO access_key (id, account_id, secret_sealed, source) VALUES ('ESAKalice1', '1000000000000001', '', 'api')`,
			"accounts.yaml:11: the access key ESAKalice1 exists and was not made by a file",
		},
		"root key": {
			`INSERT INTO access_key (id, account_id, secret_sealed, source) VALUES ('ESAKalice1', '1000000000000001', '', 'root')`,
			"accounts.yaml:11: the access key ESAKalice1 exists and was not made by a file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, db := newStore(t)
			ensureRoot(t, store)
			exec(t, db.Control, test.object)
			before := written(t, db.Control)
			for _, do := range []func(context.Context, iam.Files) ([]iam.Difference, error){store.Apply, store.Diff} {
				differences, err := do(t.Context(), load(t, oneUser))
				require.ErrorContains(t, err, test.want)
				require.Nil(t, differences)
			}
			require.Equal(t, before, written(t, db.Control))
		})
	}
}

func TestAPolicyThatTheAPIHasAttachedIsNotRemoved(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	apply(t, store, oneUser)
	exec(t, db.Control, `INSERT INTO ram_user (id, account_id, name, source) VALUES ('300000000000000000', $1, 'api', 'api')`, accountID)
	exec(t, db.Control, `INSERT INTO policy_attachment (policy_id, user_id, source)
		SELECT id, '300000000000000000', 'api' FROM policy WHERE name = 'ReadAll'`)
	before := written(t, db.Control)
	_, err := store.Apply(t.Context(), load(t, none))
	require.ErrorContains(t, err, "account 1000000000000001: the policy ReadAll is in no file any more, but it is attached to the user api")
	require.Equal(t, before, written(t, db.Control))

	exec(t, db.Control, `DELETE FROM policy_attachment WHERE source = 'api'`)
	require.True(t, apply(t, store, none))
}

func TestProcessesThatApplyTogetherAgree(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	files := load(t, oneUser)
	changes := make([]bool, 10)
	var starts errgroup.Group
	for i := range changes {
		starts.Go(func() error {
			differences, err := store.Apply(t.Context(), files)
			changes[i] = len(differences) > 0
			return err
		})
	}
	require.NoError(t, starts.Wait())
	writers := 0
	for _, changed := range changes {
		if changed {
			writers++
		}
	}
	require.Equal(t, 1, writers)
	require.Equal(t, 1, one[int](t, db.Control, `SELECT count(*) FROM ram_user`))
}
