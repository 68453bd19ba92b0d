// Package signature proves who sent a request: ACS3-HMAC-SHA256, and the older RPC-V1 and ROA-V1.
package signature

import (
	"context"
	"crypto/rand"
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

	TokenHash []byte    // SHA-256 of the security token that goes with the key of a session; nil for any other key
	Expires   time.Time // of a session
}

// Keys finds access keys. An unknown id is ErrUnknownKey.
type Keys interface {
	Find(ctx context.Context, accessKeyID string) (Key, error)
}

// Nonces remembers what was signed with, for all processes together. Spend also returns the key as it is at that moment,
// so that a signature that was checked with the key of an earlier call needs no second question. A nonce that was spent
// is ErrNonceUsed; a signedAt of which it cannot tell is ErrExpired.
type Nonces interface {
	Spend(ctx context.Context, accessKeyID, nonce string, signedAt time.Time) (Key, error)
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
	recent recentSecrets
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
	signedWith, err := v.proven(r.Context(), c)
	if err != nil {
		return Verified{}, err
	}
	key, err := v.spend(r.Context(), c, signedWith)
	if err != nil {
		return Verified{}, err
	}
	if err := key.checkToken(c.token, v.now()); err != nil {
		return Verified{}, err
	}
	return Verified{Caller: key.Caller, Dialect: c.dialect, Params: c.params, Action: c.action, Version: c.version}, nil
}

// proven returns the secret that the claim was signed with: the one its key had a moment ago, or has now.
func (v *Verifier) proven(ctx context.Context, c claim) (secret.Secret, error) {
	recent, known := v.recent.get(c.accessKeyID)
	if !known {
		recent = v.dummy
	}
	if _, matches, err := c.signedWith(recent); known && matches && err == nil {
		return recent, nil
	}
	key, err := v.keys.Find(ctx, c.accessKeyID)
	unknown := errors.Is(err, ErrUnknownKey)
	if err != nil && !unknown {
		return secret.Secret{}, fmt.Errorf("find the access key: %w", err)
	}
	if unknown {
		key.Secret = v.dummy
	} else if key.Secret.IsZero() {
		return secret.Secret{}, errors.New("find the access key: it has no secret") // anyone can sign with none
	}
	stringToSign, matches, err := c.signedWith(key.Secret)
	switch {
	case unknown:
		return secret.Secret{}, ErrUnknownKey
	case err != nil:
		return secret.Secret{}, err
	case !matches:
		return secret.Secret{}, c.mismatch(stringToSign)
	case !key.Active:
		return secret.Secret{}, ErrInactiveKey
	}
	v.recent.put(c.accessKeyID, key.Secret)
	return key.Secret, nil
}

// spend spends the nonce of a claim that was signed with a secret, and returns its key if that is still the key's secret
// and the key is active.
func (v *Verifier) spend(ctx context.Context, c claim, signedWith secret.Secret) (Key, error) {
	key, err := v.nonces.Spend(ctx, c.accessKeyID, c.nonce, c.signedAt)
	switch {
	case errors.Is(err, ErrUnknownKey):
		v.recent.forget(c.accessKeyID)
		return Key{}, ErrUnknownKey
	case err != nil:
		return Key{}, fmt.Errorf("spend the nonce: %w", err)
	case key.Secret != signedWith:
		v.recent.forget(c.accessKeyID)
		return Key{}, ErrMismatch
	case !key.Active:
		v.recent.forget(c.accessKeyID)
		return Key{}, ErrInactiveKey
	}
	return key, nil
}
