package downstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/engineshed/engineshed/internal/gateway/wire"
)

// maxUnread is how much of a body that nobody wanted is read, so that its connection can be used again.
const maxUnread = 256 << 10

// ErrRefused is what reading a body fails with that can be read in more than one way.
var ErrRefused = errors.New("the request can be read in more than one way")

// body is a request's. One reads it at a time; it may be another goroutine than the handler's, which the end of the
// request then stops.
type body struct {
	mu     sync.Mutex
	ex     *exchange
	left   int64 // of a length that was announced
	chunks wire.Chunks
	chunky bool  // it comes in chunks
	err    error // what Read returned at last
	closed bool
}

// Read is part of io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return 0, http.ErrBodyReadAfterClose
	case b.err != nil:
		return 0, b.err
	}
	b.ex.response.invite()
	return b.read(p)
}

// Ready reports whether a Read would return at once. It is for who reads.
func (b *body) Ready() bool {
	if b.ex.response.expects.Load() != nothing {
		return false
	}
	return b.chunky && b.chunks.Ready() || !b.chunky && len(b.ex.conn.in.Buffered()) > 0
}

func (b *body) read(p []byte) (n int, err error) {
	if b.chunky {
		n, err = b.chunks.Read(p)
	} else {
		n, err = b.readFixed(p)
	}
	if err != nil {
		b.err = b.failed(err)
	}
	return n, b.err
}

func (b *body) readFixed(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ex.conn.in.Read(p)
	if b.left -= int64(n); b.left == 0 {
		return n, io.EOF
	}
	return n, wire.Ended(err)
}

// failed says what is wrong with a body. A client that breaks off, or breaks the rules, has no use for an answer. One that
// did not send it before a handler's deadline has.
func (b *body) failed(err error) error {
	if err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) { //nolint:errorlint // as io.Reader says
		return err
	}
	if wire.IsMalformed(err) || errors.Is(err, errTrailerName) {
		b.ex.conn.server.refused(err)
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	b.ex.end()
	return err
}

// refuseTrailer refuses a trailer that would be one of the headers that decide.
func refuseTrailer(name string) error {
	if name == lengthName || name == codingName || name == hostName {
		return errTrailerName
	}
	return nil
}

// Close is part of io.Closer. What was not read is dealt with when the request has been answered.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// leavesMuch reports whether too much of the length that was announced has not been read. While somebody waits for the
// rest nobody knows.
func (b *body) leavesMuch() bool {
	if !b.mu.TryLock() {
		return true
	}
	defer b.mu.Unlock()
	return b.left > maxUnread
}

// ended reports whether all of it has been read.
func (b *body) ended() bool { return errors.Is(b.err, io.EOF) }

// finish ends the reading, whoever does it still, and reports whether the next request may follow.
func (b *body) finish() bool {
	if !b.mu.TryLock() {
		b.ex.conn.interrupt()
		_ = b.Close()
		return false
	}
	defer b.mu.Unlock()
	b.closed = true
	if b.err != nil || b.ex.response.closes {
		return b.ended()
	}
	return b.ex.response.expects.Load() == nothing && b.left <= maxUnread && b.discard()
}

// discard reads what is left of a body if that is little and comes soon.
func (b *body) discard() bool {
	b.ex.conn.enter(inHead)
	defer b.ex.conn.enter(busy)
	var nowhere [1 << 10]byte
	for read := 0; read <= maxUnread && b.err == nil; {
		n, _ := b.read(nowhere[:])
		read += n
	}
	return b.ended()
}
