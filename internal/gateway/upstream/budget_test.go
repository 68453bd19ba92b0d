package upstream

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// In every window of any history of requests there are at most a fifth as many further attempts as requests, and ten.
func TestFurtherAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b Budget
		var worst, now float64 // attempts above what was earned, over the window that ends here
		for _, asks := range rapid.SliceOf(rapid.IntRange(0, 4)).Draw(t, "further attempts of each request") {
			b.Earn()
			now = max(now, 0) - 1.0/retryCost
			for range asks {
				if b.Spend() {
					now++
				}
			}
			worst = max(worst, now)
		}
		require.LessOrEqual(t, worst, 10.0)
	})
}

func TestABudgetIsEarned(t *testing.T) {
	t.Parallel()
	var b Budget
	b.Earn()
	for range 10 {
		require.True(t, b.Spend())
	}
	require.False(t, b.Spend())
	for range retryCost - 1 {
		b.Earn()
		require.False(t, b.Spend())
	}
	b.Earn()
	require.True(t, b.Spend())
}

func TestADeadServiceIsAskedAFifthMoreThanThereAreRequests(t *testing.T) {
	t.Parallel()
	var b Budget
	var attempts atomic.Int64
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range 1000 {
				attempts.Add(1)
				for b.Earn(); b.Spend(); {
					attempts.Add(1)
				}
			}
		})
	}
	all.Wait()
	require.InDelta(t, 12_000, attempts.Load(), 10)
}
