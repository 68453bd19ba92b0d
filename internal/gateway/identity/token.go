// Package identity verifies who calls a Model API: JSON Web Tokens, and signatures of requests.
package identity

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	maxToken = 8 << 10
	leeway   = time.Minute // that clocks may differ by
)

var (
	// ErrToken is a token that proves nothing.
	ErrToken = errors.New("the token is not valid")
	// ErrExpired is a token that was valid.
	ErrExpired = errors.New("the token has expired")
)

// Token is a JSON Web Token that nobody has verified.
type Token struct {
	signed *jwt.JSONWebToken
	header jose.Header
	claims map[string]json.RawMessage
}

// ReadToken reads a token in the compact form of at most 8 KiB, which is signed by one of the algorithms.
func ReadToken(text string, algorithms []jose.SignatureAlgorithm) (*Token, error) {
	if len(text) > maxToken {
		return nil, ErrToken
	}
	signed, err := jwt.ParseSigned(text, algorithms)
	if err != nil {
		return nil, ErrToken
	}
	t := &Token{signed: signed, header: signed.Headers[0]}
	if err := signed.UnsafeClaimsWithoutVerification(&t.claims); err != nil {
		return nil, ErrToken
	}
	return t, nil
}

// Claims yields the claims that could name somebody, text and numbers as they are written. Nobody has verified them.
func (t *Token) Claims(yield func(name, value string) bool) {
	for name, raw := range t.claims {
		value := string(raw)
		switch {
		case value[0] == '"':
			if json.Unmarshal(raw, &value) != nil {
				continue
			}
		case !strings.ContainsRune("-0123456789", rune(value[0])):
			continue
		}
		if !yield(name, value) {
			return
		}
	}
}

// Verifier knows the tokens of one consumer.
type Verifier struct {
	Keys     []snapshot.VerifyingKey
	Issuer   string // what iss must be; "": it is not looked at
	Audience string // what aud must hold; "": it is not looked at
}

// AppendAlgorithms appends those that its tokens may be signed with to known, each once.
func (v *Verifier) AppendAlgorithms(known []jose.SignatureAlgorithm) []jose.SignatureAlgorithm {
	for _, key := range v.Keys {
		for _, algorithm := range key.Algorithms {
			if !slices.Contains(known, algorithm) {
				known = append(known, algorithm)
			}
		}
	}
	return known
}

// Verify decides whether one of the keys has signed the token and it is valid now, and returns until when it is. It takes
// the work of verifying a signature even where there is no key for it.
func (v *Verifier) Verify(t *Token, now time.Time) (until time.Time, err error) {
	key := v.key(t.header)
	if key == nil {
		t.Decoy()
		return until, ErrToken
	}
	var claims jwt.Claims
	if err := t.signed.Claims(key, &claims); err != nil || claims.Expiry == nil {
		return until, ErrToken
	}
	expected := jwt.Expected{Time: now, Issuer: v.Issuer}
	if v.Audience != "" {
		expected.AnyAudience = jwt.Audience{v.Audience}
	}
	switch err := claims.ValidateWithLeeway(expected, leeway); {
	case errors.Is(err, jwt.ErrExpired):
		return until, ErrExpired
	case err != nil:
		return until, ErrToken
	}
	return claims.Expiry.Time().Add(leeway), nil
}

// key is the one that the token names, or the first when it names none, if it is for the token's algorithm.
func (v *Verifier) key(h jose.Header) any {
	at := 0
	if h.KeyID != "" {
		at = slices.IndexFunc(v.Keys, func(key snapshot.VerifyingKey) bool { return key.ID == h.KeyID })
	}
	if at < 0 || at >= len(v.Keys) || !slices.Contains(v.Keys[at].Algorithms, jose.SignatureAlgorithm(h.Algorithm)) {
		return nil
	}
	return v.Keys[at].Key
}

// Decoy verifies the signature with a key that is nobody's, so that the time of a refusal does not tell whether the token
// names somebody.
func (t *Token) Decoy() { _ = t.signed.Claims(decoys[jose.SignatureAlgorithm(t.header.Algorithm)]) }
