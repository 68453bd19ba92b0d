package sdk

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const algorithm = "ACS3-HMAC-SHA256"

// Signer signs requests with ACS3-HMAC-SHA256.
type Signer struct {
	AccessKeyID     string
	AccessKeySecret string
	SecurityToken   string // of a session that AssumeRole began; "" for any other key
}

// Sign signs r for an action of an API version. It reads the body and puts it back. Sign every attempt anew: a
// signature is good for one request.
func (s Signer) Sign(r *http.Request, action, version string) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	payload := hexSHA256(body)
	r.Header.Set("x-acs-action", action)
	r.Header.Set("x-acs-version", version)
	r.Header.Set("x-acs-date", time.Now().UTC().Format("2006-01-02T15:04:05Z"))
	r.Header.Set("x-acs-signature-nonce", rand.Text())
	r.Header.Set("x-acs-content-sha256", payload)
	if s.SecurityToken != "" {
		r.Header.Set("x-acs-accesskey-id", s.AccessKeyID)
		r.Header.Set("x-acs-security-token", s.SecurityToken)
	}
	headers := headersToSign(r)
	names := slices.Sorted(maps.Keys(headers))
	canonical := hexSHA256([]byte(canonicalRequest(r, headers, names, payload)))
	mac := hmac.New(sha256.New, []byte(s.AccessKeySecret))
	mac.Write([]byte(algorithm + "\n" + canonical))
	r.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s,SignedHeaders=%s,Signature=%s",
		algorithm, s.AccessKeyID, strings.Join(names, ";"), hex.EncodeToString(mac.Sum(nil))))
	return nil
}

func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read the body to sign: %w", err)
	}
	_ = r.Body.Close()
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// headersToSign are the host, the content type and every x-acs- header.
func headersToSign(r *http.Request) map[string]string {
	headers := map[string]string{"host": r.Host}
	if r.Host == "" {
		headers["host"] = r.URL.Host
	}
	for name, values := range r.Header {
		name = strings.ToLower(name)
		if name == "content-type" || strings.HasPrefix(name, "x-acs-") {
			headers[name] = strings.TrimSpace(strings.Join(values, ","))
		}
	}
	return headers
}

func canonicalRequest(r *http.Request, headers map[string]string, names []string, payload string) string {
	var b strings.Builder
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	fmt.Fprintf(&b, "%s\n%s\n%s\n", r.Method, path, canonicalQuery(r.URL.Query()))
	for _, name := range names {
		fmt.Fprintf(&b, "%s:%s\n", name, headers[name])
	}
	fmt.Fprintf(&b, "\n%s\n%s", strings.Join(names, ";"), payload)
	return b.String()
}

func canonicalQuery(query url.Values) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(query)) {
		for _, value := range query[name] {
			pairs = append(pairs, escape(name)+"="+escape(value))
		}
	}
	return strings.Join(pairs, "&")
}

// escape is RFC 3986; url.QueryEscape differs from it in the space alone.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
