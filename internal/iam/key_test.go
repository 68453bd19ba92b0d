package iam_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/iam"
)

func TestTheRootKeyIsFoundWithItsAccountAndEpoch(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ensureRoot(t, store)

	key, err := store.Find(t.Context(), rootKeyID)
	require.NoError(t, err)
	require.Equal(t, password, key.Secret.Reveal())
	require.True(t, key.Active)
	require.Equal(t, access.Caller{Identity: access.Root, AccountID: accountID, AccessKeyID: rootKeyID, PolicyEpoch: epoch(t, db.Control, accountID)}, key.Caller)
	require.True(t, key.Caller.IsRoot())
}

func TestAUsersKeyIsFoundWithTheUser(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	apply(t, store, oneUser)

	key, err := store.Find(t.Context(), "ESAKalice1")
	require.NoError(t, err)
	require.Equal(t, "alice", key.Caller.UserName)
	require.Regexp(t, `^[0-9]{18}$`, key.Caller.UserID)
	require.Equal(t, "acs:ram::"+accountID+":user/alice", key.Caller.ARN())
}

func TestAnInactiveKeyIsFoundAsSuch(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	apply(t, store, map[string]string{"a.yaml": `accounts: [{id: 1000000000000001, name: acme, accessKeys: [
		{id: ESAKroot2, secret: a-secret-of-30-characters-1234, status: Inactive}]}]`})

	key, err := store.Find(t.Context(), "ESAKroot2")
	require.NoError(t, err)
	require.False(t, key.Active)
}

func TestAnIDThatNoKeyHasIsUnknown(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	ensureRoot(t, store)
	for _, id := range []string{"", "ESAKroot000000000002", "esakroot000000000001", "ESAKroot\x00", "ESAKroot\xff\xff", "%' OR true --", "STS.0123456789"} {
		_, err := store.Find(t.Context(), id)
		require.ErrorIs(t, err, signature.ErrUnknownKey, "%q", id)
	}
}

func TestAKeySealedUnderAnotherKeyFileIsAnErrorAndNotUnknown(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ensureRoot(t, store)
	_, err := iam.New(db.Control, newBox(t)).Find(t.Context(), rootKeyID)
	require.ErrorContains(t, err, "access_key/"+rootKeyID)
	require.NotErrorIs(t, err, signature.ErrUnknownKey)
}

func TestASecretIsNotStoredInClear(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ensureRoot(t, store)
	require.NotContains(t, string(one[[]byte](t, db.Control, `SELECT secret_sealed FROM access_key`)), password)
}

func TestNewKeysAreWellFormedAndDiffer(t *testing.T) {
	t.Parallel()
	id, text := regexp.MustCompile(`^ESAK[A-Za-z0-9]{20}$`), regexp.MustCompile(`^[A-Za-z0-9]{30}$`)
	seen := map[string]bool{}
	for range 1000 {
		key := iam.NewAccessKey()
		require.Regexp(t, id, key.ID)
		require.Regexp(t, text, key.Secret.Reveal())
		require.Regexp(t, `^[0-9]{16}$`, iam.NewAccountID())
		require.False(t, seen[key.ID] || seen[key.Secret.Reveal()])
		seen[key.ID], seen[key.Secret.Reveal()] = true, true
	}
}
