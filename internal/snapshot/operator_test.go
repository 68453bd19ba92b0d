package snapshot_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/snapshot"
)

func TestAnOperatorKeyIsRefusedThatCouldNotBeUsed(t *testing.T) {
	t.Parallel()
	hash := snapshot.HashKey("sk-1")
	for name, c := range map[string]struct {
		key  snapshot.OperatorKey
		says string
	}{
		"whole":       {snapshot.OperatorKey{ID: "7", AccountID: "1", Hash: hash}, ""},
		"no number":   {snapshot.OperatorKey{ID: "x", AccountID: "1", Hash: hash}, "not a number"},
		"zero":        {snapshot.OperatorKey{ID: "0", AccountID: "1", Hash: hash}, "not a number"},
		"no account":  {snapshot.OperatorKey{ID: "7", Hash: hash}, "account"},
		"half a hash": {snapshot.OperatorKey{ID: "7", AccountID: "1", Hash: hash[:16]}, "hash"},
	} {
		err := c.key.Validate()
		if c.says == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, c.says, name)
	}
}
