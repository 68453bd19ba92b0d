package signature

import (
	"crypto/subtle"
	"net/url"
	"time"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/secret"
)

// claim is what a request says of itself in one dialect, before any of it is proven.
type claim struct {
	dialect         string
	accessKeyID     string
	nonce           string
	signedAt        time.Time
	action, version string
	params          url.Values
	token           string // of a session; "" when there is none
	signature       string
	sign            func(key secret.Secret) (stringToSign, signature string, err error)
}

// signedWith reports whether the claim was signed with the secret, and what it should have signed.
func (c claim) signedWith(key secret.Secret) (stringToSign string, matches bool, err error) {
	stringToSign, signature, err := c.sign(key)
	return stringToSign, subtle.ConstantTimeCompare([]byte(signature), []byte(c.signature)) == 1, err
}

// checkEnvelope checks the parts of a request that name what is called and make it unique.
func (c claim) checkEnvelope() error {
	if !validName(c.accessKeyID) {
		return incomplete("no access key id looks like this")
	}
	for _, part := range []struct{ name, value string }{
		{"Action", c.action}, {"Version", c.version}, {"SignatureNonce", c.nonce},
	} {
		if part.value == "" && part.name == "Action" && c.dialect == ROAV1 {
			continue // method and path name what is called
		}
		if part.value == "" || len(part.value) > maxEnvelope || !onlyOf(part.value, isVisible) {
			return fault.InvalidParameter(part.name, "it must be 1 to 128 visible ASCII characters.")
		}
	}
	return nil
}

const maxEnvelope = 128

func isVisible(c byte) bool { return '!' <= c && c <= '~' }

// parseTime reads the date of a request.
func parseTime(text string) (time.Time, error) {
	at, err := time.Parse("2006-01-02T15:04:05Z", text)
	if err != nil {
		return time.Time{}, ErrTimestampFormat
	}
	return at, nil
}

// mismatch tells what we signed, in the words in which the official clients look for it. It holds no secret: a string that
// may hold a security token is not told.
func (c claim) mismatch(stringToSign string) error {
	const enough = 16 << 10 // a form as large as the body limit would come back three times as large
	if len(stringToSign) > enough || c.token != "" {
		return ErrMismatch
	}
	return ErrMismatch.Withf("%s server string to sign is:%s", ErrMismatch.Cause, stringToSign)
}
