package signature_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/secret"
)

// The signer of these tests is written from the specification and shares no code with the verifier.

const (
	keyID     = "AKexample"
	keySecret = "the-secret"
)

var now = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// call is a request as text, so that a test can say exactly what is on the wire.
type call struct {
	method, target string
	headers        [][2]string
	body           string
}

func (c call) with(name, value string) call {
	c.headers = append(append([][2]string{}, c.headers...), [2]string{name, value})
	return c
}

func (c call) set(name, value string) call { return c.without(name).with(name, value) }

func (c call) without(name string) call {
	var rest [][2]string
	for _, header := range c.headers {
		if header[0] != name {
			rest = append(rest, header)
		}
	}
	c.headers = rest
	return c
}

func (c call) header(name string) string {
	for _, header := range c.headers {
		if header[0] == name {
			return header[1]
		}
	}
	return ""
}

func (c call) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", c.method, c.target)
	for _, header := range c.headers {
		fmt.Fprintf(&b, "%s: %s\r\n", header[0], header[1])
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(c.body), c.body)
	return b.String()
}

// oracleEncode is RFC 3986 by way of the library's form encoding.
func oracleEncode(s string) string {
	return strings.NewReplacer("+", "%20", "%7E", "~").Replace(url.QueryEscape(s))
}

func sortedPairs(params url.Values) string {
	var pairs []string
	for name := range params {
		pairs = append(pairs, oracleEncode(name)+"="+oracleEncode(params.Get(name)))
	}
	sort.Slice(pairs, func(i, j int) bool {
		return strings.SplitN(pairs[i], "=", 2)[0] < strings.SplitN(pairs[j], "=", 2)[0]
	})
	return strings.Join(pairs, "&")
}

func sha256Hex(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

// newACS3 is an unsigned request with every header a signature needs.
func newACS3(target, body string) call {
	c := call{method: "POST", target: target, body: body}
	for _, header := range [][2]string{
		{"host", "127.0.0.1:8080"},
		{"user-agent", "test"},
		{"x-acs-action", "CreateModelService"},
		{"x-acs-version", "2016-05-03"},
		{"x-acs-date", now.Format(time.RFC3339)},
		{"x-acs-content-sha256", sha256Hex(body)},
		{"x-acs-signature-nonce", "0123456789abcdef"},
		{"x-acs-credentials-provider", "static_ak"},
	} {
		c = c.with(header[0], header[1])
	}
	if body != "" {
		c = c.with("content-type", "application/x-www-form-urlencoded")
	}
	return c
}

func (c call) signedHeaders() []string {
	names := map[string]bool{}
	for _, header := range c.headers {
		if header[0] == "host" || header[0] == "content-type" || strings.HasPrefix(header[0], "x-acs-") {
			names[header[0]] = true
		}
	}
	var list []string
	for name := range names {
		list = append(list, name)
	}
	sort.Strings(list)
	return list
}

func (c call) signACS3() call { return c.signACS3Headers(c.signedHeaders()) }

func (c call) signACS3Headers(signed []string) call {
	return c.with("authorization", c.authorization(keyID, keySecret, signed))
}

func (c call) authorization(id, key string, signed []string) string {
	path, rawQuery, _ := strings.Cut(c.target, "?")
	query, _ := url.ParseQuery(rawQuery)
	canonical := c.method + "\n" + path + "\n" + sortedPairs(query) + "\n"
	for _, name := range signed {
		canonical += name + ":" + strings.TrimSpace(c.header(name)) + "\n"
	}
	canonical += "\n" + strings.Join(signed, ";") + "\n" + sha256Hex(c.body)
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprint(mac, "ACS3-HMAC-SHA256\n"+sha256Hex(canonical))
	return fmt.Sprintf("ACS3-HMAC-SHA256 Credential=%s,SignedHeaders=%s,Signature=%x", id, strings.Join(signed, ";"), mac.Sum(nil))
}

func rpcParams() url.Values {
	return url.Values{
		"AccessKeyId": {keyID}, "Action": {"CreateModelService"}, "Version": {"2016-05-03"}, "Format": {"JSON"},
		"Timestamp": {now.Format(time.RFC3339)}, "SignatureMethod": {"HMAC-SHA1"}, "SignatureVersion": {"1.0"},
		"SignatureNonce": {"n-1"}, "SignatureType": {""}, "RegionId": {"cn-hangzhou"}, "ModelName": {"a b*c~/é"},
	}
}

func rpcSignature(method string, query, form url.Values) string {
	all := url.Values{}
	for _, source := range []url.Values{query, form} {
		for name, values := range source {
			if name != "Signature" {
				all[name] = values
			}
		}
	}
	mac := hmac.New(sha1.New, []byte(keySecret+"&"))
	fmt.Fprint(mac, method+"&%2F&"+oracleEncode(sortedPairs(all)))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// newRPC signs query and form. The form travels even when it is empty, as the CLI sends it.
func newRPC(query, form url.Values) call {
	query.Set("Signature", rpcSignature("POST", query, form))
	c := call{method: "POST", target: "/?" + query.Encode(), body: form.Encode()}
	return c.with("host", "127.0.0.1:8080").with("content-type", "application/x-www-form-urlencoded")
}

func (c call) verify(v *signature.Verifier) (signature.Verified, error) {
	return verifyText(v, c.text())
}

// verifyText reads text as a server does and verifies it.
func verifyText(v *signature.Verifier, text string) (signature.Verified, error) {
	r, body, err := readRequest(text)
	if err != nil {
		return signature.Verified{}, err
	}
	return v.Verify(r, body)
}

func readRequest(text string) (*http.Request, []byte, error) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		return nil, nil, err
	}
	defer r.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(r.Body); err != nil {
		return nil, nil, err
	}
	return r, body.Bytes(), nil
}

