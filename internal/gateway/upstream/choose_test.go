package upstream

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/secret"
)

// busy returns replicas of a fleet with so many requests in flight.
func busy(loads ...int64) []*Replica {
	fleet := NewFleet()
	replicas := make([]*Replica, len(loads))
	for i, n := range loads {
		replicas[i] = fleet.Join(string(rune('a'+i)), "127.0.0.1:1", secret.New("key"))
		replicas[i].inFlight.Store(n)
	}
	return replicas
}

func TestLeastBusyIsChosen(t *testing.T) {
	t.Parallel()
	r := busy(3, 1, 2)
	require.Equal(t, r[1], Choose(r, nil))
	require.Equal(t, r[2], Choose(r, r[1:2]))
	require.Equal(t, r[0], Choose(r, r[1:]))
	require.Nil(t, Choose(r, r))
	require.Nil(t, Choose[*Replica](nil, nil))
}

func TestEqualsAreChosenAlike(t *testing.T) {
	t.Parallel()
	r := busy(0, 5, 0, 0, 5)
	chosen := map[*Replica]int{}
	const times = 30_000
	for range times {
		chosen[Choose(r, nil)]++
	}
	require.Len(t, chosen, 3)
	for _, n := range chosen {
		require.InDelta(t, times/3, n, times/30)
	}
}

func TestReplicaThatIsAsideIsTheLastResort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := busy(0, 9)
		r[0].SetAside()
		require.Equal(t, r[1], Choose(r, nil))
		require.Equal(t, r[0], Choose(r, r[1:]))
		time.Sleep(setAside)
		require.Equal(t, r[0], Choose(r, nil), "the one request that probes it")
		require.Equal(t, r[1], Choose(r, nil), "others wait for how that goes")
		r[0].Succeeded()
		require.Equal(t, r[0], Choose(r, nil))
	})
}

func TestTheLeastBadIsChosenWhenAllAreAside(t *testing.T) {
	t.Parallel()
	r := busy(0, 0, 9)
	for _, replica := range r {
		eject(&replica.Health)
	}
	r[0].trouble.Load().ejections++
	require.Equal(t, r[1], Choose(r, nil), "the one with less ejections, and of equals the one with less to do")
	require.Equal(t, r[2], Choose(r, r[1:2]))
	require.Equal(t, r[0], Choose(r, r[1:]))
	r[0].trouble.Store(nil)
	r[0].SetAside()
	require.Equal(t, r[0], Choose(r, nil), "one that is not ejected but aside")
}

// Whatever happened to the targets, one that was not tried is chosen, and none that is aside while another is not.
func TestChooseLeavesATarget(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := busy(rapid.SliceOfN(rapid.Int64Range(0, 5), 1, 6).Draw(t, "loads")...)
		for range rapid.IntRange(0, 60).Draw(t, "events") {
			h := &r[rapid.IntRange(0, len(r)-1).Draw(t, "target")].Health
			rapid.SampledFrom([]func(){
				h.Succeeded, func() { h.Failed() }, func() { h.SetAside() }, func() { eject(h) }, func() { elapse(h) }, func() { h.Probe() },
			}).Draw(t, "event")()
		}
		tried := r[:rapid.IntRange(0, len(r)).Draw(t, "tried")]
		left := r[len(tried):]
		due := slices.DeleteFunc(slices.Clone(left), func(r *Replica) bool { return !isDue(&r.Health) })
		chosen := Choose(r, tried)
		switch {
		case len(left) == 0:
			require.Nil(t, chosen)
		case len(due) > 0:
			require.Contains(t, due, chosen)
			require.False(t, isDue(&chosen.Health), "nobody else probes it")
		default:
			require.Contains(t, left, chosen)
			require.False(t, chosen.Aside() && slices.ContainsFunc(left, func(r *Replica) bool { return !r.Aside() }))
		}
	})
}

// elapse lets the time be over that a target is aside, or is probed.
func elapse(h *Health) {
	if t := h.trouble.Load(); t.isAside() {
		over := *t
		over.until = time.Now().Add(-1)
		h.trouble.Store(&over)
	}
}

func isDue(h *Health) bool {
	t := h.trouble.Load()
	return t.isAside() && time.Now().After(t.until)
}

func TestEndpointsAreChosenAsReplicasAre(t *testing.T) {
	t.Parallel()
	endpoints := []*Endpoint{new(Endpoint), new(Endpoint)}
	endpoints[0].Begin()
	require.Same(t, endpoints[1], Choose(endpoints, nil))
	eject(&endpoints[1].Health)
	require.Same(t, endpoints[0], Choose(endpoints, nil))
	require.Nil(t, Choose(endpoints, endpoints))
}

func BenchmarkChoose(b *testing.B) {
	r := busy(0, 1, 2, 3)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			chosen := Choose(r, nil)
			chosen.Begin()
			chosen.Succeeded()
			chosen.End()
		}
	})
}

func TestFleetForgetsWhoLeftWhenItIsIdle(t *testing.T) {
	t.Parallel()
	f := NewFleet()
	idle, streaming := f.Join("idle", "127.0.0.1:1", secret.New("k")), f.Join("streaming", "127.0.0.1:2", secret.New("k"))
	streaming.Begin()
	f.Leave(idle)
	f.Leave(streaming)
	require.Len(t, f.replicas, 1)
	require.Same(t, streaming, f.Join("streaming", "127.0.0.1:2", secret.New("k")), "it came back with its load")

	eject(&streaming.Health)
	require.True(t, f.Join("streaming", "127.0.0.1:2", secret.New("k")).Ejected())
	moved := f.Join("streaming", "127.0.0.1:3", secret.New("k"))
	require.NotSame(t, streaming, moved)
	require.False(t, moved.Ejected(), "at its new address it has not failed")
	require.EqualValues(t, 1, moved.InFlight())
	f.Leave(streaming)
	require.Same(t, moved, f.Join("streaming", "127.0.0.1:3", secret.New("k")), "the old address left, not the replica")
	streaming.End()
	f.Leave(moved)
	require.Empty(t, f.replicas)
	require.Empty(t, f.leaving)
}
