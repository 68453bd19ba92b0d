package downstream

import (
	"errors"

	"github.com/engineshed/engineshed/internal/gateway/wire"
)

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
	errTrailerName = errors.New("a trailer may not say how the request is framed or where it goes")
)

// state is what the next byte of a head belongs to.
type state uint8

const (
	method state = iota
	targetStart
	target
	version
	line
	name
	value
	valueEnd
	headEnd
)

const longestLength = 18 // decimal digits: no sum of them overflows

// field is where a header is in the bytes of a head.
type field struct{ name, colon, value, end int }

// head follows the bytes of a request's head, however they are cut into reads, and stops at the one that makes the request
// ambiguous. The zero value waits for the first one.
type head struct {
	state     state
	oldest    bool // HTTP/1.0
	chunked   bool
	host      bool  // a Host has come
	length    int64 // of the body; 0 unless measured
	measured  bool  // a Content-Length has come
	at        int   // how much has been followed
	mark      int   // where what is being followed begins
	methodEnd int
	targetEnd int
	fields    []field
}

// run returns where the bytes of a class end.
func run(text []byte, at int, class uint8) int {
	for at < len(text) && wire.Class[text[at]]&class != 0 {
		at++
	}
	return at
}

// follow goes on with text, of which it has seen at bytes, and reports whether the head is whole: then it is at bytes long.
func (h *head) follow(text []byte) (whole bool, err error) {
	for h.at < len(text) {
		switch h.state {
		case method:
			h.at = run(text, h.at, wire.TokenByte)
		case target:
			h.at = run(text, h.at, wire.TargetByte)
		case name:
			h.at = run(text, h.at, wire.TokenByte)
		case value:
			h.at = run(text, h.at, wire.TextByte)
		}
		if h.at == len(text) {
			return false, nil
		}
		c := text[h.at]
		if h.state == headEnd {
			if c != '\n' {
				return false, errLineEnd
			}
			h.at++
			return true, h.end()
		}
		if err := h.step(text, c); err != nil {
			return false, err
		}
	}
	return false, nil
}

// step takes a byte that changes the state.
func (h *head) step(text []byte, c byte) error {
	switch h.state {
	case method:
		if c != ' ' || h.at == 0 {
			return errMethod
		}
		h.methodEnd = h.at
		h.state = targetStart
	case targetStart:
		if c != '/' {
			return errTarget
		}
		h.state = target
	case target:
		if c != ' ' {
			return errTarget
		}
		h.targetEnd = h.at
		h.state, h.mark = version, h.at+1
	case version:
		return h.inVersion(c)
	case line:
		return h.beginLine(c)
	case name:
		if c != ':' {
			return errName
		}
		return h.endName(text)
	case value:
		if c != '\r' {
			return invalid(c, errValue)
		}
		h.fields[len(h.fields)-1].end = h.at
		h.state = valueEnd
	case valueEnd:
		if c != '\n' {
			return errLineEnd
		}
		h.state = line
		h.at++
		return h.endField(text)
	}
	h.at++
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

func (h *head) inVersion(c byte) error {
	seen := h.at - h.mark
	switch {
	case c == versionLine[seen]:
	case seen == len("HTTP/1.") && c == '0':
		h.oldest = true
	default:
		return errVersion
	}
	h.at++
	if seen+1 == len(versionLine) {
		h.state = line
	}
	return nil
}

func (h *head) beginLine(c byte) error {
	switch {
	case c == '\r':
		h.state = headEnd
	case c == ' ' || c == '\t':
		return errFolded
	case wire.Class[c]&wire.TokenByte == 0:
		return invalid(c, errName)
	default:
		h.state, h.mark = name, h.at
	}
	h.at++
	return nil
}

// The headers that decide how a request is read, and where it goes.
const (
	hostName   = "Host"
	lengthName = "Content-Length"
	codingName = "Transfer-Encoding"
)

func (h *head) endName(text []byte) error {
	f := field{name: h.mark, colon: h.at, value: h.at + 1}
	written := text[f.name:f.colon]
	switch {
	case is(written, hostName):
		if h.host {
			return errHost
		}
		h.host = true
	case is(written, lengthName):
		if h.measured {
			return errLength
		}
	case is(written, codingName):
		if h.chunked {
			return errCoding
		}
	}
	if h.fields == nil {
		h.fields = make([]field, 0, usualFields)
	}
	h.fields = append(h.fields, f)
	h.state = value
	h.at++
	return nil
}

// usualFields is how many headers a request usually has at most.
const usualFields = 24

// is reports whether text is name in any case. The name has letters and hyphens only.
func is(text []byte, name string) bool {
	if len(text) != len(name) {
		return false
	}
	for i := range len(name) {
		if text[i]|0x20 != name[i]|0x20 || text[i] == '\r' {
			return false
		}
	}
	return true
}

// endField takes the spaces around a value away and reads one that matters.
func (h *head) endField(text []byte) error {
	f := &h.fields[len(h.fields)-1]
	for f.value < f.end && (text[f.value] == ' ' || text[f.value] == '\t') {
		f.value++
	}
	for f.end > f.value && (text[f.end-1] == ' ' || text[f.end-1] == '\t') {
		f.end--
	}
	written, value := text[f.name:f.colon], text[f.value:f.end]
	switch {
	case is(written, lengthName):
		h.measured = true
		return h.readLength(value)
	case is(written, codingName):
		if h.oldest || !is(value, "chunked") {
			return errCoding
		}
		h.chunked = true
	}
	return nil
}

func (h *head) readLength(text []byte) error {
	if !wire.IsNumber(text) || len(text) > longestLength {
		return errLength
	}
	for _, c := range text {
		h.length = h.length*10 + int64(c-'0')
	}
	return nil
}

func (h *head) end() error {
	if h.measured && h.chunked {
		return errBoth
	}
	return nil
}
