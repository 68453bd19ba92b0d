package balance_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/gateway/balance"
)

func TestEverybodyGetsTheirWeightInEveryTurn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(0, 100), 1, 100).Draw(t, "weights")
		weights[0] = max(weights[0], 1)
		total := 0
		for _, weight := range weights {
			total += weight
		}
		w := balance.NewWheel(weights)
		for range 2 {
			got := make([]int, len(weights))
			for step := range total {
				got[w.Next()]++
				for i, n := range got { // never further ahead or behind than a smooth sharing can be
					share := float64(weights[i]) * float64(step+1) / float64(total)
					require.InDelta(t, share, n, float64(len(weights)))
				}
			}
			require.Equal(t, weights, got)
		}
	})
}

func TestAWheelIsSpread(t *testing.T) {
	t.Parallel()
	w := balance.NewWheel([]int{70, 20, 10})
	var first [10]int
	for i := range first {
		first[i] = w.Next()
	}
	require.Equal(t, [10]int{0, 0, 1, 0, 0, 2, 0, 0, 1, 0}, first)
}

func TestConcurrentRequestsShareAlike(t *testing.T) {
	t.Parallel()
	w := balance.NewWheel([]int{1, 99})
	var mu sync.Mutex
	var all sync.WaitGroup
	got := map[int]int{}
	for range 10 {
		all.Go(func() {
			mine := map[int]int{}
			for range 10_000 {
				mine[w.Next()]++
			}
			mu.Lock()
			defer mu.Unlock()
			for i, n := range mine {
				got[i] += n
			}
		})
	}
	all.Wait()
	require.Equal(t, map[int]int{0: 1000, 1: 99_000}, got)
}

func BenchmarkNext(b *testing.B) {
	w := balance.NewWheel([]int{70, 30})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w.Next()
		}
	})
}
