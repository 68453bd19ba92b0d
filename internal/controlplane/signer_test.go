package controlplane

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk"
)

// signer is an access key that calls are signed with.
type signer struct{ id, secret, token string }

// answer is what a call was answered.
type answer struct {
	status    int
	code      string
	requestID string
	body      object
	text      string
}

// dialects are the signatures that an operation can be called with, each as its clients make it.
func (o operation) dialects() map[string]func(t testing.TB, base string, key signer, params object) *http.Request {
	if o.paths {
		return map[string]func(testing.TB, string, signer, object) *http.Request{"ACS3": o.acs3, "ROA-V1": o.roaV1}
	}
	return map[string]func(testing.TB, string, signer, object) *http.Request{"ACS3": o.acs3, "RPC-V1": o.rpcV1}
}

func (o operation) acs3(t testing.TB, base string, key signer, params object) *http.Request {
	t.Helper()
	return key.sign(t, o, o.request(t, base, params))
}

// sign signs a request for the operation as current clients do.
func (s signer) sign(t testing.TB, o operation, r *http.Request) *http.Request {
	t.Helper()
	require.NoError(t, sdk.Signer{AccessKeyID: s.id, AccessKeySecret: s.secret, SecurityToken: s.token}.Sign(r, o.OperationID, o.version))
	return r
}

func hmacSHA1(key, text string) string {
	mac := hmac.New(sha1.New, []byte(key))
	_, _ = io.WriteString(mac, text)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func escape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

func (o operation) rpcV1(t testing.TB, base string, key signer, params object) *http.Request {
	t.Helper()
	values := o.form(params)
	for name, value := range map[string]string{
		"AccessKeyId": key.id, "Action": o.OperationID, "Version": o.version, "Timestamp": time.Now().UTC().Format("2006-01-02T15:04:05Z"),
		"SignatureNonce": rand.Text(), "SignatureMethod": "HMAC-SHA1", "SignatureVersion": "1.0",
	} {
		values.Set(name, value)
	}
	if key.token != "" {
		values.Set("SecurityToken", key.token)
	}
	canonical := strings.ReplaceAll(values.Encode(), "+", "%20")
	values.Set("Signature", hmacSHA1(key.secret+"&", "POST&%2F&"+escape(canonical)))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/?"+values.Encode(), nil)
	require.NoError(t, err)
	return r
}

func (o operation) roaV1(t testing.TB, base string, key signer, params object) *http.Request {
	t.Helper()
	r := o.request(t, base, params)
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	sum := md5.Sum(body)
	for name, value := range map[string]string{
		"Accept": "application/json", "Content-MD5": base64.StdEncoding.EncodeToString(sum[:]), "Date": time.Now().UTC().Format(http.TimeFormat),
		"x-acs-signature-method": "HMAC-SHA1", "x-acs-signature-nonce": rand.Text(), "x-acs-signature-version": "1.0", "x-acs-version": o.version,
	} {
		r.Header.Set(name, value)
	}
	if key.token != "" {
		r.Header.Set("x-acs-security-token", key.token)
	}
	lines := []string{r.Method}
	for _, name := range []string{"Accept", "Content-MD5", "Content-Type", "Date"} {
		lines = append(lines, r.Header.Get(name))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-acs-") {
			lines = append(lines, lower+":"+r.Header.Get(name))
		}
	}
	resource, separator := r.URL.EscapedPath(), "?"
	for _, name := range slices.Sorted(maps.Keys(r.URL.Query())) {
		resource, separator = resource+separator+name, "&"
		if value := r.URL.Query().Get(name); value != "" {
			resource += "=" + value
		}
	}
	r.Header.Set("Authorization", "acs "+key.id+":"+hmacSHA1(key.secret, strings.Join(append(lines, resource), "\n")))
	return r
}

// call calls the operation as the key, in the dialect of current clients.
func (i *installation) call(key signer, o operation, params object) answer {
	i.t.Helper()
	return i.send(o.acs3(i.t, i.url, key, params))
}

// send sends a request as it is.
func (i *installation) send(r *http.Request) (a answer) {
	i.t.Helper()
	response, err := http.DefaultClient.Do(r)
	require.NoError(i.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(i.t, err)
	a = answer{status: response.StatusCode, requestID: response.Header.Get("x-acs-request-id"), text: string(text)}
	if response.Header.Get("Content-Type") != "text/event-stream" {
		require.NoError(i.t, json.Unmarshal(text, &a.body), a.text)
		if a.status != http.StatusOK {
			a.code, _ = a.body["Code"].(string)
		}
	}
	return a
}
