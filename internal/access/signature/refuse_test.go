package signature_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/fault"
)

type brokenKeys struct{ err error }

func (b brokenKeys) Find(context.Context, string) (signature.Key, error) {
	return signature.Key{}, b.err
}

// refusal is a request and the fault it must meet.
type refusal struct {
	call    call
	code    string
	message string // a part of it
}

func (r refusal) check(t *testing.T) {
	t.Helper()
	v, nonces := newVerifier()
	_, err := r.call.verify(v)
	f, ok := fault.From(err)
	require.True(t, ok, "%v is not a fault", err)
	require.Equal(t, r.code, f.Code, "%v", err)
	require.Contains(t, f.Message, r.message)
	require.Zero(t, nonces.count(), "a refused request spent a nonce")
}

func acs3With(name, value string) call { return newACS3("/", "").set(name, value).signACS3() }

// reauthorized signs, then changes the Authorization header.
func reauthorized(change func(string) string) call {
	c := newACS3("/", "")
	return c.with("authorization", change(c.authorization(keyID, keySecret, c.signedHeaders())))
}

func replace(old, with string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, with, 1) }
}

// signedWithout signs a request whose header is there but not in the list.
func signedWithout(name string) call {
	c := newACS3("/", "").set(name, newACS3("/", "").header(name))
	var rest []string
	for _, signed := range c.signedHeaders() {
		if signed != name {
			rest = append(rest, signed)
		}
	}
	return c.signACS3Headers(rest)
}

func signedAs(id, key string) call {
	c := newACS3("/", "")
	return c.with("authorization", c.authorization(id, key, c.signedHeaders()))
}

