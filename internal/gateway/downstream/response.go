package downstream

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/wire"
)

// response is the answer to a request: an http.ResponseWriter with everything that an http.ResponseController knows.
type response struct {
	ex      *exchange
	header  http.Header
	status  int   // 0: nothing has been said
	length  int64 // that was announced; -1: none was
	written int64 // bytes of the body
	err     error // of the connection
	pending []byte
	sent    bool // the head is written, or about to be: it does not change any more
	chunked bool
	closes  bool         // the connection ends with the answer
	expects atomic.Int32 // whether the client waits for 100 Continue before it sends the body

	mu   sync.Mutex // of those who do not wait for the handler
	over bool       // the handler has returned
}

// What a client may wait for before it sends its body.
const (
	nothing    int32 = iota
	invitation       // 100 Continue
	dismissal        // it got an answer instead: whether the body still comes cannot be known
)

// Header is part of http.ResponseWriter.
func (w *response) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header, 8)
	}
	return w.header
}

// TakeHeader is Header for who has a whole one to give away: its fields are added, and nobody else may use it any more.
func (w *response) TakeHeader(header http.Header) {
	for name, values := range w.header {
		header[name] = values
	}
	w.header = header
}

// WriteHeader is part of http.ResponseWriter. Interim answers go out at once.
func (w *response) WriteHeader(status int) {
	switch {
	case status < 100 || status > 999:
		panic(fmt.Sprintf("a status of %d", status))
	case w.status != 0:
		return
	case status < 200 && status != http.StatusSwitchingProtocols:
		w.inform(status)
		return
	}
	w.status, w.length = status, w.announced()
	w.closes = w.closes || status == http.StatusSwitchingProtocols || wire.HasOption(w.header["Connection"], "close") ||
		w.ex.conn.server.isClosing() || w.dismiss()
	w.begin()
	if w.length >= 0 && w.knowsType() || !w.mayHaveBody() {
		w.endHead()
	}
}

// announced is the Content-Length that the handler has set; -1 for none that is one.
func (w *response) announced() int64 {
	values := w.header[lengthName]
	if len(values) != 1 || !wire.IsNumber(values[0]) || len(values[0]) > longestLength {
		return -1
	}
	n, _ := strconv.ParseInt(values[0], 10, 64) // which has been looked at
	return n
}

// knowsType reports whether the kind of the body need not be found out from its beginning.
func (w *response) knowsType() bool {
	_, named := w.header["Content-Type"]
	return named || w.length == 0 || len(w.header["Content-Encoding"]) > 0
}

// mayHaveBody reports whether the answer has a body by its status, though not to HEAD.
func (w *response) mayHaveBody() bool {
	return w.status >= 200 && w.status != http.StatusNoContent && w.status != http.StatusNotModified
}

func (w *response) isHead() bool { return w.ex.request.Method == http.MethodHead }

// inform writes an interim answer.
func (w *response) inform(status int) {
	if w.ex.isOldest() || status == http.StatusContinue && !w.expects.CompareAndSwap(invitation, nothing) {
		return
	}
	w.appendStatus(status)
	if status != http.StatusContinue {
		w.appendHeader()
	}
	w.appendText("\r\n")
	_ = w.flush()
}

