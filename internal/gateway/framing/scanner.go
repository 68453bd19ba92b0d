package framing

import "errors"

// What a request is refused for. Each says what to send instead.
var (
	errMethod      = errors.New("the request does not begin with a method: send METHOD, one space, the path, one space and HTTP/1.1")
	errTarget      = errors.New("the target of the request must be a path that begins with a slash, without spaces and control characters")
	errVersion     = errors.New("the request line must end with HTTP/1.1 or HTTP/1.0, and with CR LF")
	errFolded      = errors.New("a header goes on in a second line: send every header in one")
	errName        = errors.New("the name of a header has a character that no name has: send letters, digits and hyphens, and the colon at once")
	errValue       = errors.New("the value of a header has a control character: leave it out")
	errLineEnd     = errors.New("a line of the request does not end with CR LF")
	errHost        = errors.New("the request has more than one Host header: send one")
	errLength      = errors.New("the Content-Length is not one decimal number: send one Content-Length header with digits only")
	errCoding      = errors.New("the Transfer-Encoding is not chunked alone, or the request is of HTTP/1.0: send Transfer-Encoding: chunked, or a Content-Length")
	errBoth        = errors.New("the request has a Content-Length and a Transfer-Encoding: send one of them")
	errChunkSize   = errors.New("the size of a chunk is not a hexadecimal number of at most 15 digits")
	errChunkEnd    = errors.New("a chunk is not as long as it says, or does not end with CR LF")
	errTrailerName = errors.New("a trailer may not say how the request is framed or where it goes")
)

// state is what the next byte belongs to.
type state uint8

const (
	start state = iota
	method
	targetStart
	target
	version
	line
	name
	value
	valueEnd
	headEnd
	fixed
	chunkSize
	chunkExtension
	chunkSizeEnd
	chunk
	chunkEnd
	chunkEndLF
)

const (
	longestName  = len("transfer-encoding")
	longestValue = 24 // of the headers that matter
	longestSize  = 15 // hexadecimal digits: no sum of them overflows
	longestCL    = 18 // decimal digits, for the same reason
	chunked      = "chunked"
)

// field is a header that decides how a request is read.
type field uint8

const (
	other field = iota
	contentLength
	transferEncoding
	host
)

var fields = map[string]field{"content-length": contentLength, "transfer-encoding": transferEncoding, "host": host}

// scanner follows the bytes of a connection from request to request. It keeps no more of them than the name of a header
// and a short value, however the bytes are cut into reads. The zero value waits for the first request.
type scanner struct {
	left    uint64 // of a body or a chunk
	seen    uint8  // of the line, the version, the name or the value: how much has come
	kept    [longestValue]byte
	state   state
	field   field
	digits  uint8
	oldest  bool // HTTP/1.0
	trailer bool
	length  bool // a Content-Length has come
	coding  bool // a Transfer-Encoding has come
	hosts   bool // a Host has come
}

// inHead reports whether the next byte belongs to the head of a request.
func (s *scanner) inHead() bool { return s.state <= headEnd && !s.trailer }

