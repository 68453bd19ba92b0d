package protocol

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	eventStream = "text/event-stream; charset=utf-8"
	jsonType    = "application/json"
)

func newAnswer(contentType, contentEncoding string, strip bool) *Answer {
	a := new(Answer)
	a.Begin(contentType, contentEncoding, strip)
	return a
}

// pass sends text through a in pieces of size bytes, as a gateway does, and returns what a client gets.
func pass(a *Answer, text string, size int) string {
	var out strings.Builder
	buffer := make([]byte, 32<<10)
	for {
		n := a.Unhold(buffer)
		read := copy(buffer[n:], text[:min(size, len(text))])
		text = text[read:]
		out.Write(buffer[:a.Read(buffer[:n+read], text == "")])
		if text == "" {
			a.End()
			return out.String()
		}
	}
}

const openAIStream = `data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}

: a comment

data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"Hel"}}]}

data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"lo \"usage\""},"finish_reason":"stop"}]}

`

const usageEvent = `data: {"id":"c1","object":"x","model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":3}}}

`

func TestTokensModelAndID(t *testing.T) {
	t.Parallel()
	full := Usage{Known: true, Input: 5, Output: 7, Total: 12, Cached: 2, Reasoning: 3}
	for _, c := range []struct {
		name, contentType, text string
		usage                   Usage
		model, id               string
		content                 bool
	}{
		{"chat", jsonType, `{"id":"c1","model":"m","choices":[{"message":{"content":"{\"usage\":{\"prompt_tokens\":99}}"}}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":3}}}`, full, "m", "c1", false},
		{"chat stream", eventStream, openAIStream + usageEvent + "data: [DONE]\n\n", full, "m", "c1", true},
		{"usage in the last choice", eventStream, "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\r\n\r\n", Usage{Known: true, Input: 1, Output: 2, Total: 3}, "m", "", true},
		{"responses stream", eventStream, "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r1\",\"model\":\"m\",\"usage\":null}}\n\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r1\",\"output\":[{}],\"usage\":{\"input_tokens\":5,\"output_tokens\":7,\"total_tokens\":12,\"input_tokens_details\":{\"cached_tokens\":2},\"output_tokens_details\":{\"reasoning_tokens\":3}}}}\n\n", full, "m", "r1", true},
		{"messages", jsonType, `{"id":"msg","type":"message","model":"claude","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":2}}`, Usage{Known: true, Input: 3, Output: 2, Total: 5, Cached: 4}, "claude", "msg", false},
		{"messages stream", eventStream, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg\",\"model\":\"claude\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":9}}\n\n", Usage{Known: true, Input: 3, Output: 9, Total: 12}, "claude", "msg", true},
		{"dashscope", jsonType, `{"output":{"task_status":"OK"},"usage":{"total_tokens":7,"output_tokens":4,"input_tokens":3},"request_id":"q"}`, Usage{Known: true, Input: 3, Output: 4, Total: 7}, "", "q", false},
		{"dashscope stream", eventStream, "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{\"output\":{\"text\":\"a\"},\"usage\":{\"input_tokens\":3,\"output_tokens\":1,\"total_tokens\":4},\"request_id\":\"q\"}\n\nid:2\ndata:{\"output\":{\"text\":\"ab\"},\"usage\":{\"input_tokens\":3,\"output_tokens\":2,\"total_tokens\":5},\"request_id\":\"q\"}\n\n", Usage{Known: true, Input: 3, Output: 2, Total: 5}, "", "q", true},
		{"rerank", jsonType, `{"id":"r","model":"bge","usage":{"total_tokens":56},"results":[{"index":0,"relevance_score":0.9}]}`, Usage{Known: true, Input: 56, Total: 56}, "bge", "r", false},
		{"embeddings", jsonType, `{"object":"list","data":[{"embedding":[` + strings.Repeat("0.123,", 20000) + `0]}],"model":"e","usage":{"prompt_tokens":8,"total_tokens":8}}`, Usage{Known: true, Input: 8, Total: 8}, "e", "", false},
		{"an event longer than is kept", eventStream, "data: {\"response\":{\"id\":\"r1\",\"output\":\"" + strings.Repeat(`x\"`, maxLine) + "\",\"model\":\"m\",\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7}}}\n\n", Usage{Known: true, Input: 5, Output: 7, Total: 12}, "m", "r1", true},
		{"no end of line at the end", eventStream, strings.TrimSpace(usageEvent), full, "m", "c1", false},
		{"other types than are known", eventStream, "data: {\"id\":7,\"model\":\"m\",\"message\":\"x\",\"choices\":\"none\",\"usage\":{\"prompt_tokens\":\"5\",\"completion_tokens\":{\"total_tokens\":{\"input_tokens\":9}},\"total_tokens\":-1,\"prompt_tokens_details\":3}}\n\n", Usage{Known: true, Input: 5, Total: 5}, "m", "", false},
		{"nothing", jsonType, `[1,2]`, Usage{}, "", "", false},
		{"not JSON", jsonType, `"usage":{"}{]]`, Usage{}, "", "", false},
		{"audio", "audio/wav", "RIFF", Usage{}, "", "", true},
	} {
		for _, size := range []int{1, 3, 100, 1 << 20} {
			if size < 100 && len(c.text) > 1<<16 {
				size = 100
			}
			a := newAnswer(c.contentType, "", false)
			require.Equal(t, c.text, pass(a, c.text, size), c.name)
			require.Equal(t, c.usage, a.Usage, "%s in pieces of %d", c.name, size)
			require.Equal(t, c.model, a.Model, c.name)
			require.Equal(t, c.id, a.ID, c.name)
			require.Equal(t, c.content, a.Content, c.name)
		}
	}
	compressed := newAnswer(jsonType, "gzip", false)
	pass(compressed, `{"usage":{"prompt_tokens":5}}`, 100)
	require.False(t, compressed.Usage.Known, "what is compressed is not read")
}

