package access

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheLeastRecentlyUsedLeaves(t *testing.T) {
	t.Parallel()
	c := newLRU[string, int](4)
	c.put("a", 1, 2)
	c.put("b", 2, 2)
	_, _ = c.get("a")
	c.put("c", 3, 1)
	c.put("c", 4, 2)

	_, ok := c.get("b")
	require.False(t, ok)
	for key, want := range map[string]int{"a": 1, "c": 4} {
		got, ok := c.get(key)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	require.Len(t, c.entries, 2)
	require.Equal(t, 4, c.weight)

	c.put("huge", 5, 100)
	require.Len(t, c.entries, 1)
	got, ok := c.get("huge")
	require.True(t, ok, "what was just made is kept, whatever it weighs")
	require.Equal(t, 5, got)
	c.put("a", 1, 2)
	require.Equal(t, 2, c.weight)
}
