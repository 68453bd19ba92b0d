package controlplane

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/instance"
)

func TestAcceleratorsAreReadFromWhatNvidiaSMIPrints(t *testing.T) {
	found, err := parseAccelerators("0, NVIDIA H200, 143771\n1, NVIDIA GB10, [N/A]\n")
	require.NoError(t, err)
	require.Equal(t, []instance.Accelerator{{Index: 0, Name: "NVIDIA H200", MemoryMiB: 143771}, {Index: 1, Name: "NVIDIA GB10"}}, found)

	_, err = parseAccelerators("No devices were found\n")
	require.Error(t, err)
}
