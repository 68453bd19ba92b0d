package snapshot

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	maxVerifyingKeys = 16
	minRSABits       = 2048
)

// VerifyingKey is one key that tokens may be signed with, and how.
type VerifyingKey struct {
	ID         string // the kid that names it; "": none does
	Algorithms []jose.SignatureAlgorithm
	Key        any // a public key, or the bytes of a shared secret
}

// ReadKeySet reads a JSON Web Key Set: of shared secrets when it is symmetric, of public keys when it is not, so that no
// public key is ever taken for a secret. Keys that are for encryption are left out. Its errors do not show the set.
func ReadKeySet(text string, symmetric bool) ([]VerifyingKey, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(text), &set); err != nil {
		return nil, errors.New(`it is not a JSON Web Key Set, {"keys":[…]}, of keys that tokens can be signed with`)
	}
	var keys []VerifyingKey
	for i, key := range set.Keys {
		if key.Use == "enc" && (symmetric || key.IsPublic()) {
			continue
		}
		algorithms, err := algorithmsOf(key, symmetric)
		if err != nil {
			return nil, fmt.Errorf("key %d %w", i+1, err)
		}
		if slices.ContainsFunc(keys, func(other VerifyingKey) bool { return other.ID == key.KeyID }) {
			return nil, fmt.Errorf("key %d has the same kid as one before it", i+1)
		}
		keys = append(keys, VerifyingKey{key.KeyID, algorithms, key.Key})
	}
	if len(keys) == 0 || len(keys) > maxVerifyingKeys {
		return nil, fmt.Errorf("it has %d keys that tokens can be signed with; it has from 1 to %d", len(keys), maxVerifyingKeys)
	}
	return keys, nil
}

// algorithmsOf are those that a token which names the key may be signed with: the one that the key names, or all that are
// for keys of its kind.
func algorithmsOf(key jose.JSONWebKey, symmetric bool) ([]jose.SignatureAlgorithm, error) {
	if _, shared := key.Key.([]byte); shared != symmetric {
		return nil, errors.New("is not of the secretType: Symmetry has keys of kty oct, Asymmetry has none")
	}
	var fitting []jose.SignatureAlgorithm
	switch k := key.Key.(type) {
	case []byte: // as long as the hash, RFC 7518: from 32, 48 and 64 bytes
		fitting = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512}[:min(max(len(k)/16-1, 0), 3)]
	case *rsa.PublicKey:
		if k.N.BitLen() >= minRSABits {
			fitting = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
		}
	case *ecdsa.PublicKey:
		fitting = map[int][]jose.SignatureAlgorithm{256: {jose.ES256}, 384: {jose.ES384}, 521: {jose.ES512}}[k.Curve.Params().BitSize]
	case ed25519.PublicKey:
		fitting = []jose.SignatureAlgorithm{jose.EdDSA}
	default:
		return nil, errors.New("is not a public key: send the public part alone")
	}
	if named := jose.SignatureAlgorithm(key.Algorithm); named != "" {
		fitting = slices.DeleteFunc(fitting, func(a jose.SignatureAlgorithm) bool { return a != named })
	}
	if len(fitting) == 0 {
		return nil, fmt.Errorf("is too short, or its alg is not for keys of its kind: secrets have 32 bytes for HS256, 48 for HS384 "+
			"and 64 for HS512, RSA keys %d bits", minRSABits)
	}
	return fitting, nil
}
