package gateway_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const account = "1000000000000001"

type members map[string]any

var encode = base64.RawURLEncoding.EncodeToString

// signer signs tokens with the standard library alone, and knows its own key as a gateway is given it.
type signer struct {
	alg string
	jwk string
	mac func(text []byte) []byte
}

// token is a signed token with these claims, beside an exp an hour away unless they have one.
func (s signer) token(claims members) string { return s.tokenWith(members{"alg": s.alg}, claims) }

func (s signer) tokenWith(header, claims members) string {
	all := members{"exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range claims {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	head, _ := json.Marshal(header)
	body, _ := json.Marshal(all)
	text := encode(head) + "." + encode(body)
	return text + "." + encode(s.mac([]byte(text)))
}

func hashed(newHash func() hash.Hash, text []byte) []byte {
	h := newHash()
	_, _ = h.Write(text)
	return h.Sum(nil)
}

func bySecret(alg string, key []byte, newHash func() hash.Hash) signer {
	return signer{alg, fmt.Sprintf(`{"kty":"oct","k":"%s"}`, encode(key)), func(text []byte) []byte {
		mac := hmac.New(newHash, key)
		_, _ = mac.Write(text)
		return mac.Sum(nil)
	}}
}

func byRSA(alg string, key *rsa.PrivateKey, h crypto.Hash, pss bool) signer {
	jwk := fmt.Sprintf(`{"kty":"RSA","n":"%s","e":"AQAB"}`, encode(key.N.Bytes()))
	return signer{alg, jwk, func(text []byte) (signature []byte) {
		if pss {
			signature, _ = rsa.SignPSS(rand.Reader, key, h, hashed(h.New, text), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			signature, _ = rsa.SignPKCS1v15(rand.Reader, key, h, hashed(h.New, text))
		}
		return signature
	}}
}

func byCurve(t *testing.T, alg, name string, curve elliptic.Curve, h crypto.Hash) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	point, err := key.PublicKey.Bytes()
	require.NoError(t, err)
	size := (len(point) - 1) / 2
	jwk := fmt.Sprintf(`{"kty":"EC","crv":"%s","x":"%s","y":"%s"}`, name, encode(point[1:1+size]), encode(point[1+size:]))
	return signer{alg, jwk, func(text []byte) []byte {
		r, s, _ := ecdsa.Sign(rand.Reader, key, hashed(h.New, text))
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}}
}

func byEdwards(t *testing.T) signer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return signer{"EdDSA", fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":"%s"}`, encode(public)), func(text []byte) []byte {
		return ed25519.Sign(private, text)
	}}
}

// withKid is the key with an id.
func withKid(jwk, kid string) string { return strings.TrimSuffix(jwk, "}") + `,"kid":"` + kid + `"}` }

// tokenConsumer is known by uid = value in tokens of the keys, and may call the APIs.
func (r *rig) tokenConsumer(value string, symmetric bool, keys []string, allowed ...string) snapshot.Consumer {
	r.t.Helper()
	c := snapshot.Consumer{ID: ids.New(ids.Consumer), Name: value, AccountID: account, Allowed: allowed}
	sealed, err := r.box.Seal(snapshot.TokenKeysPurpose(c.ID), secret.New(`{"keys":[`+strings.Join(keys, ",")+`]}`))
	require.NoError(r.t, err)
	c.Token = &snapshot.ConsumerToken{
		SealedKeys: sealed, Symmetric: symmetric, Claim: "uid", Value: value, Source: "Header", Name: "authorization", Prefix: "Bearer",
	}
	return c
}

// guarded is an API of the account whose consumers prove who they are in this way.
func guarded(service string, authType snapshot.AuthType, basePath string) snapshot.ModelAPI {
	a := apiOf(service, chatRoute, "OpenAI/v1 GET Exact /v1/models", "OpenAI/v1 POST Exact /v1/files")
	a.AccountID, a.Auth, a.AuthType, a.BasePath = account, true, authType, basePath
	return a
}

// seenBy is an engine that answers hello, and everything of the last request that it saw.
func seenBy(t *testing.T) (*engine, func() string) {
	t.Helper()
	var seen atomic.Value
	e := newEngine(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen.Store(fmt.Sprint(r.Header, r.RequestURI, r.Host, string(body)))
		_, _ = io.WriteString(w, "hello")
	})
	return e, func() string { return seen.Load().(string) }
}

