package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"

	"github.com/go-jose/go-jose/v4"
)

// decoys are keys that nothing is ever verified with for good: it is their cost that counts, by algorithm.
var decoys = makeDecoys()

func makeDecoys() map[jose.SignatureAlgorithm]any {
	secret := make([]byte, 64)
	_, _ = rand.Read(secret) // never fails
	// No product of primes, but as large as one, and made in no time.
	modulus := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 2048), big.NewInt(1))
	public := &rsa.PublicKey{N: modulus, E: 65537}
	edwards := ed25519.NewKeyFromSeed(secret[:ed25519.SeedSize]).Public()
	return map[jose.SignatureAlgorithm]any{
		jose.HS256: secret, jose.HS384: secret, jose.HS512: secret,
		jose.RS256: public, jose.RS384: public, jose.RS512: public, jose.PS256: public, jose.PS384: public, jose.PS512: public,
		jose.ES256: curveKey(elliptic.P256()), jose.ES384: curveKey(elliptic.P384()), jose.ES512: curveKey(elliptic.P521()),
		jose.EdDSA: edwards,
	}
}

func curveKey(curve elliptic.Curve) *ecdsa.PublicKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err) // the curves are the standard library's own
	}
	return &key.PublicKey
}
