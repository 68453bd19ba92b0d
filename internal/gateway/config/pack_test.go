package config

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPackedBodiesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var body []byte
		for range rapid.IntRange(0, 8).Draw(t, "pieces") {
			body = append(body, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "own")...)
			from := rapid.IntRange(0, len(known)).Draw(t, "from")
			body = append(body, known[from:rapid.IntRange(from, len(known)).Draw(t, "to")]...)
		}
		if got := unpack(pack(body)); !bytes.Equal(body, got) {
			t.Fatalf("%q became %q", body, got)
		}
	})
}

func TestBodyOfAnUsualAPIIsPackedToHalf(t *testing.T) {
	t.Parallel()
	item := apiItem(t, 1234, 5)
	s := sourceOf(item)
	require.Equal(t, item, s.published(item.Kind, item.ID))
	require.True(t, s.has(item.Body))
	require.False(t, s.has(append(item.Body[:len(item.Body):len(item.Body)], ' ')))
	t.Logf("%d bytes are packed to %d", len(item.Body), len(s.packed))
	require.Less(t, len(s.packed), len(item.Body)/2)
}
