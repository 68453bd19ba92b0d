// Package framing lets only those HTTP/1 requests through to net/http that can be read in one way.
//
// net/http takes lines that end with a bare LF, headers folded over lines, a Content-Length beside a Transfer-Encoding,
// and a whole URL for a target, and so may read another request than a proxy before it did. A connection of this package
// follows the requests as they pass, byte by byte in their heads and by counting in their bodies, and stops before the
// byte that makes one ambiguous.
package framing

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	answerTimeout = 5 * time.Second
	// lingerTime and lingerBytes bound what is still read after a refusal: a connection that is closed with unread data
	// is reset, and the client would not see the answer.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 1 << 20
)

// ErrRefused is what reading fails with after a request that was refused.
var ErrRefused = errors.New("the request can be read in more than one way")

// conn checks what is read from a connection. Only one goroutine reads at a time, as net/http does.
type conn struct {
	net.Conn
	scan    scanner
	wrong   error       // what the next byte is refused for
	told    bool        // refused has heard of it
	busy    atomic.Bool // a request is being answered
	free    bool        // the connection speaks something else now
	refused func(reason error)
}

// Read returns the bytes before the first that is refused. In the head of a request the refusal is written here, as
// soon as the requests before it have been answered; in a body it fails the reading of the body.
func (c *conn) Read(p []byte) (int, error) {
	if c.free {
		return c.Conn.Read(p)
	}
	if c.wrong == nil {
		n, err := c.Conn.Read(p)
		passed, wrong := c.scan.pass(p[:n])
		if wrong == nil {
			return n, err
		}
		c.wrong = wrong
		if passed > 0 {
			return passed, nil
		}
	}
	if c.busy.Load() && c.scan.inHead() {
		return 0, c.await()
	}
	c.tell()
	// Of all errors, net/http ends a connection in silence for those of this type.
	return 0, &net.OpError{Op: "read", Net: "tcp", Err: fmt.Errorf("%w: %w", ErrRefused, c.wrong)}
}

// await reads and forgets until the connection ends, or the reading. While a request is being answered, net/http reads
// only to learn that the client has gone.
func (c *conn) await() error {
	var forgotten [512]byte
	for {
		if _, err := c.Conn.Read(forgotten[:]); err != nil {
			return err
		}
	}
}

// tell answers once and reads on for a moment.
func (c *conn) tell() {
	if c.told {
		return
	}
	c.told = true
	c.refused(c.wrong)
	if !c.scan.inHead() {
		return
	}
	_ = c.SetDeadline(time.Now().Add(answerTimeout))
	if _, err := c.Write(answer(c.wrong)); err != nil {
		return
	}
	_ = c.CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
}

// answer is a refusal in OpenAI's shape: which protocol is spoken cannot be known of such a request.
func answer(reason error) []byte {
	type details struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    string  `json:"code"`
	}
	body, _ := json.Marshal(map[string]details{"error": { // strings never fail
		Message: "The request cannot be read: " + reason.Error() + ".", Type: "invalid_request_error", Code: "invalid_framing",
	}})
	return fmt.Appendf(nil, "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		len(body), body)
}

// CloseWrite ends the writing half, where there are halves.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// ReadFrom keeps what the system can do for copies between connections.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }
