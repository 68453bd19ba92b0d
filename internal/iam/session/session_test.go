package session_test

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/iam/directory"
	"github.com/engineshed/engineshed/internal/iam/session"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
)

const (
	account, neighbour = "1000000000000001", "1000000000000002"
	trustAccount       = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"RAM":"acs:ram::` + account + `:root"}}]}`
	roleARN            = "acs:ram::" + account + ":role/deployer"
)

// world is an account with a user alice and a role deployer that trusts the account, beside an account with nothing.
type world struct {
	*pgtest.DB
	people   *directory.Directory
	keys     *iam.Store // of another process
	sessions *session.Sessions
	alice    access.Caller
	role     directory.Role
}

func newWorld(t *testing.T) *world {
	t.Helper()
	box, err := secret.NewBox()
	require.NoError(t, err)
	w := &world{DB: pgtest.New(t)}
	w.keys, w.people = iam.New(w.Control, box), directory.New(w.Control, box)
	for id, key := range map[string]string{account: "ESAKroot1", neighbour: "ESAKroot2"} {
		require.NoError(t, w.keys.EnsureRoot(t.Context(), iam.RootSpec{AccountID: id, AccountName: "acme", KeyID: key, Secret: secret.New("a-secret-of-30-characters-1234")}))
	}
	w.sessions = session.New(w.Control, box, access.NewAuthorizer(w.keys, box, slog.New(slog.DiscardHandler)))
	user, err := w.people.CreateUser(t.Context(), account, directory.User{Name: "alice"})
	require.NoError(t, err)
	w.alice = access.Caller{Identity: access.User, AccountID: account, UserID: user.ID, UserName: "alice", PolicyEpoch: 1}
	w.newRole(t, account, trustAccount)
	return w
}

func (w *world) newRole(t *testing.T, accountID, trust string) {
	t.Helper()
	role, err := w.people.CreateRole(t.Context(), accountID, directory.Role{Name: "deployer", TrustPolicy: trust, MaxSessionSeconds: 7200})
	require.NoError(t, err)
	w.role = role
}

func (w *world) assume(t *testing.T) (session.Lent, error) {
	return w.sessions.Assume(t.Context(), session.Spec{Caller: w.alice, RoleARN: roleARN, Name: "laptop"})
}

func (w *world) lent(t *testing.T) session.Lent {
	t.Helper()
	lent, err := w.assume(t)
	require.NoError(t, err)
	return lent
}

func (w *world) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := w.Owner.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func (w *world) count(t *testing.T) (rows int) {
	t.Helper()
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT count(*) FROM sts_session`).Scan(&rows))
	return rows
}

// fill adds sessions of the role, the first of which ends at the given time from now and the others a second later each.
func (w *world) fill(t *testing.T, n int, first time.Duration) {
	t.Helper()
	w.exec(t, `INSERT INTO sts_session (id, role_id, name, secret_sealed, token_hash, assumed_by, expires_at)
		SELECT 'STS.' || lpad(n::text, 20, '0'), $1, 'filler', '', '', '', date_trunc('second', now()) + $2::interval + make_interval(secs => n)
		FROM generate_series(0, $3 - 1) n`, w.role.ID, first, n)
}

func find(t *testing.T, keys *iam.Store, id string) (signature.Key, error) {
	t.Helper()
	return keys.Find(t.Context(), id)
}

func TestASessionIsKnownToEveryProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const policy = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"gpdb:Describe*","Resource":"*"}]}`
	seconds, before := 900, time.Now()
	lent, err := w.sessions.Assume(t.Context(), session.Spec{Caller: w.alice, RoleARN: roleARN, Name: "laptop", Seconds: &seconds, Policy: policy})
	require.NoError(t, err)
	require.Equal(t, []string{roleARN + "/laptop", w.role.ID + ":laptop"}, []string{lent.ARN, lent.ID})
	require.WithinRange(t, lent.ExpiresAt, before.Add(898*time.Second), time.Now().Add(902*time.Second))
	key, err := find(t, w.keys, lent.Key.ID)
	require.NoError(t, err)
	require.Equal(t, lent.Key.Secret.Reveal(), key.Secret.Reveal())
	hash := sha256.Sum256([]byte(lent.Token.Reveal()))
	require.Equal(t, hash[:], key.TokenHash)
	require.True(t, lent.ExpiresAt.Equal(key.Expires))
	c := key.Caller
	require.Equal(t, []string{account, w.role.ID, "deployer", "laptop", policy, lent.ARN}, []string{c.AccountID, c.RoleID, c.RoleName, c.SessionName, c.SessionPolicy, c.ARN()})
	require.Equal(t, access.Session, c.Identity)

	var row, audited string
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT s::text, e.detail FROM sts_session s, audit_event e WHERE e.resource_id = $1`, lent.ID).Scan(&row, &audited))
	require.NotContains(t, row, lent.Key.Secret.Reveal())
	require.NotContains(t, row, lent.Token.Reveal())
	require.Equal(t, "session "+lent.Key.ID, audited)
}

func TestWhatIsNoSessionIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	few, many := 899, 7201
	for name, c := range map[string]struct {
		spec session.Spec
		want error
	}{
		"no role's ARN":        {session.Spec{RoleARN: "acs:ram::" + account + ":user/deployer"}, session.ErrRoleARN},
		"no such role":         {session.Spec{RoleARN: roleARN + "s"}, directory.ErrNoRole},
		"another case":         {session.Spec{RoleARN: strings.Replace(roleARN, "deployer", "Deployer", 1)}, directory.ErrNoRole},
		"a slash in the name":  {session.Spec{Name: "a/b"}, session.ErrName},
		"65 characters":        {session.Spec{Name: strings.Repeat("a", 65)}, session.ErrName},
		"too short":            {session.Spec{Seconds: &few}, session.ErrDuration},
		"longer than the role": {session.Spec{Seconds: &many}, session.ErrDuration},
		"a policy of nothing":  {session.Spec{Policy: "{}"}, session.ErrGrammar},
		"1025 characters":      {session.Spec{Policy: strings.Repeat("é", 1025)}, session.ErrSize},
		"the account itself":   {session.Spec{Caller: access.Caller{Identity: access.Root, AccountID: account}}, access.ErrNoPermission},
	} {
		spec := session.Spec{Caller: w.alice, RoleARN: roleARN, Name: "laptop", Seconds: c.spec.Seconds, Policy: c.spec.Policy}
		for given, into := range map[string]*string{c.spec.RoleARN: &spec.RoleARN, c.spec.Name: &spec.Name} {
			if given != "" {
				*into = given
			}
		}
		if c.spec.Caller.AccountID != "" {
			spec.Caller = c.spec.Caller
		}
		_, err := w.sessions.Assume(t.Context(), spec)
		require.ErrorIs(t, err, c.want, name)
	}
	require.Zero(t, w.count(t))
}

func TestAnotherAccountsRoleThatTrustsNobodyIsAsOneThatNeverWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	theirs := strings.Replace(roleARN, account, neighbour, 1)
	ask := func() error {
		_, err := w.sessions.Assume(t.Context(), session.Spec{Caller: w.alice, RoleARN: theirs, Name: "laptop"})
		return err
	}
	never := ask()
	require.ErrorIs(t, never, directory.ErrNoRole)
	w.newRole(t, neighbour, strings.ReplaceAll(trustAccount, account, neighbour))
	require.EqualError(t, ask(), never.Error())
	trusting := trustAccount
	_, err := w.people.UpdateRole(t.Context(), neighbour, "deployer", directory.RoleChange{TrustPolicy: &trusting})
	require.NoError(t, err)
	require.NoError(t, ask())
}

