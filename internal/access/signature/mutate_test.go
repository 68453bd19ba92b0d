package signature_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access/signature"
)

// signedSamples are requests whose every byte the tests below change.
func signedSamples() []call {
	withForm := newACS3("/?AiNodes=%5B%22ai-1%22%5D&Space=a+b%2Ac~", "ClientToken=t-1&ResourceGroupId=").signACS3()
	withJSON := newACS3("/CreateModelService", `{"ModelName":"m"}`).set("content-type", "application/json").
		with("accept", "application/json").signACS3()
	roa := newROA("POST", "/v1/things/a%20b?a=1&b=&c=x+y", `{"name":"m"}`).with("x-acs-signature-nonce", "0123456789abcdef").signROA()
	return []call{withForm, withJSON, newRPC(rpcParams(), url.Values{"ClientToken": {"t 1"}, "Empty": {""}}), roa}
}

// meaning is all of a request that anything behind the verifier acts upon.
type meaning struct {
	verified           signature.Verified
	method, path, body string
	host               string
	jsonBody           bool
}

func meaningOf(text string) (meaning, error) {
	v, _ := newVerifier()
	r, body, err := readRequest(text)
	if err != nil {
		return meaning{}, err
	}
	verified, err := v.Verify(r, body)
	if err != nil {
		return meaning{}, err
	}
	m := meaning{verified: verified, method: r.Method, path: r.URL.EscapedPath(), body: string(body)}
	if verified.Dialect == signature.ACS3 {
		m.host = r.Host
	} else {
		m.body = "" // read into Params, in whatever encoding
	}
	m.jsonBody = strings.HasPrefix(r.Header.Get("Content-Type"), "application/json")
	return m, nil
}

// requireHarmless holds if a changed request is refused or means what the signed one meant: a change may fall on what
// is not signed (the user agent), or spell the same differently (%20 for +).
func requireHarmless(t *testing.T, original meaning, changed string) {
	t.Helper()
	if got, err := meaningOf(changed); err == nil {
		require.Equal(t, original, got, "accepted with another meaning: %q", changed)
	}
}

func TestNoChangedByteChangesWhatIsAccepted(t *testing.T) {
	t.Parallel()
	for _, sample := range signedSamples() {
		text := sample.text()
		original, err := meaningOf(text)
		require.NoError(t, err)
		for i := range len(text) {
			for _, c := range []byte{text[i] ^ 1, text[i] ^ 0x20, '0', 'a', '%', '&', '=', ' ', '/', ';', ',', '\n', 0xff} {
				requireHarmless(t, original, text[:i]+string([]byte{c})+text[i+1:])
			}
			requireHarmless(t, original, text[:i]+text[i+1:])
			requireHarmless(t, original, text[:i]+text[i:i+1]+text[i:])
		}
	}
}

func TestEveryChangeOfASignedValueIsRefused(t *testing.T) {
	t.Parallel()
	for _, part := range []string{
		"Credential=AKexample", "Signature=", "x-acs-action: CreateModelService", "x-acs-version: 2016-05-03",
		"x-acs-signature-nonce: 0123456789abcdef", "x-acs-date: 2026-08-01T12:00:00Z", "host: 127.0.0.1:8080",
		"ai-1", "ClientToken=t-1", "Space=a",
	} {
		text := signedSamples()[0].text()
		i := strings.Index(text, part)
		require.Positive(t, i, part)
		i += len(part) - 1
		if part == "Signature=" {
			i++
		}
		changed := text[:i] + string(rune(text[i]^1)) + text[i+1:]
		_, err := meaningOf(changed)
		require.Error(t, err, part)
	}
}

func FuzzAChangedRequestIsHarmless(f *testing.F) {
	samples := signedSamples()
	for i := range samples {
		f.Add(uint8(i), uint16(40), uint16(1), []byte("x"))
		f.Add(uint8(i), uint16(200), uint16(0), []byte("&A=1"))
		f.Add(uint8(i), uint16(300), uint16(9), []byte("\r\nx-acs-action: DeleteModelService\r\n"))
	}
	f.Fuzz(func(t *testing.T, which uint8, at, cut uint16, insert []byte) {
		text := samples[int(which)%len(samples)].text()
		original, err := meaningOf(text)
		require.NoError(t, err)
		i := int(at) % len(text)
		j := min(i+int(cut), len(text))
		requireHarmless(t, original, text[:i]+string(insert)+text[j:])
	})
}

func FuzzAnUnsignedRequestIsRefused(f *testing.F) {
	f.Add("/?a=b", "ACS3-HMAC-SHA256 Credential=AKexample,SignedHeaders=host,Signature=", "application/json", "{}")
	f.Add("/?Signature=x&AccessKeyId=AKexample", "", "application/x-www-form-urlencoded", "A=1")
	f.Fuzz(func(t *testing.T, target, authorization, contentType, body string) {
		v, nonces := newVerifier()
		r := &http.Request{
			Method: "POST", RequestURI: target, Host: "h", URL: &url.URL{Path: "/"},
			Header: http.Header{"Content-Type": {contentType}, "X-Acs-Date": {now.Format(time.RFC3339)}, "X-Acs-Action": {"A"}},
		}
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		_, err := v.Verify(r, []byte(body))
		require.Error(t, err)
		require.Zero(t, nonces.count())
	})
}

func BenchmarkVerify(b *testing.B) {
	body := "ClientToken=t-1&Description=" + strings.Repeat("d", 1000)
	form := url.Values{"ClientToken": {"t-1"}, "Description": {strings.Repeat("d", 1000)}}
	for name, c := range map[string]call{
		"acs3":   newACS3("/?DBInstanceId=gp-1&ModelName=m", body).signACS3(),
		"rpc-v1": newRPC(rpcParams(), form),
	} {
		b.Run(name, func(b *testing.B) {
			r, read, err := readRequest(c.text())
			require.NoError(b, err)
			v := signature.New(keys(), anyNonce{}, func() time.Time { return now })
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(r, read); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
