package ram

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzScanner holds the scanner against json.Decoder: the same tokens, each ending at the same place, and the same
// knowledge of what follows.
func FuzzScanner(f *testing.F) {
	f.Add(`{"Version":"1","Statement":[{"Effect":"Allow","Action":["gpdb:*"],"Resource":"*"}]}`)
	f.Add("\t[ \"a\\\"b\\\\\" , \"\\u00e9\\ud800x\" ,\r\n{}, [ ],-1.5e3,true,null,\"\" ] ")
	f.Add(`"lone"`)
	f.Add(`{"a":{"b":[1,{"c":"d"}]},"e":"é☃"}`)
	f.Fuzz(func(t *testing.T, document string) {
		if !json.Valid([]byte(document)) || !utf8.ValidString(document) {
			return // whoever reads asks json.Decoder, or refuses it
		}
		ours, theirs := tokensOf(document), json.NewDecoder(strings.NewReader(document))
		require.IsType(t, &scanner{}, ours)
		theirs.UseNumber()
		for {
			want, wantErr := theirs.Token()
			got, err := ours.Token()
			require.Equal(t, wantErr, err)
			if errors.Is(err, io.EOF) {
				return
			}
			switch want.(type) {
			case string, json.Delim:
				require.Equal(t, want, got)
			default:
				require.IsType(t, literal(""), got)
			}
			require.Equal(t, theirs.InputOffset(), ours.InputOffset())
			require.Equal(t, theirs.More(), ours.More())
		}
	})
}

func TestWhatIsNotJSONIsReadByTheDecoder(t *testing.T) {
	t.Parallel()
	for _, document := range []string{"", "{", `{"a":}`, `{} {}`, "[1,]", "{\"a\":\"\n\"}"} {
		require.IsType(t, &json.Decoder{}, tokensOf(document), document)
	}
}
