package admission

import (
	"errors"
	"io"
	"sync/atomic"
)

// ErrMemory is that as many bytes of bodies are held as may be.
var ErrMemory = errors.New("the memory for bodies is used up")

const (
	// atOnce is how much of an announced length is believed before it comes.
	atOnce = 64 << 10
	// atFirst is where a body of unknown length begins.
	atFirst = 4 << 10
)

// Memory bounds how many bytes of bodies are held at once. The zero value has no bound.
type Memory struct {
	limit   int64
	held    atomic.Int64
	refused atomic.Uint64
}

// NewMemory returns a Memory of so many bytes; 0: without bound.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// Held is how many bytes are held.
func (m *Memory) Held() int64 { return m.held.Load() }

// Refused is how many bodies were refused so far.
func (m *Memory) Refused() uint64 { return m.refused.Load() }

// Body is a body that is held until it is released. The zero value is an empty one.
type Body struct {
	Bytes  []byte
	memory *Memory
}

// Release gives the memory back. Once more it does nothing.
func (b *Body) Release() {
	if b.memory != nil {
		b.memory.held.Add(-int64(cap(b.Bytes)))
	}
	*b = Body{}
}

// Read takes in a body of the announced length, or all of it when that is negative. It fails with ErrMemory: before it
// reads where the announced length cannot be held, or when no more can. What is held grows with what has come, so that
// who announces much and sends little takes little. A body that ends early is io.ErrUnexpectedEOF.
func (m *Memory) Read(from io.Reader, announced int64) (Body, error) {
	b := Body{memory: m}
	if m.limit > 0 && m.held.Load()+max(announced, atFirst) > m.limit {
		m.refused.Add(1)
		return Body{}, ErrMemory
	}
	for int64(len(b.Bytes)) != announced {
		if len(b.Bytes) == cap(b.Bytes) && !b.grow(announced) {
			b.Release()
			m.refused.Add(1)
			return Body{}, ErrMemory
		}
		n, err := from.Read(b.Bytes[len(b.Bytes):cap(b.Bytes)])
		b.Bytes = b.Bytes[:len(b.Bytes)+n]
		switch {
		case err == io.EOF && (announced < 0 || int64(len(b.Bytes)) == announced):
			return b, nil
		case err == io.EOF:
			b.Release()
			return Body{}, io.ErrUnexpectedEOF
		case err != nil:
			b.Release()
			return Body{}, err
		}
	}
	return b, nil
}

// grow makes room for more, and reports whether it may.
func (b *Body) grow(announced int64) bool {
	size := 2 * int64(cap(b.Bytes))
	switch {
	case announced < 0:
		size = max(size, atFirst)
	default:
		size = min(max(size, atOnce), announced)
	}
	more := size - int64(cap(b.Bytes))
	if held := b.memory.held.Add(more); b.memory.limit > 0 && held > b.memory.limit {
		b.memory.held.Add(-more)
		return false
	}
	b.Bytes = append(make([]byte, 0, size), b.Bytes...)
	return true
}
