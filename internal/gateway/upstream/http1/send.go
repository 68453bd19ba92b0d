package http1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/sys/unix"

	"github.com/engineshed/engineshed/internal/gateway/socket"
	"github.com/engineshed/engineshed/internal/gateway/wire"
)

// copyBuffer is the size of the pieces that an upload is sent in.
const copyBuffer = 32 << 10

// sending is how far the sending of one request is.
type sending struct {
	of      *http.Request
	known   bool          // its body is there as bytes
	message *message      // nil: it has been begun
	done    chan struct{} // nil: it is over
	err     error         // of the connection, once done
	body    error         // of the request's body, once done: it could not be read
}

// complete reports whether the whole request has been sent.
func (s *sending) complete() bool { return s.over() && s.err == nil && s.body == nil }

func (s *sending) over() bool {
	if s.done == nil {
		return true
	}
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// failed returns why the sending is over too soon.
func (s *sending) failed() error {
	if !s.over() {
		return nil
	}
	return errors.Join(s.body, s.err)
}

// upload returns why the request's body could not be read.
func (s *sending) upload() error {
	if !s.over() {
		return nil
	}
	return s.body
}

// message is a request on its way out.
type message struct {
	head  []byte
	parts net.Buffers // what is sent in one go
	left  net.Buffers // of it: sending eats it
}

var messages = sync.Pool{New: func() any { return new(message) }}

// prepare makes the message of a request.
func (s *sending) prepare(r *http.Request) {
	m := messages.Get().(*message)
	whole, known := bytesOf(r)
	m.head = appendHead(m.head[:0], r, whole, known)
	m.parts = append(append(m.parts[:0], m.head), whole...)
	m.left = m.parts
	s.of, s.known, s.message = r, known, m
}

// drop reports whether nothing was sent, and never will be then.
func (s *sending) drop() bool {
	if s.message == nil {
		return false
	}
	s.message.release()
	s.message = nil
	return true
}

// begin sends head and body in one system call where the system takes all of it. What it does not take might fill the
// buffers of a server that has stopped reading to answer, and both would wait for ever: a goroutine sends that.
func (s *sending) begin(cn *conn, fd uintptr) {
	s.message.writeTo(fd)
	if len(s.message.left) > 0 {
		s.goOn(cn)
		return
	}
	s.drop()
	closeBody(s.of.Body)
}

// goOn sends what is left in a goroutine.
func (s *sending) goOn(cn *conn) {
	m, body, length := s.message, s.of.Body, s.of.ContentLength // the request may have another body before this one is sent
	s.message = nil
	s.inBackground(cn, func() {
		if _, s.err = m.left.WriteTo(cn.Conn); s.err == nil && !s.known {
			s.body, s.err = upload(cn, body, length)
		}
		m.release()
		closeBody(body)
	})
}

// inBackground sends on in a goroutine. Half a request is no request: then whoever waits for the answer is woken.
func (s *sending) inBackground(cn *conn, do func()) {
	s.done = make(chan struct{})
	go func() {
		do()
		half := s.body != nil
		close(s.done)
		if half {
			_ = cn.Close()
		}
	}()
}

// writeTo sends what the system takes without waiting. Errors are left for who goes on.
func (m *message) writeTo(fd uintptr) {
	for len(m.left) > 0 {
		n, err := socket.Writev(fd, m.left)
		if err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
		m.sent(n)
	}
}

// sent takes what was sent off what is left.
func (m *message) sent(n int) {
	for len(m.left) > 0 && n >= len(m.left[0]) {
		n -= len(m.left[0])
		m.left = m.left[1:]
	}
	if n > 0 {
		m.left[0] = m.left[0][n:]
	}
}

// release gives the memory back.
func (m *message) release() {
	clear(m.parts) // they are the caller's
	m.left = nil
	if cap(m.head) <= copyBuffer {
		messages.Put(m)
	}
}

// bytesOf returns the body of a request if it is there as bytes.
func bytesOf(r *http.Request) (parts [][]byte, known bool) {
	switch body := r.Body.(type) {
	case nil:
		return nil, true
	case *Bytes:
		return body.pieces, true
	}
	return nil, r.Body == http.NoBody
}

// upload sends a body as it comes: of the length that was announced, or in chunks.
func upload(cn *conn, body io.Reader, length int64) (reading, writing error) {
	buffer := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buffer)
	left := length
	for {
		n, err := body.Read(buffer[:])
		if left >= 0 {
			if int64(n) > left {
				return errLongBody, nil
			}
			left -= int64(n)
		}
		if n > 0 {
			if writing := writePiece(cn, buffer[:n], length < 0); writing != nil {
				return nil, writing
			}
		}
		switch {
		case err == io.EOF && left > 0:
			return io.ErrUnexpectedEOF, nil
		case err == io.EOF && length < 0:
			_, err := io.WriteString(cn, "0\r\n\r\n")
			return nil, err
		case err == io.EOF:
			return nil, nil
		case err != nil:
			return err, nil
		}
	}
}

