package model

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestARequestNamesItsModelOrNone(t *testing.T) {
	t.Parallel()
	for body, with := range map[string]string{
		`{}`:                      `{"model":"m"}`,
		` { "a" : [1] } `:         ` {"model":"m", "a" : [1] } `,
		`{"a":{"model":"inner"}}`: `{"model":"m","a":{"model":"inner"}}`,
		`{"models":["a"]}`:        `{"model":"m","models":["a"]}`,
	} {
		r, err := ReadJSON([]byte(body))
		require.NoError(t, err, body)
		require.False(t, r.NamesModel(), body)
		name := "m"
		require.Equal(t, with, text(r.Splice(&name, false)))
	}
	for _, body := range []string{
		`{"model":"a"}`, `{"model":""}`, `{"model":null}`, `{"a":1,"model":"a"}`, `{"Model":"a"}`, `{"model":"a","model":""}`,
	} {
		r, err := ReadJSON([]byte(body))
		require.NoError(t, err, body)
		require.True(t, r.NamesModel(), body)
	}
}
