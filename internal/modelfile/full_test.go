package modelfile

import (
	"bytes"
	"crypto/sha256"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/modelfile/hub"
)

// The kernel says of /dev/full what it says of a disk without room.
func TestADiskThatBecomesFullIsTheReasonAndIsNotTriedAtOnce(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	s, err := Open(Config{Dir: t.TempDir()})
	require.NoError(t, err)
	guard := time.NewTimer(time.Minute)
	defer guard.Stop()
	f, p := &fetch{}, &part{file: full, sum: sha256.New()}
	err = s.copy(f, &hub.File{Path: "model.safetensors", Size: 7}, p, bytes.NewReader([]byte("weights")), guard)
	require.Error(t, err)
	require.False(t, mayMend(t.Context(), err))
	require.ErrorContains(t, s.explain(err), "is full: make room, or give --models a larger one")
	require.Zero(t, f.bytes.Load())
	require.Zero(t, p.size)
}
