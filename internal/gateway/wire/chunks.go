package wire

import (
	"bytes"
	"errors"
	"io"
)

const (
	maxChunkLine = 4 << 10  // the size of a chunk with its extensions
	maxDigits    = 15       // hexadecimal, of a chunk's size: no sum of them overflows
	maxTrailers  = 64 << 10 // bytes of all of them
)

// What a body in chunks is refused for.
var (
	ErrChunkSize = errors.New("the size of a chunk is not a hexadecimal number of at most 15 digits")
	ErrChunkEnd  = errors.New("a chunk is not as long as it says, or does not end with CR LF")
	ErrExtension = errors.New("the extension of a chunk has a control character")
	ErrTrailer   = errors.New("a trailer is not a name, a colon and a value")
)

// IsMalformed reports whether an error of reading says that what came is not HTTP/1.1.
func IsMalformed(err error) bool {
	for _, one := range []error{ErrLineEnd, ErrLongHead, ErrChunkSize, ErrChunkEnd, ErrExtension, ErrTrailer} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// Chunks is a body in chunks. Extensions and trailers are read and dropped. The zero value but for From is ready.
type Chunks struct {
	From    *Reader
	Refuse  func(trailer string) error // looks at the names of trailers, canonical; nil: nobody does
	left    int64                      // of the chunk that is being read
	between bool                       // the CR LF behind a chunk is still to come
	ended   bool
}

// Read returns what has come of one chunk or of several: it waits only when it has nothing to return.
func (c *Chunks) Read(p []byte) (n int, err error) {
	for n < len(p) && (n == 0 || len(c.From.Buffered()) > 0) {
		if c.left == 0 && !c.ended {
			if n > 0 && !c.nextIsHere() {
				return n, nil
			}
			if err := c.next(); err != nil {
				return n, Ended(err)
			}
		}
		if c.ended {
			return n, io.EOF
		}
		m, err := c.From.Read(p[n:min(len(p), n+int(min(c.left, int64(len(p)))))])
		n += m
		if c.left -= int64(m); c.left == 0 {
			c.between = true
		}
		if err != nil {
			return n, Ended(err)
		}
	}
	return n, nil
}

// nextIsHere reports whether the size of the next chunk can be read without waiting, and is not the last.
func (c *Chunks) nextIsHere() bool {
	here, behind := bytes.CutPrefix(c.From.Buffered(), []byte("\r\n"))
	end := bytes.IndexByte(here, '\n')
	return behind && end > 0 && here[0] != '0'
}

// next reads up to the first byte of the next chunk, or to the end of the body.
func (c *Chunks) next() error {
	limit := maxChunkLine
	if c.between {
		if err := c.endChunk(); err != nil {
			return err
		}
	}
	line, err := c.From.Line(&limit)
	if err != nil {
		return chunkError(err, ErrChunkSize)
	}
	size, extension, _ := bytes.Cut(line, []byte(";"))
	if !IsText(extension) {
		return ErrExtension
	}
	if c.left, err = parseSize(size); err != nil || c.left > 0 {
		return err
	}
	if err := c.readTrailers(); err != nil {
		return err
	}
	c.ended = true
	c.From.Release()
	return nil
}

// endChunk reads the CR LF behind a chunk, byte by byte: one that is longer than it says may have no line's end.
func (c *Chunks) endChunk() error {
	for _, want := range []byte("\r\n") {
		if len(c.From.Buffered()) == 0 {
			if err := c.From.Fill(); err != nil {
				return err
			}
		}
		if c.From.Buffered()[0] != want {
			return ErrChunkEnd
		}
		c.From.r++
	}
	c.between = false
	return nil
}

// chunkError says what a line that is none means here.
func chunkError(err, otherwise error) error {
	if err == ErrLineEnd || err == ErrLongHead { //nolint:errorlint // Line returns them as they are
		return otherwise
	}
	return err
}

func (c *Chunks) readTrailers() error {
	for limit := maxTrailers; ; {
		line, err := c.From.Line(&limit)
		if err != nil || len(line) == 0 {
			return err
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !IsToken(name) || !IsText(value) {
			return ErrTrailer
		}
		if c.Refuse != nil {
			if err := c.Refuse(Canonical(string(name))); err != nil {
				return err
			}
		}
	}
}

func parseSize(text []byte) (size int64, err error) {
	if len(text) == 0 || len(text) > maxDigits {
		return 0, ErrChunkSize
	}
	for _, c := range text {
		digit := hexadecimal(c)
		if digit < 0 {
			return 0, ErrChunkSize
		}
		size = size<<4 | int64(digit)
	}
	return size, nil
}

func hexadecimal(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
