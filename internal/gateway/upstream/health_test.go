package upstream

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// eject has the target fail until it is ejected.
func eject(h *Health) {
	for !h.Failed() && !h.Ejected() {
	}
}

func TestFailuresInARowEject(t *testing.T) {
	t.Parallel()
	var h Health
	for range 3 {
		for range tolerated - 1 {
			require.False(t, h.Failed())
			require.False(t, h.Ejected())
			require.False(t, h.Aside())
		}
		h.Succeeded()
	}
	for range tolerated - 1 {
		h.Failed()
	}
	require.True(t, h.Failed())
	require.True(t, h.Ejected())
	require.True(t, h.Aside())
	h.Succeeded()
	require.False(t, h.Ejected(), "it answered a request that others had no other target for")
}

func TestEjectionsInARowTakeLonger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h Health
		eject(&h)
		for n := 1; n <= 40; n++ {
			ejected := time.Now()
			for !h.Probe() {
				time.Sleep(100 * time.Millisecond)
			}
			longest := min(time.Duration(n)*ejection, longestEjection)
			require.GreaterOrEqual(t, time.Since(ejected), longest*4/5)
			require.LessOrEqual(t, time.Since(ejected), longest+100*time.Millisecond)
			require.True(t, h.Failed(), "one failure of the probe is enough")
		}
		h.Succeeded()
		require.False(t, h.Failed())
		eject(&h)
		time.Sleep(ejection)
		require.True(t, h.Probe(), "after a success it begins anew")
	})
}

func TestOnlyTheProbeOfAnEjectedTargetCounts(t *testing.T) {
	t.Parallel()
	var h Health
	eject(&h)
	for range 2 * tolerated {
		require.False(t, h.Failed(), "requests that were under way, or had no other target")
	}
	require.Equal(t, 1, h.trouble.Load().ejections)
}

func TestOneRequestProbes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h Health
		require.False(t, h.Probe(), "a healthy target is asked by all")
		eject(&h)
		require.False(t, h.Probe())
		for range 2 { // the first probe never tells how it went
			time.Sleep(ejection)
			require.EqualValues(t, 1, probes(&h))
			require.True(t, h.Ejected())
			require.True(t, h.Aside())
		}
		h.Succeeded()
		require.False(t, h.Aside())
	})
}

// probes is how many of many requests at once may probe.
func probes(h *Health) int64 {
	var probing atomic.Int64
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if h.Probe() {
				probing.Add(1)
			}
		})
	}
	all.Wait()
	return probing.Load()
}

func TestATargetThatCannotBeDialledIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h Health
		for range tolerated - 1 {
			require.False(t, h.SetAside())
			require.True(t, h.Aside())
			require.False(t, h.Ejected())
			require.False(t, h.Probe())
			time.Sleep(setAside)
			require.True(t, h.Probe())
		}
		require.True(t, h.SetAside())
		require.True(t, h.Ejected())
	})
}

func TestConcurrentFailuresEjectOnce(t *testing.T) {
	t.Parallel()
	var h Health
	var ejections atomic.Int64
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if h.Failed() {
				ejections.Add(1)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, ejections.Load())
}

func BenchmarkSucceeded(b *testing.B) {
	var h Health
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.Succeeded()
		}
	})
}
