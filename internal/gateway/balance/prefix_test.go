package balance

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func keyOf(t require.TestingT, body string) uint64 {
	key, ok := PrefixKey([]byte(body))
	require.True(t, ok, body)
	return key
}

func TestRequestsThatBeginAlikeHaveTheSameKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a very long text ", 1000)
	for _, same := range [][]string{
		{
			`{"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}]}`,
			`{"model":"m","stream":true,"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}],"temperature":1}`,
			` { "tools" : [ { "a" : "]}\"" } ] , "messages" : [ { "content" : "s", "role" : "system" } , { "content" : "u" , "role" : "user" } ] } `,
			`{"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"},{"role":"assistant","content":"a"},{"role":"user","content":"v"}]}`,
			`{"messages":[{"role":"system","content":[{"type":"text","text":"s"}]},{"role":"user","content":[{"type":"text","text":"u","cache_control":{"type":"ephemeral"}}]}]}`,
			`{"system":"s","messages":[{"role":"user","content":"u"}]}`,
			`{"model":"m","input":{"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}]},"parameters":{}}`,
			`{"instructions":"s","input":[{"role":"user","content":[{"type":"input_text","text":"u"}]}]}`,
			`{"instructions":"s","input":"u"}`,
			`{"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"},{"role":"assi`,
		},
		{
			`{"prompt":"once upon a time"}`, `{"model":"m","prompt":"once upon a time","max_tokens":1}`,
			`{"input":{"prompt":"once upon a time"}}`,
		},
		{`{"prompt":[17,42,7]}`, `{"prompt":[17,42,7],"model":"m"}`},
		{
			`{"messages":[{"role":"user","content":"` + long + `first question"}]}`,
			`{"messages":[{"role":"user","content":"` + long + `second question"}]}`,
		},
	} {
		for _, body := range same {
			require.Equal(t, keyOf(t, same[0]), keyOf(t, body), body)
		}
	}
}

func TestRequestsThatBeginOtherwiseHaveAnotherKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a very long text ", 1000)
	known := map[uint64]string{}
	for _, body := range []string{
		`{"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}]}`,
		`{"messages":[{"role":"system","content":"t"},{"role":"user","content":"u"}]}`,
		`{"messages":[{"role":"system","content":"s"},{"role":"user","content":"v"}]}`,
		`{"messages":[{"role":"system","content":"` + long + `"},{"role":"user","content":"u"}]}`,
		`{"messages":[{"role":"system","content":"` + long + `"},{"role":"user","content":"v"}]}`,
		`{"messages":[{"role":"user","content":"u"}]}`,
		`{"messages":[{"role":"user","content":"\"u\\"}]}`,
		`{"prompt":"p"}`, `{"prompt":[1,2]}`,
	} {
		key := keyOf(t, body)
		require.NotContains(t, known, key, body)
		known[key] = body
	}
}

func TestABodyWithoutAPromptHasNoKey(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		``, `{`, `{}`, `[]`, `7`, `{"model":"m"}`, `{"messages":[]}`, `{"messages":7}`, `{"messages":[{"role":"user"}]}`, `{"prompt":""}`,
		`{"metadata":{"prompt":"p","messages":[{"role":"user","content":"u"}]}}`, `{"messages`, `{"messages":[{"role":"user","content":"u`,
	} {
		_, ok := PrefixKey([]byte(body))
		require.False(t, ok, body)
	}
}

// The turns of any conversation have one key, however it is written down.
func TestTurnsOfAConversationHaveOneKey(t *testing.T) {
	t.Parallel()
	type message struct {
		Role    string `json:"role"`
		Content any    `json:"content"`
	}
	rapid.Check(t, func(t *rapid.T) {
		say := func(role string) message {
			text := rapid.String().Draw(t, role)
			if rapid.Bool().Draw(t, "in parts") {
				return message{role, []map[string]any{{"type": "text", "text": text, "n": rapid.Float64Range(-1, 1).Draw(t, "n")}}}
			}
			return message{role, text}
		}
		conversation := []message{{"system", "s" + rapid.String().Draw(t, "system")}, say("user")}
		var keys []uint64
		for range rapid.IntRange(2, 4).Draw(t, "turns") {
			request := map[string]any{"messages": conversation, "model": rapid.String().Draw(t, "model"), "a": []any{nil, true, "}"}}
			body, err := json.Marshal(request)
			require.NoError(t, err)
			if rapid.Bool().Draw(t, "indented") {
				body, err = json.MarshalIndent(request, "", "\t")
				require.NoError(t, err)
			}
			keys = append(keys, keyOf(t, string(body)))
			require.Equal(t, keys[0], keys[len(keys)-1])
			conversation = append(conversation, say("assistant"), say("user"))
		}
	})
}

func TestNoTextKeepsTheReader(t *testing.T) {
	t.Parallel()
	const much = 1 << 18
	for _, part := range []string{`[`, `{"input":`, `{"a":`, `{"messages":[`, `{"messages":[{"content":`, `[[{"text":`, `"`, `\"`, `\`, `,`, `}`, `1,`, `"a",`} {
		for _, begin := range []string{``, `{"prompt":`, `{"messages":[{"content":`, `{"messages":[{"role":"user","content":"`, `{"a":`} {
			began := time.Now()
			PrefixKey([]byte(begin + strings.Repeat(part, much/len(part))))
			require.Less(t, time.Since(began), 5*time.Second, "%s%s…", begin, part)
		}
	}
}

func FuzzPrefixKey(f *testing.F) {
	f.Add(`{"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"text":"u"}]}]}`)
	f.Add(`{"input":{"prompt":["a",1,{"text":"\\\""}]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		key, ok := PrefixKey([]byte(body))
		if again, okAgain := PrefixKey([]byte("  " + body + " ")); again != key || okAgain != ok {
			t.Fatalf("space around %q makes a difference", body)
		}
	})
}

func BenchmarkPrefixKey(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		turn := `{"role":"user","content":"` + strings.Repeat("words, words, ", 70) + `"}`
		body := []byte(`{"model":"m","messages":[` + turn + strings.Repeat(","+turn, size/len(turn)) + `]}`)
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
			for b.Loop() {
				if _, ok := PrefixKey(body); !ok {
					b.Fatal("no key")
				}
			}
		})
	}
}