// However many ask at once, an account never has more sessions than there is room for, and others have theirs.
func TestAnAccountHasRoomForSoManySessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(t, session.MaxSessions-2, 10*time.Minute)
	var first time.Time
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT min(expires_at) FROM sts_session`).Scan(&first))
	const asking = 8
	errs := make([]error, asking)
	var all sync.WaitGroup
	for i := range asking {
		all.Go(func() { _, errs[i] = w.assume(t) })
	}
	all.Wait()
	full := 0
	for _, err := range errs {
		if err != nil {
			require.ErrorIs(t, err, session.ErrLimit)
			require.ErrorContains(t, err, "10000 sessions")
			require.ErrorContains(t, err, first.UTC().Format(time.RFC3339))
			full++
		}
	}
	require.Equal(t, asking-2, full)
	require.Equal(t, session.MaxSessions, w.count(t))

	w.newRole(t, neighbour, trustAccount)
	_, err := w.sessions.Assume(t.Context(), session.Spec{Caller: w.alice, RoleARN: strings.Replace(roleARN, account, neighbour, 1), Name: "laptop"})
	require.NoError(t, err, "another account")
	require.NoError(t, w.people.DeleteRole(t.Context(), account, "deployer"))
	w.newRole(t, account, trustAccount)
	w.lent(t)
}

// Sessions that are over are remembered as long as there is room, the latest longest.
func TestSessionsThatAreOverMakeRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(t, session.MaxSessions, -session.MaxSessions*time.Second-time.Minute)
	w.lent(t)
	require.Equal(t, session.MaxSessions-session.MakeRoom+1, w.count(t))
	var oldest string
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT id FROM sts_session ORDER BY expires_at LIMIT 1`).Scan(&oldest))
	require.Equal(t, "STS.00000000000000001000", oldest)
}

func TestSessionsEndWithTheirRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lent, id := []session.Lent{w.lent(t), w.lent(t)}, w.role.ID
	gone := func() {
		for _, l := range lent {
			_, err := find(t, w.keys, l.Key.ID)
			require.ErrorIs(t, err, signature.ErrUnknownKey)
		}
	}
	require.NoError(t, w.people.DeleteRole(t.Context(), account, "deployer"))
	gone()
	w.newRole(t, account, trustAccount)
	require.NotEqual(t, id, w.role.ID, "a role of the same name is another one")
	gone()
	require.Zero(t, w.count(t))
}

// Nothing is lent of a role that is being deleted, whichever comes first.
func TestNothingIsLentOfARoleThatGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 20 {
		errs, deleted := make([]error, 4), error(nil)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() { _, errs[i] = w.assume(t) })
		}
		all.Go(func() { deleted = w.people.DeleteRole(t.Context(), account, "deployer") })
		all.Wait()
		require.NoError(t, deleted)
		for _, err := range errs {
			require.True(t, err == nil || errors.Is(err, directory.ErrNoRole), "%v", err)
		}
		require.Zero(t, w.count(t))
		w.newRole(t, account, trustAccount)
	}
}

func TestASessionGoesOnWithoutWhoBeganIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lent := w.lent(t)
	nobody := strings.Replace(trustAccount, "Allow", "Deny", 1)
	_, err := w.people.UpdateRole(t.Context(), account, "deployer", directory.RoleChange{TrustPolicy: &nobody})
	require.NoError(t, err)
	require.NoError(t, w.people.DeleteUser(t.Context(), account, "alice"))
	_, err = find(t, w.keys, lent.Key.ID)
	require.NoError(t, err)
	_, err = w.assume(t)
	_, denied := errors.AsType[*access.DeniedError](err)
	require.True(t, denied, "%v", err)
}

func TestSessionsAreForgottenAnHourAfterTheyAreOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(t, 2, -time.Hour-time.Minute)
	w.exec(t, `UPDATE sts_session SET expires_at = expires_at + interval '2 minutes' WHERE id LIKE '%1'`)
	require.NoError(t, w.sessions.Forget(t.Context()))
	require.Equal(t, 1, w.count(t))
}
