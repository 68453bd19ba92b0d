package gateway_test

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const signingSecret = "the secret of the search team"

// signing is a consumer of the account that signs with the access key and may call the APIs.
func (r *rig) signing(id, text string, allowed ...string) snapshot.Consumer {
	r.t.Helper()
	c := snapshot.Consumer{ID: ids.New(ids.Consumer), Name: id, AccountID: account, Allowed: allowed}
	sealed, err := r.box.Seal(snapshot.AccessKeyPurpose(c.ID, id), secret.New(text))
	require.NoError(r.t, err)
	c.AccessKeys = []snapshot.ConsumerAccessKey{{ID: id, SealedSecret: sealed}}
	return c
}

// prepare fills in what a signature covers, unless it is there.
func prepare(r *http.Request, id, body string) {
	sum := md5.Sum([]byte(body))
	for name, value := range map[string]string{
		"X-Ca-Key": id, "X-Ca-Nonce": rand.Text(), "X-Ca-Timestamp": strconv.FormatInt(time.Now().UnixMilli(), 10),
		"X-Ca-Signature-Headers": "x-ca-key,x-ca-timestamp,x-ca-nonce", "Content-Md5": base64.StdEncoding.EncodeToString(sum[:]), "Accept": "*/*",
	} {
		if _, there := r.Header[name]; !there && (name != "Content-Md5" || body != "") {
			r.Header.Set(name, value)
		}
	}
}

