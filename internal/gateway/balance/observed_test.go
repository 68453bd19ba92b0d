package balance

import (
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/gateway/upstream"
)

// allWell is the health of as many services as there are.
func allWell(int) *upstream.Health { return new(upstream.Health) }

func ejected() *upstream.Health {
	h := new(upstream.Health)
	for !h.Failed() {
	}
	return h
}

// serve gives requests to targets that take so long, one after the other, and returns how many each got.
func serve(o *Observed, requests int, take ...time.Duration) []int {
	got := make([]int, len(take))
	for range requests {
		turn := o.Pick(allWell)
		got[turn.Target()]++
		took := take[turn.Target()]
		time.Sleep(took)
		turn.FirstContent(took)
		turn.End(took, Complete)
	}
	return got
}

func TestTheLeastBusyTargetIsChosen(t *testing.T) {
	t.Parallel()
	o := NewObserved(LeastBusy, make([]Target, 3))
	var turns []Turn
	for round := 1; round <= 4; round++ {
		for range 3 {
			turns = append(turns, o.Pick(allWell))
		}
		for i := range o.targets {
			require.Equal(t, round, o.targets[i].busy)
		}
	}
	free := turns[0].Target()
	for i := range turns {
		if turns[i].Target() == free {
			turns[i].End(time.Second, Failed)
		}
	}
	for range 4 {
		turn := o.Pick(allWell)
		require.Equal(t, free, turn.Target())
	}
}

func TestEquallyBusyTargetsAreChosenAlike(t *testing.T) {
	t.Parallel()
	o := NewObserved(LeastBusy, make([]Target, 3))
	for i, n := range serve(o, 30_000, 0, 0, 0) {
		require.InDelta(t, 10_000, n, 500, "target %d", i)
	}
}

func TestTheQuickestTargetIsChosen(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{LeastFirstContent, LeastTotal} {
		synctest.Test(t, func(t *testing.T) {
			got := serve(NewObserved(mode, make([]Target, 3)), 900, 90*time.Millisecond, 30*time.Millisecond, 60*time.Millisecond)
			require.Equal(t, []int{1, 898, 1}, got)
		})
	}
}

func TestTargetsWithAboutTheSameLatencyShareTheWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := NewObserved(LeastTotal, make([]Target, 3))
		serve(o, 3, 105*time.Millisecond, 100*time.Millisecond, 200*time.Millisecond)
		for range 10 {
			o.Pick(allWell)
		}
		require.Equal(t, []int{5, 5, 0}, []int{o.targets[0].busy, o.targets[1].busy, o.targets[2].busy})
	})
}

func TestATargetThatHasBecomeQuickIsFoundOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := NewObserved(LeastTotal, make([]Target, 2))
		require.Equal(t, []int{3, 1697}, serve(o, 1700, time.Second, 50*time.Millisecond), "one request in 30 s")
		require.Equal(t, 1, serve(o, 600, time.Second, 50*time.Millisecond)[0])
		got := serve(o, 1200, 20*time.Millisecond, 50*time.Millisecond)
		require.Greater(t, got[0], 600)
	})
}

func TestAtALowRateOneInTwentyRequestsFindsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := NewObserved(LeastTotal, make([]Target, 2))
		got := 0
		for range 200 {
			got += serve(o, 1, time.Second, 50*time.Millisecond)[0]
			time.Sleep(time.Hour)
		}
		require.Equal(t, 10, got)
	})
}

func TestFailuresAreSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := NewObserved(LeastFirstContent, make([]Target, 2))
		got := [2]int{}
		for range 100 {
			turn := o.Pick(allWell)
			got[turn.Target()]++
			if turn.Target() == 0 {
				turn.End(time.Millisecond, Failed)
				continue
			}
			turn.FirstContent(400 * time.Millisecond)
			turn.End(time.Hour, Complete)
		}
		require.Equal(t, [2]int{1, 99}, got, "to fail at once is not to be quick")
		require.InDelta(t, 1, o.targets[0].average, 0.001)

		turn := o.Pick(allWell)
		turn.FirstContent(400 * time.Millisecond)
		before := o.targets[1].average
		turn.End(time.Second, Failed)
		require.Greater(t, o.targets[1].average, before, "an answer that breaks off has failed")
	})
}

func TestAClientThatLeavesBeforeItsAnswerSaysThatTheTargetIsSlow(t *testing.T) {
	t.Parallel()
	o := NewObserved(LeastTotal, make([]Target, 1))
	end := func(after time.Duration, how Ending) float64 {
		turn := o.Pick(allWell)
		turn.End(after, how)
		return o.targets[0].average
	}
	require.Zero(t, end(time.Hour, Abandoned), "of what would have been quick nothing is known")
	require.InDelta(t, 1, end(time.Second, Complete), 0.001)
	require.InDelta(t, 1, end(time.Second/2, Abandoned), 0.001)
	require.InDelta(t, 1.5, end(2*time.Second, Abandoned), 0.001)
}

func TestTheAverageIsOverTheWindow(t *testing.T) {
	t.Parallel()
	o := NewObserved(LeastTotal, []Target{{Window: 9}})
	after := func(times int, took time.Duration) float64 {
		for range times {
			turn := o.Pick(allWell)
			turn.End(took, Complete)
		}
		return o.targets[0].average
	}
	require.InDelta(t, 2, after(1, 3*time.Second)-after(2, 0), 0.001, "the first answers count alike")
	require.InDelta(t, 1, after(50, time.Second), 0.01)
	require.InDelta(t, 10*0.86+0.14, after(9, 10*time.Second), 0.3, "most of what the window holds is new")
}

