package downstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway/wire"
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
	{"a chunk without a size", get + "Transfer-Encoding: chunked\r\n\r\n;a\r\n", wire.ErrChunkSize},
	{"a chunk with a signed size", get + "Transfer-Encoding: chunked\r\n\r\n-1\r\n", wire.ErrChunkSize},
	{"a chunk with a space", get + "Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n", wire.ErrChunkSize},
	{"an enormous chunk", get + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", wire.ErrChunkSize},
	{"a chunk size that ends with LF", get + "Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", wire.ErrChunkSize},
	{"an extension that ends with LF", get + "Transfer-Encoding: chunked\r\n\r\n1;a\na\r\n0\r\n\r\n", wire.ErrChunkSize},
	{"CR in an extension", get + "Transfer-Encoding: chunked\r\n\r\n1;a\rb\r\na\r\n0\r\n\r\n", wire.ErrExtension},
	{"a longer chunk", get + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", wire.ErrChunkEnd},
	{"a chunk that ends with LF", get + "Transfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n", wire.ErrChunkEnd},
	{"a length in the trailer", get + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n", errTrailerName},
	{"a coding in the trailer", get + "Transfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", errTrailerName},
	{"a trailer that ends with LF", get + "Transfer-Encoding: chunked\r\n\r\n0\r\n\n", wire.ErrLineEnd},
	{"a bad request after a good one", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /\n", errTarget},
}

// acceptances are texts and how many requests each holds.
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

// script is a client that says something in pieces, and no more.
type script struct {
	left  string
	piece int // bytes
	addr  net.TCPAddr

	mu    sync.Mutex // net/http reads while it answers
	said  strings.Builder
	ended chan struct{}
	once  sync.Once
}

func newScript(text string, piece int) *script {
	return &script{left: text, piece: piece, ended: make(chan struct{})}
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == "" {
		return 0, io.EOF
	}
	n := copy(p, s.left[:min(s.piece, len(s.left))])
	s.left = s.left[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) { return s.said.Write(p) }

func (s *script) Close() error {
	s.once.Do(func() { close(s.ended) })
	return nil
}

func (s *script) LocalAddr() net.Addr              { return &s.addr }
func (s *script) RemoteAddr() net.Addr             { return &s.addr }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// seen is a request as a handler sees it.
type seen struct {
	method, target, path, rawPath, query, proto, host string
	length                                            int64
	coding                                            []string
	header                                            http.Header
	closes, force                                     bool
	body                                              string
	err                                               string
}

// watching returns a handler that answers with the body and keeps what it sees.
func watching(all *[]seen) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		header := r.Header.Clone()
		delete(header, "Trailer") // we drop them
		*all = append(*all, seen{
			r.Method, r.RequestURI, r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.Proto, r.Host,
			r.ContentLength, r.TransferEncoding, header, r.Close, r.URL.ForceQuery, string(body), fmt.Sprint(err),
		})
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Date", "now")
		_, _ = w.Write(body)
	})
}

// ask has our server read a text that comes in pieces.
func ask(text string, piece int, h http.Handler) (said string, reason error) {
	client := newScript(text, piece)
	s := &Server{
		Handler: h, BaseContext: context.Background(), ErrorLog: log.New(io.Discard, "", 0), http2: new(http.Server),
		Refused: func(why error) { reason = errors.Join(reason, why) },
	}
	c := &conn{server: s, socket: client, under: client, remote: "192.0.2.1:9"}
	c.run()
	return client.said.String(), reason
}

// askNetHTTP has net/http's server read it.
func askNetHTTP(text string, h http.Handler) (said string) {
	client := newScript(text, len(text))
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), MaxHeaderBytes: maxHead, DisableGeneralOptionsHandler: true}
	l := &one{conn: client}
	_ = s.Serve(l)
	<-client.ended
	return client.said.String()
}

// one is a listener with one connection.
type one struct{ conn net.Conn }

func (l *one) Accept() (net.Conn, error) {
	if l.conn == nil {
		return nil, net.ErrClosed
	}
	c := l.conn
	l.conn = nil
	return c, nil
}
func (l *one) Close() error   { return nil }
func (l *one) Addr() net.Addr { return new(net.TCPAddr) }

// ours and theirs are what handlers see of a text.
func ours(text string, piece int) (all []seen, said string, reason error) {
	said, reason = ask(text, piece, watching(&all))
	return all, said, reason
}

func TestRequestsThatReadTwoWaysAreRefusedHoweverTheyAreCut(t *testing.T) {
	t.Parallel()
	for _, c := range refusals {
		for _, size := range []int{1, 2, 7, len(c.text)} {
			_, said, reason := ours(c.text, size)
			require.ErrorIs(t, reason, c.reason, c.name)
			if !strings.Contains(c.name, "chunk") && !strings.Contains(c.name, "extension") && !strings.Contains(c.name, "trailer") {
				require.Contains(t, said, "400 Bad Request\r\n", c.name)
				require.Contains(t, said, `"code":"invalid_framing"`, c.name)
			}
		}
	}
	for text, requests := range acceptances {
		for _, size := range []int{1, 2, 7, len(text)} {
			all, _, reason := ours(text, size)
			require.NoError(t, reason, text)
			require.Len(t, all, requests, text)
		}
	}
}

