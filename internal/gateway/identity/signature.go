package identity

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/engineshed/engineshed/internal/secret"
)

// window is how far the date of a signed request may be from now, in both directions.
const window = 15 * time.Minute

const (
	maxNonce         = 128
	maxSignedHeaders = 32

	keyHeader       = "X-Ca-Key"
	nonceHeader     = "X-Ca-Nonce"
	timestampHeader = "X-Ca-Timestamp"
	methodHeader    = "X-Ca-Signature-Method"
	headersHeader   = "X-Ca-Signature-Headers"
	signatureHeader = "X-Ca-Signature"
	md5Header       = "Content-Md5"
)

var (
	// always are in what is signed, in this order, without their names.
	always = []string{"Accept", md5Header, "Content-Type", "Date"}
	// required must be signed: without them a request could be sent again.
	required = []string{"x-ca-key", "x-ca-nonce", "x-ca-timestamp"}
	// strict reads each signature in one form only.
	strict = base64.StdEncoding.Strict()
	// nobodys is the secret that is taken where there is none.
	nobodys = secret.New("nobody's secret, which no consumer has")
)

// Signature is what a request says that its sender signed.
type Signature struct {
	AccessKey string
	Nonce     string
	Date      time.Time

	body    *[md5.Size]byte // nil: none was signed
	mac     []byte
	newHash func() hash.Hash
	signed  string
}

// ReadSignature reads how a request is signed. Its errors say what is wrong with it, in words that follow a colon. path is
// the request's own, as it was sent.
func ReadSignature(r *http.Request, path string) (*Signature, error) {
	for _, name := range slices.Concat(always, []string{keyHeader, nonceHeader, timestampHeader, methodHeader, headersHeader, signatureHeader}) {
		if len(r.Header[name]) > 1 {
			return nil, fmt.Errorf("the header %s is there more than once", strings.ToLower(name))
		}
	}
	s := &Signature{AccessKey: r.Header.Get(keyHeader), Nonce: r.Header.Get(nonceHeader)}
	if s.AccessKey == "" || s.Nonce == "" || len(s.Nonce) > maxNonce {
		return nil, fmt.Errorf("the headers x-ca-key and x-ca-nonce, of at most %d bytes, are required", maxNonce)
	}
	milliseconds, err := strconv.ParseInt(r.Header.Get(timestampHeader), 10, 64)
	if err != nil {
		return nil, errors.New("the header x-ca-timestamp is not the time in milliseconds")
	}
	s.Date = time.UnixMilli(milliseconds)
	if err := s.readMAC(r.Header); err != nil {
		return nil, err
	}
	if err := s.readBody(r); err != nil {
		return nil, err
	}
	headers, err := signedHeaders(r)
	if err != nil {
		return nil, err
	}
	parameters, err := signedParameters(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	text := r.Method + "\n"
	for _, name := range always {
		text += r.Header.Get(name) + "\n"
	}
	s.signed = text + headers + path + parameters
	return s, nil
}

func (s *Signature) readMAC(h http.Header) (err error) {
	switch method := h.Get(methodHeader); method {
	case "", "HmacSHA256":
		s.newHash = sha256.New
	case "HmacSHA1":
		s.newHash = sha1.New
	default:
		return errors.New("the x-ca-signature-method is neither HmacSHA256 nor HmacSHA1")
	}
	s.mac, err = strict.DecodeString(h.Get(signatureHeader))
	if err != nil || len(s.mac) != s.newHash().Size() {
		return errors.New("the header x-ca-signature is not the base64 of a signature")
	}
	return nil
}

// readBody wants every body to be signed by its hash. Forms are signed in another way, which no route needs.
func (s *Signature) readBody(r *http.Request) error {
	sum := r.Header.Get(md5Header)
	if r.ContentLength == 0 && sum == "" {
		return nil
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == "application/x-www-form-urlencoded" {
		return errors.New("a signed request cannot carry an encoded form")
	}
	decoded, err := strict.DecodeString(sum)
	if err != nil || len(decoded) != md5.Size {
		return errors.New("the header content-md5 is not the base64 of the body's MD5, which a signature needs")
	}
	s.body = (*[md5.Size]byte)(decoded)
	return nil
}

// signedHeaders are the lines of the headers that the sender chose.
func signedHeaders(r *http.Request) (string, error) {
	chosen := strings.Split(strings.ToLower(r.Header.Get(headersHeader)), ",")
	for i, name := range chosen {
		chosen[i] = strings.TrimSpace(name)
	}
	slices.Sort(chosen)
	if len(chosen) > maxSignedHeaders || len(slices.Compact(slices.Clone(chosen))) != len(chosen) {
		return "", fmt.Errorf("the header x-ca-signature-headers names more than %d headers, or one twice", maxSignedHeaders)
	}
	for _, name := range required {
		if !slices.Contains(chosen, name) {
			return "", fmt.Errorf("the header x-ca-signature-headers does not name %s, which must be signed", name)
		}
	}
	var lines strings.Builder
	for _, name := range chosen {
		canonical := http.CanonicalHeaderKey(name)
		values := r.Header[canonical]
		switch {
		case slices.Contains(always, canonical), canonical == signatureHeader, canonical == headersHeader:
			continue
		case name == "host":
			values = []string{r.Host}
		}
		if len(values) > 1 || !httpguts.ValidHeaderFieldName(name) {
			return "", errors.New("the header x-ca-signature-headers names what is no header, or is there more than once")
		}
		lines.WriteString(name + ":" + strings.Join(values, "") + "\n")
	}
	return lines.String(), nil
}

// signedParameters are the parameters of a query, decoded, in the order of their names. One that would be signed as
// another, or as two, is refused.
func signedParameters(query string) (string, error) {
	if query == "" {
		return "", nil
	}
	parameters := map[string]string{}
	for part := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		value, valueErr := url.QueryUnescape(value)
		_, twice := parameters[name]
		if err != nil || valueErr != nil || twice || name == "" || strings.ContainsAny(name, "&=") || strings.Contains(value, "&") {
			return "", errors.New("the query could be read in more than one way: each parameter is there once, and neither & nor, in a name, = is escaped")
		}
		parameters[name] = value
	}
	parts := slices.Sorted(maps.Keys(parameters))
	for i, name := range parts {
		if value := parameters[name]; value != "" {
			parts[i] = name + "=" + value
		}
	}
	return "?" + strings.Join(parts, "&"), nil
}

// IsFresh reports whether the date is within 15 minutes of now.
func (s *Signature) IsFresh(now time.Time) bool { return s.Date.Sub(now).Abs() < window }

// IsBy reports whether the signature was made with the secret. Without one it takes the same work, and is nobody's.
func (s *Signature) IsBy(key secret.Secret) bool {
	known := !key.IsZero()
	if !known {
		key = nobodys
	}
	mac := hmac.New(s.newHash, []byte(key.Reveal()))
	_, _ = mac.Write([]byte(s.signed)) // never fails
	return hmac.Equal(mac.Sum(nil), s.mac) && known
}

// Covers reports whether the body is the one that was signed.
func (s *Signature) Covers(body []byte) bool {
	if s.body == nil {
		return len(body) == 0
	}
	return md5.Sum(body) == *s.body
}
