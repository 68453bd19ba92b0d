package protocol

import "bytes"

const (
	// maxValue is how long a value is that is kept.
	maxValue = 8 << 10
	// usualValues is room for the values that are kept of an answer.
	usualValues = 160
	// maxName is longer than every name that is looked for.
	maxName = 16
)

// fields finds a few fields of a JSON object that comes in pieces: usage, model and id, at its top or in one of the
// objects that some protocols wrap them in. It keeps nothing else, whatever the size of the object, and believes the
// object to be JSON: of other texts it finds anything or nothing.
type fields struct {
	usage, model, id []byte // raw values

	depth    int  // open objects and arrays
	base     int  // the depth whose fields are looked at: 1, or 2 in a wrapper
	quoted   bool // in a string
	escaped  bool // behind a backslash
	expected bool // the next string at base is a name
	name     [maxName]byte
	named    int    // length of name, more than maxName when it is too long
	value    []byte // of the field that is read, when it is wanted
	room     [usualValues]byte
	wanted   *[]byte
}

// write reads the next piece.
func (f *fields) write(text []byte) {
	if f.base == 0 {
		f.base = 1
	}
	for len(text) > 0 {
		var n int
		if f.quoted {
			n = f.readQuoted(text)
		} else if n = plain(text); n == 0 {
			f.mark(text[0])
			n = 1
		}
		f.keep(text[:n])
		text = text[n:]
	}
}

// marks are the bytes that mean something outside of a string.
var marks = [256]bool{'"': true, '{': true, '}': true, '[': true, ']': true, ',': true, ':': true}

// plain is how many bytes text has before one that means something.
func plain(text []byte) int {
	for i, c := range text {
		if marks[c] {
			return i
		}
	}
	return len(text)
}

func (f *fields) mark(c byte) {
	switch c {
	case '"':
		f.quoted = true
		if f.expected {
			f.named = 0
		}
	case '{', '[':
		f.depth++
		if c == '{' && f.depth == 2 && f.base == 1 && f.isWrapper() {
			f.base = 2
		}
		f.expected = c == '{' && f.depth == f.base
	case '}', ']':
		if f.depth == f.base {
			f.endValue()
			f.base = 1
		}
		f.depth--
		f.expected, f.named = false, maxName+1
	case ',':
		if f.depth == f.base {
			f.endValue()
			f.expected = true
		}
	case ':':
		if f.depth == f.base && f.expected {
			f.expected = false
			f.wanted = f.place()
		}
	}
}

// isWrapper reports whether the field that is read holds the fields that are looked for: message of Anthropic's first
// event, response of OpenAI's responses.
func (f *fields) isWrapper() bool {
	name := f.fieldName()
	return name == "message" || name == "response"
}

func (f *fields) fieldName() string {
	if f.named > maxName {
		return ""
	}
	return string(f.name[:f.named])
}

// place is where the value of the field whose name was read is kept; nil when it is not wanted.
func (f *fields) place() *[]byte {
	switch f.fieldName() {
	case "usage":
		return &f.usage
	case "model":
		return &f.model
	case "id", "request_id":
		return &f.id
	}
	return nil
}

func (f *fields) endValue() {
	if f.wanted != nil && len(f.value) > 0 && len(f.value) <= maxValue {
		*f.wanted = bytes.TrimSpace(f.value[1:]) // behind the colon
		f.value = f.value[len(f.value):]         // the next one has its place behind it
	}
	f.wanted, f.value = nil, f.value[:0]
}

// keep adds to the value that is wanted. Past its bound it is only known to be too long.
func (f *fields) keep(text []byte) {
	if f.wanted != nil && len(f.value) <= maxValue {
		if f.value == nil {
			f.value = f.room[:0]
		}
		f.value = append(f.value, text[:min(len(text), maxValue+1-len(f.value))]...)
	}
}

// readQuoted reads on in a string, at the speed of IndexByte, and returns how far it came.
func (f *fields) readQuoted(text []byte) int {
	at := 0
	for end := -1; at < len(text); {
		if f.escaped {
			f.escaped = false
			at++
			continue
		}
		if end < at {
			if end = bytes.IndexByte(text[at:], '"'); end < 0 {
				end = len(text)
			} else {
				end += at
			}
		}
		escape := bytes.IndexByte(text[at:end], '\\')
		if escape >= 0 {
			at += escape + 1
			f.escaped = true
			continue
		}
		f.readName(text[:end])
		if end < len(text) {
			f.quoted = false
			return end + 1
		}
		return end
	}
	f.readName(text[:at])
	return at
}

// readName adds to the name of a field. Names with escapes are none that is looked for.
func (f *fields) readName(text []byte) {
	if !f.expected || f.named > maxName {
		return
	}
	if f.named+len(text) > maxName {
		f.named = maxName + 1
		return
	}
	f.named += copy(f.name[f.named:], text)
}
