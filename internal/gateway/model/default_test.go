package model

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDefaultModelIsWrittenOnlyWhereNoneIsNamed(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{}`:                       `{"model":"m"}`,
		` { "a" : [1] } `:          ` {"model":"m", "a" : [1] } `,
		`{"a":{"model":"inner"}}`:  `{"model":"m","a":{"model":"inner"}}`,
		`{"models":["a"]}`:         `{"model":"m","models":["a"]}`,
		`{"model":"a"}`:            "",
		`{"model":""}`:             "",
		`{"model":null}`:           "",
		`{"a":1,"model":"a"}`:      "",
		`{"Model":"a"}`:            "",
		`{"model":"a","model":""}`: "",
		`[]`:                       "",
		`{"a":`:                    "",
		`text`:                     "",
		``:                         "",
	} {
		s, written := DefaultJSON([]byte(body), "m")
		require.Equal(t, want != "", written, body)
		if !written {
			want = body
		}
		require.Equal(t, want, text(t, s), body)
	}
}
