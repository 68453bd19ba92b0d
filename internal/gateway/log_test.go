package gateway

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestLogIsBoundedAndSaysWhatItDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		b := &boundedLog{log: slog.New(slog.NewTextHandler(&out, nil))}
		for range 100 {
			b.Warn("engine failed")
		}
		require.Equal(t, linesPerSecond, strings.Count(out.String(), "\n"))
		time.Sleep(time.Second) // of the bubble's clock
		_, err := b.Write([]byte("http: TLS handshake error\n"))
		require.NoError(t, err)
		require.Contains(t, out.String(), "droppedBefore=90")
	})
}

// The allocator gives one byte more a size of 2304.
func TestACallTakesNoMoreThanTwoKibibytes(t *testing.T) {
	t.Parallel()
	const header = 8 // of the allocator, for what has pointers
	require.LessOrEqual(t, int(unsafe.Sizeof(call{})), 2048-header)
}