func TestACS3Refuses(t *testing.T) {
	t.Parallel()
	form := func(target, body string) call { return newACS3(target, body).signACS3() }
	signature64 := func(s string) string { return s[len(s)-64:] }
	for name, r := range map[string]refusal{
		"no signature at all":          {newACS3("/", ""), "MissingParameter", "AccessKeyId"},
		"two Authorization headers":    {newACS3("/", "").signACS3().with("authorization", "ACS3-HMAC-SHA256 x"), "IncompleteSignature", "more than once"},
		"a second signature in query":  {newACS3("/?Signature=x", "").signACS3(), "IncompleteSignature", "more than once"},
		"empty Authorization":          {newACS3("/", "").with("authorization", ""), "UnsupportedSignature", ""},
		"algorithm SM3":                {reauthorized(replace("ACS3-HMAC-SHA256", "ACS3-HMAC-SM3")), "UnsupportedSignature", ""},
		"algorithm RSA":                {reauthorized(replace("ACS3-HMAC-SHA256", "ACS3-RSA-SHA256")), "UnsupportedSignature", ""},
		"algorithm none":               {reauthorized(replace("ACS3-HMAC-SHA256", "none")), "UnsupportedSignature", ""},
		"algorithm in lower case":      {reauthorized(replace("ACS3-HMAC-SHA256", "acs3-hmac-sha256")), "UnsupportedSignature", ""},
		"ROA-V1":                       {newACS3("/", "").with("authorization", "acs AK:c2ln"), "IncompleteSignature", ""},
		"Bearer":                       {newACS3("/", "").with("authorization", "Bearer x"), "UnsupportedSignature", ""},
		"bearer token header":          {acs3With("x-acs-bearer-token", "x"), "UnsupportedSignature", ""},
		"empty security token header":  {acs3With("x-acs-security-token", ""), "InvalidSecurityToken.Malformed", ""},
		"another key's id in a header": {acs3With("x-acs-accesskey-id", "AKother"), "IncompleteSignature", "x-acs-accesskey-id"},
		"security token parameter":     {newACS3("/?SecurityToken=x", "").signACS3(), "InvalidSecurityToken.Malformed", ""},
		"two parts of Authorization":   {reauthorized(replace(",Signature=", ";Signature=")), "IncompleteSignature", ""},
		"blank after the comma":        {reauthorized(replace(",Signature=", ", Signature=")), "IncompleteSignature", ""},
		"parts in another order":       {reauthorized(replace("Credential=AKexample,", "Signature=a,")), "IncompleteSignature", ""},
		"no credential":                {reauthorized(replace("AKexample", "")), "IncompleteSignature", ""},
		"scoped credential":            {signedAs("AK/20260801", keySecret), "IncompleteSignature", "access key id"},
		"truncated signature":          {reauthorized(func(s string) string { return s[:len(s)-2] }), "IncompleteSignature", "64"},
		"lengthened signature":         {reauthorized(func(s string) string { return s + "00" }), "IncompleteSignature", "64"},
		"upper-case signature":         {reauthorized(func(s string) string { return s[:len(s)-64] + strings.ToUpper(signature64(s)) }), "IncompleteSignature", "lower-case"},
		"another signature":            {reauthorized(func(s string) string { return s[:len(s)-64] + strings.Repeat("0", 64) }), "SignatureDoesNotMatch", "server string to sign is:ACS3-HMAC-SHA256\n"},
		"another secret":               {signedAs(keyID, "guessed"), "SignatureDoesNotMatch", ""},
		"unknown key":                  {signedAs("AKunknown", keySecret), "InvalidAccessKeyId.NotFound", ""},
		"unknown key, bad body hash":   {signedAs("AKunknown", keySecret).set("x-acs-content-sha256", sha256Hex("x")), "InvalidAccessKeyId.NotFound", ""},
		"inactive key":                 {signedAs("AKasleep", keySecret), "InvalidAccessKeyId.Inactive", ""},
		"inactive key, another secret": {signedAs("AKasleep", "guessed"), "SignatureDoesNotMatch", ""},

		"date a second too old":      {acs3With("x-acs-date", now.Add(-signature.Window-time.Second).Format(time.RFC3339)), "InvalidTimeStamp.Expired", ""},
		"date a second too new":      {acs3With("x-acs-date", now.Add(signature.Window+time.Second).Format(time.RFC3339)), "InvalidTimeStamp.Expired", ""},
		"date far away":              {acs3With("x-acs-date", "9999-01-01T00:00:00Z"), "InvalidTimeStamp.Expired", ""},
		"date with an offset":        {acs3With("x-acs-date", "2026-08-01T14:00:00+02:00"), "InvalidTimeStamp.Format", ""},
		"date in another format":     {acs3With("x-acs-date", now.Format(time.RFC1123)), "InvalidTimeStamp.Format", ""},
		"out of time, unknown key":   {signedAs("AKunknown", keySecret).set("x-acs-date", "2020-01-01T00:00:00Z"), "InvalidTimeStamp.Expired", ""},
		"nonce too long":             {acs3With("x-acs-signature-nonce", strings.Repeat("n", 129)), "InvalidParameter", "SignatureNonce"},
		"nonce with a blank":         {acs3With("x-acs-signature-nonce", "a b"), "InvalidParameter", "SignatureNonce"},
		"empty nonce":                {acs3With("x-acs-signature-nonce", ""), "MissingParameter", "x-acs-signature-nonce"},
		"empty action":               {acs3With("x-acs-action", ""), "MissingParameter", "x-acs-action"},
		"action that is not ASCII":   {acs3With("x-acs-action", "Créate"), "InvalidParameter", "Action"},
		"repeated x-acs-action":      {newACS3("/", "").with("x-acs-action", "DeleteModelService").signACS3(), "IncompleteSignature", "more than once"},
		"repeated content-type":      {newACS3("/", "A=1").with("content-type", "application/json").signACS3(), "UnsupportedContentType", ""},
		"repeated unread type":       {newACS3("/", "").with("content-type", "a/b").with("content-type", "c/d").signACS3(), "IncompleteSignature", "more than once"},
		"x-acs header not signed":    {newACS3("/", "").signACS3().with("x-acs-region-id", "cn-beijing"), "IncompleteSignature", "x-acs-region-id must be signed"},
		"listed header is not there": {newACS3("/", "").signACS3Headers(append([]string{"accept"}, newACS3("/", "").signedHeaders()...)), "IncompleteSignature", `"accept"`},
		"list not in order":          {newACS3("/", "").signACS3Headers(reversed(newACS3("/", "").signedHeaders())), "IncompleteSignature", "in order"},
		"list with a name twice":     {newACS3("/", "").signACS3Headers(append([]string{"host"}, newACS3("/", "").signedHeaders()...)), "IncompleteSignature", "in order"},
		"list in upper case":         {newACS3("/", "").signACS3Headers([]string{"Host"}), "IncompleteSignature", ""},

		"body changed":             {withBody(newACS3("/", "A=1").signACS3(), "A=2"), "SignatureDoesNotMatch", "x-acs-content-sha256"},
		"body and hash changed":    {withBody(newACS3("/", "A=1").signACS3(), "A=2").set("x-acs-content-sha256", sha256Hex("A=2")), "SignatureDoesNotMatch", ""},
		"hash of another body":     {acs3With("x-acs-content-sha256", sha256Hex("x")), "SignatureDoesNotMatch", "x-acs-content-sha256"},
		"payload not hashed":       {acs3With("x-acs-content-sha256", "UNSIGNED-PAYLOAD"), "SignatureDoesNotMatch", "x-acs-content-sha256"},
		"hash in upper case":       {acs3With("x-acs-content-sha256", strings.ToUpper(sha256Hex(""))), "SignatureDoesNotMatch", "x-acs-content-sha256"},
		"query changed":            {withTarget(form("/?A=1", ""), "/?A=2"), "SignatureDoesNotMatch", ""},
		"query added":              {withTarget(form("/?A=1", ""), "/?A=1&B="), "SignatureDoesNotMatch", ""},
		"path changed":             {withTarget(form("/CreateModelService", ""), "/DeleteModelService"), "SignatureDoesNotMatch", ""},
		"method changed":           {withMethod(form("/", ""), "GET"), "SignatureDoesNotMatch", ""},
		"host changed":             {form("/", "").set("host", "127.0.0.1:8081"), "SignatureDoesNotMatch", ""},
		"parameter twice in query": {form("/?A=1&A=1", ""), "InvalidParameter", "more than once"},
		"twice by encoding":        {form("/?A=1&%41=2", ""), "InvalidParameter", "more than once"},
		"twice in form":            {form("/", "A=1&A=2"), "InvalidParameter", "more than once"},
		"in query and in form":     {form("/?A=1", "A=1"), "InvalidParameter", "both"},
		"name with =":              {form("/?A%3DB=1", ""), "InvalidParameter", "name"},
		"name with &":              {form("/?A%26B=1", ""), "InvalidParameter", "name"},
		"empty name":               {form("/?=1", ""), "InvalidParameter", "name"},
		"long name":                {form("/?"+strings.Repeat("n", 129)+"=1", ""), "InvalidParameter", "name"},
		"value not UTF-8":          {form("/?A=%FF", ""), "InvalidParameter", "UTF-8"},
		"form value not UTF-8":     {form("/", "A=%C3%28"), "InvalidParameter", "UTF-8"},
		"value with U+0000":        {form("/?A=%00", ""), "InvalidParameter", "U+0000"},
		"broken encoding":          {form("/?A=%zz", ""), "InvalidParameter", "percent-encoding"},
		"too many parameters":      {form("/", manyParams(2049)), "InvalidParameter", "2048"},
		"Format=XML":               {form("/?Format=XML", ""), "UnsupportedParameter", ""},

		"Content-Encoding":        {newACS3("/", "A=1").with("content-encoding", "gzip").signACS3(), "UnsupportedContentEncoding", ""},
		"body without a type":     {newACS3("/", "A=1").without("content-type").signACS3(), "UnsupportedContentType", ""},
		"multipart body":          {newACS3("/", "A=1").set("content-type", "multipart/form-data; boundary=x").signACS3(), "UnsupportedContentType", ""},
		"body in another charset": {newACS3("/", "A=1").set("content-type", "application/x-www-form-urlencoded; charset=latin1").signACS3(), "UnsupportedContentType", ""},
		"method PUT":              {withMethod(newACS3("/", ""), "PUT").signACS3(), "UnsupportedHTTPMethod", ""},
		"absolute target":         {form("http://127.0.0.1:8080/", ""), "InvalidPath", ""},
		"dot segments":            {form("/a/../CreateModelService", ""), "InvalidPath", ""},
		"encoded dot segments":    {form("/a/%2E%2E/b", ""), "InvalidPath", ""},
		"encoded slash":           {form("/a%2Fb", ""), "InvalidPath", ""},
		"encoded backslash":       {form("/a%5Cb", ""), "InvalidPath", ""},
		"two slashes":             {form("//a", ""), "InvalidPath", ""},
		"needlessly encoded":      {form("/%43reateModelService", ""), "InvalidPath", ""},
		"encoded in lower case":   {form("/a%2a", ""), "InvalidPath", ""},
		"path not UTF-8":          {form("/a%FF", ""), "InvalidPath", ""},
		"path parameter":          {form("/a;b=c", ""), "InvalidPath", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r.check(t)
		})
	}
}

