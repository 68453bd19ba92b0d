package downstream

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"

	"github.com/engineshed/engineshed/internal/gateway/wire"
)

// exchange is a request and its answer.
type exchange struct {
	scope
	request  http.Request
	url      url.URL
	body     body
	response response
}

const (
	// maxHead is how long a head may be, in bytes.
	maxHead = 64 << 10
	// mostFields is how many headers' places are kept for the next request.
	mostFields = 256
)

// What a request is refused for that could be read in one way.
var (
	errLongHead    = errors.New("its head is longer than 65536 bytes")
	errNoHost      = errors.New("it has no Host header: send one")
	errBadHost     = errors.New("its Host header is not a host: send a name or an address, and a port")
	errPath        = errors.New("its path or query has an escape that is none: send %, and two hexadecimal digits")
	errExpectation = errors.New("it expects something else than 100-continue: send it without Expect")
)

var heads = sync.Pool{New: func() any { return &head{fields: make([]field, 0, 24)} }}

// release makes a head ready for another request.
func (h *head) release() {
	if cap(h.fields) <= mostFields {
		*h = head{fields: h.fields[:0]}
		heads.Put(h)
	}
}

var blank http.Request

// read makes the request that a head describes, or says with which status it is refused.
func (ex *exchange) read(h *head, bytes []byte) (status int, err error) {
	text := string(bytes)
	ex.request = *blank.WithContext(&ex.scope)
	r := &ex.request
	ex.response.ex, ex.body.ex = ex, ex
	r.Method, r.RequestURI = text[:h.methodEnd], text[h.methodEnd+1:h.targetEnd]
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	if h.oldest {
		r.Proto, r.ProtoMinor = "HTTP/1.0", 0
	}
	r.RemoteAddr, r.TLS = ex.conn.remote, ex.conn.tls
	if r.URL, err = ex.readTarget(r.RequestURI); err != nil {
		return http.StatusBadRequest, errPath
	}
	r.Host, r.Header = readHeader(h, text)
	switch {
	case !h.host && !h.oldest:
		return http.StatusBadRequest, errNoHost
	case !httpguts.ValidHostHeader(r.Host):
		return http.StatusBadRequest, errBadHost
	}
	return ex.frame(h)
}

// frame says how the body comes and what happens to the connection.
func (ex *exchange) frame(h *head) (status int, err error) {
	r := &ex.request
	connection := r.Header["Connection"]
	r.Close = wire.HasOption(connection, "close") || h.oldest && !wire.HasOption(connection, "keep-alive")
	ex.response.closes = r.Close || mentionsClose(connection)
	switch {
	case h.chunked:
		ex.body.chunky, ex.body.chunks = true, wire.Chunks{From: ex.conn.in, Refuse: refuseTrailer}
		r.Body, r.ContentLength, r.TransferEncoding = &ex.body, -1, chunkedCoding
	case h.length > 0:
		ex.body.left = h.length
		r.Body, r.ContentLength = &ex.body, h.length
	default:
		r.Body, ex.body.err = http.NoBody, io.EOF
	}
	if expected := r.Header["Expect"]; len(expected) > 0 {
		if len(expected) > 1 || !strings.EqualFold(expected[0], "100-continue") {
			return http.StatusExpectationFailed, errExpectation
		}
		if r.Body != http.NoBody && !h.oldest {
			ex.response.expects.Store(invitation)
		}
	}
	return 0, nil
}

// mentionsClose reports whether a client seems to want its connection closed, however it puts that.
func mentionsClose(connection []string) bool {
	return len(connection) > 0 && slices.ContainsFunc(strings.FieldsFunc(connection[0], isSeparator), isClose)
}

func isSeparator(r rune) bool { return r == ',' || r == ' ' || r == '\t' }

func isClose(word string) bool { return strings.EqualFold(word, "close") }

var chunkedCoding = []string{"chunked"}

// readTarget is url.ParseRequestURI, which most targets do not need.
func (ex *exchange) readTarget(text string) (*url.URL, error) {
	path, query, asks := strings.Cut(text, "?")
	for i := range len(path) {
		c := path[i]
		if c-'a' > 'z'-'a' && c-'A' > 'Z'-'A' && c-'0' > 9 && c != '/' && c != '-' && c != '.' && c != '_' {
			return url.ParseRequestURI(text)
		}
	}
	ex.url.Path, ex.url.RawQuery, ex.url.ForceQuery = path, query, asks && query == ""
	return &ex.url, nil
}

// readHeader returns the headers but those that say where the body ends, and the host.
func readHeader(h *head, text string) (host string, header http.Header) {
	others := max(len(h.fields)-1, 0) // than the host
	header, values := make(http.Header, others), make([]string, 0, others)
	for _, f := range h.fields {
		name, value := wire.Canonical(text[f.name:f.colon]), text[f.value:f.end]
		switch name {
		case hostName:
			host = value
			continue
		case codingName, "Trailer": // trailers are dropped
			continue
		}
		values = append(values, value)
		if before := header[name]; before != nil {
			header[name] = append(before, value)
		} else {
			header[name] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	return host, header
}

func (ex *exchange) isOldest() bool { return ex.request.ProtoMinor == 0 }

// finish ends the request when its answer has been sent, and reports whether another one may follow on its connection.
func (ex *exchange) finish() bool {
	ex.end()
	return ex.body.finish()
}

// abort ends a request that is not answered to the end. What was said so far is still sent.
func (ex *exchange) abort() {
	ex.end()
	w := &ex.response
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	if w.sent && !ex.conn.taken.Load() {
		_ = w.flush()
	}
	ex.conn.out.release()
}
