package model

import (
	"bytes"
	"errors"
	"mime"
	"strings"
)

var errNotForm = errors.New("the body is not the multipart form that its Content-Type announces")

// WriteForm replaces the content of the part named model in a multipart form, or puts the part first where there is
// none. Forms that another reader could take apart otherwise are refused.
func WriteForm(body []byte, boundary, name string) (Splice, error) {
	part, err := findPart(body, boundary)
	if err != nil {
		return Splice{}, err
	}
	return splice(body, []byte("--"+boundary), part.start, part.end, name), nil
}

// ReadForm returns the content of the part named model, "" where there is none. It refuses what WriteForm does.
func ReadForm(body []byte, boundary string) (string, error) {
	part, err := findPart(body, boundary)
	if err != nil {
		return "", err
	}
	return string(part.of(body)), nil
}

// findPart finds the content of the part named model; its end is 0 where there is none.
func findPart(body []byte, boundary string) (found extent, err error) {
	if boundary == "" || len(boundary) > 70 {
		return found, errNotForm
	}
	delimiter := []byte("--" + boundary)
	if !bytes.HasPrefix(body, delimiter) {
		return found, errNotForm
	}
	for at := len(delimiter); ; {
		switch {
		case isEnd(body[at:]):
			return found, nil
		case !bytes.HasPrefix(body[at:], []byte("\r\n")):
			return found, errNotForm
		}
		at += len("\r\n")
		headers, whole := bytes.CutSuffix(body[at:at+headerLength(body[at:])], []byte("\r\n\r\n"))
		next := bytes.Index(body[at:], delimiter)
		if !whole || next < len(headers)+len("\r\n\r\n\r\n") || string(body[at+next-2:at+next]) != "\r\n" {
			return found, errNotForm
		}
		part, err := partName(string(headers))
		if err != nil {
			return found, err
		}
		if strings.EqualFold(part, "model") {
			if found.end > 0 || part != "model" {
				return found, errTwice
			}
			found = extent{at + len(headers) + len("\r\n\r\n"), at + next - len("\r\n")}
		}
		at += next + len(delimiter)
	}
}

func splice(body, delimiter []byte, start, end int, name string) Splice {
	if end > 0 {
		return Splice{body[:start], []byte(name), body[end:]}
	}
	part := string(delimiter) + "\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n" + name + "\r\n"
	return Splice{nil, []byte(part), body}
}

// isEnd reports whether the delimiter before text was the last. Some readers would go on behind it.
func isEnd(text []byte) bool { return string(text) == "--" || string(text) == "--\r\n" }

// headerLength is how long the headers of a part are with the empty line that ends them; 0 when they do not end.
func headerLength(text []byte) int {
	end := bytes.Index(text, []byte("\r\n\r\n"))
	if end < 0 {
		return 0
	}
	return end + len("\r\n\r\n")
}

// partName is the name in the one Content-Disposition of a part's headers.
func partName(headers string) (string, error) {
	var disposition string
	for line := range strings.SplitSeq(headers, "\r\n") {
		header, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(header) != header || strings.ContainsAny(line, "\r\n") {
			return "", errNotForm
		}
		if strings.EqualFold(header, "Content-Disposition") {
			if disposition != "" {
				return "", errNotForm
			}
			disposition = value
		}
	}
	kind, parameters, err := mime.ParseMediaType(disposition)
	if err != nil || kind != "form-data" {
		return "", errNotForm
	}
	return parameters["name"], nil
}
