package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// told is what a stream says about itself.
type told struct {
	Usage                  Usage
	Model, ID              string
	Content, Failed, Final bool
	Ended                  bool
}

func toldBy(a *Answer) told {
	return told{a.Usage, a.Model, a.ID, a.Content, a.Failed, a.Final, a.Ended}
}

// piecewise sends text through a, cut where each of cuts says how far it is to the next one, and returns what passes.
func piecewise(a *Answer, text, cuts []byte) string {
	var out strings.Builder
	buffer := make([]byte, 32<<10)
	for {
		size := len(text)
		if len(cuts) > 0 {
			size, cuts = min(int(cuts[0])+1, size), cuts[1:]
		}
		n := a.Unhold(buffer)
		read := copy(buffer[n:], text[:size])
		text = text[read:]
		out.Write(buffer[:a.Read(buffer[:n+read], len(text) == 0)])
		if len(text) == 0 {
			a.End()
			return out.String()
		}
	}
}

// byLines cuts text behind each of its lines, and long ones within.
func byLines(text []byte) (cuts []byte) {
	for line := range bytes.Lines(text) {
		for len(line) > 256 {
			cuts, line = append(cuts, 255), line[256:]
		}
		if len(line) > 0 {
			cuts = append(cuts, byte(len(line)-1))
		}
	}
	return cuts
}

// Wherever a stream is cut into pieces, it says the same, and the same of it passes.
func FuzzPieces(f *testing.F) {
	const anthropic = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"c\",\"usage\":{\"input_tokens\":3}}}\n\n" +
		"event: ping\ndata: {\"type\":\"ping\"}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"x\"}}\n\n" +
		"event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":9}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	for _, text := range []string{
		openAIStream + usageEvent + "data: [DONE]\n\n", strings.ReplaceAll(openAIStream+usageEvent, "\n", "\r\n"), anthropic,
		anthropic + "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n",
		"data: {\"error\":{\"message\":\"m\",\"code\":null}}\n\n", "data: {\"error\":null,\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":null}]}\n\n",
		"data:{\"choices\":[{\"text\":\"\\\"finish_reason\\\":\\\"stop\\\"\"}]}\n\n", "data: {\"choices\":[{\"finish_reason\": \"length\"}]}\r\n\r\ndata: [DONE]",
		": comment\n\n:\n\r\n\ndata\ndata:\ndata: [DONE]\n", "data: {\"usage\":{}, \"choices\":[]}\r\n\r\r\n\n", "\n\r\n\r", "data: {\"a\":",
	} {
		f.Add([]byte(text), []byte{0}, true)
		f.Add([]byte(text), []byte{5, 60, 0, 0, 1, 7, 30}, false)
		f.Add([]byte(text), bytes.Repeat([]byte{2}, 200), true)
	}
	f.Fuzz(func(t *testing.T, text, cuts []byte, strip bool) {
		if len(text) >= maxHeld {
			return // what is longer is not held back for long
		}
		whole, lines, pieces := newAnswer(eventStream, "", strip), newAnswer(eventStream, "", strip), newAnswer(eventStream, "", strip)
		want := piecewise(whole, text, nil)
		require.Equal(t, want, piecewise(lines, text, byLines(text)), "line by line")
		require.Equal(t, toldBy(whole), toldBy(lines), "line by line")
		require.Equal(t, want, piecewise(pieces, text, cuts))
		require.Equal(t, toldBy(whole), toldBy(pieces))
		if !strip {
			require.Equal(t, string(text), want)
		}
	})
}

// meant is an event of a stream, and what it says.
type meant struct {
	text string
	told
}

// event marshals what an event is made of, its members in any order and with others between them.
func drawEvent(t *rapid.T, members map[string]any) string {
	members["other"] = rapid.SampledFrom([]any{nil, 1, "\"usage\":{\"prompt_tokens\":99}", `"finish_reason":"stop"`, `{"error":{}}`, []any{"[DONE]"}}).Draw(t, "other")
	var parts []string
	for name, value := range members {
		text, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		parts = append(parts, fmt.Sprintf("%q:%s%s", name, rapid.SampledFrom([]string{"", " "}).Draw(t, "space"), text))
	}
	parts = rapid.Permutation(parts).Draw(t, "order")
	return "{" + strings.Join(parts, rapid.SampledFrom([]string{",", ", "}).Draw(t, "comma")) + "}"
}

