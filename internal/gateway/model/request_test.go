package model

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUsageIsAskedForAndNothingElseChanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, name, want string }{
		{`{"stream":true}`, "", `{"stream_options":{"include_usage":true},"stream":true}`},
		{`{ "model":"a","stream":true }`, "new", `{"stream_options":{"include_usage":true}, "model":"new","stream":true }`},
		{`{"stream":true}`, "new", `{"model":"new","stream_options":{"include_usage":true},"stream":true}`},
		{`{"stream":true,"stream_options":null,"model":"a"}`, "new", `{"stream":true,"stream_options":{"include_usage":true},"model":"new"}`},
		{`{"stream":true,"stream_options":{}}`, "", `{"stream":true,"stream_options":{"include_usage":true}}`},
		{`{"stream":true,"stream_options": { "a" : [1] } }`, "", `{"stream":true,"stream_options": {"include_usage":true, "a" : [1] } }`},
		{`{"stream":true,"stream_options":{"a":1 , "include_usage" : false}}`, "", `{"stream":true,"stream_options":{"a":1 , "include_usage" : true}}`},
		{`{"stream":true,"stream_options":{"include_us\u0061ge":false,"b":{}}}`, "", `{"stream":true,"stream_options":{"include_us\u0061ge":true,"b":{}}}`},
		{`{"stream":true,"stream_options":"yes"}`, "", `{"stream":true,"stream_options":"yes"}`},
		{`{"stream":true,"stream_options":{1}}`, "", `{"stream":true,"stream_options":{1}}`},
		{`{}`, "", `{}`},
	} {
		r, err := ReadJSON([]byte(c.body))
		require.NoError(t, err, c.body)
		name := &c.name
		if c.name == "" {
			name = nil
		}
		require.Equal(t, c.want, text(r.Splice(name, true)))
	}
	r, err := ReadJSON([]byte(`{"a":1}`))
	require.NoError(t, err)
	require.Equal(t, `{"a":1}`, text(r.Splice(nil, false)))
}

func TestWhatARequestSays(t *testing.T) {
	t.Parallel()
	r, err := ReadJSON([]byte(`{"model":"a\u0062","stream":true,"stream_options":{"include_usage":true},
		"messages":[{"role":"system","content":"\"user\""},{"role": "user","content":"x"},{"role":"user"}]}`))
	require.NoError(t, err)
	require.Equal(t, "ab", r.Model)
	require.True(t, r.Stream)
	require.True(t, r.AsksUsage())
	require.Equal(t, 2, r.Turns())
	r, err = ReadJSON([]byte(`{"model":1,"stream":"true","stream_options":{"include_usage":1}}`))
	require.NoError(t, err)
	require.Empty(t, r.Model)
	require.False(t, r.Stream)
	require.False(t, r.AsksUsage())
	for _, body := range []string{`{"stream":true,"stream":false}`, `{"stream_options":{},"stre\u0061m_options":{}}`} {
		_, err := ReadJSON([]byte(body))
		require.ErrorIs(t, err, errAgain)
		require.True(t, IsReadable(err))
	}
}

// What asks for the usage is JSON when the body was, and says the same but for that.
func FuzzAskUsage(f *testing.F) {
	for _, body := range []string{
		`{"stream":true}`, `{"stream_options":{"a":1}}`, `{"stream_options":{"include_usage":false,"b":2},"model":"x"}`,
		`{"stream_options":{ }}`, `{"stream_options":null}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ReadJSON(body)
		if err != nil || !json.Valid(body) || r.empty {
			return
		}
		name := "new"
		got := text(r.Splice(&name, true))
		require.True(t, json.Valid([]byte(got)), "%q became %q", body, got)
		again, err := ReadJSON([]byte(got))
		require.NoError(t, err, got)
		require.Equal(t, "new", again.Model)
		options := r.options.of(body)
		if len(options) == 0 || options[0] == '{' || string(options) == "null" {
			require.True(t, again.AsksUsage(), got)
		}
	})
}
