package downstream

import "sync"

// out is what is to be written, in memory that is held only while there is something in it.
type out struct {
	buf  []byte
	held *[outSize]byte
}

// outSize holds small answers, and the events of a stream. Longer pieces are written past it.
const outSize = 4 << 10

var outs = sync.Pool{New: func() any { return new([outSize]byte) }}

// take has memory.
func (o *out) take() {
	if o.held == nil {
		o.held = outs.Get().(*[outSize]byte)
		o.buf = o.held[:0]
	}
}

// release gives the memory back, with what is in it.
func (o *out) release() {
	if o.held != nil {
		outs.Put(o.held)
	}
	o.buf, o.held = nil, nil
}

// fits reports whether there is room for so many bytes more.
func (o *out) fits(n int) bool { return len(o.buf)+n <= outSize }
