package instance

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNodeSpecsAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/compatibility.md")
	require.NoError(t, err)
	for name, size := range sizes {
		require.Contains(t, string(page), fmt.Sprintf("| `%s.N` | %d | %v |\n", name, size.accelerators, size.fraction))
		for _, generation := range generations {
			got, err := sizeOf("AINodeSpec", fmt.Sprintf("%s.%c", name, generation))
			require.NoError(t, err)
			require.Equal(t, size, got)
		}
	}
	require.Equal(t, len(sizes), strings.Count(string(page), ".N` | "))
}

func TestUnknownNodeSpecsAreRefused(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"", "ADB.AILarge", "ADB.AILarge.", "ADB.AILarge.7", "ADB.AILarge.12", "ADB.AIHuge.1", "ADB.ADB.AILarge.1"} {
		_, err := sizeOf("AINodeSpec", spec)
		require.ErrorContains(t, err, "InvalidParameter", spec)
	}
}
