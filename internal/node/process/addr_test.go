package process

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestThePageForFirewallsNamesThePortsOfEngines(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/several-hosts.md")
	require.NoError(t, err)
	require.Contains(t, string(page), fmt.Sprintf("| %d–%d | engines", firstPort, lastPort))
}
