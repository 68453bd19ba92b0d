package gateway

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway/protocol"
)

// pieces is what a service sends: text, in pieces as long as each of cuts says, and then how it ends.
type pieces struct {
	text, cuts []byte
	end        error
	together   bool // the end comes with the last piece
}

func (p *pieces) Read(into []byte) (int, error) {
	if len(p.text) == 0 {
		return 0, p.end
	}
	size := len(p.text)
	if len(p.cuts) > 0 {
		size, p.cuts = int(p.cuts[0])+1, p.cuts[1:]
	}
	n := copy(into[:min(size, len(into))], p.text)
	p.text = p.text[n:]
	if len(p.text) == 0 && p.together {
		return n, p.end
	}
	return n, nil
}

func (p *pieces) Close() error { return nil }

const (
	lastEvent = "event: error\ndata: goodbye\n\n"
	// An event stream cannot be longer here than is passed on in whole events.
	longest = 4 << 10
)

var errGone = errors.New("gone")

// streamed is an answer that streams what the pieces say.
func streamed(p *pieces, chat bool) *answer {
	a := &answer{from: p}
	a.reader.Begin("text/event-stream", "", false)
	a.awaitPieces(time.Hour)
	a.passInEvents(chat, func(error) []byte { return []byte(lastEvent) })
	return a
}

// wholeEvents is the part of a stream that ends with a whole event, or a comment between events. Without between, the
// lines between events are left out.
func wholeEvents(text string, between bool) string {
	var whole, event strings.Builder
	for line := range strings.Lines(text) {
		ended := strings.HasSuffix(line, "\n")
		blank := strings.TrimRight(line, "\r\n") == ""
		switch {
		case !ended:
		case event.Len() == 0 && (blank || line[0] == ':'):
			if between {
				whole.WriteString(line)
			}
		default:
			if event.WriteString(line); blank {
				whole.WriteString(event.String())
				event.Reset()
			}
		}
	}
	return whole.String()
}

// expected is what a client gets of a stream that ends so.
func expected(text string, end error, chat bool) string {
	var all, lines protocol.Answer // what all says, and what the lines that have an end say
	for of, said := range map[*protocol.Answer]string{&all: text, &lines: text[:strings.LastIndexByte(text, '\n')+1]} {
		of.Begin("text/event-stream", "", false)
		of.Read([]byte(said), true)
	}
	all.End()
	switch {
	case errors.Is(end, io.EOF) && (!lines.Content || !chat || all.Final || all.Failed):
		return text
	case chat && lines.Ended || lines.Failed:
		return wholeEvents(text, true)
	}
	return wholeEvents(text, true) + lastEvent
}

// A stream passes in whole events wherever it is cut into pieces, and where it breaks off one event more follows them.
func FuzzStreamsPassInWholeEvents(f *testing.F) {
	const (
		role    = `data: {"choices":[{"delta":{"role":"assistant","content":""}}]}` + "\n\n"
		content = `data: {"choices":[{"delta":{"content":"x"}}]}` + "\n\n"
		done    = "data: [DONE]\n\n"
		failed  = "event: error\n" + `data: {"type":"error","error":{"type":"overloaded_error","message":"m"}}` + "\n\n"
	)
	for _, text := range []string{
		role + content + done, strings.ReplaceAll(role+content+done, "\n", "\r\n"), role + content, role, ": comment\n\n" + role + ": comment\n" + content,
		role + content + "data: {\"choices\":[{\"delta\":{\"cont", role + content + "event: x\n", role + content + failed, failed, failed + content,
		role + content + strings.TrimRight(done, "\n"), role + content + done + ": the end\n\n", "\n\n\n" + content + "\r\n", ":\n", "data: a\n:\n\n", "",
	} {
		for _, cuts := range [][]byte{nil, {0}, {3, 90, 0, 0, 40, 1}, bytes.Repeat([]byte{6}, 100), bytes.Repeat([]byte{0}, 300)} {
			f.Add([]byte(text), cuts, byte(0), uint8(len(cuts)))
			f.Add([]byte(text), cuts, byte(40), uint8(7))
		}
	}
	f.Fuzz(func(t *testing.T, text, cuts []byte, size byte, flags uint8) {
		if len(text) > longest {
			return
		}
		p := &pieces{text, cuts, io.EOF, flags&4 != 0}
		if flags&1 != 0 {
			p.end = errGone
		}
		a := streamed(p, flags&2 != 0)
		defer a.stop()
		want := expected(string(text), p.end, a.chat)
		held := flags&8 != 0
		if held && a.hold() != nil {
			require.False(t, errors.Is(p.end, io.EOF) && a.isOver(), "it was whole")
			return
		}
		var got bytes.Buffer
		_, err := io.CopyBuffer(&got, struct{ io.Reader }{a}, make([]byte, int(size)+1))
		require.NoError(t, err, "it ends cleanly")
		if held { // comments before the content are not kept
			require.Equal(t, without(want), without(got.String()))
			return
		}
		require.Equal(t, want, got.String())
	})
}

// without leaves out what is between events.
func without(text string) string {
	end := strings.LastIndexByte(text, '\n') + 1
	return wholeEvents(text[:end], false) + strings.TrimLeft(text[end:], "\r")
}
