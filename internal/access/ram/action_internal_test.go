package ram

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestActionIsWhatItsPatternSays(t *testing.T) {
	t.Parallel()
	pattern := regexp.MustCompile(`^(\*|[A-Za-z0-9_.*?-]+:[A-Za-z0-9_./*?-]+)$`)
	for c := range 256 { // every byte in every place
		for _, text := range []string{string([]byte{byte(c)}), string([]byte{byte(c), ':', 'a'}), string([]byte{'a', ':', byte(c)}), string([]byte{'a', byte(c), 'b'})} {
			require.Equal(t, pattern.MatchString(text), isAction(text), "%q", text)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.SampledFrom([]rune("gpdb:Createé/*?._-[@`{\x00\n \u212a"))).Draw(t, "action")
		if pattern.MatchString(text) != isAction(text) {
			t.Fatalf("%q", text)
		}
	})
}

func TestKeyIsWhatItsPatternSays(t *testing.T) {
	t.Parallel()
	pattern := regexp.MustCompile(`^[a-z0-9-]+:[a-z0-9_.-]+(/.+)?$`)
	for c := range 256 {
		for _, text := range []string{string([]byte{byte(c), ':', 'a'}), string([]byte{'a', ':', byte(c)}), string([]byte{'a', ':', 'b', '/', byte(c)}), string([]byte{'a', ':', 'b', byte(c)})} {
			require.Equal(t, pattern.MatchString(text), isKey(text), "%q", text)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.SampledFrom([]rune("acs:tagSé/_.-@`{\x00\n \u212a:/"))).Draw(t, "key")
		if pattern.MatchString(text) != isKey(text) {
			t.Fatalf("%q", text)
		}
	})
}
