package signature_test

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access/signature"
)

func md5Of(body string) string {
	sum := md5.Sum([]byte(body))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// newROA is an unsigned request as the aliyun CLI sends it: without an action and without a nonce.
func newROA(method, target, body string) call {
	c := call{method: method, target: target, body: body}
	for _, header := range [][2]string{
		{"host", "127.0.0.1:8080"},
		{"accept", "application/json"},
		{"content-md5", md5Of(body)},
		{"content-type", "application/json"},
		{"date", now.Format(http.TimeFormat)},
		{"x-acs-region-id", "cn-hangzhou"},
		{"x-acs-signature-method", "HMAC-SHA1"},
		{"x-acs-signature-version", "1.0"},
		{"x-acs-version", "2024-03-27"},
	} {
		c = c.with(header[0], header[1])
	}
	return c
}

func (c call) roaString() string {
	lines := []string{c.method, c.header("accept"), c.header("content-md5"), c.header("content-type"), c.header("date")}
	var names []string
	for _, header := range c.headers {
		if strings.HasPrefix(header[0], "x-acs-") {
			names = append(names, header[0]+":"+header[1])
		}
	}
	sort.Strings(names)
	path, rawQuery, _ := strings.Cut(c.target, "?")
	query, _ := url.ParseQuery(rawQuery)
	var pairs []string
	for name := range query {
		pair := name
		if query.Get(name) != "" {
			pair += "=" + query.Get(name)
		}
		pairs = append(pairs, pair)
	}
	sort.Strings(pairs)
	if len(pairs) > 0 {
		path += "?" + strings.Join(pairs, "&")
	}
	return strings.Join(append(append(lines, names...), path), "\n")
}

func (c call) signROA() call {
	mac := hmac.New(sha1.New, []byte(keySecret))
	mac.Write([]byte(c.roaString()))
	return c.with("authorization", "acs "+keyID+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

func requireROA(t *testing.T, c call) signature.Verified {
	t.Helper()
	v, _ := newVerifier()
	verified, err := c.verify(v)
	require.NoError(t, err)
	require.Equal(t, caller, verified.Caller)
	return verified
}

func TestROAV1IsAccepted(t *testing.T) {
	t.Parallel()
	const body = `{"name":"chat"}`
	for name, c := range map[string]call{
		"GET, as the CLI sends it": newROA("GET", "/v1/http-apis", "").set("content-type", "application/octet-stream"),
		"a query":                  newROA("GET", "/v1/http-apis?types=LLM&keyword=a+b%2Ac&Empty=", ""),
		"POST":                     newROA("POST", "/v1/http-apis", body),
		"PUT":                      newROA("PUT", "/v1/http-apis/api-1", body),
		"DELETE":                   newROA("DELETE", "/v1/http-apis/api-1", ""),
		"a nonce of its own":       newROA("DELETE", "/v1/http-apis/api-1", "").with("x-acs-signature-nonce", "n-1"),
		"nothing but what must be": newROA("GET", "/v1/http-apis", "").without("content-md5").without("accept").without("content-type"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			verified := requireROA(t, c.signROA())
			require.Equal(t, []string{signature.ROAV1, "", "2024-03-27"}, []string{verified.Dialect, verified.Action, verified.Version})
		})
	}
	verified := requireROA(t, newROA("GET", "/v1/x?a=1&b=", "").with("x-acs-action", "GetX").signROA())
	require.Equal(t, "GetX", verified.Action)
	require.Equal(t, url.Values{"a": {"1"}, "b": {""}}, verified.Params)
}

func TestROAV1Refuses(t *testing.T) {
	t.Parallel()
	good := func() call { return newROA("POST", "/v1/things?a=1", `{"a":1}`) }
	for name, r := range map[string]refusal{
		"no date":                   {good().without("date").signROA(), "MissingParameter", "date"},
		"an ACS3 date":              {good().set("date", now.Format(time.RFC3339)).signROA(), "InvalidTimeStamp.Format", "GMT"},
		"an old date":               {good().set("date", now.Add(-time.Hour).Format(http.TimeFormat)).signROA(), "InvalidTimeStamp.Expired", ""},
		"no version":                {good().without("x-acs-version").signROA(), "MissingParameter", "x-acs-version"},
		"no method":                 {good().without("x-acs-signature-method").signROA(), "MissingParameter", "x-acs-signature-method"},
		"HMAC-SHA256":               {good().set("x-acs-signature-method", "HMAC-SHA256").signROA(), "UnsupportedSignature", ""},
		"version 2.0":               {good().set("x-acs-signature-version", "2.0").signROA(), "UnsupportedSignature", ""},
		"a signature cut short":     {good().with("authorization", "acs "+keyID+":c2ln"), "IncompleteSignature", ""},
		"no signature":              {good().with("authorization", "acs "+keyID), "IncompleteSignature", ""},
		"no key":                    {good().with("authorization", "acs :"+strings.Repeat("A", 28)), "IncompleteSignature", "access key id"},
		"an unknown key":            {good().with("authorization", "acs AKnobody:"+strings.Repeat("A", 28)), "InvalidAccessKeyId.NotFound", ""},
		"another signature":         {good().with("authorization", "acs "+keyID+":"+strings.Repeat("A", 28)), "SignatureDoesNotMatch", "server string to sign is:POST"},
		"signed twice":              {good().signROA().with("authorization", "acs x:y"), "IncompleteSignature", "more than once"},
		"signed in the query too":   {newROA("GET", "/v1/things?Signature=x", "").signROA(), "IncompleteSignature", "more than once"},
		"two dates":                 {good().signROA().with("date", now.Format(http.TimeFormat)), "IncompleteSignature", "date is there more than once"},
		"two versions":              {good().signROA().with("x-acs-version", "2016-05-03"), "IncompleteSignature", "more than once"},
		"a header added":            {good().signROA().with("x-acs-action", "DeleteX"), "SignatureDoesNotMatch", ""},
		"another method":            {withMethod(good().signROA(), "PUT"), "SignatureDoesNotMatch", ""},
		"PATCH":                     {withMethod(good(), "PATCH").signROA(), "UnsupportedHTTPMethod", ""},
		"another body":              {call{"POST", "/v1/things", good().signROA().headers, `{"a":2}`}, "SignatureDoesNotMatch", "Content-MD5"},
		"a body that is not signed": {good().without("content-md5").signROA(), "IncompleteSignature", "Content-MD5"},
		"a body added":              {call{"DELETE", "/v1/things", newROA("DELETE", "/v1/things", "").without("content-md5").signROA().headers, "{}"}, "IncompleteSignature", "Content-MD5"},
		// a=1&b=2 and a="1&b=2" sign alike.
		"a value with &": {newROA("GET", "/v1/things?a=1%26b%3D2", "").signROA(), "InvalidParameter", "&"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r.check(t)
		})
	}
}

func TestABodyThatIsNotSignedIsAcceptedWhereNobodyCouldChangeIt(t *testing.T) {
	t.Parallel()
	text := newROA("POST", "/v1/things", `{"a":1}`).without("content-md5").signROA().text()
	for name, from := range map[string]func(*http.Request){
		"TLS":                 func(r *http.Request) { r.TLS, r.RemoteAddr = &tls.ConnectionState{}, "192.0.2.1:99" },
		"this machine":        func(r *http.Request) { r.RemoteAddr = "127.0.0.1:99" },
		"this machine, mixed": func(r *http.Request) { r.RemoteAddr = "[::ffff:127.0.0.1]:99" },
		"this machine, IPv6":  func(r *http.Request) { r.RemoteAddr = "[::1]:99" },
	} {
		v, _ := newVerifier()
		r, body, err := readRequest(text)
		require.NoError(t, err)
		from(r)
		_, err = v.Verify(r, body)
		require.NoError(t, err, name)
	}
	v, _ := newVerifier()
	r, body, err := readRequest(text)
	require.NoError(t, err)
	r.RemoteAddr = "192.0.2.1:99"
	_, err = v.Verify(r, body)
	require.ErrorIs(t, err, signature.ErrIncomplete)
}

func TestACallThatMutatesWithoutANonceHappensOnce(t *testing.T) {
	t.Parallel()
	v, nonces := newVerifier()
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		c := newROA(method, "/v1/things", "").signROA()
		_, err := c.verify(v)
		require.NoError(t, err, method)
		_, err = c.verify(v)
		require.ErrorIs(t, err, signature.ErrNonceUsed, method)
	}
	require.Equal(t, 3, nonces.count())
	read := newROA("GET", "/v1/things", "").signROA()
	for range 2 { // twice in the second that a date can tell
		_, err := read.verify(v)
		require.NoError(t, err)
	}
	own := newROA("GET", "/v1/things", "").with("x-acs-signature-nonce", "n").signROA()
	_, err := own.verify(v)
	require.NoError(t, err)
	_, err = own.verify(v)
	require.ErrorIs(t, err, signature.ErrNonceUsed)
}
