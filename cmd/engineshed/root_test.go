package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnknownVerbsAreRefusedWithWhatIsMeant(t *testing.T) {
	t.Parallel()
	none := func(string) string { return "" }
	for _, args := range [][]string{{"ram", "group", "add", "ops", "--data-dir", "x"}, {"ram", "groups"}, {"model-service", "creat"}} {
		require.Error(t, run(t.Context(), args, none, io.Discard), "%q", args)
	}
	require.EqualError(t, run(t.Context(), []string{"ram", "group", "lst"}, none, io.Discard),
		`there is no "engineshed ram group lst", perhaps "engineshed ram group list": see "engineshed ram group --help"`)
	require.NoError(t, run(t.Context(), []string{"ram", "group"}, none, io.Discard), "help")
}
