package iam_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/iam"
)

func TestANonceIsSpentOnceForEachKey(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ensureRoot(t, store)
	apply(t, store, oneUser)
	other := iam.New(db.Control, newBox(t))
	now := time.Now()
	require.NoError(t, errOf(store.Spend(t.Context(), rootKeyID, "n", now)))
	require.ErrorIs(t, errOf(store.Spend(t.Context(), rootKeyID, "n", now)), signature.ErrNonceUsed)
	require.ErrorIs(t, errOf(other.Spend(t.Context(), rootKeyID, "n", now)), signature.ErrNonceUsed, "on a second process")
	require.NoError(t, errOf(store.Spend(t.Context(), rootKeyID, "m", now)))
	require.NoError(t, errOf(store.Spend(t.Context(), "ESAKalice1", "n", now)))
}

func TestOfManyAtOnceOneSpendsTheNonce(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	ensureRoot(t, store)
	now := time.Now()
	var spent atomic.Int64
	var calls errgroup.Group
	for range 50 {
		calls.Go(func() error {
			err := errOf(store.Spend(t.Context(), rootKeyID, "n", now))
			if err == nil {
				spent.Add(1)
			} else if !errors.Is(err, signature.ErrNonceUsed) {
				return err
			}
			return nil
		})
	}
	require.NoError(t, calls.Wait())
	require.EqualValues(t, 1, spent.Load())
}

func TestEveryDateThatVerifiesHasAPartition(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	ensureRoot(t, store)
	for minutes := -15; minutes <= 15; minutes++ {
		signedAt := time.Now().Add(time.Duration(minutes) * time.Minute)
		require.NoError(t, errOf(store.Spend(t.Context(), rootKeyID, fmt.Sprint(minutes), signedAt)))
		require.ErrorIs(t, errOf(store.Spend(t.Context(), rootKeyID, fmt.Sprint(minutes), signedAt)), signature.ErrNonceUsed)
	}
}

func TestMissingPartitionsAreMade(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ensureRoot(t, store)
	exec(t, db.Owner, `DO $$ DECLARE name text; BEGIN
		FOR name IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'nonce'::regclass LOOP
			EXECUTE 'DROP TABLE ' || name;
		END LOOP; END $$`)
	var calls errgroup.Group // together, because the first calls after an hour may come together
	for i := range 10 {
		calls.Go(func() error { return errOf(store.Spend(t.Context(), rootKeyID, fmt.Sprint(i), time.Now())) })
	}
	require.NoError(t, calls.Wait())
}

func TestOldPartitionsAreDroppedAndRecentOnesKept(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ensureRoot(t, store)
	now := time.Now()
	exec(t, db.Owner, `CREATE TABLE nonce_20200101_0000 PARTITION OF nonce
		FOR VALUES FROM ('2020-01-01 00:00Z') TO ('2020-01-01 00:10Z')`)
	require.NoError(t, errOf(store.Spend(t.Context(), rootKeyID, "n", now)))
	require.NoError(t, store.MaintainNonces(t.Context()))
	require.False(t, one[bool](t, db.Owner, `SELECT to_regclass('nonce_20200101_0000') IS NOT NULL`))
	require.ErrorIs(t, errOf(store.Spend(t.Context(), rootKeyID, "n", now)), signature.ErrNonceUsed)
}

func TestABackupStopsNeitherSignedCallsNorNewPartitions(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ensureRoot(t, store)
	exec(t, db.Owner, `CREATE TABLE nonce_20200101_0000 PARTITION OF nonce
		FOR VALUES FROM ('2020-01-01 00:00Z') TO ('2020-01-01 00:10Z')`)
	exec(t, db.Owner, fmt.Sprintf(`DROP TABLE nonce_%s`, time.Now().UTC().Truncate(10*time.Minute).Format("20060102_1504")))
	backup, err := db.Owner.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = backup.Rollback(t.Context()) }()
	_, err = backup.Exec(t.Context(), `LOCK TABLE nonce IN ACCESS SHARE MODE`)
	require.NoError(t, err)

	require.NoError(t, errOf(store.Spend(t.Context(), rootKeyID, "n", time.Now())))
	require.NoError(t, store.MaintainNonces(t.Context()))
	require.True(t, one[bool](t, db.Owner, `SELECT to_regclass('nonce_20200101_0000') IS NOT NULL`))

	require.NoError(t, backup.Rollback(t.Context()))
	require.NoError(t, store.MaintainNonces(t.Context()))
	require.False(t, one[bool](t, db.Owner, `SELECT to_regclass('nonce_20200101_0000') IS NOT NULL`))
}