func (r *rig) bearing(tokens ...string) *http.Request {
	r.t.Helper()
	q := request(r.t, http.MethodGet, r.at("/v1/models"), "")
	q.Header.Del("Authorization")
	for _, token := range tokens {
		q.Header.Add("Authorization", "Bearer "+token)
	}
	return q
}

func TestTokensOfEveryAlgorithmOpenTheAPIOfTheirConsumer(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e, seen := seenBy(t)
	s := g.outside(e.URL)
	a := guarded(s.ID, snapshot.AuthByToken, "/")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	signers := []signer{
		bySecret("HS256", []byte("a shared secret of 32 characters"), sha256.New),
		bySecret("HS384", []byte(strings.Repeat("b", 48)), sha512.New384), bySecret("HS512", []byte(strings.Repeat("c", 64)), sha512.New),
		byRSA("RS256", key, crypto.SHA256, false), byRSA("RS384", key, crypto.SHA384, false), byRSA("RS512", key, crypto.SHA512, false),
		byRSA("PS256", key, crypto.SHA256, true), byRSA("PS384", key, crypto.SHA384, true), byRSA("PS512", key, crypto.SHA512, true),
		byCurve(t, "ES256", "P-256", elliptic.P256(), crypto.SHA256), byCurve(t, "ES384", "P-384", elliptic.P384(), crypto.SHA384),
		byCurve(t, "ES512", "P-521", elliptic.P521(), crypto.SHA512), byEdwards(t),
	}
	things := []any{s, a}
	for _, signer := range signers {
		things = append(things, g.tokenConsumer(signer.alg, strings.HasPrefix(signer.alg, "HS"), []string{signer.jwk}, a.ID))
	}
	g.serveAll(things...)
	for _, signer := range signers {
		token := signer.token(members{"uid": signer.alg})
		for range 3 { // the first is verified, the others are remembered
			got := do(t, g.bearing(token))
			require.Equal(t, []any{200, "hello"}, []any{got.status, got.body}, signer.alg)
			require.NotContains(t, seen(), token)
			require.Contains(t, seen(), upstreamKey)
		}
		for _, other := range signers { // the same claim, signed with the key of another
			if other.jwk != signer.jwk {
				require.Equal(t, 401, do(t, g.bearing(other.token(members{"uid": signer.alg}))).status, "%s for %s", other.alg, signer.alg)
			}
		}
	}
}

