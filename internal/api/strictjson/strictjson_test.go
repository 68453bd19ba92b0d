package strictjson_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/strictjson"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   string
		want any
		err  string
	}{
		"object":                   {in: `{"a":[1,-2,0.5,true,null,"ü"]}`, want: map[string]any{"a": []any{int64(1), int64(-2), 0.5, true, nil, "ü"}}},
		"space around":             {in: " {} \n", want: map[string]any{}},
		"whole with an exponent":   {in: `1e2`, want: int64(100)},
		"largest integer":          {in: `9223372036854775807`, want: int64(9223372036854775807)},
		"depth at the limit":       {in: strings.Repeat("[", 32) + strings.Repeat("]", 32), want: nested(31)},
		"empty":                    {in: ``, err: "not valid JSON"},
		"trailing data":            {in: `{} {}`, err: "not valid JSON"},
		"trailing comma":           {in: `[1,]`, err: "not valid JSON"},
		"duplicate member":         {in: `{"a":1,"a":1}`, err: `"a" twice`},
		"duplicate, escaped":       {in: `{"a":1,"\u0061":1}`, err: `"a" twice`},
		"duplicate in the depth":   {in: `{"x":[{"a":1,"b":2,"a":3}]}`, err: `"a" twice`},
		"too deep":                 {in: strings.Repeat("[", 33) + strings.Repeat("]", 33), err: "deeper than 32"},
		"far too deep":             {in: strings.Repeat(`{"a":`, 100000), err: "not valid JSON"},
		"invalid UTF-8 in a value": {in: "{\"a\":\"\xff\"}", err: "UTF-8"},
		"invalid UTF-8 in a name":  {in: "{\"\xc3\x28\":1}", err: "UTF-8"},
		"integer beyond 64 bits":   {in: `9223372036854775808`, err: "64 bits"},
		"float beyond 64 bits":     {in: `1e999`, err: "64 bits"},
		"U+0000 in a value":        {in: `"\u0000"`, err: "U+0000"},
		"U+0000 in a name":         {in: `{"a\u0000":1}`, err: "U+0000"},
		"comment":                  {in: `{} // no`, err: "not valid JSON"},
		"bare NaN":                 {in: `NaN`, err: "not valid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := strictjson.Decode([]byte(c.in))
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func nested(depth int) any {
	v := any([]any{})
	for range depth {
		v = []any{v}
	}
	return v
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"a":[1,2.5e3,{"b":null}]}`))
	f.Add([]byte("\"\xff\""))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := strictjson.Decode(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(v)
		require.NoError(t, err)
		v2, err := strictjson.Decode(again)
		if err != nil { // a float such as 1e20 is written without its exponent, as an integer that is too long
			return
		}
		last, err := json.Marshal(v2)
		require.NoError(t, err)
		require.Equal(t, string(again), string(last))
	})
}