// pass returns how many of the bytes may be read on, and what is wrong with the next one.
func (s *scanner) pass(p []byte) (int, error) {
	for i := 0; i < len(p); {
		var n int
		var err error
		switch s.state {
		case fixed, chunk:
			n = s.skip(len(p) - i)
		case target, value, name, chunkExtension:
			if n, err = s.run(p[i:]); n == 0 && err == nil {
				n, err = s.step(p[i])
			}
		default:
			n, err = s.step(p[i])
		}
		if i += n; err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// skip passes over the bytes of a body.
func (s *scanner) skip(n int) int {
	n = int(min(uint64(n), s.left))      //nolint:gosec // lengths are positive
	if s.left -= uint64(n); s.left > 0 { //nolint:gosec // the same
		return n
	}
	if s.state == chunk {
		s.state = chunkEnd
	} else {
		*s = scanner{}
	}
	return n
}

// run passes over bytes that change no state.
func (s *scanner) run(p []byte) (n int, err error) {
	set := textByte
	switch s.state {
	case target:
		set = targetByte
	case name:
		set = tokenByte
	}
	for n < len(p) && class[p[n]]&set != 0 {
		n++
	}
	switch {
	case s.state == name:
		s.keepName(p[:n])
	case s.state == value && s.field != other:
		return s.keepValue(p[:n])
	}
	return n, err
}

// step takes one byte that may change the state.
func (s *scanner) step(c byte) (int, error) {
	if err := s.change(c); err != nil {
		return 0, err
	}
	return 1, nil
}

func (s *scanner) change(c byte) error {
	switch s.state {
	case start:
		if class[c]&tokenByte == 0 {
			return errMethod
		}
		*s = scanner{state: method}
	case method:
		if c == ' ' {
			s.state = targetStart
		} else if class[c]&tokenByte == 0 {
			return errMethod
		}
	case targetStart:
		if c != '/' {
			return errTarget
		}
		s.state = target
	case target:
		if c != ' ' {
			return errTarget
		}
		s.state, s.seen = version, 0
	case version:
		return s.inVersion(c)
	case line:
		return s.beginLine(c)
	case name:
		if c != ':' {
			return errName
		}
		return s.endName()
	case value:
		if c != '\r' {
			return invalid(c, errValue)
		}
		s.state = valueEnd
	case valueEnd:
		if c != '\n' {
			return errLineEnd
		}
		s.state = line
		return s.endField()
	case headEnd:
		if c != '\n' {
			return errLineEnd
		}
		return s.endHead()
	default:
		return s.inChunk(c)
	}
	return nil
}

// invalid tells a line that ends wrong from other bytes that are not allowed.
func invalid(c byte, otherwise error) error {
	if c == '\n' {
		return errLineEnd
	}
	return otherwise
}

const versionLine = "HTTP/1.1\r\n"

func (s *scanner) inVersion(c byte) error {
	switch want := versionLine[s.seen]; {
	case c == want:
	case s.seen == 7 && c == '0':
		s.oldest = true
	default:
		return errVersion
	}
	if s.seen++; int(s.seen) == len(versionLine) {
		s.state = line
	}
	return nil
}

func (s *scanner) beginLine(c byte) error {
	switch {
	case c == '\r':
		s.state = headEnd
	case c == ' ' || c == '\t':
		return errFolded
	case class[c]&tokenByte == 0:
		return invalid(c, errName)
	default:
		s.state, s.seen = name, 0
		s.keepName([]byte{c})
	}
	return nil
}

// keepName remembers a name that may be one that matters, in lower case.
func (s *scanner) keepName(p []byte) {
	for _, c := range p {
		if int(s.seen) > longestName {
			return
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		s.kept[s.seen] = c
		s.seen++
	}
}

func (s *scanner) endName() error {
	s.field = fields[string(s.kept[:s.seen])]
	if s.trailer && s.field != other {
		return errTrailerName
	}
	s.state, s.seen = value, 0
	switch {
	case s.field == contentLength && s.length:
		return errLength
	case s.field == transferEncoding && s.coding:
		return errCoding
	case s.field == host && s.hosts:
		return errHost
	}
	if s.field == host {
		s.hosts, s.field = true, other
	}
	return nil
}

// keepValue remembers a value that matters, without the spaces before it, and returns how much of it there was room for.
func (s *scanner) keepValue(p []byte) (int, error) {
	for i, c := range p {
		switch {
		case s.seen == 0 && (c == ' ' || c == '\t'):
		case int(s.seen) == len(s.kept):
			return i, s.wrongValue()
		default:
			s.kept[s.seen] = c
			s.seen++
		}
	}
	return len(p), nil
}

func (s *scanner) wrongValue() error {
	if s.field == contentLength {
		return errLength
	}
	return errCoding
}

// endField reads a value that matters.
func (s *scanner) endField() error {
	text := s.kept[:s.seen]
	for len(text) > 0 && (text[len(text)-1] == ' ' || text[len(text)-1] == '\t') {
		text = text[:len(text)-1]
	}
	switch s.field {
	case contentLength:
		s.length = true
		return s.readLength(text)
	case transferEncoding:
		s.coding = true
		if s.oldest || !isChunked(text) {
			return errCoding
		}
	}
	return nil
}

func (s *scanner) readLength(text []byte) error {
	if len(text) == 0 || len(text) > longestCL {
		return errLength
	}
	s.left = 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return errLength
		}
		s.left = s.left*10 + uint64(c-'0')
	}
	return nil
}

func isChunked(text []byte) bool {
	if len(text) != len(chunked) {
		return false
	}
	for i, c := range text {
		if c|0x20 != chunked[i] {
			return false
		}
	}
	return true
}

// endHead decides what comes after the empty line.
func (s *scanner) endHead() error {
	switch {
	case s.trailer:
		*s = scanner{}
	case s.length && s.coding:
		return errBoth
	case s.coding:
		*s = scanner{state: chunkSize}
	case s.left > 0:
		*s = scanner{state: fixed, left: s.left}
	default:
		*s = scanner{}
	}
	return nil
}

func (s *scanner) inChunk(c byte) error {
	switch s.state {
	case chunkSize:
		return s.inChunkSize(c)
	case chunkExtension:
		if c != '\r' {
			return errChunkEnd
		}
		s.state = chunkSizeEnd
	case chunkSizeEnd:
		if c != '\n' {
			return errChunkEnd
		}
		s.digits = 0
		if s.state = chunk; s.left == 0 {
			s.state, s.trailer = line, true
		}
	case chunkEnd:
		if c != '\r' {
			return errChunkEnd
		}
		s.state = chunkEndLF
	case chunkEndLF:
		if c != '\n' {
			return errChunkEnd
		}
		s.state = chunkSize
	}
	return nil
}

func (s *scanner) inChunkSize(c byte) error {
	digit := hex(c)
	switch {
	case digit >= 0 && s.digits < longestSize:
		s.left = s.left<<4 | uint64(digit) //nolint:gosec // not negative here
		s.digits++
	case s.digits == 0 || digit >= 0:
		return errChunkSize
	case c == ';':
		s.state = chunkExtension
	case c == '\r':
		s.state = chunkSizeEnd
	default:
		return errChunkSize
	}
	return nil
}

func hex(c byte) int {
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

// The classes of bytes.
const (
	tokenByte  uint8 = 1 << iota // of methods and of names of headers
	targetByte                   // of targets: no control characters and no spaces
	textByte                     // of values
)

var class = func() (set [256]uint8) {
	for c := range set {
		if c > ' ' && c != 0x7f {
			set[c] |= targetByte | textByte
		}
		if c == ' ' || c == '\t' {
			set[c] |= textByte
		}
		if '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			set[c] |= tokenByte
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		set[c] |= tokenByte
	}
	return set
}()
