package iam_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/secret"
)

func TestTheSameRootAgainWritesNothing(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ensureRoot(t, store)
	before := written(t, db.Control)
	again := root()
	again.AccountName = "another name of an account that exists"
	require.NoError(t, store.EnsureRoot(t.Context(), again))
	require.Equal(t, before, written(t, db.Control))
}

func TestANewSecretOfTheRootKeyIsInForce(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	ensureRoot(t, store)
	changed := root()
	changed.Secret = secret.New("another-secret-of-the-root")
	require.NoError(t, store.EnsureRoot(t.Context(), changed))
	key, err := store.Find(t.Context(), rootKeyID)
	require.NoError(t, err)
	require.Equal(t, "another-secret-of-the-root", key.Secret.Reveal())
}

func TestAReplacedRootKeyIsUnknownAndOtherKeysStay(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	apply(t, store, oneUser)
	ensureRoot(t, store)
	replaced := root()
	replaced.KeyID = "ESAKroot000000000009"
	require.NoError(t, store.EnsureRoot(t.Context(), replaced))

	_, err := store.Find(t.Context(), rootKeyID)
	require.ErrorIs(t, err, signature.ErrUnknownKey)
	for _, id := range []string{"ESAKroot000000000009", "ESAKalice1"} {
		_, err := store.Find(t.Context(), id)
		require.NoError(t, err)
	}
}

func TestAKeyOfSomebodyElseCannotBecomeTheRootKey(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	apply(t, store, oneUser)
	before := written(t, db.Control)
	taken := root()
	taken.KeyID = "ESAKalice1"
	require.ErrorContains(t, store.EnsureRoot(t.Context(), taken), "choose another id")
	require.Equal(t, before, written(t, db.Control))
}

func TestAllThatIsWrongWithARootIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	err := store.EnsureRoot(t.Context(), iam.RootSpec{AccountID: "1", KeyID: "no good", Secret: secret.New("canary")})
	for _, complaint := range []string{"16 digits", "name", `"no good"`, "secret"} {
		require.ErrorContains(t, err, complaint)
	}
	require.NotContains(t, err.Error(), "canary")
}

func TestProcessesThatStartTogetherAgreeOnTheRoot(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	var starts errgroup.Group
	for range 10 {
		starts.Go(func() error { return store.EnsureRoot(t.Context(), root()) })
	}
	require.NoError(t, starts.Wait())
	require.EqualValues(t, 1, one[int](t, db.Control, `SELECT count(*) FROM access_key`))
}