func TestForgedTokensAreRefused(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e, _ := seenBy(t)
	s := g.outside(e.URL)
	a := guarded(s.ID, snapshot.AuthByToken, "/")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	mine, other := byRSA("RS256", key, crypto.SHA256, false), byEdwards(t)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	pem := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	confused := bySecret("HS256", pem, sha256.New)
	alice := g.tokenConsumer("alice", false, []string{withKid(mine.jwk, "1"), withKid(other.jwk, "2")}, a.ID)
	alice.Token.Issuer, alice.Token.Audience = "https://login.example.com", "models"
	stranger := g.tokenConsumer("stranger", false, []string{other.jwk})
	theirs := g.tokenConsumer("theirs", false, []string{other.jwk}, a.ID)
	theirs.AccountID = "1000000000000002"
	g.serveAll(s, a, alice, stranger, theirs)
	now := time.Now().Unix()
	claims := func(change members) members {
		all := members{"uid": "alice", "iss": "https://login.example.com", "aud": []string{"other", "models"}}
		for name, value := range change {
			all[name] = value
		}
		return all
	}
	good := mine.token(claims(nil))
	parts := strings.Split(good, ".")
	raw := func(text string) string { return encode([]byte(text)) }
	for name, c := range map[string]struct {
		tokens []string
		want   any
	}{
		"good":                       {[]string{good}, 200},
		"good, aud as text":          {[]string{mine.token(claims(members{"aud": "models"}))}, 200},
		"good, by kid":               {[]string{other.tokenWith(members{"alg": "EdDSA", "kid": "2"}, claims(nil))}, 200},
		"good, clocks differ":        {[]string{mine.token(claims(members{"exp": now - 50, "nbf": now + 50, "iat": now + 50}))}, 200},
		"none":                       {nil, "invalid_token"},
		"empty":                      {[]string{""}, "invalid_token"},
		"no token":                   {[]string{"sk-key"}, "invalid_token"},
		"an API key beside it":       {[]string{good, "sk-key"}, "invalid_token"},
		"twice":                      {[]string{good, good}, "invalid_token"},
		"expired":                    {[]string{mine.token(claims(members{"exp": now - 70}))}, "token_expired"},
		"expired, forged":            {[]string{other.tokenWith(members{"alg": "EdDSA", "kid": "1"}, claims(members{"exp": now - 70}))}, "invalid_token"},
		"without exp":                {[]string{mine.token(claims(members{"exp": nil}))}, "invalid_token"},
		"exp as text":                {[]string{mine.token(claims(members{"exp": "never"}))}, "invalid_token"},
		"not yet":                    {[]string{mine.token(claims(members{"nbf": now + 120}))}, "invalid_token"},
		"issued in the future":       {[]string{mine.token(claims(members{"iat": now + 120}))}, "invalid_token"},
		"another issuer":             {[]string{mine.token(claims(members{"iss": "https://login.example.com/"}))}, "invalid_token"},
		"no issuer":                  {[]string{mine.token(claims(members{"iss": nil}))}, "invalid_token"},
		"another audience":           {[]string{mine.token(claims(members{"aud": "models2"}))}, "invalid_token"},
		"no audience":                {[]string{mine.token(claims(members{"aud": nil}))}, "invalid_token"},
		"nobody":                     {[]string{mine.token(claims(members{"uid": "bob"}))}, "invalid_token"},
		"no claim":                   {[]string{mine.token(claims(members{"uid": nil}))}, "invalid_token"},
		"the claim in another case":  {[]string{mine.token(claims(members{"uid": nil, "UID": "alice"}))}, "invalid_token"},
		"the claim in a list":        {[]string{mine.token(claims(members{"uid": []string{"alice"}}))}, "invalid_token"},
		"alg none":                   {[]string{raw(`{"alg":"none"}`) + "." + parts[1] + "."}, "invalid_token"},
		"alg None":                   {[]string{raw(`{"alg":"None"}`) + "." + parts[1] + "." + parts[2]}, "invalid_token"},
		"no alg":                     {[]string{raw(`{}`) + "." + parts[1] + "." + parts[2]}, "invalid_token"},
		"a public key as a secret":   {[]string{confused.token(claims(nil))}, "invalid_token"},
		"the same, of its kid":       {[]string{confused.tokenWith(members{"alg": "HS256", "kid": "1"}, claims(nil))}, "invalid_token"},
		"its JWK as a secret":        {[]string{bySecret("HS256", []byte(mine.jwk), sha256.New).token(claims(nil))}, "invalid_token"},
		"its modulus as a secret":    {[]string{bySecret("HS256", key.N.Bytes(), sha256.New).token(claims(nil))}, "invalid_token"},
		"a key of its own":           {[]string{byEdwards(t).tokenWith(members{"alg": "EdDSA", "kid": "2"}, claims(nil))}, "invalid_token"},
		"a key in its header":        {[]string{other.tokenWith(members{"alg": "EdDSA", "jwk": json.RawMessage(other.jwk)}, claims(nil))}, "invalid_token"},
		"a key elsewhere":            {[]string{other.tokenWith(members{"alg": "EdDSA", "jku": e.URL}, claims(nil))}, "invalid_token"},
		"an unknown kid":             {[]string{mine.tokenWith(members{"alg": "RS256", "kid": "3"}, claims(nil))}, "invalid_token"},
		"another key's kid":          {[]string{mine.tokenWith(members{"alg": "RS256", "kid": "2"}, claims(nil))}, "invalid_token"},
		"an extension that is vital": {[]string{mine.tokenWith(members{"alg": "RS256", "crit": []string{"x"}, "x": 1}, claims(nil))}, "invalid_token"},
		"another payload":            {[]string{parts[0] + "." + raw(`{"uid":"alice","exp":99999999999}`) + "." + parts[2]}, "invalid_token"},
		"no signature":               {[]string{parts[0] + "." + parts[1] + "."}, "invalid_token"},
		"two parts":                  {[]string{parts[0] + "." + parts[1]}, "invalid_token"},
		"encrypted":                  {[]string{good + ".x.y"}, "invalid_token"},
		"as JSON":                    {[]string{fmt.Sprintf(`{"protected":"%s","payload":"%s","signature":"%s"}`, parts[0], parts[1], parts[2])}, "invalid_token"},
		"a claim twice":              {[]string{twice(mine, `{"uid":"alice","uid":"stranger","exp":99999999999}`)}, "invalid_token"},
		"9 KiB":                      {[]string{mine.token(claims(members{"x": strings.Repeat("x", 9<<10)}))}, "invalid_token"},
		"a known one without a rule": {[]string{other.token(members{"uid": "stranger"})}, "consumer_not_authorized"},
		"of another account":         {[]string{other.token(members{"uid": "theirs"})}, "invalid_token"},
	} {
		before := e.calls.Load()
		got := do(t, g.bearing(c.tokens...))
		if c.want == 200 {
			require.Equal(t, 200, got.status, "%s: %s", name, got.body)
			continue
		}
		require.Equal(t, c.want, got.code(t), name)
		require.Equal(t, map[bool]int{true: 401, false: 403}[c.want != "consumer_not_authorized"], got.status, name)
		require.Equal(t, before, e.calls.Load(), name)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	require.NoError(t, err)
	for i := range signature {
		signature[i] ^= 1
		require.Equal(t, 401, do(t, g.bearing(parts[0]+"."+parts[1]+"."+encode(signature))).status, "byte %d", i)
		signature[i] ^= 1
	}
	require.NotContains(t, g.logs.String(), parts[2])
}

// twice signs a payload as it is written.
func twice(s signer, payload string) string {
	text := encode([]byte(`{"alg":"`+s.alg+`"}`)) + "." + encode([]byte(payload))
	return text + "." + encode(s.mac([]byte(text)))
}

func TestTokenIsTakenWhereItsConsumerCarriesIt(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e, seen := seenBy(t)
	s := g.outside(e.URL)
	a, others := guarded(s.ID, snapshot.AuthByToken, "/"), guarded(s.ID, snapshot.AuthByToken, "/others")
	signer := byEdwards(t)
	at := func(value, source, name, prefix string, allowed ...string) snapshot.Consumer {
		c := g.tokenConsumer(value, false, []string{signer.jwk}, allowed...)
		c.Token.Source, c.Token.Name, c.Token.Prefix = source, name, prefix
		return c
	}
	g.serveAll(s, a, others, at("bearer", "Header", "Authorization", "Bearer", a.ID), at("bare", "Header", "authorization", "", a.ID),
		at("header", "Header", "openai-token", "Token", a.ID), at("query", "QueryString", "access token", "", a.ID),
		at("elsewhere", "Header", "X-Elsewhere", "", others.ID), at("7", "Header", "Authorization", "Bearer", a.ID))
	token := func(value any) string { return signer.token(members{"uid": value}) }
	for name, c := range map[string]struct {
		path   string
		header []string
		status int
	}{
		"bearer":                    {"/v1/models", []string{"Authorization", "bearer " + token("bearer")}, 200},
		"a number":                  {"/v1/models", []string{"Authorization", "Bearer " + token(7)}, 200},
		"bare":                      {"/v1/models", []string{"Authorization", token("bare")}, 200},
		"bare as bearer":            {"/v1/models", []string{"Authorization", "Bearer " + token("bare")}, 401},
		"bearer as bare":            {"/v1/models", []string{"Authorization", token("bearer")}, 401},
		"another prefix":            {"/v1/models", []string{"Authorization", "Basic " + token("bearer")}, 401},
		"header":                    {"/v1/models", []string{"Openai-Token", "TOKEN " + token("header")}, 200},
		"header without its prefix": {"/v1/models", []string{"Openai-Token", token("header")}, 401},
		"query":                     {"/v1/models?a=%2f&access+token=" + token("query") + "&b=2", nil, 200},
		"query, escaped":            {"/v1/models?a=%2f&access%20t%6fken=" + token("query") + "&b=2", nil, 200},
		"query, twice":              {"/v1/models?access+token=" + token("query") + "&access+token=" + token("query"), nil, 401},
		"header's in the query":     {"/v1/models?access+token=" + token("bearer"), nil, 401},
		"two places":                {"/v1/models?access+token=" + token("query"), []string{"Authorization", "Bearer " + token("bearer")}, 401},
		"the same in two places":    {"/v1/models", []string{"Authorization", "Bearer " + token("bearer"), "Openai-Token", "Token " + token("bearer")}, 401},
		"elsewhere":                 {"/v1/models", []string{"X-Elsewhere", token("elsewhere")}, 403},
		"elsewhere, forged":         {"/v1/models", []string{"X-Elsewhere", byEdwards(t).token(members{"uid": "elsewhere"})}, 401},
		"known, another API's":      {"/others/v1/models", []string{"Authorization", "Bearer " + token("bearer")}, 403},
	} {
		r := request(t, http.MethodGet, g.at(c.path), "")
		r.Header = http.Header{}
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Add(c.header[i], c.header[i+1])
		}
		got := do(t, r)
		require.Equal(t, c.status, got.status, "%s: %s", name, got.body)
		if c.status == 200 {
			require.NotContains(t, seen(), "eyJ", name)
		}
		if strings.HasPrefix(name, "query") && c.status == 200 {
			require.Contains(t, seen(), "/v1/models?a=%2f&b=2", "the others are as they were sent")
		}
	}
}