// drawMeant draws an event of a protocol.
func drawMeant(t *rapid.T) (m meant) {
	n := rapid.Int64Range(1, 50).Draw(t, "n")
	text := rapid.SampledFrom([]string{"", "x", "a \"finish_reason\":\"stop\" b", "\n\ndata: [DONE]\n\n", "[DONE]", "{\"type\":\"message_stop\"}"}).Draw(t, "text")
	choice := func(delta map[string]any, reason any) map[string]any {
		return map[string]any{"id": "c", "model": "m", "choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": reason}}}
	}
	members := map[string]any{}
	switch rapid.IntRange(0, 10).Draw(t, "kind") {
	case 0:
		members, m.told = choice(map[string]any{"role": "assistant", "content": ""}, nil), told{ID: "c", Model: "m"}
	case 1:
		members, m.told = choice(map[string]any{"content": text}, nil), told{ID: "c", Model: "m", Content: text != ""}
	case 2:
		members, m.told = choice(map[string]any{"reasoning_content": text}, nil), told{ID: "c", Model: "m", Content: text != ""}
	case 3:
		members, m.told = choice(map[string]any{}, "stop"), told{ID: "c", Model: "m", Final: true}
	case 4:
		members = map[string]any{"id": "c", "model": "m", "choices": []any{}, "usage": map[string]any{"prompt_tokens": n, "completion_tokens": 2, "total_tokens": n + 2}}
		m.told = told{ID: "c", Model: "m", Usage: Usage{Known: true, Input: n, Output: 2, Total: n + 2}}
	case 5:
		return meant{"data: [DONE]\n\n", told{Final: true, Ended: true}}
	case 6:
		return meant{": comment\n\n", told{}}
	case 7:
		return meant{"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n", told{Failed: true}}
	case 8:
		return meant{"data: {\"error\":{\"message\":\"m\",\"code\":\"c\"}}\n\n", told{Failed: true}}
	case 9:
		members = map[string]any{"type": "content_block_delta", "index": 0, "delta": map[string]any{"type": "text_delta", "text": "x" + text}}
		m.Content = true
	case 10:
		members, m.told = map[string]any{"type": "message_stop"}, told{Final: true, Ended: true}
	}
	m.text = "data: " + drawEvent(t, members) + "\n\n"
	return m
}

func TestStreamsAreReadAsTheyAreMeant(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		var want told
		for range rapid.IntRange(0, 12).Draw(t, "events") {
			m := drawMeant(t)
			text.WriteString(m.text)
			want.Ended = want.Ended || m.Ended
			want.Content, want.Failed, want.Final = want.Content || m.Content, want.Failed || m.Failed, want.Final || m.Final
			want.ID, want.Model = firstOf(want.ID, m.ID), firstOf(want.Model, m.Model)
			if m.Usage.Known {
				want.Usage = m.Usage
			}
		}
		said := text.String()
		if rapid.Bool().Draw(t, "cr") {
			said = strings.ReplaceAll(said, "\n", "\r\n")
		}
		a := newAnswer(eventStream, "", false)
		piecewise(a, []byte(said), rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "cuts"))
		got := toldBy(a)
		if got.ID == "" {
			want.ID = "" // it is not looked for any more once the content has begun and the model is known
		}
		require.Equal(t, want, got, said)
	})
}

func TestErrorsAreSeen(t *testing.T) {
	t.Parallel()
	var mistaken []string
	for event, failed := range map[string]bool{
		`data: {"error":{"message":"m","code":"c"}}`: true,
		`data: {"error":"m"}`:                        true,
		`data: { "error" : {"message":"m"}}`:         true,
		`data: {"id":"c","object":"chat.completion.chunk","provider":"p","error":{"code":502,"message":"m"},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}`: true,
		`data: {"id":"c","error":null,"choices":[{"delta":{"content":"x"}}]}`:                                                                                              false,
		`data: {"id":"c","choices":[{"delta":{"content":"\"error\":{\"message\":\"m\"}"}}]}`:                                                                               false,
		`data: {"id":"c","choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\"error\":{\"a\":1}}"}}]}}]}`:                                                       false,
		`data: {"id":"c","choices":[{"delta":{"content":"x"}}],"metadata":{"error":{"a":1}}}`:                                                                              false,
		"event: error\ndata: " + `{"type":"error","error":{"type":"overloaded_error","message":"m"}}`:                                                                      true,
		"event: error\ndata: " + `{"error":{"type":"overloaded_error","message":"m"},"type":"error"}`:                                                                      true,
		"event: error\ndata: " + `{"type":"error","code":"c","message":"m","param":null,"sequence_number":1}`:                                                              true,
		"event: response.failed\ndata: " + `{"type":"response.failed","response":{"id":"r","error":{"code":"c"}}}`:                                                         true,
		"event: response.created\ndata: " + `{"type":"response.created","response":{"id":"r","error":null}}`:                                                               false,
		"id:1\nevent:error\n:HTTP_STATUS/400\ndata:" + `{"code":"InvalidParameter","message":"m","request_id":"q"}`:                                                        true,
		"id:1\nevent:result\n:HTTP_STATUS/200\ndata:" + `{"output":{"text":"error"},"request_id":"q"}`:                                                                     false,
	} {
		for _, end := range []string{"\n\n", "\r\n\r\n"} {
			a := newAnswer(eventStream, "", false)
			piecewise(a, []byte(strings.ReplaceAll(event, "\n", end[:len(end)/2])+end), nil)
			if a.Failed != failed {
				mistaken = append(mistaken, event)
			}
		}
	}
	require.Empty(t, mistaken)
}
