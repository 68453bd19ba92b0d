package modelservice

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asks returns after how many seconds of no step a request follows.
func asks(generation func(second int) int64) (seconds []int) {
	began := time.Unix(1_000_000, 0)
	last := request{}
	for second := range 20 {
		now := began.Add(time.Duration(second)*time.Second + time.Duration(second)*time.Millisecond)
		if last.over(generation(second), now, askAgain) {
			last = last.next(generation(second), now)
			seconds = append(seconds, second)
		}
	}
	return seconds
}

func TestStepsThatAreNotHeardAreAskedForLessOften(t *testing.T) {
	t.Parallel()
	require.Equal(t, []int{0, 1, 3, 7, 11, 15, 19}, asks(func(int) int64 { return 7 }), "none is taken")
	require.Equal(t, []int{0, 1, 3, 7, 11, 13, 14, 16}, asks(func(second int) int64 {
		if second < 13 {
			return 7
		}
		return 8
	})[:8], "one is taken at last")
	require.Len(t, asks(func(second int) int64 { return int64(second) }), 20, "each of them is taken")
}
