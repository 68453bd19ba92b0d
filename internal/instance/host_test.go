package instance_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

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
