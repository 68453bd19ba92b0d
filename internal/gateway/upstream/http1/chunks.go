package http1

import (
	"bufio"
	"bytes"
	"io"
)

const (
	maxChunkLine = 4 << 10 // the size of a chunk with its extensions
	maxDigits    = 15      // hexadecimal, of a chunk's size: no sum of them overflows
)

// chunks is a body in chunks. Extensions and trailers are read and dropped.
type chunks struct {
	from    *bufio.Reader
	left    int64 // of the chunk that is being read
	between bool  // the CR LF behind a chunk is still to come
	ended   bool
}

// Read returns what has come of one chunk or of several: it waits only when it has nothing to return.
func (c *chunks) Read(p []byte) (n int, err error) {
	for n < len(p) && (n == 0 || c.from.Buffered() > 0) {
		if c.left == 0 && !c.ended {
			if n > 0 && !c.nextIsHere() {
				return n, nil
			}
			if err := c.next(); err != nil {
				return n, ended(err)
			}
		}
		if c.ended {
			return n, io.EOF
		}
		m, err := c.from.Read(p[n:min(len(p), n+int(min(c.left, int64(len(p)))))])
		n += m
		if c.left -= int64(m); c.left == 0 {
			c.between = true
		}
		if err != nil {
			return n, ended(err)
		}
	}
	return n, nil
}

// nextIsHere reports whether the size of the next chunk can be read without waiting, and is not the last.
func (c *chunks) nextIsHere() bool {
	here, _ := c.from.Peek(c.from.Buffered())
	here, behind := bytes.CutPrefix(here, []byte("\r\n"))
	end := bytes.IndexByte(here, '\n')
	return behind && end > 0 && here[0] != '0'
}

// next reads up to the first byte of the next chunk, or to the end of the body.
func (c *chunks) next() error {
	limit := maxChunkLine
	if c.between {
		line, err := readLine(c.from, &limit)
		if err != nil {
			return err
		}
		if len(line) > 0 {
			return broken("a chunk is longer than it says")
		}
		c.between = false
	}
	line, err := readLine(c.from, &limit)
	if err != nil {
		return err
	}
	size, extension, _ := bytes.Cut(line, []byte(";"))
	if !printable(extension) {
		return broken("the extension of a chunk has a control character")
	}
	if c.left, err = parseSize(size); err != nil {
		return err
	}
	if c.left > 0 {
		return nil
	}
	limit = maxHead
	_, err = readHeader(c.from, &limit)
	c.ended = err == nil
	return err
}

func parseSize(text []byte) (size int64, err error) {
	if len(text) == 0 || len(text) > maxDigits {
		return 0, errChunkSize
	}
	for _, c := range text {
		digit := hexadecimal(c)
		if digit < 0 {
			return 0, errChunkSize
		}
		size = size<<4 | int64(digit)
	}
	return size, nil
}

var errChunkSize = broken("the size of a chunk is not a hexadecimal number of at most %d digits", maxDigits)

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