func TestUsageEventThatWasAskedForByTheGatewayIsTakenOut(t *testing.T) {
	t.Parallel()
	const done = "data: [DONE]\n\n"
	for size := 1; size < 600; size++ {
		a := newAnswer(eventStream, "", true)
		require.Equal(t, openAIStream+done, pass(a, openAIStream+usageEvent+done, size), "pieces of %d", size)
		require.EqualValues(t, 12, a.Usage.Total)
	}
	crlf := strings.NewReplacer("\n", "\r\n")
	a := newAnswer(eventStream, "", true)
	require.Equal(t, crlf.Replace(openAIStream+done), pass(a, crlf.Replace(openAIStream+usageEvent+done), 7))

	a = newAnswer(eventStream, "", true)
	withChoice := "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}\n\n"
	require.Equal(t, withChoice, pass(a, withChoice, 9), "an event that says more stays")
	a = newAnswer(eventStream, "", true)
	filtered := "data: {\"choices\":[],\"prompt_filter_results\":[{}]}\n\n"
	require.Equal(t, filtered, pass(a, filtered, 9))
}

func TestNothingButAPossibleUsageEventIsHeldBack(t *testing.T) {
	t.Parallel()
	for piece, held := range map[string]bool{
		"data: 0\n\n":                            false,
		"data: half":                             false,
		": ping":                                 false,
		"event: x":                               false,
		`data: {"choices":[{"delta`:              false,
		`data: {"choices" : [ {`:                 false,
		`data: {"id":"x","choices":[`:            true,
		`data: {"id":"x","choices":[],"usage":`:  true,
		"dat":                                    true,
		"data: {" + strings.Repeat(" ", maxHeld): false,
		openAIStream:                             false,
	} {
		a := newAnswer(eventStream, "", true)
		passed := a.Read([]byte(piece), false)
		require.Equal(t, held, passed < len(piece), piece)
		a = newAnswer(eventStream, "", true)
		require.Equal(t, len(piece), a.Read([]byte(piece), true), "the end holds nothing back")
	}
}

func TestContentIsSeenWhenItComes(t *testing.T) {
	t.Parallel()
	for data, content := range map[string]bool{
		`{"choices":[{"delta":{"role":"assistant"}}]}`:                                               false,
		`{"choices":[{"delta":{"role":"assistant","content":"","tool_calls":[],"reasoning":null}}]}`: false,
		`{"choices":[{"delta":{"content":"x"}}]}`:                                                    true,
		`{"choices":[{"delta":{"reasoning_content":"x"}}]}`:                                          true,
		`{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}`:                                       true,
		`{"choices":[{"text":"x"}]}`:                                                                 true,
		`{"type":"content_block_start","content_block":{"type":"text","text":""}}`:                   false,
		`{"type":"content_block_start","content_block":{"type":"tool_use","name":"f"}}`:              true,
		`{"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}`:                    true,
		`{"type":"response.created","response":{}}`:                                                  false,
		`{"type":"response.output_text.delta","delta":"x"}`:                                          true,
		`{"type":"speech.audio.delta","audio":"UklGRg=="}`:                                           true,
		`{"output":{"text":""}}`:                                                                     false,
		`{"output":{"choices":[{"message":{"content":[{"text":"x"}]}}]}}`:                            true,
		`[DONE]`: false,
	} {
		a := newAnswer(eventStream, "", false)
		pass(a, "data: "+data+"\n\n", 1<<20)
		require.Equal(t, content, a.Content, data)
	}
}

func TestAnswerIsRecordedWithinItsBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ contentType, text, answer, reasoning, calls string }{
		{eventStream, openAIStream, `Hello "usage"`, "", ""},
		{eventStream, "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\",\"tool_calls\":[{\"i\":0}]}}]}\n\n", "", "hm", `[{"i":0}]`},
		{jsonType, `{"choices":[{"message":{"content":"hi"}}]}`, "hi", "", ""},
		{jsonType, `{"content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"hi"},{"type":"tool_use","name":"f","input":{"a":1}}]}`, "hi", "hm", `f{"a":1}`},
		{eventStream, "data:{\"output\":{\"text\":\"a\"}}\n\ndata:{\"output\":{\"text\":\"ab\"}}\n\n", "ab", "", ""},
		{jsonType, `{"data":[1]}`, `{"data":[1]}`, "", ""},
	} {
		a := newAnswer(c.contentType, "", false)
		a.Record(1000)
		pass(a, c.text, 5)
		answer, reasoning, calls := a.Recorded()
		require.Equal(t, []string{c.answer, c.reasoning, c.calls}, []string{answer, reasoning, calls})
	}
	a := newAnswer(eventStream, "", false)
	a.Record(100)
	pass(a, strings.Repeat("data: {\"choices\":[{\"delta\":{\"content\":\"0123456789\"}}]}\n\n", 1000), 4096)
	answer, _, _ := a.Recorded()
	require.Equal(t, strings.Repeat("0123456789", 5)+"…[9900 bytes cut]…"+strings.Repeat("0123456789", 5), answer)
}

func TestCutKeepsBothEnds(t *testing.T) {
	t.Parallel()
	require.Equal(t, "12345678", Cut([]byte("12345678"), 8))
	require.Equal(t, "1234…[3 bytes cut]…8901", Cut([]byte("12345678901"), 8))
	require.Equal(t, "ab…[4 bytes cut]…yz", Cut([]byte("abäöüyz"), 7), "no half of a letter is shown")
}

func TestQuietStreamKeepsLittle(t *testing.T) {
	t.Parallel()
	a := newAnswer(eventStream, "", false)
	long := []byte("data: " + strings.Repeat("x", maxLine-100))
	for range 3 {
		a.Read(long, false)
		a.Read([]byte("\n\n"), false)
	}
	require.LessOrEqual(t, cap(a.line), maxKeptLine)
	for range 1000 {
		a.Read(long, false)
	}
	require.LessOrEqual(t, cap(a.line)+cap(a.document.value), 2*maxLine, "a line without end is not kept")
}

// Whatever comes, in whatever pieces: nothing is changed, added or lost, and what was said does not depend on the pieces.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(openAIStream+usageEvent), uint16(7), true, false)
	f.Add([]byte(`{"id":"a","usage":{"prompt_tokens":1},"x":"\\\""}`), uint16(3), false, true)
	f.Add([]byte("data: {\"usage\":{}, \"choices\":[]}\r\n\r\ndata"), uint16(1), true, true)
	f.Fuzz(func(t *testing.T, text []byte, size uint16, strip, asDocument bool) {
		contentType := eventStream
		if asDocument {
			contentType = jsonType
		}
		pieces := newAnswer(contentType, "", strip)
		pieces.Record(64)
		got := pass(pieces, string(text), int(size)%4096+1+len(text)/1000)
		whole := newAnswer(contentType, "", strip)
		whole.Record(64)
		want := pass(whole, string(text), 32<<10)
		if !strip || asDocument {
			require.Equal(t, string(text), got)
		} else {
			requireLines(t, string(text), got)
		}
		if !strip {
			require.Equal(t, want, got)
		}
		if len(text) < maxHeld {
			require.Equal(t, whole.Usage, pieces.Usage)
			require.Equal(t, whole.Model, pieces.Model)
			require.Equal(t, whole.Content, pieces.Content)
		}
	})
}

// requireLines wants every line of got in text, in the same order, and of the others only such as tell the usage.
func requireLines(t *testing.T, text, got string) {
	t.Helper()
	left := strings.SplitAfter(got, "\n")
	for line := range strings.SplitAfterSeq(text, "\n") {
		if len(left) > 0 && left[0] == line {
			left = left[1:]
			continue
		}
		require.True(t, strings.TrimSpace(line) == "" || strings.Contains(line, `"usage"`), "%q is gone", line)
	}
	require.Empty(t, strings.Join(left, ""))
}

func BenchmarkStream(b *testing.B) {
	event := []byte(fmt.Sprintf("data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", "word"))
	a := newAnswer(eventStream, "", true)
	buffer := bytes.Clone(event)
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	for b.Loop() {
		a.Read(buffer, false)
	}
}

func BenchmarkDocument(b *testing.B) {
	body := []byte(`{"id":"c1","model":"m","choices":[{"message":{"content":"` + strings.Repeat("a", 900) + `"}}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		a := newAnswer(jsonType, "", false)
		a.Read(body, true)
		a.End()
	}
}