func TestACS3RefusesAMissingOrUnsignedHeader(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"x-acs-action", "x-acs-version", "x-acs-date", "x-acs-content-sha256", "x-acs-signature-nonce"} {
		refusal{newACS3("/", "").without(name).signACS3(), "MissingParameter", name}.check(t)
		refusal{signedWithout(name), "IncompleteSignature", name + " must be signed"}.check(t)
	}
	refusal{signedWithout("host"), "IncompleteSignature", "host must be signed"}.check(t)
	refusal{signedWithout("x-acs-credentials-provider"), "IncompleteSignature", "x-acs-credentials-provider must be signed"}.check(t)
}

func TestRPCV1Refuses(t *testing.T) {
	t.Parallel()
	with := func(name, value string) call {
		params := rpcParams()
		params.Set(name, value)
		return newRPC(params, nil)
	}
	good := func() call { return newRPC(rpcParams(), url.Values{"ClientToken": {"t"}}) }
	changed := func(from, to string) call {
		c := good()
		return withTarget(c, strings.Replace(c.target, from, to, 1))
	}
	signed := func(value string) call {
		params := rpcParams()
		params.Set("Signature", value)
		return call{method: "POST", target: "/?" + params.Encode()}.with("host", "h")
	}
	raw, err := base64.StdEncoding.DecodeString(rpcSignature("POST", rpcParams(), nil))
	require.NoError(t, err)
	for name, r := range map[string]refusal{
		"method HMAC-SHA256":                     {with("SignatureMethod", "HMAC-SHA256"), "UnsupportedSignature", ""},
		"method none":                            {with("SignatureMethod", "none"), "UnsupportedSignature", ""},
		"version 2.0":                            {with("SignatureVersion", "2.0"), "UnsupportedSignature", ""},
		"bearer":                                 {with("SignatureType", "BEARERTOKEN"), "UnsupportedSignature", ""},
		"bearer token":                           {with("BearerToken", "x"), "UnsupportedSignature", ""},
		"private key":                            {with("SignatureType", "PRIVATEKEY"), "UnsupportedSignature", ""},
		"empty security token":                   {with("SecurityToken", ""), "InvalidSecurityToken.Malformed", ""},
		"XML":                                    {with("Format", "XML"), "UnsupportedParameter", ""},
		"unknown key":                            {with("AccessKeyId", "AKunknown"), "InvalidAccessKeyId.NotFound", ""},
		"key id with a quote":                    {with("AccessKeyId", "AK'--"), "IncompleteSignature", "access key id"},
		"inactive key":                           {with("AccessKeyId", "AKasleep"), "InvalidAccessKeyId.Inactive", ""},
		"too old":                                {with("Timestamp", now.Add(-signature.Window-time.Second).Format(time.RFC3339)), "InvalidTimeStamp.Expired", ""},
		"too new":                                {with("Timestamp", now.Add(signature.Window+time.Second).Format(time.RFC3339)), "InvalidTimeStamp.Expired", ""},
		"local time":                             {with("Timestamp", "2026-08-01T12:00:00"), "InvalidTimeStamp.Format", ""},
		"long nonce":                             {with("SignatureNonce", strings.Repeat("n", 129)), "InvalidParameter", "SignatureNonce"},
		"nonce beyond ASCII":                     {with("SignatureNonce", "é"), "InvalidParameter", "SignatureNonce"},
		"truncated signature":                    {signed(base64.StdEncoding.EncodeToString(raw[:10])), "IncompleteSignature", "base64"},
		"signature in hex":                       {signed(fmt.Sprintf("%x", raw)), "IncompleteSignature", "base64"},
		"signature in base64url":                 {signed("-" + base64.StdEncoding.EncodeToString(raw)[1:]), "SignatureDoesNotMatch", ""},
		"signature, spare bit":                   {signed(spareBit(base64.StdEncoding.EncodeToString(raw))), "SignatureDoesNotMatch", ""},
		"action changed":                         {changed("Action=CreateModelService", "Action=DeleteModelService"), "SignatureDoesNotMatch", "server string to sign is:POST&%2F&"},
		"parameter added":                        {changed("/?", "/?More=1&"), "SignatureDoesNotMatch", ""},
		"form changed":                           {withBody(good(), "ClientToken=u"), "SignatureDoesNotMatch", ""},
		"form dropped":                           {withBody(good(), ""), "SignatureDoesNotMatch", ""},
		"form moved to a parameter of the query": {changed("/?", "/?ClientToken=t&"), "InvalidParameter", "both"},
		"method changed":                         {withMethod(good(), "GET"), "SignatureDoesNotMatch", ""},
		"JSON body":                              {withBody(newRPC(rpcParams(), nil), "{}").set("content-type", "application/json"), "UnsupportedContentType", "form"},
		"another path":                           {withTarget(good(), "/DeleteModelService"+strings.TrimPrefix(good().target, "/")), "InvalidPath", "must be /"},
		"signature twice":                        {changed("/?", "/?Signature=x&"), "InvalidParameter", "more than once"},
		"signature in both":                      {withBody(good(), "Signature=x"), "InvalidParameter", "both"},
		"action in both":                         {withBody(good(), "Action=x"), "InvalidParameter", "both"},
		"Authorization as well":                  {good().with("authorization", "ACS3-HMAC-SHA256 x"), "IncompleteSignature", "more than once"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r.check(t)
		})
	}
	for name := range rpcParams() {
		switch name {
		case "Format", "SignatureType", "RegionId", "ModelName":
			continue
		}
		params := rpcParams()
		params.Del(name)
		refusal{newRPC(params, nil), "MissingParameter", name}.check(t)
	}
	refusal{call{method: "POST", target: "/?" + rpcParams().Encode()}.with("host", "h"), "MissingParameter", "Signature"}.check(t)
}

func withBody(c call, body string) call     { c.body = body; return c }
func withTarget(c call, target string) call { c.target = target; return c }
func withMethod(c call, method string) call { c.method = method; return c }

// spareBit changes a bit of the base64 text that a lenient decoder passes over.
func spareBit(encoded string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	last := len(encoded) - 2
	return encoded[:last] + string(alphabet[strings.IndexByte(alphabet, encoded[last])^1]) + "="
}

func reversed(names []string) []string {
	var back []string
	for _, name := range names {
		back = append([]string{name}, back...)
	}
	return back
}

func manyParams(n int) string {
	var pairs []string
	for i := range n {
		pairs = append(pairs, fmt.Sprintf("AiNodes.%d=x", i+1))
	}
	return strings.Join(pairs, "&")
}
