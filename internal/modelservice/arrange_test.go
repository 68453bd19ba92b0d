package modelservice

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// replicasOf reads a word of letters, one replica each: A active, M silent, S starting, F failed, D draining; a lower-case
// letter does not fit any more, ! after one says that its host is lost, and ~ that it is drained.
func replicasOf(word string) (members []member) {
	statuses := map[rune]string{'a': active, 'm': silent, 's': starting, 'f': failed, 'd': draining, 'r': removing, 'p': pending}
	for _, letter := range word {
		if letter == '!' {
			members[len(members)-1].lost = true
			continue
		}
		if letter == '~' {
			members[len(members)-1].evades = true
			continue
		}
		lower := letter | 0x20
		n := len(members)
		members = append(members, member{
			id: fmt.Sprintf("%c%d", letter, n), ordinal: n, node: fmt.Sprint("node-", n), status: statuses[lower], fits: letter != lower,
		})
	}
	return members
}

func places(n int) (free []place) {
	for i := range n {
		free = append(free, place{node: fmt.Sprint("spare-", i)})
	}
	return free
}

func TestReplicasComeAndGo(t *testing.T) {
	for name, c := range map[string]struct {
		want         int
		have         string
		free         int
		mayInterrupt bool
		add          int
		take, forget []string
	}{
		"nothing to do":                                  {2, "AA", 1, false, 0, nil, nil},
		"one is missing":                                 {2, "A", 1, false, 1, nil, nil},
		"one is missing and has no place":                {2, "A", 0, false, 0, nil, nil},
		"one too many: the youngest goes":                {2, "AAA", 0, false, 0, []string{"A2"}, nil},
		"one too many: one that does not serve":          {2, "AFA", 0, false, 0, []string{"F1"}, nil},
		"a change starts on the spare node":              {2, "aa", 1, false, 1, nil, nil},
		"it waits for the new one":                       {2, "aaS", 0, false, 0, nil, nil},
		"the new one serves, an old one goes":            {2, "aaA", 0, false, 0, []string{"a1"}, nil},
		"the next starts where the old one was":          {2, "aA", 1, false, 1, nil, nil},
		"the last old one goes":                          {2, "aAA", 0, false, 0, []string{"a0"}, nil},
		"no spare: one goes while another serves":        {2, "aa", 0, false, 0, []string{"a1"}, nil},
		"no spare: one at a time":                        {3, "aad", 0, false, 0, nil, nil},
		"no spare: not while the new one starts":         {3, "aaS", 0, false, 0, nil, nil},
		"no spare: not while the new one fails":          {3, "aaF", 0, false, 0, nil, nil},
		"no spare: the next one":                         {3, "aaA", 0, false, 0, []string{"a1"}, nil},
		"the only one stays":                             {1, "a", 0, false, 0, nil, nil},
		"the only one goes if it may":                    {1, "a", 0, true, 0, []string{"a0"}, nil},
		"what does not serve goes at once":               {2, "sf", 0, false, 0, []string{"f1", "s0"}, nil},
		"fewer and changed: the surplus goes":            {1, "aaa", 0, false, 0, []string{"a2", "a1"}, nil},
		"a lost host: a successor on the spare":          {2, "AA!", 1, false, 1, nil, nil},
		"a lost host: it is kept until that serves":      {2, "AA!S", 0, false, 0, nil, nil},
		"a lost host: it is forgotten then":              {2, "AA!A", 0, false, 0, nil, []string{"A1"}},
		"a lost host without a spare":                    {2, "AA!", 0, false, 0, nil, nil},
		"a host that came back: the newcomer goes":       {2, "AAS", 0, false, 0, []string{"S2"}, nil},
		"a lost host: what was going is forgotten":       {1, "AD!", 0, false, 0, nil, []string{"D1"}},
		"a lost host of the only one, with a spare":      {1, "A!", 1, false, 1, nil, nil},
		"a draining one counts for nothing":              {1, "D", 1, false, 1, nil, nil},
		"the one that answers stays beside a silent one": {2, "am", 0, false, 0, []string{"m1"}, nil},
		"a silent one alone is not hurried":              {1, "m", 0, false, 0, nil, nil},
		"a silent one alone has a successor":             {1, "m", 1, false, 1, nil, nil},
		"the silent one of too many goes":                {1, "MA", 0, false, 0, []string{"M0"}, nil},
		"not while the new one is silent":                {2, "aM", 0, false, 0, nil, nil},
		"a changed one on a lost host is kept as well":   {2, "aa!", 0, false, 0, nil, nil},
		"a drained host: a successor on the spare":       {2, "Aa~", 1, false, 1, nil, nil},
		"a drained host: it is kept until that serves":   {2, "Aa~S", 0, false, 0, nil, nil},
		"a drained host: it goes then":                   {2, "Aa~A", 0, false, 0, []string{"a1"}, nil},
		"a drained host without a spare":                 {2, "Aa~", 0, false, 0, nil, nil},
		"a drained host of the only one":                 {1, "a~", 0, true, 0, nil, nil},
		"a drained host: what starts there may start":    {2, "As~", 0, false, 0, nil, nil},
		"a drained host: not two too few for one place":  {2, "a~a~", 1, false, 1, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := arrange(c.want, replicasOf(c.have), places(c.free), c.mayInterrupt)
			require.Len(t, m.add, c.add)
			require.ElementsMatch(t, c.take, idsOf(m.take))
			require.ElementsMatch(t, c.forget, idsOf(m.forget))
		})
	}
}

