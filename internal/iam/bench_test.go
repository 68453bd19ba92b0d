package iam_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func BenchmarkFind(b *testing.B) {
	store, _ := newStore(b)
	apply(b, store, oneUser)
	for b.Loop() {
		_, err := store.Find(b.Context(), "ESAKalice1")
		require.NoError(b, err)
	}
}

func BenchmarkPoliciesOf(b *testing.B) {
	store, _ := newStore(b)
	apply(b, store, oneUser)
	key, err := store.Find(b.Context(), "ESAKalice1")
	require.NoError(b, err)
	for b.Loop() {
		_, err := store.PoliciesOf(b.Context(), key.Caller)
		require.NoError(b, err)
	}
}

func BenchmarkSpend(b *testing.B) {
	store, _ := newStore(b)
	ensureRoot(b, store)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := errOf(store.Spend(b.Context(), rootKeyID, strconv.FormatInt(n.Add(1), 10), time.Now())); err != nil {
				b.Error(err)
			}
		}
	})
}
