package upstream

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/secret"
)

// busy returns replicas of a fleet with so many requests in flight.
func busy(loads ...int64) []*Replica {
	fleet := NewFleet()
	replicas := make([]*Replica, len(loads))
	for i, n := range loads {
		replicas[i] = fleet.Join(string(rune('a'+i)), "127.0.0.1:1", secret.New("key"))
		replicas[i].load.inFlight.Store(n)
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
	require.Nil(t, Choose(nil, nil))
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

func TestReplicaSetAsideIsTheLastResort(t *testing.T) {
	t.Parallel()
	r := busy(0, 9)
	r[0].SetAside()
	require.Equal(t, r[1], Choose(r, nil))
	require.Equal(t, r[0], Choose(r, r[1:]))
	r[0].load.asideUntil.Store(1) // long ago
	require.Equal(t, r[0], Choose(r, nil))
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

	moved := f.Join("streaming", "127.0.0.1:3", secret.New("k"))
	require.NotSame(t, streaming, moved)
	require.EqualValues(t, 1, moved.InFlight())
	f.Leave(streaming)
	require.Same(t, moved, f.Join("streaming", "127.0.0.1:3", secret.New("k")), "the old address left, not the replica")
	streaming.End()
	f.Leave(moved)
	require.Empty(t, f.replicas)
	require.Empty(t, f.leaving)
}