func TestOfTooManyTheYoungestGoes(t *testing.T) {
	replicas := replicasOf("AAA")
	replicas[0].born = time.Now()
	m := arrange(2, replicas, nil, false)
	require.Equal(t, []string{"A0"}, idsOf(m.take), "its number was another one's before")
}

func TestAChangeOfTheOnlyReplicaNeedsAPlaceOrLeave(t *testing.T) {
	require.True(t, stuck(replicasOf("a"), nil))
	require.False(t, stuck(replicasOf("a"), places(1)))
	require.False(t, stuck(replicasOf("A"), nil))
	require.False(t, stuck(replicasOf("aa"), nil))
	require.False(t, stuck(replicasOf("aF"), nil), "the failed one fits already")
	require.False(t, stuck(replicasOf("s"), nil), "it serves nobody")
	require.False(t, stuck(replicasOf("a~"), nil), "it stays until there is a place")
}

// Whatever state a service is in, and in whatever order engines come up and drains end: it never serves with fewer than it
// must, and in the end it has what it should have.
func TestEveryChangeEndsAndServesAllTheWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := rapid.IntRange(1, 6).Draw(t, "nodes")
		want := rapid.IntRange(1, nodes).Draw(t, "want")
		var replicas []member
		for n := range rapid.IntRange(0, nodes).Draw(t, "have") {
			replicas = append(replicas, member{
				id: fmt.Sprint("r", n), ordinal: n, node: fmt.Sprint(n), fits: rapid.Bool().Draw(t, "fits"),
				status: rapid.SampledFrom([]string{pending, starting, active, silent, failed, draining, removing}).Draw(t, "status"),
			})
		}
		made := len(replicas)
		serving := func() (n int) {
			for _, r := range replicas {
				if r.answers() {
					n++
				}
			}
			return n
		}
		least := min(serving(), 1)
		for range 200 {
			var free []place
			for n := range nodes {
				if !containsNode(replicas, fmt.Sprint(n)) {
					free = append(free, place{node: fmt.Sprint(n)})
				}
			}
			m := arrange(want, replicas, free, false)
			for _, taken := range m.take {
				for i := range replicas {
					if replicas[i].id == taken.id {
						replicas[i].status = leaving(replicas[i].status)
					}
				}
			}
			for _, p := range m.add {
				replicas = append(replicas, member{id: fmt.Sprint("r", made), ordinal: made, node: p.node, fits: true, status: pending})
				made++
			}
			require.GreaterOrEqual(t, serving(), least, "%+v", replicas)
			least = max(least, min(serving(), 1))
			// One engine comes up, or one that goes is gone.
			var moving []int
			for i, r := range replicas {
				if r.status != active {
					moving = append(moving, i)
				}
			}
			if len(moving) == 0 {
				if len(m.add)+len(m.take)+len(m.forget) == 0 {
					break
				}
				continue
			}
			i := rapid.SampledFrom(moving).Draw(t, "next")
			if replicas[i].goes() {
				replicas = append(replicas[:i:i], replicas[i+1:]...)
			} else {
				replicas[i].status = active
			}
		}
		if want == 1 && nodes == 1 && len(replicas) == 1 {
			return // the only one stays as it is without a place for another
		}
		require.Equal(t, want, serving(), "%+v", replicas)
		for _, r := range replicas {
			require.True(t, r.fits, "%+v", replicas)
		}
	})
}

func containsNode(replicas []member, node string) bool {
	for _, r := range replicas {
		if r.node == node {
			return true
		}
	}
	return false
}