func TestAServiceThatIsAsideIsLeftOut(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{LeastBusy, LeastFirstContent, LeastTotal} {
		o := NewObserved(mode, []Target{{}, {Share: 0.1}, {}})
		services := []*upstream.Health{ejected(), new(upstream.Health), nil}
		health := func(i int) *upstream.Health { return services[i] }
		for range 20 {
			turn := o.Pick(health)
			require.Equal(t, 1, turn.Target(), "the only one that is well, whatever its share")
		}
		services[1] = ejected()
		turn := o.Pick(health)
		require.NotEqual(t, 1, turn.Target(), "of those that are all aside, the least busy")
	}
}

func TestOneRequestProbesAServiceWhoseTimeAsideIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := NewObserved(LeastBusy, make([]Target, 2))
		services := []*upstream.Health{ejected(), new(upstream.Health)}
		got := [2]int{}
		time.Sleep(10 * time.Second)
		for range 10 {
			turn := o.Pick(func(i int) *upstream.Health { return services[i] })
			got[turn.Target()]++
		}
		require.Equal(t, [2]int{1, 9}, got)
	})
}

// Of every stretch of requests a target gets its share at most, however much better it is than others.
func TestSharesAreKept(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		mode := rapid.SampledFrom([]Mode{LeastBusy, LeastTotal}).Draw(t, "mode")
		percent := rapid.IntRange(1, 99).Draw(t, "percent")
		share := float64(percent) / 100
		o := NewObserved(mode, []Target{{Share: share}, {}, {Share: 0.5}})
		slow := rapid.SliceOfN(rapid.Bool(), 400, 400).Draw(t, "when it is no better")
		got := []int{0} // of so many requests
		for _, slow := range slow {
			turn := o.Pick(allWell)
			n := got[len(got)-1]
			if turn.Target() == 0 {
				n++
			}
			got = append(got, n)
			took := time.Duration(turn.Target()) * time.Second
			if slow {
				took = 3*time.Second - took
			}
			if turn.Target() == 0 || rapid.Bool().Draw(t, "it ends") {
				turn.End(took, Complete)
			}
		}
		for n := 1; n < len(got); n++ {
			most := (percent*n + 99) / 100
			for from := 0; from+n < len(got); from++ {
				if got[from+n]-got[from] > most {
					require.Fail(t, "more than its share", "%d requests from %d on, %d %%", n, from, percent)
				}
			}
		}
	})
}

func TestATargetGetsItsWholeShareWhenItIsTheBest(t *testing.T) {
	t.Parallel()
	for _, share := range []float64{0.01, 0.2, 0.5, 0.66, 0.8, 0.99, 1} {
		synctest.Test(t, func(t *testing.T) {
			o := NewObserved(LeastTotal, []Target{{Share: share}, {}})
			serve(o, 10, time.Millisecond, time.Second)
			got := serve(o, 1000, time.Millisecond, time.Second)
			require.InDelta(t, math.Round(share*1000), got[0], 40, "but for what finds out about the other")
		})
	}
}

func TestSharesOfAllTargetsAreSharesOfTheWork(t *testing.T) {
	t.Parallel()
	o := NewObserved(LeastBusy, []Target{{Share: 0.6}, {Share: 0.3}, {Share: 0.1}})
	got := serve(o, 1000, 0, 0, 0)
	require.InDelta(t, 600, got[0], 10)
	require.InDelta(t, 300, got[1], 10)
	require.InDelta(t, 100, got[2], 10)
}

// Whatever happens to requests, at the same time or twice, each is counted in and out once.
func TestRequestsAreCountedOutOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := NewObserved(Mode(rapid.IntRange(0, 2).Draw(t, "mode")), []Target{{}, {Share: 0.3}, {Window: 1}, {}})
		services := []*upstream.Health{new(upstream.Health), ejected(), new(upstream.Health), nil}
		running := [4]int{}
		var turns []Turn
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if len(turns) == 0 || rapid.Bool().Draw(t, "begins") {
				turn := o.Pick(func(i int) *upstream.Health { return services[i] })
				running[turn.Target()]++
				turns = append(turns, turn)
				continue
			}
			i := rapid.IntRange(0, len(turns)-1).Draw(t, "which")
			turn, after := &turns[i], time.Duration(rapid.IntRange(0, 1e9).Draw(t, "after"))
			if rapid.Bool().Draw(t, "content") {
				turn.FirstContent(after)
				continue
			}
			running[turn.Target()]--
			for range rapid.IntRange(1, 2).Draw(t, "times") {
				turn.End(after, Ending(rapid.IntRange(0, 2).Draw(t, "how")))
			}
			turn.FirstContent(after)
			turns = append(turns[:i], turns[i+1:]...)
		}
		for i := range running {
			require.Equal(t, running[i], o.targets[i].busy)
		}
	})
	new(Turn).End(0, Complete) // the zero Turn is of no Observed
}

func TestRequestsAtOnceAreCountedOut(t *testing.T) {
	t.Parallel()
	o := NewObserved(LeastFirstContent, make([]Target, 3))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for i := range 200 {
				turn := o.Pick(allWell)
				turn.FirstContent(time.Duration(i))
				turn.End(time.Duration(i), Ending(i%3))
			}
		})
	}
	all.Wait()
	for i := range o.targets {
		require.Zero(t, o.targets[i].busy)
	}
}

func BenchmarkPick(b *testing.B) {
	o := NewObserved(LeastTotal, make([]Target, 4))
	var well upstream.Health
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			turn := o.Pick(func(int) *upstream.Health { return &well })
			turn.End(time.Millisecond, Complete)
		}
	})
}
