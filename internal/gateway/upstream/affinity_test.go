package upstream

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/secret"
)

// idle returns so many replicas of a fleet, with ids as they are given out.
func idle(n int) []*Replica {
	fleet := NewFleet()
	replicas := make([]*Replica, n)
	for i := range replicas {
		replicas[i] = fleet.Join(fmt.Sprintf("mr-%020d", i), "127.0.0.1:1", secret.New("key"))
	}
	return replicas
}

func TestTheSameKeyGoesToTheSameReplica(t *testing.T) {
	t.Parallel()
	r := idle(5)
	const keys = 50_000
	elsewhere := idle(5)
	got := map[*Replica]int{}
	for range keys {
		key := rand.Uint64()
		chosen := ChooseFor(r, nil, key)
		got[chosen]++
		require.Equal(t, chosen.ID(), ChooseFor(elsewhere, nil, key).ID(), "another gateway chooses alike")
	}
	for _, replica := range r {
		require.InDelta(t, keys/5, got[replica], keys/50)
	}
}

func TestAReplicaTakesOnlyItsShareOfTheKeysWithIt(t *testing.T) {
	t.Parallel()
	r := idle(5)
	moved := 0
	const keys = 50_000
	for range keys {
		key := rand.Uint64()
		before, after := ChooseFor(r[:4], nil, key), ChooseFor(r, nil, key)
		if after == r[4] {
			moved++
		} else {
			require.Same(t, before, after)
		}
	}
	require.InDelta(t, keys/5, moved, keys/50)
}

func TestABusyReplicaLeavesItsKeysToOthers(t *testing.T) {
	t.Parallel()
	r := idle(4)
	const key = 7
	first := ChooseFor(r, nil, key)
	for range alwaysAllowed {
		require.Same(t, first, ChooseFor(r, nil, key), "a few are not too many")
		first.Begin()
	}
	second := ChooseFor(r, nil, key)
	require.NotSame(t, first, second)
	require.Same(t, second, ChooseFor(r, []*Replica{first}, key), "which is the next for the key")
	for _, replica := range r {
		for range 40 {
			replica.Begin()
		}
	}
	for range 54 - first.InFlight() {
		first.Begin()
	}
	require.Same(t, first, ChooseFor(r, nil, key), "55 of 175 requests are 5/4 of the average")
	first.Begin()
	require.NotSame(t, first, ChooseFor(r, nil, key))
}

func TestAKeyOfAReplicaThatIsAsideGoesToTheNext(t *testing.T) {
	t.Parallel()
	r := idle(4)
	const key = 7
	first := ChooseFor(r, nil, key)
	second := ChooseFor(r, []*Replica{first}, key)
	eject(&first.Health)
	require.Same(t, second, ChooseFor(r, nil, key))
	elapse(&first.Health)
	require.Same(t, first, ChooseFor(r, nil, key+1), "any request may probe it")
	require.Same(t, second, ChooseFor(r, nil, key))
	first.Succeeded()
	require.Same(t, first, ChooseFor(r, nil, key))
	for _, replica := range r {
		eject(&replica.Health)
	}
	require.NotNil(t, ChooseFor(r, nil, key), "one is left")
	require.Nil(t, ChooseFor(r, r, key))
}

// However many requests have the same key, no replica has much more to do than the average.
func TestAHotKeyIsSpread(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := idle(rapid.IntRange(1, 8).Draw(t, "replicas"))
		total := 0.0
		for _, key := range rapid.SliceOfN(rapid.Uint64Range(0, 3), 1, 200).Draw(t, "keys") {
			chosen := ChooseFor(r, nil, key)
			chosen.Begin()
			total++
			require.LessOrEqual(t, float64(chosen.InFlight()), max(alwaysAllowed, overload*total/float64(len(r))+1))
			if rapid.IntRange(0, 3).Draw(t, "ends") == 0 {
				chosen.End()
				total--
			}
		}
	})
}

func BenchmarkChooseFor(b *testing.B) {
	r := idle(8)
	b.RunParallel(func(pb *testing.PB) {
		key := uint64(0)
		for pb.Next() {
			key++
			chosen := ChooseFor(r, nil, key)
			chosen.Begin()
			chosen.Succeeded()
			chosen.End()
		}
	})
}
