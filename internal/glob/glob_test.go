package glob_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/glob"
)

// naiveGlob says what a pattern means, character by character, without a thought for its cost.
func naiveGlob(pattern, s []rune) bool {
	if len(pattern) == 0 {
		return len(s) == 0
	}
	switch pattern[0] {
	case '*':
		for i := range len(s) + 1 {
			if naiveGlob(pattern[1:], s[i:]) {
				return true
			}
		}
		return false
	case '?':
		return len(s) > 0 && naiveGlob(pattern[1:], s[1:])
	}
	return len(s) > 0 && s[0] == pattern[0] && naiveGlob(pattern[1:], s[1:])
}

func TestGlobMatchesTheWholeString(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "acs:gpdb::1:dbinstance/gp-1", true},
		{"?", "", false},
		{"?", "é", true},
		{"*??", "☃", false},
		{"acs:gpdb:*:1:dbinstance/gp-1", "acs:gpdb:cn-hangzhou:1:dbinstance/gp-1", true},
		{"acs:gpdb:*:1:dbinstance/gp-1", "acs:gpdb::1:dbinstance/gp-1", true},
		{"acs:gpdb:*:1:dbinstance/gp-1", "acs:gpdb:cn-hangzhou:999:OTHER/gp-2", false}, // Casbin's keyMatch says true
		{"acs:gpdb:*:1:dbinstance/gp-1", "acs:gpdb::1:dbinstance/gp-11", false},
		{"acs:*:*cn-beijing*:*:*", "acs:gpdb:cn-beijing-finance:1:a/b", true},
		{"gp-?", "gp-1", true},
		{"gp-?", "gp-12", false},
		{"a*b*c", "abbbcbc", true},
		{"a*b*c", "abbbcbd", false},
		{"[a]", "a", false},
		{"\\*", "*", false},
		{"${x}", "${x}", true},
		{"A", "a", false},
	} {
		require.Equal(t, c.want, glob.Match(c.pattern, c.s), "Match(%q, %q)", c.pattern, c.s)
	}
}

func TestGlobAgreesWithTheNaiveMatcher(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.SampledFrom([]rune("*?ab:é")), 0, 10, -1).Draw(t, "pattern")
		s := rapid.StringOfN(rapid.SampledFrom([]rune("ab:é☃*")), 0, 10, -1).Draw(t, "s")
		require.Equal(t, naiveGlob([]rune(pattern), []rune(s)), glob.Match(pattern, s), "Match(%q, %q)", pattern, s)
	})
}

// fastest is how long do takes when nothing disturbs it.
func fastest(do func()) time.Duration {
	best := time.Hour
	for range 200 {
		start := time.Now()
		do()
		best = min(best, time.Since(start))
	}
	return best
}

// The common recursive matcher needs more than 15 s for ten stars. A table of len(pattern) × len(s) is the bound that
// ours promises; measured against the time of that many steps, the test means the same on every machine.
func TestManyStarsTakeFewSteps(t *testing.T) {
	t.Parallel()
	pattern, s := strings.Repeat("a*", 40)+"b", strings.Repeat("a", 4000)
	equal := 0
	table := fastest(func() {
		for i := range pattern {
			for j := range len(s) {
				if pattern[i] == s[j] {
					equal++
				}
			}
		}
	})
	require.Positive(t, equal)
	matched := false
	ours := fastest(func() { matched = matched || glob.Match(pattern, s) })
	double := fastest(func() { matched = matched || glob.Match(pattern, s+s) })
	t.Logf("40 stars × 4,000 bytes: %s; × 8,000 bytes: %s; as many steps as a table has: %s", ours, double, table)
	require.False(t, matched)
	require.Less(t, ours, table/2)
	require.Less(t, double, 4*ours, "twice the bytes take about twice the time")
}

func FuzzGlob(f *testing.F) {
	f.Add("acs:*:?", "acs:gpdb:1")
	f.Add("a**?b*", "aéb\xff")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		got := glob.Match(pattern, s)
		if !glob.Match("*"+pattern+"*", s) && got {
			t.Fatal("a looser pattern matched less")
		}
		if strings.Count(pattern, "*") > 4 || len(s) > 40 || !utf8.ValidString(pattern) || !utf8.ValidString(s) {
			return // the naive matcher would not come back, or reads the bytes differently
		}
		require.Equal(t, naiveGlob([]rune(pattern), []rune(s)), got)
	})
}

func BenchmarkGlobFortyStars(b *testing.B) {
	pattern, s := strings.Repeat("a*", 40)+"b", strings.Repeat("a", 4000)
	for b.Loop() {
		glob.Match(pattern, s)
	}
}
