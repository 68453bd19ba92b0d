package downstream

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// tries is how many of a thousand guesses are a yes. right says how the n-th of these goes.
func tries(right func(n int) bool) (yes int) {
	var g guess
	for range 1000 {
		if g.isYes() {
			g.was(right(yes))
			yes++
		}
	}
	return yes
}

func TestGuessesFollowHowItWent(t *testing.T) {
	t.Parallel()
	require.Equal(t, 1000, tries(func(int) bool { return true }))
	require.Equal(t, 1000, tries(func(n int) bool { return n%4 != 3 }), "three of four are right")
	require.Less(t, tries(func(int) bool { return false }), 70, "one of seventeen finds out")
	require.Less(t, tries(func(n int) bool { return n%2 == 0 }), 200, "half of them are too few")
	require.Greater(t, tries(func(n int) bool { return n > 20 }), 600, "they are made again when it goes well")
}
