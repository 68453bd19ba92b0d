package admission

import (
	"math/bits"
	"sync"
)

const (
	// steps is how many sizes of buffers there are from one power of two to the next, so that little of one is unused.
	steps = 4
	// smallest and largest are the sizes of buffers that are kept for later.
	smallestBits, largestBits = 10, 24
	smallest, largest         = 1 << smallestBits, 1 << largestBits
)

// buffers are kept by their size: a new one would have to be cleared, and the collector would run for it.
var buffers [steps*(largestBits-smallestBits) + 1]sync.Pool

// buffer is memory that is kept for later.
type buffer struct{ bytes []byte }

// takeBuffer returns an empty buffer with room for size bytes.
func takeBuffer(size int64) *buffer {
	class, room := classOf(size)
	if size > largest {
		return &buffer{make([]byte, 0, size)}
	}
	if b, ok := buffers[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, 0, room)}
}

// put keeps the buffer, which nil is too, for later. Nobody may use it any more.
func (b *buffer) put() {
	if b == nil {
		return
	}
	size := int64(cap(b.bytes))
	if size < smallest || size > largest {
		return
	}
	if class, room := classOf(size); room == size {
		buffers[class].Put(b)
	}
}

// classOf is the number and the room of the buffers for so many bytes.
func classOf(size int64) (class int, room int64) {
	if size <= smallest {
		return 0, smallest
	}
	octave := bits.Len64(uint64(size-1)) - 1 //nolint:gosec // positive
	step := int64(1) << octave / steps
	within := (size - 1 - 1<<octave) / step
	return steps*(octave-smallestBits) + int(within) + 1, 1<<octave + (within+1)*step
}