func TestADateThatNoNonceIsKeptForIsExpired(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	ensureRoot(t, store)
	for _, signedAt := range []time.Time{time.Now().Add(-2 * time.Hour), time.Now().Add(3 * time.Hour), {}} {
		require.ErrorIs(t, errOf(store.Spend(t.Context(), rootKeyID, "n", signedAt)), signature.ErrExpired)
	}
}

func TestOnlyTheNonceIsCommittedWithoutTheDisk(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ensureRoot(t, store)
	tx, err := db.Control.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), iam.SpendNonces, []time.Time{time.Now()}, []string{rootKeyID}, []string{"n"})
	require.NoError(t, err)
	var inTransaction string
	require.NoError(t, tx.QueryRow(t.Context(), `SHOW synchronous_commit`).Scan(&inTransaction))
	require.Equal(t, "off", inTransaction)
	require.NoError(t, tx.Rollback(t.Context()))

	for range 20 { // more often than the pool has connections
		require.NoError(t, errOf(store.Spend(t.Context(), rootKeyID, fmt.Sprint(time.Now().UnixNano()), time.Now())))
		require.Equal(t, "on", one[string](t, db.Control, `SHOW synchronous_commit`))
	}
}

func TestSpendReturnsTheKeyAsItIsNow(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ensureRoot(t, store)
	found, err := store.Find(t.Context(), rootKeyID)
	require.NoError(t, err)
	key, err := store.Spend(t.Context(), rootKeyID, "1", time.Now())
	require.NoError(t, err)
	require.Equal(t, found, key)

	exec(t, db.Owner, `UPDATE access_key SET status = 'Inactive'`)
	exec(t, db.Owner, `UPDATE account SET policy_epoch = policy_epoch + 1`)
	key, err = store.Spend(t.Context(), rootKeyID, "2", time.Now())
	require.NoError(t, err)
	require.False(t, key.Active)
	require.Equal(t, found.Caller.PolicyEpoch+1, key.Caller.PolicyEpoch)

	exec(t, db.Owner, `DELETE FROM access_key`)
	require.ErrorIs(t, errOf(store.Spend(t.Context(), rootKeyID, "3", time.Now())), signature.ErrUnknownKey)
}

// What concurrent calls ask for together, each of them must get for itself.
func TestConcurrentCallsGetTheirOwnAnswers(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	ensureRoot(t, store)
	apply(t, store, oneUser)
	keys := []string{rootKeyID, "ESAKalice1"}
	var calls errgroup.Group
	for i := range 200 {
		calls.Go(func() error {
			signedAt, want := time.Now(), error(nil)
			if i%10 == 0 { // must not spoil the calls it is asked for with
				signedAt, want = signedAt.Add(-2*time.Hour), signature.ErrExpired
			}
			key, err := store.Spend(t.Context(), keys[i%2], fmt.Sprint(i), signedAt)
			if !errors.Is(err, want) || err == nil && key.ID != keys[i%2] {
				return fmt.Errorf("call %d got the key %s: %w", i, key.ID, err)
			}
			return nil
		})
	}
	require.NoError(t, calls.Wait())
}

func TestACallerWhoIsGoneTakesNobodyAlong(t *testing.T) {
	t.Parallel()
	store, _ := newStore(t)
	ensureRoot(t, store)
	gone, leave := context.WithCancel(t.Context())
	var calls errgroup.Group
	for i := range 100 {
		calls.Go(func() error {
			if i%2 == 0 {
				_, _ = store.Spend(gone, rootKeyID, fmt.Sprint(i), time.Now())
				return nil
			}
			return errOf(store.Spend(t.Context(), rootKeyID, fmt.Sprint(i), time.Now()))
		})
	}
	leave()
	require.NoError(t, calls.Wait())
}