var (
	errLongBody = errors.New("the body is longer than its Content-Length")
	buffers     = sync.Pool{New: func() any { return new([copyBuffer]byte) }}
)

func writePiece(cn *conn, piece []byte, chunked bool) error {
	if !chunked {
		_, err := cn.Write(piece)
		return err
	}
	var size [20]byte
	head := append(strconv.AppendInt(size[:0], int64(len(piece)), 16), "\r\n"...)
	parts := net.Buffers{head, piece, []byte("\r\n")}
	_, err := parts.WriteTo(cn.Conn)
	return err
}

// appendHead writes the request line and the headers.
func appendHead(b []byte, r *http.Request, parts [][]byte, known bool) []byte {
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, r.URL.RequestURI()...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, hostOf(r)...)
	b = append(b, "\r\n"...)
	for name, values := range r.Header {
		if ours[name] {
			continue
		}
		for _, value := range values {
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, value...)
			b = append(b, "\r\n"...)
		}
	}
	switch {
	case known:
		b = appendLength(b, r.Method, parts)
	case r.ContentLength >= 0:
		b = strconv.AppendInt(append(b, "Content-Length: "...), r.ContentLength, 10)
		b = append(b, "\r\n"...)
	default:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	return append(b, "\r\n"...)
}

// ours are the headers that this package decides about.
var ours = map[string]bool{
	"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Trailer": true, "Connection": true, "Keep-Alive": true,
	"Te": true, "Upgrade": true, "Expect": true, "Proxy-Connection": true,
}

// appendLength says how long the body is. Methods that have none do not mention it.
func appendLength(b []byte, method string, parts [][]byte) []byte {
	size := lengthOf(parts)
	if size == 0 && method != http.MethodPost && method != http.MethodPut && method != http.MethodPatch {
		return b
	}
	b = strconv.AppendInt(append(b, "Content-Length: "...), int64(size), 10)
	return append(b, "\r\n"...)
}

func lengthOf(parts [][]byte) (size int) {
	for _, part := range parts {
		size += len(part)
	}
	return size
}

func hostOf(r *http.Request) string {
	if r.Host != "" {
		return r.Host
	}
	return r.URL.Host
}

// check refuses what would be another request on the wire than it is here.
func check(r *http.Request) error {
	if !wire.IsToken(r.Method) {
		return fmt.Errorf("the method %q", r.Method)
	}
	if !httpguts.ValidHostHeader(hostOf(r)) {
		return fmt.Errorf("the host %q", hostOf(r))
	}
	for name, values := range r.Header {
		if !wire.IsToken(name) {
			return fmt.Errorf("the name of a header %q", name)
		}
		for _, value := range values {
			if !wire.IsText(value) {
				return fmt.Errorf("the value of the header %s", name) // which may be a secret
			}
		}
	}
	return nil
}
