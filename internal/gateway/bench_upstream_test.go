package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What a request's query asks of the upstream.
const (
	pacedStream  = "?paced" // an event every paceInterval
	idleStream   = "?idle"  // nothing after the first event
	openStreams  = "/open"  // how many streams are open
	paceInterval = 50 * time.Millisecond
)

// wholeAnswer is a completion of about 1 KB. It tells how long the request was and which model it named, last of all.
func wholeAnswer(length int, model string) []byte {
	return fmt.Appendf(nil, `{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":%q,"choices":[{"index":0,`+
		`"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,"completion_tokens":210}}`,
		model, strings.Repeat("a", 820), length)
}

// streamEvent is number n of a stream. All are of one length.
func streamEvent(n int) []byte {
	return fmt.Appendf(nil, `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"wrote",`+
		`"choices":[{"index":0,"delta":{"content":" %08d"},"finish_reason":null}]}`+"\n\n", n)
}

func chunk(payload []byte) []byte { return fmt.Appendf(nil, "%x\r\n%s\r\n", len(payload), payload) }

// benchUpstream answers chat completions. It reads requests off the socket by itself and paces all streams in one goroutine, or
// it would be what is measured.
type benchUpstream struct {
	open  atomic.Int64
	mu    sync.Mutex
	paced [paceInterval / time.Millisecond]map[net.Conn]int // events sent, by connection: each tick is for one of the sets
}

func (u *benchUpstream) serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_ = u.answer(conn) // the load sees what is wrong
		}()
	}
}

// answer answers requests until the connection ends.
func (u *benchUpstream) answer(conn net.Conn) error {
	in := bufio.NewReaderSize(conn, 64<<10)
	var whole []byte
	var length int
	var model string
	for {
		target, n, err := readHead(in)
		if err != nil {
			return err
		}
		if string(target) == openStreams {
			text := strconv.FormatInt(u.open.Load(), 10)
			_, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
			return err
		}
		_, query, _ := bytes.Cut(target, []byte("?"))
		streamed, paced := len(query) > 0, string(query) == pacedStream[1:]
		last, err := readLast(in, n, len(`"asked"}`))
		switch {
		case err != nil:
			return err
		case streamed:
			return u.stream(conn, in, paced)
		}
		if n != length || string(last[1:len(last)-2]) != model {
			length, model = n, string(last[1:len(last)-2])
			body := wholeAnswer(length, model)
			whole = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
		if _, err := conn.Write(whole); err != nil {
			return err
		}
	}
}

// readLast reads a body and returns the end of it.
func readLast(in *bufio.Reader, length, last int) ([]byte, error) {
	if length < last {
		return nil, errors.New("the body is too short")
	}
	if _, err := in.Discard(length - last); err != nil {
		return nil, err
	}
	tail, err := in.Peek(last)
	if err == nil {
		_, err = in.Discard(last)
	}
	return tail, err
}

// stream begins a stream and returns when the client has left.
func (u *benchUpstream) stream(conn net.Conn, in *bufio.Reader, paced bool) error {
	u.open.Add(1)
	defer u.open.Add(-1)
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	if _, err := conn.Write(append([]byte(head), chunk(streamEvent(0))...)); err != nil {
		return err
	}
	if paced {
		defer u.pace(conn)()
	}
	_, err := in.Peek(1)
	return err
}

// pace has events sent on a connection until stop is called.
func (u *benchUpstream) pace(conn net.Conn) (stop func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	set := 0
	for i, s := range u.paced {
		if len(s) < len(u.paced[set]) {
			set = i
		}
	}
	if u.paced[set] == nil {
		u.paced[set] = map[net.Conn]int{}
	}
	u.paced[set][conn] = 0
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.paced[set], conn)
	}
}

func (u *benchUpstream) tick(ctx context.Context) {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for set := 0; ctx.Err() == nil; set = (set + 1) % len(u.paced) {
		<-ticker.C
		u.mu.Lock()
		for conn, n := range u.paced[set] {
			u.paced[set][conn] = n + 1
			_, _ = conn.Write(chunk(streamEvent(n + 1))) // who left is taken out by who reads
		}
		u.mu.Unlock()
	}
}

// readHead reads the head of a request or an answer: its target or status, and how long its body is.
func readHead(in *bufio.Reader) (second []byte, length int, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, 0, err
	}
	_, rest, _ := bytes.Cut(line, []byte(" "))
	second, _, _ = bytes.Cut(rest, []byte(" "))
	second = bytes.Clone(second)
	for {
		line, err := in.ReadSlice('\n')
		switch name, value, _ := bytes.Cut(line, []byte(": ")); {
		case err != nil:
			return nil, 0, err
		case len(line) == len("\r\n"):
			return second, length, nil
		case string(name) == "Content-Length":
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return nil, 0, err
			}
		}
	}
}

// askOpen asks the upstream how many streams are open.
func askOpen(addr string) (int, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET "+openStreams+" HTTP/1.1\r\n\r\n"); err != nil {
		return 0, err
	}
	in := bufio.NewReader(conn)
	if _, _, err := readHead(in); err != nil {
		return 0, err
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}