// sign signs a request as the clients of API gateways do, written down a second time and without the gateway's code.
func sign(r *http.Request, id, body string) {
	prepare(r, id, body)
	lines := []string{r.Method, r.Header.Get("Accept"), r.Header.Get("Content-MD5"), r.Header.Get("Content-Type"), r.Header.Get("Date")}
	names := strings.Split(strings.ToLower(r.Header.Get("X-Ca-Signature-Headers")), ",")
	slices.Sort(names)
	for _, name := range names {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		lines = append(lines, name+":"+value)
	}
	path := r.URL.EscapedPath()
	var parameters []string
	for name, values := range r.URL.Query() {
		if values[0] != "" {
			name += "=" + values[0]
		}
		parameters = append(parameters, name)
	}
	if slices.Sort(parameters); len(parameters) > 0 {
		path += "?" + strings.Join(parameters, "&")
	}
	mac := hmac.New(sha256.New, []byte(signingSecret))
	if r.Header.Get("X-Ca-Signature-Method") == "HmacSHA1" {
		mac = hmac.New(sha1.New, []byte(signingSecret))
	}
	_, _ = io.WriteString(mac, strings.Join(append(lines, path), "\n"))
	r.Header.Set("X-Ca-Signature", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

func (r *rig) unsigned(method, path, body string) *http.Request {
	r.t.Helper()
	q := request(r.t, method, r.at(path), body)
	q.Header.Del("Authorization")
	return q
}

func TestSignedRequestsOpenTheAPIOfTheirConsumer(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e, seen := seenBy(t)
	s := g.outside(e.URL)
	a := guarded(s.ID, snapshot.AuthBySignature, "/")
	g.serveAll(s, a, g.signing("search-team", signingSecret, a.ID))
	files := strings.Repeat("x", 200<<10)
	for name, c := range map[string]struct {
		method, path, body string
		header             []string
	}{
		"no body":              {"GET", "/v1/models", "", nil},
		"the MD5 of no body":   {"GET", "/v1/models", "", []string{"Content-Md5", "1B2M2Y8AsgTpgAmY7PhCfg=="}},
		"HmacSHA1":             {"GET", "/v1/models", "", []string{"X-Ca-Signature-Method", "HmacSHA1"}},
		"HmacSHA256":           {"GET", "/v1/models", "", []string{"X-Ca-Signature-Method", "HmacSHA256"}},
		"a query":              {"GET", "/v1/models?b=2&a=1+%3D&c=&d", "", nil},
		"an escaped path":      {"GET", "/v1/m%6fdels", "", nil},
		"a date and a stage":   {"GET", "/v1/models", "", []string{"Date", "Sun, 22 Nov 2026 03:00:00 GMT", "X-Ca-Stage", "RELEASE", "X-Ca-Signature-Headers", "X-Ca-Key,X-Ca-Nonce,X-Ca-Stage,X-Ca-Timestamp"}},
		"a host":               {"GET", "/v1/models", "", []string{"X-Ca-Signature-Headers", "host,x-ca-key,x-ca-nonce,x-ca-timestamp"}},
		"a header that is not": {"GET", "/v1/models", "", []string{"X-Ca-Signature-Headers", "x-absent,x-ca-key,x-ca-nonce,x-ca-timestamp"}},
		"a body":               {"POST", "/v1/chat/completions", `{"model":"m"}`, nil},
		"a large body":         {"POST", "/v1/files", files, nil},
	} {
		r := g.unsigned(c.method, c.path, c.body)
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Set(c.header[i], c.header[i+1])
		}
		sign(r, "search-team", c.body)
		got := do(t, r)
		require.Equal(t, 200, got.status, "%s: %s", name, got.body)
		require.Contains(t, seen(), c.body, name)
		require.NotContains(t, strings.ToLower(seen()), "x-ca-", name)
		require.NotContains(t, seen(), r.Header.Get("X-Ca-Signature"), name)
		require.NotContains(t, seen(), "search-team", name)
	}
	chunked := g.unsigned("POST", "/v1/chat/completions", "{}")
	chunked.ContentLength, chunked.Body = -1, io.NopCloser(strings.NewReader("{}"))
	sign(chunked, "search-team", "{}")
	require.Equal(t, 200, do(t, chunked).status)
}

func TestForgedSignaturesAreRefused(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e, _ := seenBy(t)
	s := g.outside(e.URL)
	a := guarded(s.ID, snapshot.AuthBySignature, "/")
	theirs := g.signing("their-team", signingSecret, a.ID)
	theirs.AccountID = "1000000000000002"
	g.serveAll(s, a, g.signing("search-team", signingSecret, a.ID), g.signing("other-team", "another secret", a.ID),
		g.signing("strangers", signingSecret), theirs)
	milliseconds := func(after time.Duration) string {
		return strconv.FormatInt(time.Now().Add(after).UnixMilli(), 10)
	}
	set := func(pairs ...string) func(*http.Request) {
		return func(r *http.Request) {
			for i := 0; i < len(pairs); i += 2 {
				r.Header.Set(pairs[i], pairs[i+1])
			}
		}
	}
	nothing := func(*http.Request) {}
	const body = `{"model":"m"}`
	for name, c := range map[string]struct {
		before, after func(*http.Request) // the request is signed
		want          string
	}{
		"unsigned":              {nothing, func(r *http.Request) { r.Header = http.Header{} }, "invalid_signature"},
		"no signature":          {nothing, func(r *http.Request) { r.Header.Del("X-Ca-Signature") }, "invalid_signature"},
		"truncated":             {nothing, func(r *http.Request) { r.Header.Set("X-Ca-Signature", r.Header.Get("X-Ca-Signature")[:40]) }, "invalid_signature"},
		"two signatures":        {nothing, func(r *http.Request) { r.Header.Add("X-Ca-Signature", r.Header.Get("X-Ca-Signature")) }, "invalid_signature"},
		"another key":           {nothing, set("X-Ca-Key", "other-team"), "invalid_signature"},
		"an unknown key":        {set("X-Ca-Key", "nobodys-key"), nothing, "invalid_signature"},
		"another account's":     {set("X-Ca-Key", "their-team"), nothing, "invalid_signature"},
		"two keys":              {nothing, func(r *http.Request) { r.Header.Add("X-Ca-Key", "search-team") }, "invalid_signature"},
		"another nonce":         {nothing, set("X-Ca-Nonce", "n"), "invalid_signature"},
		"no nonce":              {func(r *http.Request) { r.Header["X-Ca-Nonce"] = nil }, nothing, "invalid_signature"},
		"a long nonce":          {set("X-Ca-Nonce", strings.Repeat("n", 129)), nothing, "invalid_signature"},
		"another time":          {nothing, set("X-Ca-Timestamp", milliseconds(time.Minute)), "invalid_signature"},
		"no time":               {set("X-Ca-Timestamp", "now"), nothing, "invalid_signature"},
		"the end of time":       {set("X-Ca-Timestamp", "9223372036854775807"), nothing, "signature_expired"},
		"before all time":       {set("X-Ca-Timestamp", "-9223372036854775808"), nothing, "signature_expired"},
		"16 minutes ago":        {set("X-Ca-Timestamp", milliseconds(-16*time.Minute)), nothing, "signature_expired"},
		"in 16 minutes":         {set("X-Ca-Timestamp", milliseconds(16*time.Minute)), nothing, "signature_expired"},
		"the nonce unsigned":    {set("X-Ca-Signature-Headers", "x-ca-key,x-ca-timestamp"), nothing, "invalid_signature"},
		"the time unsigned":     {set("X-Ca-Signature-Headers", "x-ca-key,x-ca-nonce"), nothing, "invalid_signature"},
		"the key unsigned":      {set("X-Ca-Signature-Headers", "x-ca-nonce,x-ca-timestamp"), nothing, "invalid_signature"},
		"a header twice":        {set("X-Ca-Signature-Headers", "x-ca-key,x-ca-key,x-ca-nonce,x-ca-timestamp"), nothing, "invalid_signature"},
		"no header":             {set("X-Ca-Signature-Headers", "x:y,x-ca-key,x-ca-nonce,x-ca-timestamp"), nothing, "invalid_signature"},
		"a header less":         {set("X-Ca-Signature-Headers", "x-a,x-ca-key,x-ca-nonce,x-ca-timestamp", "X-A", "1"), set("X-Ca-Signature-Headers", "x-ca-key,x-ca-nonce,x-ca-timestamp"), "invalid_signature"},
		"a header changed":      {set("X-Ca-Signature-Headers", "x-a,x-ca-key,x-ca-nonce,x-ca-timestamp", "X-A", "1"), set("X-A", "2"), "invalid_signature"},
		"a header again":        {set("X-Ca-Signature-Headers", "x-a,x-ca-key,x-ca-nonce,x-ca-timestamp", "X-A", "1"), func(r *http.Request) { r.Header.Add("X-A", "1") }, "invalid_signature"},
		"another Accept":        {nothing, set("Accept", "text/plain"), "invalid_signature"},
		"another type":          {nothing, set("Content-Type", "text/plain"), "invalid_signature"},
		"another date":          {nothing, set("Date", "Sun, 22 Nov 2026 03:00:00 GMT"), "invalid_signature"},
		"another path":          {nothing, func(r *http.Request) { r.URL.Path = "/v1/files" }, "invalid_signature"},
		"a path as it is not":   {nothing, func(r *http.Request) { r.URL.RawPath = "/v1/ch%61t/completions" }, "invalid_signature"},
		"another query":         {nothing, func(r *http.Request) { r.URL.RawQuery = "a=1" }, "invalid_signature"},
		"two parameters as one": {func(r *http.Request) { r.URL.RawQuery = "a=1&b=2" }, func(r *http.Request) { r.URL.RawQuery = "a=1%26b=2" }, "invalid_signature"},
		"one that reads as two": {func(r *http.Request) { r.URL.RawQuery = "a=1%26b=2" }, nothing, "invalid_signature"},
		"a query twice":         {func(r *http.Request) { r.URL.RawQuery = "a=1&a=2" }, nothing, "invalid_signature"},
		"another host":          {set("X-Ca-Signature-Headers", "host,x-ca-key,x-ca-nonce,x-ca-timestamp"), func(r *http.Request) { r.Host = "other.example.com" }, "invalid_signature"},
		"another method":        {nothing, func(r *http.Request) { r.Method, r.URL.Path = "POST", "/v1/files" }, "invalid_signature"},
		"another hash":          {nothing, set("X-Ca-Signature-Method", "HmacSHA1"), "invalid_signature"},
		"no hash":               {set("X-Ca-Signature-Method", "none"), nothing, "invalid_signature"},
		"another body":          {nothing, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"model":"n"}`)) }, "invalid_signature"},
		"a body not signed":     {func(r *http.Request) { r.Header["Content-Md5"] = nil }, nothing, "invalid_signature"},
		"no MD5":                {set("Content-Md5", "x"), nothing, "invalid_signature"},
		"a form":                {set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"), nothing, "invalid_signature"},
		"without a rule":        {set("X-Ca-Key", "strangers"), nothing, "consumer_not_authorized"},
	} {
		before := e.calls.Load()
		r := g.unsigned("POST", "/v1/chat/completions", body)
		c.before(r)
		sign(r, "search-team", body)
		c.after(r)
		got := do(t, r)
		require.NotEqual(t, 200, got.status, name)
		require.Equal(t, c.want, got.code(t), name)
		require.Equal(t, map[bool]int{true: 403, false: 401}[c.want == "consumer_not_authorized"], got.status, name)
		require.Equal(t, got.status == 401, got.header.Get("WWW-Authenticate") == "HMAC", name)
		require.Equal(t, before, e.calls.Load(), name)
	}
	r := g.unsigned("GET", "/v1/models", "")
	sign(r, "search-team", "")
	signature := r.Header.Get("X-Ca-Signature")
	for i := range signature {
		changed := []byte(signature)
		changed[i] ^= 1
		r.Header.Set("X-Ca-Signature", string(changed))
		require.Equal(t, 401, do(t, r).status, "byte %d", i)
	}
	r.Header.Set("X-Ca-Signature", signature)
	require.Equal(t, 200, do(t, r).status, "a refused request spends no nonce")
	require.NotContains(t, g.logs.String(), signature)
}

func TestSignedRequestIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e, _ := seenBy(t)
	s := g.outside(e.URL)
	a := guarded(s.ID, snapshot.AuthBySignature, "/")
	g.serveAll(s, a, g.signing("search-team", signingSecret, a.ID), g.signing("other-team", signingSecret, a.ID))
	nonce := func(id string) *http.Request {
		r := g.unsigned("GET", "/v1/models", "")
		r.Header.Set("X-Ca-Nonce", "once")
		sign(r, id, "")
		return r
	}
	first := nonce("search-team")
	require.Equal(t, 200, do(t, first).status)
	got := do(t, first)
	require.Equal(t, []any{401, "nonce_used"}, []any{got.status, got.code(t)})
	require.Equal(t, 200, do(t, nonce("other-team")).status, "nonces are each signer's own")
}

func TestRevokedAccessKeyOpensNothing(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e, _ := seenBy(t)
	s := g.outside(e.URL)
	a := guarded(s.ID, snapshot.AuthBySignature, "/")
	c := g.signing("search-team", signingSecret, a.ID)
	g.serveAll(s, a, c)
	status := func() int {
		r := g.unsigned("GET", "/v1/models", "")
		sign(r, "search-team", "")
		return do(t, r).status
	}
	require.Equal(t, 200, status())
	c.Allowed = nil
	g.serveAll(c)
	require.Equal(t, 403, status())
	c.Allowed, c.AccessKeys = []string{a.ID}, nil
	g.serveAll(c)
	require.Equal(t, 401, status())
}

func TestSignedBodyIsBoundedLikeAnyThatIsReadWhole(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e, _ := seenBy(t)
	s := g.outside(e.URL)
	a := guarded(s.ID, snapshot.AuthBySignature, "/")
	g.serveAll(s, a, g.signing("search-team", signingSecret, a.ID))
	body := strings.Repeat("x", 1<<20+1)
	for _, length := range []int64{int64(len(body)), -1} {
		r := g.unsigned("POST", "/v1/files", body)
		r.ContentLength = length
		sign(r, "search-team", body)
		require.Equal(t, 413, do(t, r).status)
	}
	require.Zero(t, e.calls.Load())
}
