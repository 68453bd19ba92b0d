package http1

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/engineshed/engineshed/internal/gateway/wire"
)

const (
	maxHead    = 64 << 10 // bytes of the head of an answer
	maxInterim = 16       // answers before the final one
	maxLength  = 18       // digits: no sum of them overflows
)

// readResponse reads the head of the final answer to a request. Interim answers end here.
func readResponse(from *wire.Reader, r *http.Request) (*http.Response, error) {
	for range maxInterim {
		response, err := readHead(from)
		switch {
		case err != nil:
			return nil, wire.Ended(err)
		case response.StatusCode == http.StatusSwitchingProtocols:
			return nil, broken("it switched protocols unasked")
		case response.StatusCode >= 200:
			response.Request = r
			return response, frame(response)
		}
	}
	return nil, broken("it sent more than %d interim answers", maxInterim)
}

// readHead reads a status line and headers.
func readHead(from *wire.Reader) (*http.Response, error) {
	left := maxHead
	line, err := readLine(from, &left)
	if err != nil {
		return nil, err
	}
	response, err := parseStatus(line)
	if err != nil {
		return nil, err
	}
	response.Header, err = readHeader(from, &left)
	return response, err
}

// parseStatus reads HTTP/1.1 200 OK. The reason may be missing, with its space.
func parseStatus(line []byte) (*http.Response, error) {
	version, rest, _ := bytes.Cut(line, []byte(" "))
	response := &http.Response{ProtoMajor: 1}
	switch string(version) {
	case "HTTP/1.1":
		response.Proto, response.ProtoMinor = "HTTP/1.1", 1
	case "HTTP/1.0":
		response.Proto, response.Close = "HTTP/1.0", true
	default:
		return nil, broken("the version in its first line is neither HTTP/1.1 nor HTTP/1.0")
	}
	code, _, _ := bytes.Cut(rest, []byte(" "))
	if len(code) != 3 || !wire.IsNumber(code) || code[0] == '0' {
		return nil, broken("the status in its first line is not of three digits")
	}
	response.StatusCode = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	response.Status = text(rest)
	return response, nil
}

// readHeader reads headers and the empty line.
func readHeader(from *wire.Reader, left *int) (http.Header, error) {
	header, values := make(http.Header, 8), make([]string, 0, 8)
	for {
		line, err := readLine(from, left)
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			return header, nil
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !wire.IsToken(name) {
			return nil, broken("a header has no name that is one")
		}
		value = wire.Trim(value)
		if !wire.IsText(value) {
			return nil, broken("the header %s has a control character", name)
		}
		key := wire.CanonicalOf(name)
		values = append(values, text(value))
		if before := header[key]; before != nil {
			header[key] = append(before, values[len(values)-1])
		} else {
			header[key] = values[len(values)-1 : len(values) : len(values)]
		}
	}
}

// readLine returns a line without its CR LF, valid until the next read. left is how much of a head may still come.
func readLine(from *wire.Reader, left *int) ([]byte, error) {
	line, err := from.Line(left)
	return line, brokenBy(err)
}

// brokenBy says whose fault it is that something cannot be read.
func brokenBy(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wire.ErrLongHead):
		return errLongHead
	case wire.IsMalformed(err):
		return broken("%w", err)
	}
	return wire.Ended(err)
}

var errLongHead = broken("the head of its answer is longer than %d bytes", maxHead)

// texts are what heads usually say.
var texts = func() map[string]string {
	found := map[string]string{}
	for _, usual := range []string{
		"200 OK", "application/json", "application/json; charset=utf-8", "text/event-stream", "text/event-stream; charset=utf-8",
		"chunked", "close", "keep-alive", "no-cache", "uvicorn",
	} {
		found[usual] = usual
	}
	return found
}()

func text(of []byte) string {
	if known, ok := texts[string(of)]; ok {
		return known
	}
	return string(of)
}

// frame decides how the body of an answer ends, and refuses heads of which two readers could think differently.
func frame(response *http.Response) error {
	coding, lengths := response.Header["Transfer-Encoding"], response.Header["Content-Length"]
	response.Close = response.Close || wire.HasOption(response.Header["Connection"], "close")
	switch {
	case len(coding) > 0 && len(lengths) > 0:
		return broken("its answer has a Content-Length and a Transfer-Encoding")
	case len(coding) > 0 && (len(coding) > 1 || !strings.EqualFold(coding[0], "chunked") || response.ProtoMinor == 0):
		return broken("the Transfer-Encoding of its answer is not chunked alone")
	}
	length, err := parseLength(lengths)
	if err != nil {
		return err
	}
	if len(lengths) > 1 {
		response.Header["Content-Length"] = lengths[:1]
	}
	delete(response.Header, "Transfer-Encoding")
	switch {
	case response.Request.Method == http.MethodHead:
		response.ContentLength = length
	case bodiless(response):
	case len(coding) > 0:
		response.TransferEncoding, response.ContentLength = []string{"chunked"}, -1
	default:
		response.ContentLength = length
		response.Close = response.Close || length < 0 // it ends with the connection
	}
	return nil
}

// bodiless reports whether an answer has no body whatever its head says.
func bodiless(response *http.Response) bool {
	return response.Request.Method == http.MethodHead || response.StatusCode == http.StatusNoContent ||
		response.StatusCode == http.StatusNotModified
}

// parseLength returns -1 without a Content-Length. The same one twice is one.
func parseLength(values []string) (int64, error) {
	if len(values) == 0 {
		return -1, nil
	}
	for _, value := range values {
		if value != values[0] || len(value) > maxLength || !wire.IsNumber(value) {
			return 0, broken("the Content-Length of its answer is not one number")
		}
	}
	return strconv.ParseInt(values[0], 10, 64)
}
