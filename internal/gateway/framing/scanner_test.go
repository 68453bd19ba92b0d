package framing

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const get = "GET /v1/models HTTP/1.1\r\nHost: a\r\n"

var refusals = []struct {
	name, text string
	reason     error
}{
	{"length and coding", get + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", errBoth},
	{"coding and length", get + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", errBoth},
	{"two lengths", get + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", errLength},
	{"two equal lengths", get + "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", errLength},
	{"a list of lengths", get + "Content-Length: 3, 3\r\n\r\n", errLength},
	{"a length with a sign", get + "Content-Length: +3\r\n\r\n", errLength},
	{"no length", get + "Content-Length: \r\n\r\n", errLength},
	{"a hexadecimal length", get + "Content-Length: 0x3\r\n\r\n", errLength},
	{"an enormous length", get + "Content-Length: 9999999999999999999\r\n\r\n", errLength},
	{"a length of many zeros", get + "Content-Length: " + strings.Repeat("0", 100) + "3\r\n\r\n", errLength},
	{"another coding", get + "Transfer-Encoding: gzip\r\n\r\n", errCoding},
	{"a list of codings", get + "Transfer-Encoding: gzip, chunked\r\n\r\n", errCoding},
	{"chunked twice", get + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", errCoding},
	{"chunked with a parameter", get + "Transfer-Encoding: chunked;q=1\r\n\r\n", errCoding},
	{"identity", get + "Transfer-Encoding: identity\r\n\r\n", errCoding},
	{"a tab inside", get + "Transfer-Encoding: chun\tked\r\n\r\n", errCoding},
	{"chunked of HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", errCoding},
	{"a folded header", get + "X: 1\r\n 2\r\n\r\n", errFolded},
	{"a folded coding", get + "Transfer-Encoding:\r\n chunked\r\n\r\n", errCoding},
	{"a first header with a space", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", errFolded},
	{"bare LF in the head", "GET / HTTP/1.1\nHost: a\r\n\r\n", errVersion},
	{"bare LF after a header", get + "X: 1\n\r\n", errLineEnd},
	{"bare LF at the end of the head", get + "\n", errLineEnd},
	{"bare CR in a header", get + "X: a\rb\r\n\r\n", errLineEnd},
	{"bare CR at the end of the head", get + "\r\r\n", errLineEnd},
	{"NUL in a value", get + "X: a\x00b\r\n\r\n", errValue},
	{"a control character in a value", get + "X: a\x01b\r\n\r\n", errValue},
	{"DEL in a value", get + "X: a\x7fb\r\n\r\n", errValue},
	{"NUL in a name", get + "X\x00: a\r\n\r\n", errName},
	{"a space before the colon", get + "Transfer-Encoding : chunked\r\n\r\n", errName},
	{"a name beyond ASCII", get + "Tränsfer: a\r\n\r\n", errName},
	{"no name", get + ": a\r\n\r\n", errName},
	{"no colon", get + "Header\r\n\r\n", errName},
	{"two hosts", get + "Host: b\r\n\r\n", errHost},
	{"a whole URL", "GET http://b/v1 HTTP/1.1\r\nHost: a\r\n\r\n", errTarget},
	{"an authority", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", errTarget},
	{"an asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", errTarget},
	{"no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", errTarget},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", errTarget},
	{"NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", errTarget},
	{"a tab in the target", "GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", errTarget},
	{"another version", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", errVersion},
	{"HTTP/0.9", "GET /\r\n\r\n", errTarget},
	{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", errTarget},
	{"a space after the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", errVersion},
	{"an empty line before", "\r\n" + get + "\r\n", errMethod},
	{"a method that is none", "G(T / HTTP/1.1\r\n\r\n", errMethod},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00", errMethod},
	{"a chunk without a size", get + "Transfer-Encoding: chunked\r\n\r\n;a\r\n", errChunkSize},
	{"a chunk with a signed size", get + "Transfer-Encoding: chunked\r\n\r\n-1\r\n", errChunkSize},
	{"a chunk with a space", get + "Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n", errChunkSize},
	{"an enormous chunk", get + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", errChunkSize},
	{"a chunk size that ends with LF", get + "Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", errChunkSize},
	{"an extension that ends with LF", get + "Transfer-Encoding: chunked\r\n\r\n1;a\na\r\n0\r\n\r\n", errChunkEnd},
	{"CR in an extension", get + "Transfer-Encoding: chunked\r\n\r\n1;a\rb\r\na\r\n0\r\n\r\n", errChunkEnd},
	{"a longer chunk", get + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", errChunkEnd},
	{"a chunk that ends with LF", get + "Transfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n", errChunkEnd},
	{"a length in the trailer", get + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n", errTrailerName},
	{"a coding in the trailer", get + "Transfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", errTrailerName},
	{"a trailer that ends with LF", get + "Transfer-Encoding: chunked\r\n\r\n0\r\n\n", errLineEnd},
	{"a bad request after a good one", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /\n", errTarget},
}

// accepted are texts and how many requests each holds.
var acceptances = map[string]int{
	get + "\r\n":                                 1,
	get + "\r\n" + get + "\r\n":                  2,
	"GET / HTTP/1.0\r\n\r\n":                     1,
	"GET /文件?a=\xff HTTP/1.1\r\nHost: a\r\n\r\n": 1,
	"POST / HTTP/1.1\r\ncontent-LENGTH:\t 5 \t\r\nHost:a\r\n\r\nhello":                                                      1,
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" + get + "\r\n":                                                2,
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00005\r\n\r\nGET /" + get + "\r\n":                                       2,
	"POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n" + get + "\r\n":                              2,
	get + "Transfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n" + get + "\r\n": 2,
	get + "Transfer-Encodings: gzip\r\nContent-Lengths: 3\r\nX-Content-Length: 3\r\nX: caf\xe9\r\n\r\n":                     1,
}

func TestRequestsThatReadTwoWaysAreRefusedHoweverTheyAreCut(t *testing.T) {
	t.Parallel()
	for _, c := range refusals {
		var whole scanner
		passed, err := whole.pass([]byte(c.text))
		require.Equal(t, c.reason, err, "%s: %q passed", c.name, c.text[:passed])
		for _, size := range []int{1, 2, 7} {
			var cut scanner
			n, err := feed(&cut, c.text, size)
			require.Equal(t, c.reason, err, c.name)
			require.Equal(t, passed, n, c.name)
		}
	}
	for text, requests := range acceptances {
		for _, size := range []int{1, 2, 7, len(text)} {
			var s scanner
			n, err := feed(&s, text, size)
			require.NoError(t, err, text)
			require.Equal(t, len(text), n)
			require.Equal(t, start, s.state, text)
		}
		require.Len(t, starts(text), requests, text)
	}
}

func feed(s *scanner, text string, size int) (passed int, err error) {
	for passed < len(text) {
		end := min(passed+size, len(text))
		n, err := s.pass([]byte(text[passed:end]))
		passed += n
		if err != nil {
			return passed, err
		}
	}
	return passed, nil
}

// starts are where requests begin, as the scanner sees them.
func starts(text string) (at []int) {
	var s scanner
	for i := range len(text) {
		if s.state == start {
			at = append(at, i)
		}
		if _, err := s.pass([]byte(text[i : i+1])); err != nil {
			return at
		}
	}
	return at
}

// startsOfNetHTTP are where requests begin, as net/http sees them, and whether it went on to the end.
func startsOfNetHTTP(text string) (at []int, complete bool) {
	in := strings.NewReader(text)
	buffered := bufio.NewReader(in)
	for {
		position := len(text) - in.Len() - buffered.Buffered()
		if position == len(text) {
			return at, true
		}
		at = append(at, position)
		r, err := http.ReadRequest(buffered)
		if err != nil {
			return at, false
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return at, false
		}
	}
}

// agrees says how the scanner and net/http differ over what the scanner lets through; "" when they do not.
func agrees(text string) string {
	var s scanner
	passed, _ := s.pass([]byte(text))
	ours := starts(text[:passed])
	theirs, complete := startsOfNetHTTP(text[:passed])
	for i, at := range theirs {
		if i >= len(ours) || ours[i] != at {
			return fmt.Sprintf("request %d begins at %v for us and at %v for net/http", i, ours, theirs)
		}
	}
	if complete && len(ours) != len(theirs) {
		return fmt.Sprintf("%d requests for us and %d for net/http", len(ours), len(theirs))
	}
	return ""
}

func TestNetHTTPReadsTheSameRequestsFromWhatPasses(t *testing.T) {
	t.Parallel()
	for _, c := range refusals {
		require.Empty(t, agrees(c.text), c.name)
		require.Empty(t, agrees(get+"\r\n"+c.text), c.name)
	}
	for text, requests := range acceptances {
		require.Empty(t, agrees(text), text)
		theirs, complete := startsOfNetHTTP(text)
		require.True(t, complete, text)
		require.Len(t, theirs, requests, text)
	}
}

func FuzzFraming(f *testing.F) {
	for _, c := range refusals {
		f.Add([]byte(c.text), uint8(3))
		f.Add([]byte(get+"\r\n"+c.text), uint8(1))
	}
	for text := range acceptances {
		f.Add([]byte(text+text), uint8(5))
	}
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		if difference := agrees(string(text)); difference != "" {
			t.Fatalf("%s of %q", difference, text)
		}
		var whole, cut scanner
		passed, err := whole.pass(text)
		n, cutErr := feed(&cut, string(text), int(size)+1)
		if n != passed || err != cutErr { //nolint:errorlint // they are the same values
			t.Fatalf("%d %v in one piece, %d %v in pieces of %d: %q", passed, err, n, cutErr, size+1, text)
		}
	})
}

// BenchmarkPass is what a small request costs.
func BenchmarkPass(b *testing.B) {
	head := "POST /v1/chat/completions HTTP/1.1\r\nHost: env-0123456789abcdefghij.engineshed.localhost:8090\r\nAuthorization: Bearer sk-" +
		strings.Repeat("0", 40) + "\r\nContent-Type: application/json\r\nAccept: */*\r\nUser-Agent: OpenAI/Python 2.9.0\r\nContent-Length: %d\r\n\r\n"
	for _, size := range []int{1 << 10, 1 << 20} {
		text := append(fmt.Appendf(nil, head, size), bytes.Repeat([]byte("x"), size)...)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			var s scanner
			for b.Loop() {
				if _, err := s.pass(text); err != nil || s.state != start {
					b.Fatal(err)
				}
			}
		})
	}
}
