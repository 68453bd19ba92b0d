package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/gateway/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a Reader and what is written to it, over a socket or in memory.
func pair(t testing.TB, socket bool) (*wire.Reader, net.Conn) {
	t.Helper()
	if !socket {
		here, there := net.Pipe()
		t.Cleanup(func() { here.Close(); there.Close() })
		return wire.NewReader(here), there
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	there, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	here, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { here.Close(); there.Close() })
	return wire.NewReader(here), there
}

// sources runs a test on both kinds of connections.
func sources(t *testing.T, test func(t *testing.T, socket bool)) {
	for name, socket := range map[string]bool{"a socket": true, "memory": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, socket)
		})
	}
}

func TestBodyInChunksIsReadHoweverItIsCut(t *testing.T) {
	t.Parallel()
	sources(t, func(t *testing.T, socket bool) {
		rapid.Check(t, func(r *rapid.T) {
			var text, want bytes.Buffer
			for _, size := range rapid.SliceOfN(rapid.IntRange(1, 9000), 0, 6).Draw(r, "sizes") {
				piece := bytes.Repeat([]byte("0\r\n\r\n"), size)[:size]
				fmt.Fprintf(&text, "%x%s\r\n%s\r\n", size, rapid.SampledFrom([]string{"", ";a=b"}).Draw(r, "extension"), piece)
				want.Write(piece)
			}
			text.WriteString("0\r\n" + rapid.SampledFrom([]string{"", "A: b\r\n"}).Draw(r, "trailer") + "\r\nnext\r\n")
			cuts := rapid.SliceOfN(rapid.IntRange(1, 5000), 1, 20).Draw(r, "cuts")
			sizes := rapid.SliceOfN(rapid.IntRange(1, 5000), 1, 5).Draw(r, "reads")
			from, to := pair(t, socket)
			go write(to, text.Bytes(), cuts)
			body := &wire.Chunks{From: from}
			var got bytes.Buffer
			for i := 0; ; i++ {
				p := make([]byte, sizes[i%len(sizes)])
				ready := body.Ready()
				n, err := body.Read(p)
				got.Write(p[:n])
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(r, err)
				require.False(r, ready && n == 0, "what is ready is there")
			}
			require.True(r, bytes.Equal(want.Bytes(), got.Bytes()))
			left := 100
			line, err := from.Line(&left)
			require.NoError(r, err)
			require.Equal(r, "next", string(line), "what follows is left")
			require.Equal(r, 100-len("next\r\n"), left)
		})
	})
}

// write writes a text in pieces, the last of which is as long as it is.
func write(to net.Conn, text []byte, sizes []int) {
	for i := 0; len(text) > 0; i++ {
		n := min(sizes[i%len(sizes)], len(text))
		if _, err := to.Write(text[:n]); err != nil {
			return
		}
		text = text[n:]
	}
}

func TestLinesOfAnyLengthEndWithCRLF(t *testing.T) {
	t.Parallel()
	sources(t, func(t *testing.T, socket bool) {
		from, to := pair(t, socket)
		long := strings.Repeat("x", 10_000)
		go write(to, []byte("a\r\n"+long+"\r\n\r\nb\nmuch too long a line\r\n"), []int{1000, 1})
		left := 1 << 20
		for _, want := range []string{"a", long, ""} {
			line, err := from.Line(&left)
			require.NoError(t, err)
			require.Equal(t, want, string(line))
		}
		_, err := from.Line(&left)
		require.ErrorIs(t, err, wire.ErrLineEnd)
		left = 5
		_, err = from.Line(&left)
		require.ErrorIs(t, err, wire.ErrLongHead)
	})
}

func TestEndOfTheConnectionIsNoEndOfABody(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "5", "5\r\n", "5\r\nhel", "5\r\nhello", "5\r\nhello\r\n0\r\n", "0\r\nA: b\r\n"} {
		from, to := pair(t, true)
		_, err := io.WriteString(to, text)
		require.NoError(t, err)
		require.NoError(t, to.Close())
		_, err = io.ReadAll(&wire.Chunks{From: from})
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, text)
	}
}

func TestChunkDoesNotWaitForTheNextOne(t *testing.T) {
	t.Parallel()
	for _, begun := range []string{"", "\r", "\r\n", "\r\n5", "\r\n5\r", "\r\n5\r\n"} {
		from, to := pair(t, true)
		_, err := io.WriteString(to, "5\r\nhello"+begun)
		require.NoError(t, err)
		for len(from.Buffered()) < len("5\r\nhello"+begun) {
			require.NoError(t, from.Fill())
		}
		p := make([]byte, 100)
		n, err := (&wire.Chunks{From: from}).Read(p)
		require.NoError(t, err)
		require.Equal(t, "hello", string(p[:n]), "%q", begun)
	}
}

func TestNothingIsReadyThatHasNotCome(t *testing.T) {
	t.Parallel()
	for text, ready := range map[string]bool{"5": false, "5\r\n": false, "5\r\nh": true, "0\r\n": false, ";": false} {
		from, to := pair(t, true)
		_, err := io.WriteString(to, text)
		require.NoError(t, err)
		for len(from.Buffered()) < len(text) {
			require.NoError(t, from.Fill())
		}
		body := &wire.Chunks{From: from}
		require.Equal(t, ready, body.Ready(), text)
	}
}

func TestAReaderKnowsWhetherItWaited(t *testing.T) {
	t.Parallel()
	sources(t, func(t *testing.T, socket bool) {
		r, there := pair(t, socket)
		go func() { _, _ = there.Write([]byte("x")) }()
		require.NoError(t, r.Fill())
		r.Discard(1)
		if !socket {
			require.True(t, r.Waited(), "nobody knows")
			return
		}
		_, err := there.Write([]byte("y"))
		require.NoError(t, err)
		require.NoError(t, r.Fill())
		r.Discard(1)
		require.False(t, r.Waited(), "it was there")
		failed := make(chan error, 1)
		go func() { failed <- r.Fill() }()
		require.NoError(t, there.Close())
		require.ErrorIs(t, <-failed, io.EOF)
	})
}
