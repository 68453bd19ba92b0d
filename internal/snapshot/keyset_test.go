package snapshot_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/snapshot"
)

var encode = base64.RawURLEncoding.EncodeToString

func set(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

func shared(bytes int, members string) string {
	return fmt.Sprintf(`{"kty":"oct","k":"%s"%s}`, encode(make([]byte, bytes)), members)
}

func ofRSA(t *testing.T, bits int, members string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(t, err)
	return fmt.Sprintf(`{"kty":"RSA","n":"%s","e":"AQAB"%s}`, encode(key.N.Bytes()), members)
}

func ofEC(t *testing.T, name string, curve elliptic.Curve, members string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	point, err := key.PublicKey.Bytes()
	require.NoError(t, err)
	size := (len(point) - 1) / 2
	return fmt.Sprintf(`{"kty":"EC","crv":"%s","x":"%s","y":"%s"%s}`, name, encode(point[1:1+size]), encode(point[1+size:]), members)
}

const ofEd25519 = `{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`

func TestKeyIsForTheAlgorithmsOfItsKindAndNoOther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key       string
		symmetric bool
		want      string
	}{
		{shared(32, ""), true, "[HS256]"},
		{shared(47, ""), true, "[HS256]"},
		{shared(48, ""), true, "[HS256 HS384]"},
		{shared(64, ""), true, "[HS256 HS384 HS512]"},
		{shared(100, `,"alg":"HS384"`), true, "[HS384]"},
		{ofRSA(t, 2048, ""), false, "[RS256 RS384 RS512 PS256 PS384 PS512]"},
		{ofRSA(t, 2048, `,"alg":"PS256","use":"sig"`), false, "[PS256]"},
		{ofEC(t, "P-256", elliptic.P256(), ""), false, "[ES256]"},
		{ofEC(t, "P-384", elliptic.P384(), ""), false, "[ES384]"},
		{ofEC(t, "P-521", elliptic.P521(), `,"alg":"ES512"`), false, "[ES512]"},
		{ofEd25519, false, "[EdDSA]"},
	} {
		keys, err := snapshot.ReadKeySet(set(c.key), c.symmetric)
		require.NoError(t, err, c.key)
		require.Equal(t, c.want, fmt.Sprint(keys[0].Algorithms), c.key)
	}
	keys, err := snapshot.ReadKeySet(set(ofRSA(t, 2048, `,"use":"enc","alg":"RSA-OAEP"`), ofEd25519), false)
	require.NoError(t, err)
	require.Len(t, keys, 1, "keys for encryption are left out")
	require.Equal(t, "ed", keys[0].ID)
}

func TestKeySetThatTokensCouldNotBeTrustedByIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text      string
		symmetric bool
		want      string
	}{
		"no JSON":                 {"canary", true, "JSON Web Key Set"},
		"no set":                  {shared(32, ""), true, "0 keys"},
		"no keys":                 {set(), true, "0 keys"},
		"17 keys":                 {set(many(17)...), true, "17 keys"},
		"no more than encryption": {set(ofRSA(t, 2048, `,"use":"enc"`)), false, "0 keys"},
		"keys twice":              {`{"keys":[],"keys":[` + shared(32, "") + `]}`, true, "JSON Web Key Set"},
		"the same kid":            {set(shared(32, `,"kid":"a"`), shared(33, `,"kid":"a"`)), true, "key 2 has the same kid"},
		"a short secret":          {set(shared(31, "")), true, "too short"},
		"an empty secret":         {set(`{"kty":"oct","k":""}`), true, "too short"},
		"short for its alg":       {set(shared(32, `,"alg":"HS512"`)), true, "too short"},
		"a short RSA key":         {set(ofRSA(t, 1024, "")), false, "too short"},
		"alg none":                {set(strings.TrimSuffix(ofEd25519, "}") + `,"alg":"none"}`), false, "its alg"},
		"a public key's HS256":    {set(ofRSA(t, 2048, `,"alg":"HS256"`)), false, "its alg"},
		"a secret among public":   {set(ofEd25519, shared(32, "")), false, "secretType"},
		"a public key as secret":  {set(ofEd25519), true, "secretType"},
		"a private key":           {set(strings.TrimSuffix(ofEd25519, "}") + `,"d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}`), false, "public part alone"},
		"one for encryption":      {set(ofEd25519, strings.TrimSuffix(ofEd25519, "}")+`,"use":"enc","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}`), false, "key 2 is not a public key"},
		"an unknown kind":         {set(`{"kty":"FAX"}`), false, "JSON Web Key Set"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := snapshot.ReadKeySet(c.text, c.symmetric)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "canary")
		})
	}
}

func many(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = shared(32, fmt.Sprintf(`,"kid":"%d"`, i))
	}
	return keys
}
