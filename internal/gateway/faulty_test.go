package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dialect is what a service says in one protocol: the events of a stream, and a whole answer.
type dialect struct {
	name, protocol, path string
	opening              string // events before the content
	first, second        string // content
	ending               string // events behind the content, with the mark of the end
	failure              string // an event that is an error
	document             string // an answer that is no stream
	input                int64  // tokens that opening tells; 0: none
}

var openAIDialect = &dialect{
	name: "OpenAI", protocol: "OpenAI/v1", path: "/v1/chat/completions",
	opening:  `data: {"id":"c1","model":"MODEL","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}` + "\n\n",
	first:    `data: {"id":"c1","model":"MODEL","choices":[{"index":0,"delta":{"content":"Hel"}}]}` + "\n\n",
	second:   `data: {"id":"c1","model":"MODEL","choices":[{"index":0,"delta":{"content":"lo"}}]}` + "\n\n",
	ending:   `data: {"id":"c1","model":"MODEL","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n",
	failure:  `data: {"error":{"message":"out of memory","type":"server_error","param":null,"code":"oom"}}` + "\n\n",
	document: `{"id":"c1","model":"MODEL","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}`,
}

var anthropicDialect = &dialect{
	name: "Anthropic", protocol: "Anthropic", path: "/v1/messages",
	opening: "event: message_start\n" +
		`data: {"type":"message_start","message":{"id":"m1","model":"MODEL","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}` + "\n\n" +
		"event: content_block_start\n" + `data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}` + "\n\n" +
		"event: ping\n" + `data: {"type":"ping"}` + "\n\n",
	first:  "event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}` + "\n\n",
	second: "event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo"}}` + "\n\n",
	ending: "event: content_block_stop\n" + `data: {"type":"content_block_stop","index":0}` + "\n\n" +
		"event: message_delta\n" + `data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}` + "\n\n" +
		"event: message_stop\n" + `data: {"type":"message_stop"}` + "\n\n",
	failure:  "event: error\n" + `data: {"type":"error","error":{"type":"overloaded_error","message":"out of memory"}}` + "\n\n",
	document: `{"id":"m1","type":"message","role":"assistant","model":"MODEL","content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn"}`,
	input:    3,
}

// as is what a service says that names this model.
func (d dialect) as(model string) *dialect {
	for _, text := range []*string{&d.opening, &d.first, &d.second, &d.ending, &d.failure, &d.document} {
		*text = strings.ReplaceAll(*text, "MODEL", model)
	}
	return &d
}

// faulty is a service that speaks HTTP by hand, so that it can break every rule of it.
type faulty struct {
	net.Listener
	model string       // that it says it is
	asked atomic.Int64 // requests
	owes  atomic.Int64 // answers that have not come to an end, and whose client has not left

	mu     sync.Mutex
	bodies []string // of requests
	sent   strings.Builder
	conns  map[net.Conn]bool
}

// newFaulty is a service that answers each request with behave and then waits for the next, or for its client to leave.
func newFaulty(t testing.TB, model string, behave func(*exchange)) *faulty {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &faulty{Listener: listener, model: model, conns: map[net.Conn]bool{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.track(conn, true)
			running.Go(func() { f.serve(conn, behave) })
		}
	})
	t.Cleanup(func() {
		f.kill()
		running.Wait()
	})
	return f
}

func (f *faulty) url() string { return "http://" + f.Addr().String() }

// kill ends the service as the death of its process would.
func (f *faulty) kill() {
	_ = f.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		reset(conn)
	}
}

func (f *faulty) track(conn net.Conn, there bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if there {
		f.conns[conn] = true
	} else {
		delete(f.conns, conn)
	}
}

func (f *faulty) serve(conn net.Conn, behave func(*exchange)) {
	defer conn.Close()
	defer f.track(conn, false)
	from := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(from)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		said := openAIDialect
		if strings.HasSuffix(r.URL.Path, anthropicDialect.path) {
			said = anthropicDialect
		}
		x := &exchange{Conn: conn, dialect: said.as(f.model), streamed: strings.Contains(string(body), `"stream":true`), of: f}
		f.note(string(body))
		f.owes.Add(1)
		behave(x)
		if !x.ended {
			if more, _ := io.Copy(io.Discard, from); more > 0 {
				f.note("a request on a connection that still owes an answer")
			}
		}
		f.owes.Add(-1)
		if !x.ended {
			return
		}
	}
}

// note counts a request in.
func (f *faulty) note(body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bodies = append(f.bodies, body)
	f.asked.Add(1)
}

// received are the bodies of the requests so far.
func (f *faulty) received() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.bodies...)
}

// answered is what the bodies of the answers have been so far.
func (f *faulty) answered() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent.String()
}

// exchange is one request and what is answered.
type exchange struct {
	net.Conn
	*dialect
	streamed bool
	of       *faulty
	chunked  bool
	ended    bool // as it should: another request may follow
}

// head begins an answer in chunks.
func (x *exchange) head() { x.begin(http.StatusOK, x.contentType(), "Transfer-Encoding: chunked") }

func (x *exchange) contentType() string {
	if x.streamed {
		return "text/event-stream; charset=utf-8"
	}
	return "application/json"
}

func (x *exchange) begin(status int, contentType string, headers ...string) {
	x.chunked = len(headers) > 0 && headers[0] == "Transfer-Encoding: chunked"
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: %s\r\n", status, http.StatusText(status), contentType)
	for _, header := range headers {
		head += header + "\r\n"
	}
	_, _ = io.WriteString(x, head+"\r\n")
}

// say sends a part of the answer's body, and reports whether somebody may still be there to read it.
func (x *exchange) say(text string) bool {
	x.of.mu.Lock()
	x.of.sent.WriteString(text)
	x.of.mu.Unlock()
	if x.chunked {
		text = fmt.Sprintf("%x\r\n%s\r\n", len(text), text)
	}
	_, err := io.WriteString(x, text)
	return err == nil
}

// pauses waits, and reports whether the other end is still there then.
func (x *exchange) pauses(d time.Duration) bool {
	_ = x.SetReadDeadline(time.Now().Add(d))
	defer func() { _ = x.SetReadDeadline(time.Time{}) }()
	_, err := x.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// end ends a body in chunks as it should be.
func (x *exchange) end() {
	_, err := io.WriteString(x, "0\r\n\r\n")
	x.ended = err == nil
}

// whole is a whole body with its head.
func (x *exchange) whole(status int, contentType, body string, headers ...string) {
	x.begin(status, contentType, append([]string{fmt.Sprintf("Content-Length: %d", len(body))}, headers...)...)
	x.ended = x.say(body)
}

// refusingAddr is an address that nobody listens at, and nobody else is given meanwhile.
func refusingAddr(t testing.TB) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(socket) })
	require.NoError(t, syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	addr, err := syscall.Getsockname(socket)
	require.NoError(t, err)
	return fmt.Sprintf("127.0.0.1:%d", addr.(*syscall.SockaddrInet4).Port)
}

// fullAddr is an address where somebody listens who takes no connection.
func fullAddr(t testing.TB) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(socket) })
	require.NoError(t, syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(socket, 0))
	bound, err := syscall.Getsockname(socket)
	require.NoError(t, err)
	addr := fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
	for {
		conn, err := net.DialTimeout("tcp", addr, 50*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}

// reset ends a connection so that its other end reads an error.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// The ways to answer. After each the service is silent, unless it has closed the connection.

// answers is a good answer.
func answers(x *exchange) {
	if !x.streamed {
		x.whole(http.StatusOK, x.contentType(), x.document)
		return
	}
	x.head()
	for _, event := range []string{x.opening, x.first, x.second, x.ending} {
		x.say(event)
	}
	x.end()
}

// answersSlowly never pauses for as long as the limits allow, and takes longer than each of them.
func answersSlowly(x *exchange) {
	x.head()
	pieces := []string{x.opening, x.first, x.second, x.second, x.second, x.ending}
	if !x.streamed {
		half := len(x.document) / 2
		pieces = []string{"", x.document[:half], x.document[half:]}
	}
	for i, piece := range pieces {
		if i > 0 {
			x.pauses(slowPause)
		}
		if piece != "" {
			x.say(piece)
		}
	}
	x.end()
}

func answersNothing(x *exchange) {
	x.head()
	x.say(x.opening + x.ending)
	x.end()
}

func staysSilent(*exchange) {}

func resets(x *exchange) { reset(x.Conn) }

func speaksSomethingElse(x *exchange) {
	_, _ = io.WriteString(x, "SSH-2.0-OpenSSH_9.2\r\n\r\n")
	_ = x.Close()
}

func sendsHeadersOnly(x *exchange) { x.head() }

func opens(x *exchange) {
	x.head()
	x.say(x.opening)
}

func comments(x *exchange) {
	x.head()
	for x.say(": keep-alive\n\n") && x.pauses(20*time.Millisecond) {
	}
}

func cutsTheFirstLine(x *exchange) {
	opens(x)
	x.say(x.first[:len(x.first)-20])
	reset(x.Conn)
}

func endsUnsaid(x *exchange) {
	opens(x)
	x.end()
}

func failsFirst(x *exchange) {
	x.head()
	x.say(x.failure)
	x.end()
}

func isBusy(x *exchange) {
	x.whole(http.StatusTooManyRequests, "application/json", `{"error":{"message":"slow down","code":"rate_limited"}}`, "Retry-After: 7")
}

func breaksWithHTML(x *exchange) {
	x.whole(http.StatusInternalServerError, "text/html", "<html><body><h1>Internal Server Error</h1></body></html>")
}

// starts sends some of the content, of a document half, and lets it pass.
func starts(x *exchange) {
	if x.streamed {
		opens(x)
		x.say(x.first)
	} else {
		x.begin(http.StatusOK, x.contentType(), fmt.Sprintf("Content-Length: %d", len(x.document)))
		x.say(x.document[:len(x.document)/2])
	}
	x.pauses(slowPause)
}

func cutsAfterAnEvent(x *exchange) {
	starts(x)
	reset(x.Conn)
}

func cutsWithinAnEvent(x *exchange) {
	starts(x)
	x.say(x.second[:len(x.second)-15])
	reset(x.Conn)
}

func failsLater(x *exchange) {
	starts(x)
	x.say(x.failure)
	x.end()
}

// The answer is over where its end mark is, whatever becomes of the HTTP message.

func cutsBehindTheEnd(x *exchange) {
	starts(x)
	x.say(x.ending)
	x.pauses(slowPause)
	reset(x.Conn)
}

func fallsSilentBehindTheEnd(x *exchange) {
	starts(x)
	x.say(x.ending)
}

// announces is a stream that says in its head how long it will be.
func announces(x *exchange) {
	all := x.opening + x.first + x.second + x.ending
	x.begin(http.StatusOK, x.contentType(), fmt.Sprintf("Content-Length: %d", len(all)))
	x.say(x.opening + x.first)
	x.pauses(slowPause)
}

func cutsWhatItAnnounced(x *exchange) {
	announces(x)
	reset(x.Conn)
}

func answersWhatItAnnounced(x *exchange) {
	announces(x)
	x.say(x.second)
	x.pauses(slowPause)
	x.ended = x.say(x.ending)
}

func failsLaterAndResets(x *exchange) {
	starts(x)
	x.say(x.failure)
	x.pauses(slowPause)
	reset(x.Conn)
}

func failsFirstAndEndsLate(x *exchange) {
	x.head()
	x.say(x.failure)
	for range 3 {
		x.pauses(slowPause)
	}
	x.end()
}

// breaksSlowly is an error that takes longer than content may.
func breaksSlowly(x *exchange) {
	const page = "<html>Internal Server Error</html>"
	x.begin(http.StatusInternalServerError, "text/html", fmt.Sprintf("Content-Length: %d", 4*len(page)))
	for range 4 {
		x.ended = x.say(page)
		x.pauses(slowPause)
	}
}

// startsInChunks is starts with an end that is still to come.
func startsInChunks(x *exchange) {
	x.head()
	if x.streamed {
		x.say(x.opening + x.first)
	} else {
		x.say(x.document[:len(x.document)/2])
	}
	x.pauses(slowPause)
}

func breaksChunksLater(x *exchange) {
	startsInChunks(x)
	_, _ = io.WriteString(x, "zz\r\n")
}

func endsTooEarly(x *exchange) {
	startsInChunks(x)
	x.end()
}

func neverEndsALine(x *exchange) {
	x.head()
	x.say(`data: {"choices":[{"delta":{"content":"`)
	for x.say(strings.Repeat("x", 100)) && x.pauses(10*time.Millisecond) {
	}
}

// trickles sends a byte a second.
func trickles(x *exchange) {
	if x.streamed {
		x.head()
	} else {
		x.begin(http.StatusOK, x.contentType(), fmt.Sprintf("Content-Length: %d", len(x.document)))
	}
	for i := 0; x.say((x.opening + x.document)[i:i+1]) && x.pauses(time.Second); i++ {
	}
}

func breaksChunksFirst(x *exchange) {
	x.head()
	if x.streamed {
		x.say(x.opening)
	}
	_, _ = io.WriteString(x, "zz\r\n")
}
