package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
)

// endInOrder lets an event stream that the gateway must cut, because it shuts down, end with an error of its protocol.
func (c *call) endInOrder(resp *http.Response) {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind == "text/event-stream" && resp.ContentLength < 0 {
		resp.Body = &farewell{ReadCloser: resp.Body, call: c, tail: [2]byte{'\n', '\n'}}
	}
}

// farewell is an event stream with another end: where it breaks off between two events because requests are cut, an
// error follows and the end is a clean one. Within an event nothing can be said, and it breaks off.
type farewell struct {
	io.ReadCloser
	call  *call
	tail  [2]byte // the last bytes, without CR
	words []byte  // that are still to be read
	said  bool
}

func (f *farewell) Read(p []byte) (int, error) {
	if f.said {
		return f.say(p)
	}
	n, err := f.ReadCloser.Read(p)
	f.follow(p[:n])
	if err == nil || err == io.EOF || n > 0 || f.call.ending.Err() == nil || f.tail != [2]byte{'\n', '\n'} {
		return n, err
	}
	f.said = true
	f.words = errShutdown.event(f.call.protocol, f.call.id)
	f.call.status = errShutdown.status // as it is counted
	return f.say(p)
}

func (f *farewell) say(p []byte) (int, error) {
	n := copy(p, f.words)
	if f.words = f.words[n:]; len(f.words) > 0 {
		return n, nil
	}
	return n, io.EOF
}

// follow remembers the last bytes.
func (f *farewell) follow(p []byte) {
	for _, b := range p[max(0, len(p)-4):] { // at most two line ends
		if b != '\r' {
			f.tail = [2]byte{f.tail[1], b}
		}
	}
}

// event is the refusal as an event of a stream whose status has been sent.
func (r *refusal) event(protocol, requestID string) []byte {
	body, _ := json.Marshal(r.shape(protocol, requestID)) // strings never fail
	var event bytes.Buffer
	switch protocol {
	case anthropic:
		event.WriteString("event: error\n")
	case dashScope:
		fmt.Fprintf(&event, "event:error\n:HTTP_STATUS/%d\n", r.status)
	}
	fmt.Fprintf(&event, "data: %s\n\n", body)
	return event.Bytes()
}