// invite has the client send the body that it holds back.
func (w *response) invite() {
	if w.expects.Load() != invitation {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.expects.CompareAndSwap(invitation, nothing) {
		_, _ = w.ex.conn.socket.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")) // reading fails if this does
	}
}

// dismiss gives a client its answer instead of an invitation. It reports whether the connection has to end with that,
// because too much of the body may still come.
func (w *response) dismiss() bool {
	if w.expects.Load() == invitation {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.expects.CompareAndSwap(invitation, dismissal) {
			return true
		}
	}
	return w.ex.request.ContentLength > maxUnread && w.ex.body.leavesMuch()
}

// begin writes the head as far as it is known.
func (w *response) begin() {
	w.appendStatus(w.status)
	w.appendHeader()
	if _, dated := w.header["Date"]; !dated {
		w.appendField("Date", w.ex.conn.server.date())
	}
}

func (w *response) appendStatus(status int) {
	o := &w.ex.conn.out
	o.take()
	version := "HTTP/1.1 "
	if w.ex.isOldest() {
		version = "HTTP/1.0 "
	}
	o.buf = append(o.buf, version...)
	o.buf = strconv.AppendInt(o.buf, int64(status), 10)
	o.buf = append(o.buf, ' ')
	o.buf = append(o.buf, http.StatusText(status)...)
	o.buf = append(o.buf, "\r\n"...)
}

func (w *response) appendText(text string) {
	o := &w.ex.conn.out
	o.take()
	o.buf = append(o.buf, text...)
}

func (w *response) appendField(name, value string) {
	o := &w.ex.conn.out
	o.buf = append(o.buf, name...)
	o.buf = append(o.buf, ": "...)
	start := len(o.buf)
	o.buf = append(o.buf, value...)
	for i, c := range o.buf[start:] {
		if c == '\r' || c == '\n' || c == 0 {
			o.buf[start+i] = ' ' // what a handler says is one value
		}
	}
	o.buf = append(o.buf, "\r\n"...)
}

// appendHeader writes the handler's headers but those that say how long the answer is.
func (w *response) appendHeader() {
	for name, values := range w.header {
		switch {
		case name == lengthName || name == codingName || !wire.IsToken(name):
		case name == "Connection" && w.closes:
		case name == "Content-Type" && w.status == http.StatusNotModified:
		default:
			for _, value := range values {
				w.appendField(name, value)
			}
		}
	}
}

// endHead decides how the body ends and writes what is left of the head.
func (w *response) endHead() {
	w.sent = true
	switch {
	case !w.mayHaveBody():
	case w.length >= 0:
		o := &w.ex.conn.out
		o.buf = append(o.buf, "Content-Length: "...)
		o.buf = strconv.AppendInt(o.buf, w.length, 10)
		o.buf = append(o.buf, "\r\n"...)
	case w.isHead():
	case w.ex.isOldest():
		w.closes = true
	default:
		w.chunked = true
		w.appendText("Transfer-Encoding: chunked\r\n")
	}
	switch {
	case w.closes && !w.ex.isOldest():
		w.appendText("Connection: close\r\n\r\n")
	case !w.closes && w.ex.isOldest() && w.header["Connection"] == nil:
		w.appendText("Connection: keep-alive\r\n\r\n")
	default:
		w.appendText("\r\n")
	}
}

// Write is part of http.ResponseWriter.
func (w *response) Write(p []byte) (int, error) {
	if w.ex.conn.taken.Load() {
		return 0, http.ErrHijacked
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case len(p) == 0:
		return 0, nil
	case !w.mayHaveBody():
		return 0, http.ErrBodyNotAllowed
	case w.length >= 0 && w.written+int64(len(p)) > w.length:
		return 0, http.ErrContentLength
	}
	w.written += int64(len(p))
	switch {
	case w.isHead():
		return len(p), nil
	case w.sent:
		return w.write(p)
	case len(w.pending)+len(p) <= outSize/2:
		w.pending = append(w.pending, p...)
		return len(p), nil
	}
	w.sniff(p)
	if err := w.writePending(); err != nil {
		return 0, err
	}
	return w.write(p)
}

// sniff finds out what kind the body is of from its beginning.
func (w *response) sniff(p []byte) {
	if w.knowsType() || len(w.pending)+len(p) == 0 {
		return
	}
	begin := w.pending
	if len(begin) < sniffed {
		begin = append(begin[:len(begin):len(begin)], p[:min(len(p), sniffed)]...)
	}
	w.appendField("Content-Type", http.DetectContentType(begin))
}

// sniffed is how many bytes say what kind a body is of.
const sniffed = 512

// writePending writes the head, and what was held back until it was complete.
func (w *response) writePending() error {
	w.endHead()
	pending := w.pending
	w.pending = nil
	if len(pending) == 0 {
		return nil
	}
	_, err := w.write(pending)
	return err
}

// write writes a piece of the body behind what is buffered.
func (w *response) write(p []byte) (int, error) {
	if !w.chunked {
		if err := w.put(p); err != nil || w.written < w.length || w.length < 0 {
			return len(p), err
		}
		return len(p), w.flush() // the client need not wait for what the handler does afterwards
	}
	o := &w.ex.conn.out
	o.take()
	o.buf = append(strconv.AppendInt(o.buf, int64(len(p)), 16), "\r\n"...)
	if err := w.put(p); err != nil {
		return 0, err
	}
	w.appendText("\r\n")
	return len(p), w.err
}

// put buffers a piece, or writes it with what is buffered.
func (w *response) put(p []byte) error {
	o := &w.ex.conn.out
	if o.fits(len(p) + len("\r\n0\r\n\r\n")) {
		o.take()
		o.buf = append(o.buf, p...)
		return w.err
	}
	if err := w.flush(); err != nil {
		return err
	}
	if _, err := w.ex.conn.socket.Write(p); err != nil {
		w.fail(err)
	}
	return w.err
}

// flush writes what is buffered.
func (w *response) flush() error {
	o := &w.ex.conn.out
	if len(o.buf) > 0 && w.err == nil {
		if _, err := w.ex.conn.socket.Write(o.buf); err != nil {
			w.fail(err)
		}
	}
	o.release()
	return w.err
}

// fail takes note that the client cannot be reached.
func (w *response) fail(err error) {
	w.err = err
	w.ex.end()
}

// FlushError is for http.ResponseController.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.sent {
		w.sniff(nil)
		if err := w.writePending(); err != nil {
			return err
		}
	}
	return w.flush()
}

