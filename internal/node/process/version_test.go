package process_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/node/process"
)

func TestAnEngineSaysItsVersion(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		"0.32.0":         "0.32.0",
		"vllm 0.8.5":     "0.8.5",
		"INFO 0\n0.10.1": "0.10.1",
		"0.9.1.dev3+cpu": "0.9.1",
		"v1.0+cu129":     "1.0",
		"simulated-0.1":  "",
		"12":             "",
		"it failed 0.8":  "",
	} {
		driver := newDriver(t, process.Config{Command: []string{"sh", "-c", `[ "$1" = --version ] && printf '%s\n' "$0"`, said}, Dir: newDir(t), Installation: newInstallation()})
		version, err := driver.Version(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, version, said)
	}
}

func TestAnEngineThatDoesNotSayItsVersionIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	driver := newDriver(t, process.Config{Command: []string{"sh", "-c", "sleep 1000 & wait"}, Dir: newDir(t), Installation: newInstallation()})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := driver.Version(ctx)
	require.ErrorContains(t, err, "ask the engine's command for its version")
}
