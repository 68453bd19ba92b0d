package protocol

import (
	"fmt"
	"strings"
)

// Clip keeps the first and the last half of a text that comes in pieces and may be of any length.
type Clip struct {
	limit      int
	head, tail []byte
	cut        int // how many bytes between the two are gone
}

// NewClip keeps up to limit bytes.
func NewClip(limit int) *Clip { return &Clip{limit: limit} }

// Cut returns the text as a Clip of limit bytes shows it.
func Cut(text []byte, limit int) string {
	c := NewClip(limit)
	c.add(text)
	return c.String()
}

// Add adds a piece.
func (c *Clip) Add(piece string) { c.add([]byte(piece)) }

func (c *Clip) add(piece []byte) {
	n := min(len(piece), c.limit/2-len(c.head))
	c.head = append(c.head, piece[:n]...)
	piece = piece[n:]
	if gone := len(piece) - c.limit/2; gone > 0 {
		c.cut += len(c.tail) + gone
		c.tail = append(c.tail[:0], piece[gone:]...)
		return
	}
	c.tail = append(c.tail, piece...)
	if len(c.tail) > 2*c.limit { // moved rarely, so that many small pieces cost little
		c.trim()
	}
}

func (c *Clip) trim() {
	if gone := len(c.tail) - c.limit/2; gone > 0 {
		c.cut += gone
		c.tail = append(c.tail[:0], c.tail[gone:]...)
	}
}

// Set replaces all there is.
func (c *Clip) Set(text string) {
	c.head, c.tail, c.cut = c.head[:0], c.tail[:0], 0
	c.Add(text)
}

// continues reports whether text begins with everything that was added.
func (c *Clip) continues(text string) bool {
	return c.cut == 0 && len(text) >= len(c.head)+len(c.tail) && strings.HasPrefix(text, string(c.head)) &&
		strings.HasPrefix(text[len(c.head):], string(c.tail))
}

// String is the text, with a mark where something is missing.
func (c *Clip) String() string {
	c.trim()
	head, tail := strings.ToValidUTF8(string(c.head), ""), strings.ToValidUTF8(string(c.tail), "")
	if c.cut == 0 {
		return strings.ToValidUTF8(string(c.head)+string(c.tail), "\uFFFD")
	}
	return fmt.Sprintf("%s…[%d bytes cut]…%s", head, c.cut, tail)
}
