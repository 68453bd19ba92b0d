package access

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheLeastRecentlyUsedLeaves(t *testing.T) {
	t.Parallel()
	c := newLRU[string, int](2)
	c.put("a", 1)
	c.put("b", 2)
	_, _ = c.get("a")
	c.put("c", 3)
	c.put("c", 4)

	_, ok := c.get("b")
	require.False(t, ok)
	for key, want := range map[string]int{"a": 1, "c": 4} {
		got, ok := c.get(key)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	require.Len(t, c.entries, 2)
}
