package e2e

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// tokenOf is a signed token of whoever uid names, for a minute.
func tokenOf(uid, alg string, sign func(text string) []byte) string {
	payload, _ := json.Marshal(map[string]any{"uid": uid, "exp": time.Now().Add(time.Minute).Unix()})
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"`+alg+`","typ":"JWT"}`)) + "." + encode(payload)
	return text + "." + encode(sign(text))
}

// signLikeAGatewayClient signs a chat completion with an access key, as clients of API gateways do.
func signLikeAGatewayClient(r *http.Request, ak, sk, body string) {
	sum := md5.Sum([]byte(body))
	contentMD5, milliseconds, nonce := base64.StdEncoding.EncodeToString(sum[:]), strconv.FormatInt(time.Now().UnixMilli(), 10), rand.Text()
	mac := hmac.New(sha256.New, []byte(sk))
	_, _ = fmt.Fprintf(mac, "POST\napplication/json\n%s\napplication/json\n\nx-ca-key:%s\nx-ca-nonce:%s\nx-ca-timestamp:%s\n%s",
		contentMD5, ak, nonce, milliseconds, r.URL.Path)
	for name, value := range map[string]string{
		"Accept": "application/json", "Content-MD5": contentMD5, "X-Ca-Key": ak, "X-Ca-Nonce": nonce, "X-Ca-Timestamp": milliseconds,
		"X-Ca-Signature-Headers": "x-ca-key,x-ca-nonce,x-ca-timestamp", "X-Ca-Signature": base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	} {
		r.Header.Set(name, value)
	}
}

func TestConsumersProveWhoTheyAreByTokensAndSignatures(t *testing.T) {
	t.Parallel()
	const sharedSecret, ownSecret = "a shared secret canary of 32 bytes", "a-secret-canary-of-the-search-team"
	upstream := newRecorder(t)
	s := newShed(t, pgtest.New(t))
	s.upstreams = []string{upstream.Listener.Addr().String()}
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey).(*darabonba)
	gatewayID, environment := seedGateway(t, c)
	service := newVIP(t, c, gatewayID, upstream.Listener.Addr().String())
	apis := map[string]string{}
	for _, kind := range []string{"Jwt", "AkSk"} {
		apis[kind] = newModelAPI(t, c, kind, "Text", "OpenAI/v1", "/"+kind, gatewayID, environment, service)
		_, err := c.roa("UpdateHttpApi", "PUT", "/v1/http-apis/"+apis[kind], map[string]any{
			"basePath": "/" + kind, "enableAuth": true, "authConfig": map[string]any{"authType": kind, "authMode": "Custom"},
		})
		require.NoError(t, err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	newIdentity := func(name string, identity map[string]any) (id string) {
		t.Helper()
		identity["name"], identity["gatewayType"] = name, "AI"
		made, err := c.roa("CreateConsumer", "POST", "/v1/consumers", identity)
		id = data(t, made, err).text("consumerId")
		for _, api := range apis {
			allow(t, c, id, api, environment)
		}
		return id
	}
	jwt := func(secretType, keys, uid string) map[string]any {
		return map[string]any{"jwtIdentityConfig": map[string]any{
			"type": "Jwt", "secretType": secretType, "jwks": `{"keys":[` + keys + `]}`, "jwtPayloadConfig": map[string]any{"payloadKeyValue": uid},
		}}
	}
	encode := base64.RawURLEncoding.EncodeToString
	alice := newIdentity("alice", jwt("Asymmetry", `{"kty":"OKP","crv":"Ed25519","x":"`+encode(public)+`"}`, "alice"))
	bob := newIdentity("bob", jwt("Symmetry", `{"kty":"oct","alg":"HS256","k":"`+encode([]byte(sharedSecret))+`"}`, "bob"))
	team := newIdentity("search-team", map[string]any{"akSkIdentityConfigs": []any{
		map[string]any{"type": "AkSk", "generateMode": "System"},
		map[string]any{"type": "AkSk", "generateMode": "Custom", "ak": "search-team", "sk": ownSecret},
	}})
	shown, err := c.roa("GetConsumer", "GET", "/v1/consumers/"+team, nil)
	keys := data(t, shown, err)["akSkIdentityConfigs"].([]any)
	made, brought := answer(keys[0].(map[string]any)), answer(keys[1].(map[string]any))
	require.Equal(t, []string{"search-team", "****team"}, []string{brought.text("ak"), brought.text("sk")})

	const body = `{"model":"m","messages":[]}`
	ask := func(kind string, prove func(*http.Request)) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.gateway+"/"+kind+"/v1/chat/completions", strings.NewReader(body))
		require.NoError(t, err)
		r.Host = environment + ".engineshed.localhost"
		r.Header.Set("Content-Type", "application/json")
		prove(r)
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, err)
		return response.StatusCode
	}
	bearing := func(token string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	}
	aliceToken := tokenOf("alice", "EdDSA", func(text string) []byte { return ed25519.Sign(private, []byte(text)) })
	bobToken := tokenOf("bob", "HS256", func(text string) []byte {
		mac := hmac.New(sha256.New, []byte(sharedSecret))
		_, _ = io.WriteString(mac, text)
		return mac.Sum(nil)
	})
	signed := func(ak, sk string) func(*http.Request) {
		return func(r *http.Request) { signLikeAGatewayClient(r, ak, sk, body) }
	}
	proofs := map[string]struct {
		kind string
		with func(*http.Request)
	}{
		"public keys":        {"Jwt", bearing(aliceToken)},
		"a shared secret":    {"Jwt", bearing(bobToken)},
		"a generated secret": {"AkSk", signed(made.text("ak"), made.text("sk"))},
		"its own secret":     {"AkSk", signed("search-team", ownSecret)},
	}
	for name, proof := range proofs {
		eventually(t, 10*time.Second, name, func() bool { return ask(proof.kind, proof.with) == 200 })
		other := map[string]string{"Jwt": "AkSk", "AkSk": "Jwt"}[proof.kind]
		require.Equal(t, 401, ask(other, proof.with), "%s for %s", name, other)
	}
	require.Equal(t, 401, ask("Jwt", bearing(bobToken[:len(bobToken)-4])))
	require.Equal(t, 401, ask("AkSk", signed("search-team", "another-secret-than-theirs")))

	seen := upstream.String()
	for name, canary := range map[string]string{
		"alice's token": aliceToken, "bob's token": bobToken, "bob's secret": sharedSecret, "the team's secret": ownSecret, "the team's other secret": made.text("sk"),
	} {
		require.NotContains(t, seen, canary, "the service was sent %s", name)
	}
	require.NotContains(t, strings.ToLower(seen), "x-ca-")

	// Each is revoked in its own way.
	for id, change := range map[string]map[string]any{
		alice: {"enable": false}, bob: {"jwtIdentityConfig": map[string]any{}}, team: {"akSkIdentityConfigs": []any{}},
	} {
		_, err := c.roa("UpdateConsumer", "PUT", "/v1/consumers/"+id, change)
		require.NoError(t, err)
	}
	for name, proof := range proofs {
		eventually(t, 5*time.Second, name+" is revoked", func() bool { return ask(proof.kind, proof.with) == 401 })
	}
}
