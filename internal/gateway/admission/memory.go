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
	// believed is how many times what has come is believed of an announced length.
	believed = 8
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

// Body is a body in memory that is lent, until all who have it have released it. Nobody may read it then.
type Body struct {
	Bytes   []byte
	memory  *Memory
	buffer  *buffer // where Bytes are
	counted int64   // of memory
	users   atomic.Int32
}

// Lend lends the body to one more, who has to release it.
func (b *Body) Lend() { b.users.Add(1) }

// Release lets go of the body, which nil is, too. Each who has it does so once.
func (b *Body) Release() {
	if b == nil || b.users.Add(-1) > 0 {
		return
	}
	b.memory.held.Add(-b.counted)
	b.buffer.put()
}

// Read takes in a body of the announced length, or all of it when that is negative. It fails with ErrMemory: before it
// reads where the announced length cannot be held, or when no more can. What is held grows with what has come, so that
// who announces much and sends little takes little. A body that ends early is io.ErrUnexpectedEOF.
func (m *Memory) Read(from io.Reader, announced int64) (*Body, error) {
	if m.limit > 0 && m.held.Load()+max(announced, atFirst) > m.limit {
		m.refused.Add(1)
		return nil, ErrMemory
	}
	b := &Body{memory: m}
	b.users.Store(1)
	if err := b.read(from, announced); err != nil {
		b.Release()
		return nil, err
	}
	return b, nil
}

func (b *Body) read(from io.Reader, announced int64) error {
	for int64(len(b.Bytes)) != announced {
		if int64(len(b.Bytes)) == b.counted && !b.grow(announced) {
			b.memory.refused.Add(1)
			return ErrMemory
		}
		n, err := from.Read(b.Bytes[len(b.Bytes):b.counted])
		b.Bytes = b.Bytes[:len(b.Bytes)+n]
		switch {
		case err == io.EOF && (announced < 0 || int64(len(b.Bytes)) == announced):
			return nil
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return nil
}

// grow makes room for more, and reports whether it may.
func (b *Body) grow(announced int64) bool {
	size := believed * b.counted
	switch {
	case announced < 0:
		size = max(2*b.counted, atFirst)
	default:
		size = min(max(size, atOnce), announced)
	}
	more := size - b.counted
	if held := b.memory.held.Add(more); b.memory.limit > 0 && held > b.memory.limit {
		b.memory.held.Add(-more)
		return false
	}
	small := b.buffer
	b.counted, b.buffer = size, takeBuffer(size)
	b.Bytes = append(b.buffer.bytes[:0], b.Bytes...)
	small.put()
	return true
}
