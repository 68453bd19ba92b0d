package signature

import (
	"crypto/sha256"
	"crypto/subtle"
	"time"
)

const maxToken = 2048

// token reads the security token of a request, which some dialects carry in a header and some in a parameter: what its
// signature covers. In another place it would be believed unsigned, or not at all, and is refused.
func (m message) token(inHeader bool) (string, error) {
	headers := m.headers["x-acs-security-token"]
	param, isParam := m.param("SecurityToken")
	if !inHeader {
		headers = nil
		if isParam {
			headers = []string{param}
		}
	} else if isParam {
		return "", ErrTokenMalformed.Withf("The security token belongs in the header x-acs-security-token.")
	}
	switch {
	case len(headers) == 0:
		return "", nil
	case len(headers) > 1 || headers[0] == "" || len(headers[0]) > maxToken || !onlyOf(headers[0], isVisible):
		return "", ErrTokenMalformed
	}
	return headers[0], nil
}

// checkToken refuses a request whose security token is not the one of its key, or has expired.
func (k Key) checkToken(token string, now time.Time) error {
	if k.TokenHash == nil {
		if token != "" {
			return ErrTokenMismatch
		}
		return nil
	}
	sum := sha256.Sum256([]byte(token))
	switch {
	case token == "":
		return ErrTokenMissing
	case subtle.ConstantTimeCompare(sum[:], k.TokenHash) != 1:
		return ErrTokenMismatch
	case !now.Before(k.Expires):
		return ErrTokenExpired.Withf("The session expired at %s: call AssumeRole again.", k.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}
