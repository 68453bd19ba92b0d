package http1

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/engineshed/engineshed/internal/gateway/wire"
)

// bodyOf returns the body of an answer, which gives the connection back at its end.
func (u *use) bodyOf(response *http.Response) io.ReadCloser {
	b := &u.body
	b.use, b.request = u, response.Request
	switch {
	case bodiless(response) || response.ContentLength == 0:
		u.finish()
		return http.NoBody
	case response.ContentLength > 0:
		b.fixed = fixed{u.read, response.ContentLength}
		b.of = &b.fixed
	case len(response.TransferEncoding) > 0:
		b.of = &chunks{wire.Chunks{From: u.read}}
	default:
		b.of = u.read
	}
	return b
}

// body is a body on a connection. Read and Close may be called at the same time.
type body struct {
	use     *use
	of      io.Reader // ends with io.EOF where the answer ends
	fixed   fixed     // of, where the length was announced
	request *http.Request
	over    atomic.Bool // the connection is not used any more
	err     error       // what Read returned at last
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.of.Read(p)
	if err == nil {
		return n, nil
	}
	b.err = err
	if !b.over.CompareAndSwap(false, true) {
		return n, err
	}
	if err == io.EOF {
		b.use.finish()
		return n, err
	}
	b.use.abandon()
	b.err = orCause(b.request.Context(), err)
	return n, b.err
}

// Ready reports whether a Read would return at once. It is for who reads.
func (b *body) Ready() bool {
	if b.err != nil {
		return true
	}
	if chunks, ok := b.of.(*chunks); ok {
		return chunks.Ready()
	}
	return len(b.use.read.Buffered()) > 0
}

// Close ends the connection unless the answer has been read to its end: what is left could be long.
func (b *body) Close() error {
	if b.over.CompareAndSwap(false, true) {
		b.use.abandon()
	}
	return nil
}

// fixed is a body of a length that was announced.
type fixed struct {
	from io.Reader
	left int64
}

func (f *fixed) Read(p []byte) (int, error) {
	if int64(len(p)) > f.left {
		p = p[:f.left]
	}
	n, err := f.from.Read(p)
	f.left -= int64(n)
	switch {
	case f.left == 0:
		return n, io.EOF
	case err == io.EOF:
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// chunks is a body in chunks.
type chunks struct{ wire.Chunks }

func (c *chunks) Read(p []byte) (int, error) {
	n, err := c.Chunks.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = brokenBy(err)
	}
	return n, err
}