func TestTokenOfTwoConsumersIsOfTheOneThatMayCall(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e, _ := seenBy(t)
	s := g.outside(e.URL)
	a, b := guarded(s.ID, snapshot.AuthByToken, "/"), guarded(s.ID, snapshot.AuthByToken, "/b")
	signer := byEdwards(t)
	alice := g.tokenConsumer("alice", false, []string{signer.jwk}, a.ID)
	team := g.tokenConsumer("search", false, []string{signer.jwk}, b.ID)
	team.Token.Claim = "team"
	g.serveAll(s, a, b, alice, team)
	r := g.bearing(signer.token(members{"uid": "alice", "team": "search"}))
	require.Equal(t, 200, do(t, r).status)
	r.URL.Path = "/b/v1/models"
	require.Equal(t, 200, do(t, r).status, "what was verified for one API says nothing about another")
	r = g.bearing(signer.token(members{"uid": "alice"}))
	require.Equal(t, 200, do(t, r).status)
	r.URL.Path = "/b/v1/models"
	require.Equal(t, 403, do(t, r).status)
}

func TestRevokedTokenOpensNothing(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e, _ := seenBy(t)
	s := g.outside(e.URL)
	a := guarded(s.ID, snapshot.AuthByToken, "/")
	signer, next := byEdwards(t), byEdwards(t)
	alice := g.tokenConsumer("alice", false, []string{signer.jwk}, a.ID)
	g.serveAll(s, a, alice)
	token := signer.token(members{"uid": "alice"})
	status := func() int { return do(t, g.bearing(token)).status }
	require.Equal(t, []int{200, 200}, []int{status(), status()})

	began := time.Now()
	alice.Allowed = nil
	g.serveAll(alice)
	require.Equal(t, 403, status())
	require.Less(t, time.Since(began), 5*time.Second)
	alice.Allowed = []string{a.ID}
	g.serveAll(alice)
	require.Equal(t, []int{200, 200}, []int{status(), status()})

	rotated := g.tokenConsumer("alice", false, []string{next.jwk}, a.ID)
	rotated.ID = alice.ID
	sealed, err := g.box.Seal(snapshot.TokenKeysPurpose(alice.ID), secret.New(`{"keys":[`+next.jwk+`]}`))
	require.NoError(t, err)
	rotated.Token.SealedKeys = sealed
	g.serveAll(rotated)
	require.Equal(t, 401, status(), "the key is another one")
	require.Equal(t, 200, do(t, g.bearing(next.token(members{"uid": "alice"}))).status)
	g.serveAll(item{kind: snapshot.KindConsumer, id: alice.ID})
	require.Equal(t, 401, do(t, g.bearing(next.token(members{"uid": "alice"}))).status)
}

