package http1

import (
	"io"
	"io/fs"
	"sync"
)

// Bytes is the body of a request that is there as a whole. It is sent without being copied, so nobody may change it any
// more. Others than a Client read it like any body, once.
type Bytes struct {
	pieces [][]byte
	owner  Owner
	mu     sync.Mutex // of those who read and close at the same time
	closed bool
	at     int // the piece that is read next
	offset int // in it
}

// Owner is whose memory a body is. It is lent once more for each body that is sent once more.
type Owner interface {
	Lend()
	Release()
}

// Lent returns a body that consists of pieces, which have been lent for it, and releases them when it is closed: then nobody
// reads them any more. Pieces without an owner (nil) are the caller's.
func Lent(owner Owner, pieces ...[]byte) *Bytes { return &Bytes{pieces: pieces, owner: owner} }

// Again returns the body once more, from its beginning. Somebody must still hold its memory.
func (b *Bytes) Again() *Bytes {
	again := &Bytes{pieces: b.pieces, owner: b.owner}
	if b.owner != nil {
		b.owner.Lend()
	}
	return again
}

// Len is how many bytes the body has.
func (b *Bytes) Len() int64 { return int64(lengthOf(b.pieces)) }

// Read is part of io.Reader.
func (b *Bytes) Read(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, fs.ErrClosed
	}
	for b.at < len(b.pieces) {
		copied := copy(p[n:], b.pieces[b.at][b.offset:])
		n += copied
		if b.offset += copied; b.offset < len(b.pieces[b.at]) {
			return n, nil
		}
		b.at, b.offset = b.at+1, 0
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close is part of io.Closer. Once more it does nothing.
func (b *Bytes) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed && b.owner != nil {
		b.owner.Release()
	}
	b.closed = true
	return nil
}
