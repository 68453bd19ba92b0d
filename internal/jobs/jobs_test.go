package jobs_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/jobs"
)

func TestEveryMachineHasAHostName(t *testing.T) {
	t.Parallel()
	for machine, want := range map[string]string{
		"gpu-a": "gpu-a", "GPU_A.example.com": "gpu-a", "": "localhost", "--": "localhost", "α": "localhost",
		strings.Repeat("x", 80): strings.Repeat("x", 58), strings.Repeat("x", 57) + "-y": strings.Repeat("x", 57),
	} {
		name := jobs.HostName(machine)
		require.Equal(t, want, name)
		require.True(t, jobs.ValidHost(name))
	}
	for _, name := range []string{"", "A", "a_b", "a--b", "-a", strings.Repeat("x", 59)} {
		require.False(t, jobs.ValidHost(name), name)
	}
}