func TestConsumersOfOtherKindsDoNotOpenAnAPI(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e, _ := seenBy(t)
	s := g.outside(e.URL)
	signer := byEdwards(t)
	apis := map[snapshot.AuthType]snapshot.ModelAPI{}
	all := []string{}
	things := []any{s}
	for _, kind := range []snapshot.AuthType{snapshot.AuthByKey, snapshot.AuthByToken, snapshot.AuthBySignature} {
		apis[kind] = guarded(s.ID, kind, "/api"+kind.String())
		all, things = append(all, apis[kind].ID), append(things, apis[kind])
	}
	keyed := consumer("sk-key", "Default", "", all...)
	keyed.AccountID = account
	g.serveAll(append(things, keyed, g.tokenConsumer("alice", false, []string{signer.jwk}, all...), g.signing("search-team", signingSecret, all...))...)
	for kind, a := range apis {
		for with, proof := range map[snapshot.AuthType]func(*http.Request){
			snapshot.AuthByKey:       func(r *http.Request) { r.Header.Set("Authorization", "Bearer sk-key") },
			snapshot.AuthByToken:     func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+signer.token(members{"uid": "alice"})) },
			snapshot.AuthBySignature: func(r *http.Request) { sign(r, "search-team", "") },
		} {
			r := request(t, http.MethodGet, g.at(a.BasePath+"/v1/models"), "")
			r.Header.Del("Authorization")
			proof(r)
			require.Equal(t, map[bool]int{true: 200, false: 401}[kind == with], do(t, r).status, "%s for %s", with, kind)
		}
	}
}