// Flush is part of http.Flusher.
func (w *response) Flush() { _ = w.FlushError() }

// finish ends the answer when the handler has returned, and reports whether all of it was sent.
func (w *response) finish() bool {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.sent {
		if w.length < 0 && (!w.isHead() || w.written > 0) {
			w.length = w.written
		}
		w.sniff(nil)
		_ = w.writePending()
	}
	if w.chunked {
		w.appendText("0\r\n\r\n")
	}
	err := w.flush()
	return err == nil && (w.length < 0 || w.written == w.length || w.isHead() || !w.mayHaveBody())
}

// Hijack is part of http.Hijacker.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.mu.Lock()
	over := w.over
	w.mu.Unlock()
	c := w.ex.conn
	if over || !c.taken.CompareAndSwap(false, true) {
		return nil, nil, http.ErrHijacked
	}
	if w.status != 0 {
		_ = w.FlushError()
	}
	c.server.give(c)
	c.out.release()
	_ = c.socket.SetDeadline(time.Time{})
	come := bytes.Clone(c.in.Buffered())
	c.in.Discard(len(come))
	in := bufio.NewReader(c.socket)
	if len(come) > 0 {
		in = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(come), c.socket), max(len(come), outSize))
		_, _ = in.Peek(len(come))
	}
	return c.socket, bufio.NewReadWriter(in, bufio.NewWriter(c.socket)), nil
}

// SetReadDeadline is for http.ResponseController.
func (w *response) SetReadDeadline(t time.Time) error {
	return w.whileAnswered(net.Conn.SetReadDeadline, t)
}

// SetWriteDeadline is for http.ResponseController.
func (w *response) SetWriteDeadline(t time.Time) error {
	return w.whileAnswered(net.Conn.SetWriteDeadline, t)
}

// EnableFullDuplex is for http.ResponseController. It is how answers are anyway.
func (w *response) EnableFullDuplex() error { return nil }

// whileAnswered sets a deadline unless the handler has returned: a timer may come late, and the next request is none of
// its business.
func (w *response) whileAnswered(set func(net.Conn, time.Time) error, t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return http.ErrNotSupported
	}
	w.ex.conn.dated.Store(true)
	return set(w.ex.conn.socket, t)
}
