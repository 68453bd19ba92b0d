// Package wire reads HTTP/1.1 in the one way it can be meant, whoever sends it.
package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/engineshed/engineshed/internal/gateway/socket"
)

// bufferSize holds most heads, and the chunks of a stream. Long bodies are read past it.
const bufferSize = 4 << 10

// ErrLongHead is that a head, or a line of a body in chunks, is longer than may be.
var ErrLongHead = errors.New("a head is longer than may be")

// ErrLineEnd is that a line ends otherwise than with CR LF.
var ErrLineEnd = errors.New("a line does not end with CR LF")

// Reader reads from a connection through memory that it holds only while there is something in it: a connection on which
// nothing comes costs none. It is for one goroutine.
type Reader struct {
	conn  net.Conn
	raw   syscall.RawConn       // nil: not a socket of the system
	try   func(fd uintptr) bool // reads from raw
	ask   func(fd uintptr) bool // is called before that, once; nil: nothing is
	early bool                  // something may have come before ask was called
	buf   []byte                // nil: nothing is held
	r, w  int                   // what has come and was not read is between them
	got   int                   // by try
	err   error                 // of try
	vain  bool                  // try has found nothing
	held  *[bufferSize]byte     // where buf is; nil: it has grown out of it
}

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// NewReader returns a Reader from a connection. Others may not read from that.
func NewReader(conn net.Conn) *Reader {
	b := &Reader{conn: conn}
	if s, ok := conn.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			b.raw, b.try = raw, b.tryRead
		}
	}
	return b
}

// Buffered is what has come and was not read. It is valid until the next call of another method.
func (b *Reader) Buffered() []byte { return b.buf[b.r:b.w] }

// Discard passes over so many bytes of what is buffered.
func (b *Reader) Discard(n int) {
	b.r += n
	b.Release()
}

// skip passes over a text if it is what comes next, and here already.
func (b *Reader) skip(text string) bool {
	if !bytes.HasPrefix(b.Buffered(), []byte(text)) {
		return false
	}
	b.Discard(len(text))
	return true
}

// Release gives the memory back if there is nothing in it.
func (b *Reader) Release() {
	if b.r < b.w || b.buf == nil {
		return
	}
	if b.held != nil {
		buffers.Put(b.held)
	}
	b.held, b.buf, b.r, b.w = nil, nil, 0, 0
}

// Fill waits until more is buffered than was before. While it waits for the first byte it holds no memory.
func (b *Reader) Fill() error {
	if b.raw != nil && b.r == b.w {
		return b.fillLater()
	}
	b.makeRoom()
	n, err := b.conn.Read(b.buf[b.w:])
	b.w += n
	if n > 0 {
		return nil
	}
	b.Release()
	return err
}

// FillNow is Fill that does not wait: what has not come yet is an error.
func (b *Reader) FillNow() error {
	if b.raw == nil {
		return os.ErrDeadlineExceeded
	}
	come := false
	err := b.raw.Read(func(fd uintptr) bool {
		b.makeRoom()
		n, err := syscall.Read(int(fd), b.buf[b.w:]) //nolint:gosec // descriptors are small
		come = err == nil && n > 0
		b.w += max(n, 0)
		return true
	})
	b.Release()
	if err == nil && !come {
		err = os.ErrDeadlineExceeded
	}
	return err
}

// makeRoom has memory for one byte more at least.
func (b *Reader) makeRoom() {
	if b.r == b.w {
		b.r, b.w = 0, 0
	}
	switch {
	case b.buf == nil:
		b.held = buffers.Get().(*[bufferSize]byte)
		b.buf = b.held[:]
	case b.w < len(b.buf):
	case b.r > 0:
		b.w = copy(b.buf, b.buf[b.r:b.w])
		b.r = 0
	default:
		more := make([]byte, 4*len(b.buf))
		b.w = copy(more, b.buf)
		if b.held != nil {
			buffers.Put(b.held)
		}
		b.held, b.buf = nil, more
	}
}

// FillAnswer is Fill of what comes after ask, which asks for it and reports whether that is to be waited for. When ask is
// called, the system tells already of what comes from then on, so that it is not looked for before. Of what came earlier
// nobody tells: either ask makes sure that there is nothing, or early says that it is to be looked for. Without a socket of
// the system it is Fill alone.
func (b *Reader) FillAnswer(ask func(fd uintptr) bool, early bool) error {
	b.ask, b.early = ask, early
	defer func() { b.ask = nil }()
	return b.Fill()
}

// ErrNotAsked is that FillAnswer does not wait.
var ErrNotAsked = errors.New("nothing was asked for")

// Waited reports whether the last Fill, of an empty buffer, may have looked for something in vain before there was. Of what is
// no socket of the system nobody knows.
func (b *Reader) Waited() bool { return b.vain || b.raw == nil }

// fillLater takes memory only for the moment in which there is something to read.
func (b *Reader) fillLater() error {
	b.Release()
	b.vain = false
	if err := b.raw.Read(b.try); err != nil {
		return err
	}
	if b.err == ErrNotAsked { //nolint:errorlint // it is nobody else's
		return b.err
	}
	if b.got > 0 {
		b.w = b.got
		return nil
	}
	b.Release()
	if b.err == nil {
		return io.EOF
	}
	return &net.OpError{Op: "read", Net: "tcp", Addr: b.conn.RemoteAddr(), Err: b.err}
}

// tryRead reads what is there and reports whether that was something, or an end. The system tells of what comes from the
// first call on, so that an answer to what that asks is not missed.
func (b *Reader) tryRead(fd uintptr) bool {
	if ask := b.ask; ask != nil {
		b.ask, b.got, b.err = nil, 0, nil
		if !ask(fd) {
			b.err = ErrNotAsked
			return true
		}
		if !b.early {
			return false
		}
	}
	b.makeRoom()
	for {
		b.got, b.err = socket.Read(fd, b.buf)
		if b.err != syscall.EINTR { //nolint:errorlint // it comes from the system
			break
		}
	}
	if b.err == syscall.EAGAIN { //nolint:errorlint // the same
		b.Release()
		b.vain = true
		return false
	}
	return true
}

// Read returns what is buffered. If that is nothing, it reads a long piece past the buffer.
func (b *Reader) Read(p []byte) (int, error) {
	if b.r == b.w {
		if len(p) >= bufferSize {
			return b.conn.Read(p)
		}
		if err := b.Fill(); err != nil || len(p) == 0 {
			return 0, err
		}
	}
	n := copy(p, b.buf[b.r:b.w])
	b.Discard(n)
	return n, nil
}

// Line reads a line and returns it without its CR LF, valid until the next call of a method but Buffered. left is how many
// bytes may still come, which is lowered by what came.
func (b *Reader) Line(left *int) ([]byte, error) {
	for looked := 0; ; {
		here := b.buf[b.r:b.w]
		if end := bytes.IndexByte(here[looked:], '\n'); end >= 0 {
			return b.line(here[:looked+end+1], left)
		}
		if looked = len(here); looked > *left {
			return nil, ErrLongHead
		}
		if err := b.Fill(); err != nil {
			return nil, Ended(err)
		}
	}
}

func (b *Reader) line(line []byte, left *int) ([]byte, error) {
	b.r += len(line)
	if *left -= len(line); *left < 0 {
		return nil, ErrLongHead
	}
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return nil, ErrLineEnd
	}
	return text, nil
}

// Ended makes an end in the middle an error.
func Ended(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