// difference says how a text is read otherwise than by net/http, or otherwise when it is cut; "" if it is not.
func difference(text string, piece int) string {
	mine, said, reason := ours(text, len(text)+1)
	cut, saidCut, cutReason := ours(text, piece)
	if fmt.Sprint(reason) != fmt.Sprint(cutReason) || fmt.Sprintf("%+v", mine) != fmt.Sprintf("%+v", cut) || answersDiffer(said, saidCut, mine) != "" {
		return fmt.Sprintf("in one piece %+v %v %q, in pieces %+v %v %q", mine, reason, said, cut, cutReason, saidCut)
	}
	var theirs []seen
	saidTheirs := askNetHTTP(text, watching(&theirs))
	for i, one := range mine {
		switch {
		case i >= len(theirs):
			return fmt.Sprintf("net/http does not see request %d: %+v", i+1, one)
		case one.err != "<nil>": // net/http may take what we do not
			one.body, one.err, theirs[i].body, theirs[i].err = "", "", "", ""
		}
		if got, want := fmt.Sprintf("%+v", one), fmt.Sprintf("%+v", theirs[i]); got != want {
			return fmt.Sprintf("request %d is %s, for net/http %s", i+1, got, want)
		}
	}
	return answersDiffer(said, saidTheirs, mine)
}

// answersDiffer compares what was answered to requests that came to their end.
func answersDiffer(said, theirs string, to []seen) string {
	for i, one := range to {
		if one.err != "<nil>" {
			to = to[:i]
			break
		}
	}
	got, want := answers(said, to), answers(theirs, to)
	if !slices.Equal(got, want) {
		return fmt.Sprintf("answers are %q, of net/http %q", got, want)
	}
	return ""
}

func answers(said string, to []seen) (all []string) {
	in := bufio.NewReader(strings.NewReader(said))
	for i := 0; i < len(to); {
		resp, err := http.ReadResponse(in, &http.Request{Method: to[i].method})
		if err != nil {
			return append(all, err.Error())
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		resp.Header.Del("Date")
		all = append(all, fmt.Sprintln(resp.StatusCode, resp.Proto, resp.Header, resp.ContentLength, resp.Close, resp.TransferEncoding, string(body), err))
		if resp.StatusCode >= 200 {
			i++
		}
	}
	return all
}

func TestNetHTTPReadsTheSameRequestsFromWhatPasses(t *testing.T) {
	t.Parallel()
	for _, c := range refusals {
		require.Empty(t, difference(c.text, 3), c.name)
		require.Empty(t, difference(get+"\r\n"+c.text, 5), c.name)
	}
	for text := range acceptances {
		require.Empty(t, difference(text, 2), text)
		require.Empty(t, difference(text+text, 11), text)
	}
	for _, text := range others {
		require.Empty(t, difference(text, 4), text)
	}
}

// others are requests that net/http treats in a way of its own.
var others = []string{
	"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
	"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "GET /%41?%zz HTTP/1.1\r\nHost: a\r\n\r\n", "GET //a/b?c?d HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a? HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a%2fb;c=d?e#f HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a:b@c/~!$&'()*+,;= HTTP/1.1\r\nHost: a\r\n\r\n",
	get + "Connection: close\r\n\r\n" + get + "\r\n", get + "Connection: a, CLOSE\r\n\r\n", get + "connection: keep-alive\r\n\r\n", get + "Connection: 0 CLOSE\r\n\r\n",
	"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + get + "\r\n", "GET / HTTP/1.0\r\nHost: a\r\nHeader: 1\r\nheader: 2\r\nHEADER:\r\n\r\n",
	"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + get + "\r\n", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
	get + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi" + get + "\r\n", get + "Expect: 100-continue\r\n\r\n", get + "Expect: more\r\n\r\n",
	get + "Content-Length: 5\r\n\r\nhi", get + "Transfer-Encoding: chunked\r\n\r\n5\r\nhi", get + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\nX: 1\r\n\r\n",
	get + "Cookie: a=b\r\nCookie: c=d\r\nX-Stainless-OS: Linux\r\nx-stainless-os: Windows\r\n_x: 1\r\n\r\n",
}

func FuzzRequestsAreReadAsNetHTTPReadsThem(f *testing.F) {
	for _, c := range refusals {
		f.Add(c.text, uint8(3))
		f.Add(get+"\r\n"+c.text, uint8(1))
	}
	for text := range acceptances {
		f.Add(text+text, uint8(5))
	}
	for _, text := range others {
		f.Add(text, uint8(2))
	}
	f.Fuzz(func(t *testing.T, text string, piece uint8) {
		if found := difference(text, int(piece)+1); found != "" {
			t.Fatalf("%s of %q", found, text)
		}
	})
}
