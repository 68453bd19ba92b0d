// Package signature proves who sent a request: ACS3-HMAC-SHA256, and the older RPC-V1 and ROA-V1.
package signature

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/secret"
)

// Window is how far a request's date may lie from now, on either side.
const Window = 15 * time.Minute

// The dialects a request can be signed in.
const (
	ACS3  = "acs3"
	RPCV1 = "rpc-v1"
	ROAV1 = "roa-v1"
)

// Key is an access key and the principal it belongs to.
type Key struct {
	ID     string
	Secret secret.Secret
	Active bool
	Caller access.Caller // all but SourceIP and Secure
}

// Keys finds access keys. An unknown id is ErrUnknownKey.
type Keys interface {
	Find(ctx context.Context, accessKeyID string) (Key, error)
}

// Nonces remembers what was signed with, for all processes together. A nonce that was spent is ErrNonceUsed; a
// signedAt of which it cannot tell is ErrExpired.
type Nonces interface {
	Spend(ctx context.Context, accessKeyID, nonce string, signedAt time.Time) error
}

// Verified is what a request proved about itself.
type Verified struct {
	Caller  access.Caller
	Dialect string     // ACS3, RPCV1 or ROAV1
	Params  url.Values // of query and form together, each once; without the parameters RPC-V1 itself needs
	Action  string     // may be empty in ROAV1
	Version string
}

// Verifier checks signed requests. It is safe for concurrent use.
type Verifier struct {
	keys   Keys
	nonces Nonces
	now    func() time.Time
	dummy  secret.Secret // signs in place of an unknown key's secret, so that both take the same work
}

// New returns a Verifier that asks keys and spends nonces.
func New(keys Keys, nonces Nonces, now func() time.Time) *Verifier {
	return &Verifier{keys: keys, nonces: nonces, now: now, dummy: secret.New(rand.Text())}
}

// Verify proves who sent r, whose body was read into body and is no larger than the caller's limit. The order of the
// steps matters: nothing is looked up for a request out of time, an unknown key costs what a known one costs, and a
// nonce is spent only by who could sign. Every refusal is a fault.
func (v *Verifier) Verify(r *http.Request, body []byte) (Verified, error) {
	c, err := read(r, body)
	if err != nil {
		return Verified{}, err
	}
	if skew := v.now().Sub(c.signedAt); skew.Abs() > Window {
		return Verified{}, ErrExpired
	}
	key, err := v.proven(r.Context(), c)
	if err != nil {
		return Verified{}, err
	}
	if err := v.nonces.Spend(r.Context(), c.accessKeyID, c.nonce, c.signedAt); err != nil {
		return Verified{}, fmt.Errorf("spend the nonce: %w", err)
	}
	return Verified{Caller: key.Caller, Dialect: c.dialect, Params: c.params, Action: c.action, Version: c.version}, nil
}

// proven returns the key of the claim if it was signed with that key and the key is active.
func (v *Verifier) proven(ctx context.Context, c claim) (Key, error) {
	key, err := v.keys.Find(ctx, c.accessKeyID)
	unknown := errors.Is(err, ErrUnknownKey)
	if err != nil && !unknown {
		return Key{}, fmt.Errorf("find the access key: %w", err)
	}
	if unknown {
		key.Secret = v.dummy
	} else if key.Secret.IsZero() {
		return Key{}, errors.New("find the access key: it has no secret") // anyone can sign with none
	}
	stringToSign, signature, err := c.sign(key.Secret)
	matches := subtle.ConstantTimeCompare([]byte(signature), []byte(c.signature)) == 1
	switch {
	case unknown:
		return Key{}, ErrUnknownKey
	case err != nil:
		return Key{}, err
	case !matches:
		return Key{}, mismatch(stringToSign)
	case !key.Active:
		return Key{}, ErrInactiveKey
	}
	return key, nil
}
