package instance_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// lapse lets the host's lease run out.
func lapse(t *testing.T, db *pgtest.DB, host string) {
	t.Helper()
	_, err := db.Owner.Exec(t.Context(), `UPDATE host SET heartbeat_at = now() - interval '11 seconds' WHERE name = $1`, host)
	require.NoError(t, err)
}

func TestAHeartbeatThatArrivesLateRevivesNobody(t *testing.T) {
	t.Parallel()
	instances, db := newInstances(t)
	h := instance.Host{Name: "gpu-a", Machine: "m1", EngineAddr: "10.0.0.1", StartedAt: time.Now()}
	require.ErrorIs(t, instances.BeatAgain(t.Context(), h), instance.ErrHostSilent, "nobody knows it yet")
	require.NoError(t, instances.Beat(t.Context(), h))
	require.NoError(t, instances.BeatAgain(t.Context(), h))
	lapse(t, db, "gpu-a")
	require.ErrorIs(t, instances.BeatAgain(t.Context(), h), instance.ErrHostSilent)
	zones, err := instances.Zones(t.Context())
	require.NoError(t, err)
	require.Empty(t, zones)
	require.NoError(t, instances.Beat(t.Context(), h), "it was cleaned")
}

func TestTwoMachinesCannotBeOneHost(t *testing.T) {
	t.Parallel()
	instances, db := newInstances(t)
	first := instance.Host{Name: "gpu-a", Machine: "m1", EngineAddr: "10.0.0.1", StartedAt: time.Now()}
	second := instance.Host{Name: "gpu-a", Machine: "m2", EngineAddr: "10.0.0.2", StartedAt: time.Now()}
	require.NoError(t, instances.Beat(t.Context(), first))
	err := instances.Beat(t.Context(), second)
	require.ErrorIs(t, err, instance.ErrHostTaken)
	require.ErrorContains(t, err, "engines listen on 10.0.0.1")
	require.NoError(t, instances.Beat(t.Context(), first), "a machine may start again")

	lapse(t, db, "gpu-a")
	require.NoError(t, instances.Beat(t.Context(), second), "its place was free")
	require.ErrorIs(t, instances.BeatAgain(t.Context(), first), instance.ErrHostTaken)
	require.ErrorIs(t, instances.Beat(t.Context(), first), instance.ErrHostTaken)

	require.NoError(t, instances.Leave(t.Context(), first))
	require.ErrorIs(t, instances.Beat(t.Context(), first), instance.ErrHostTaken, "only its own place can be left")
	require.NoError(t, instances.Leave(t.Context(), second))
	require.NoError(t, instances.Beat(t.Context(), first))
}

func TestAINodesAreSpreadOverTheHostsAndPartsAreNot(t *testing.T) {
	t.Parallel()
	instances, _ := newInstances(t)
	for _, name := range []string{"gpu-a", "gpu-b", "gpu-c"} {
		beat(t, instances, name, 4)
	}
	onHosts := func(id string) map[string]int {
		pools, err := instances.Pools(t.Context(), account, id)
		require.NoError(t, err)
		count := map[string]int{}
		for _, n := range pools[0].Nodes {
			count[n.Host]++
		}
		return count
	}
	whole, err := instances.Create(t.Context(), idempotency.Key{}, spec("ADB.AILarge.1", 4))
	require.NoError(t, err)
	require.Equal(t, map[string]int{"gpu-a": 2, "gpu-b": 1, "gpu-c": 1}, onHosts(whole.ID))
	parts, err := instances.Create(t.Context(), idempotency.Key{}, spec("ADB.AIStandard.1", 4))
	require.NoError(t, err)
	require.Equal(t, map[string]int{"gpu-b": 4}, onHosts(parts.ID), "they fill one accelerator of the emptiest")
	rest, err := instances.Create(t.Context(), idempotency.Key{}, spec("ADB.AIXLarge.1", 3))
	require.NoError(t, err)
	require.Equal(t, map[string]int{"gpu-a": 1, "gpu-b": 1, "gpu-c": 1}, onHosts(rest.ID))
}

func TestEveryHostHasItsTurnAndFewHaveItAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	instances := instance.New(db.Control, region)
	for hosts := 1; hosts <= 7; hosts++ {
		beat(t, instances, fmt.Sprint("host-", hosts), 0)
		had := map[int]bool{}
		for n := range 60 { // so many other intervals, each of them too long to end meanwhile
			now := 0
			for host := 1; host <= hosts; host++ {
				mine, err := instances.Turn(t.Context(), fmt.Sprint("host-", host), time.Hour+time.Duration(n)*time.Second)
				require.NoError(t, err)
				if mine {
					now++
					had[host] = true
				}
			}
			require.Contains(t, []int{1, 2}, now)
		}
		require.Len(t, had, hosts)
	}
	_, err := db.Owner.Exec(t.Context(), `UPDATE host SET heartbeat_at = now() - interval '11 seconds' WHERE name <> 'host-5'`)
	require.NoError(t, err)
	mine, err := instances.Turn(t.Context(), "host-5", time.Hour)
	require.NoError(t, err)
	require.True(t, mine, "those that are silent are passed over")
}
