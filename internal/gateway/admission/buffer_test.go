package admission

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestABufferHasRoomAndLittleOfItIsUnused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(0, largest).Draw(t, "size")
		class, room := classOf(size)
		require.GreaterOrEqual(t, room, size)
		require.LessOrEqual(t, room, max(smallest, size+size/steps+1))
		again, same := classOf(room)
		require.Equal(t, class, again, "what is given back is found again")
		require.Equal(t, room, same)
		require.Less(t, class, len(buffers))
	})
}