type keyring map[string]signature.Key

func (k keyring) Find(_ context.Context, id string) (signature.Key, error) {
	key, ok := k[id]
	if !ok {
		return signature.Key{}, fmt.Errorf("look up %s: %w", id, signature.ErrUnknownKey)
	}
	return key, nil
}

type nonceTable struct {
	keys  keyring
	mu    sync.Mutex
	spent map[string]bool
}

func (n *nonceTable) Spend(ctx context.Context, id, nonce string, _ time.Time) (signature.Key, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.spent[id+" "+nonce] {
		return signature.Key{}, signature.ErrNonceUsed
	}
	if n.spent == nil {
		n.spent = map[string]bool{}
	}
	n.spent[id+" "+nonce] = true
	return n.keys.Find(ctx, id)
}

func (n *nonceTable) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.spent)
}

var caller = access.Caller{Identity: access.User, AccountID: "1000000000000001", UserID: "200000000000000001", UserName: "ann", AccessKeyID: keyID, PolicyEpoch: 7}

func keys() keyring {
	return keyring{
		keyID:      {ID: keyID, Secret: secret.New(keySecret), Active: true, Caller: caller},
		"AKasleep": {ID: "AKasleep", Secret: secret.New(keySecret), Caller: caller},
		"AKempty":  {ID: "AKempty", Active: true, Caller: caller},
	}
}

func newVerifier() (*signature.Verifier, *nonceTable) {
	nonces := &nonceTable{keys: keys()}
	return signature.New(nonces.keys, nonces, func() time.Time { return now }), nonces
}

func requireVerified(t *testing.T, c call) signature.Verified {
	t.Helper()
	v, _ := newVerifier()
	verified, err := c.verify(v)
	require.NoError(t, err)
	require.Equal(t, caller, verified.Caller)
	require.Equal(t, "CreateModelService", verified.Action)
	require.Equal(t, "2016-05-03", verified.Version)
	return verified
}

// anyNonce lets the same request be verified again and again.
type anyNonce struct{}

func (anyNonce) Spend(ctx context.Context, id, _ string, _ time.Time) (signature.Key, error) {
	return keys().Find(ctx, id)
}
