package signature

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/secret"
)

// roaScheme begins an Authorization header of ROA-V1.
const roaScheme = "acs "

// roaV1 is a request signed with ROA signature version 1.0: the method, the path, the query, the x-acs-* headers and
// these four are signed.
type roaV1 struct{ message }

var roaHeaders = []string{"accept", "content-md5", "content-type", "date"}

func readROAV1(m message, authorization string) (claim, error) {
	request := roaV1{m}
	id, signature, found := strings.Cut(strings.TrimPrefix(authorization, roaScheme), ":")
	if !found || len(signature) != base64.StdEncoding.EncodedLen(sha1.Size) {
		return claim{}, incomplete("Authorization must be acs ID:SIGNATURE, the signature the base64 of an HMAC-SHA1")
	}
	if err := request.check(); err != nil {
		return claim{}, err
	}
	signedAt, err := time.Parse(http.TimeFormat, request.header("date"))
	if err != nil {
		return claim{}, ErrTimestampFormat.Withf("The header Date must be in the form %s.", http.TimeFormat)
	}
	token, err := m.token(true)
	if err != nil {
		return claim{}, err
	}
	return claim{
		dialect:     ROAV1,
		accessKeyID: id,
		nonce:       request.nonce(signature),
		signedAt:    signedAt,
		action:      request.header("x-acs-action"),
		version:     request.header("x-acs-version"),
		params:      m.params(),
		token:       token,
		signature:   signature,
		sign:        request.sign,
	}, nil
}

func (r roaV1) check() error {
	for name, values := range r.headers {
		if len(values) > 1 && (strings.HasPrefix(name, "x-acs-") || slices.Contains(roaHeaders, name)) {
			return incomplete("the header %s is there more than once", name)
		}
	}
	for _, name := range []string{"date", "x-acs-version", "x-acs-signature-method", "x-acs-signature-version"} {
		if r.header(name) == "" {
			return fault.MissingParameter(name)
		}
	}
	if r.header("x-acs-signature-method") != "HMAC-SHA1" || r.header("x-acs-signature-version") != "1.0" {
		return ErrUnsupported
	}
	for name, value := range r.query {
		// Values are signed without encoding: one with & could be read as two parameters.
		if strings.Contains(value, "&") {
			return fault.InvalidParameter(name, "this signature does not cover a value with & : sign it with ACS3-HMAC-SHA256.")
		}
	}
	return r.checkBody()
}

// checkBody makes sure that the body is the one its sender meant: this signature covers no more of it than its MD5,
// which some clients leave out.
func (r roaV1) checkBody() error {
	if sent := r.header("content-md5"); sent != "" {
		sum := md5.Sum(r.body)
		if sent != base64.StdEncoding.EncodeToString(sum[:]) {
			return ErrMismatch.Withf("%s The header Content-MD5 is not the MD5 of the body.", ErrMismatch.Cause)
		}
		return nil
	}
	if len(r.body) > 0 && !r.private {
		return incomplete("the body is not signed: send its Content-MD5, or call over HTTPS")
	}
	return nil
}

// nonce makes the request unique. A call that may change something and has no nonce of its own is made unique by its
// signature; one that only reads may be made twice within the second that its date can tell.
func (r roaV1) nonce(signature string) string {
	switch nonce := r.header("x-acs-signature-nonce"); {
	case nonce != "":
		return nonce
	case r.method == http.MethodGet:
		return rand.Text()
	}
	return signature
}

// header returns the one value of a header, trimmed as it is signed.
func (r roaV1) header(name string) string {
	if values := r.headers[name]; len(values) == 1 {
		return strings.TrimSpace(values[0])
	}
	return ""
}

func (r roaV1) sign(key secret.Secret) (stringToSign, signature string, err error) {
	stringToSign = r.canonical()
	mac := hmac.New(sha1.New, []byte(key.Reveal()))
	mac.Write([]byte(stringToSign))
	return stringToSign, base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

func (r roaV1) canonical() string {
	var b strings.Builder
	b.WriteString(r.method + "\n")
	for _, name := range roaHeaders {
		b.WriteString(r.header(name) + "\n")
	}
	for _, name := range slices.Sorted(maps.Keys(r.headers)) {
		if strings.HasPrefix(name, "x-acs-") {
			b.WriteString(name + ":" + r.header(name) + "\n")
		}
	}
	b.WriteString(r.path)
	separator := byte('?')
	for _, name := range slices.Sorted(maps.Keys(r.query)) {
		b.WriteByte(separator)
		separator = '&'
		b.WriteString(name)
		if value := r.query[name]; value != "" {
			b.WriteString("=" + value)
		}
	}
	return b.String()
}

// isPrivate reports whether nobody between the caller and us could have changed the request.
func isPrivate(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return r.TLS != nil || err == nil && peer.Addr().Unmap().IsLoopback()
}
