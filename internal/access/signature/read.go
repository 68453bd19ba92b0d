package signature

import (
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// message is a request in the form that every dialect reads.
type message struct {
	method  string
	host    string
	path    string              // as it was sent: one spelling only, see checkPath
	headers map[string][]string // by lower-case name
	query   map[string]string
	form    map[string]string // of a form body; empty for any other
	body    []byte
	private bool // nobody on the way could change it
}

// read finds out in which dialect r is signed, and reads the claim.
func read(r *http.Request, body []byte) (claim, error) {
	m, err := newMessage(r, body)
	if err != nil {
		return claim{}, err
	}
	if err := m.refuseBearer(); err != nil {
		return claim{}, err
	}
	c, err := m.claim()
	if err != nil {
		return claim{}, err
	}
	return c, c.checkEnvelope()
}

func (m message) claim() (claim, error) {
	authorizations := m.headers["authorization"]
	_, signed := m.param("Signature")
	switch {
	case len(authorizations) > 1, len(authorizations) == 1 && signed:
		return claim{}, incomplete("it is signed more than once")
	case len(authorizations) == 1 && strings.HasPrefix(authorizations[0], roaScheme):
		return readROAV1(m, authorizations[0])
	case len(authorizations) == 1:
		return readACS3(m, authorizations[0])
	}
	return readRPCV1(m)
}

func newMessage(r *http.Request, body []byte) (message, error) {
	path, rawQuery, _ := strings.Cut(r.RequestURI, "?")
	switch {
	case r.Method == http.MethodGet, r.Method == http.MethodPost:
	case (r.Method == http.MethodPut || r.Method == http.MethodDelete) && path != "/": // of a path-style product
	default:
		return message{}, ErrMethod
	}
	if err := checkPath(path); err != nil {
		return message{}, err
	}
	m := message{method: r.Method, host: r.Host, path: path, headers: lowerNames(r.Header), body: body, private: isPrivate(r)}
	if _, ok := m.headers["content-encoding"]; ok {
		return message{}, ErrContentEncoding
	}
	var err error
	if m.query, err = parseParams(rawQuery, nil); err != nil {
		return message{}, err
	}
	if m.form, err = m.readForm(); err != nil {
		return message{}, err
	}
	if format, ok := m.param("Format"); ok && !strings.EqualFold(format, "JSON") {
		return message{}, ErrFormat
	}
	return m, nil
}

func lowerNames(header http.Header) map[string][]string {
	lower := make(map[string][]string, len(header))
	for name, values := range header {
		name = strings.ToLower(name)
		lower[name] = append(lower[name], values...)
	}
	return lower
}

const formType, jsonType = "application/x-www-form-urlencoded", "application/json"

// contentType returns the media type of the body; "" when there is no body, whatever the header says then.
func (m message) contentType() (string, error) {
	if len(m.body) == 0 {
		return "", nil
	}
	values := m.headers["content-type"]
	if len(values) != 1 {
		return "", ErrContentType
	}
	mediaType, params, err := mime.ParseMediaType(values[0])
	charset, given := params["charset"]
	if err != nil || given && !strings.EqualFold(charset, "utf-8") || mediaType != formType && mediaType != jsonType {
		return "", ErrContentType
	}
	return mediaType, nil
}

func (m message) readForm() (map[string]string, error) {
	mediaType, err := m.contentType()
	if err != nil || mediaType != formType {
		return nil, err
	}
	return parseParams(string(m.body), m.query)
}

// param returns a parameter of the query or the form; none is in both.
func (m message) param(name string) (string, bool) {
	if value, ok := m.query[name]; ok {
		return value, true
	}
	value, ok := m.form[name]
	return value, ok
}

// refuseBearer refuses what is proven by possession.
func (m message) refuseBearer() error {
	_, bearer := m.headers["x-acs-bearer-token"]
	_, bearerParam := m.param("BearerToken")
	if bearer || bearerParam {
		return ErrUnsupported
	}
	return nil
}

func (m message) params() url.Values {
	params := make(url.Values, len(m.query)+len(m.form))
	for _, source := range []map[string]string{m.query, m.form} {
		for name, value := range source {
			params[name] = []string{value}
		}
	}
	return params
}
