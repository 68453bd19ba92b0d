package signature

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/secret"
)

// The parameters of RPC-V1 itself: those it needs, and those it may have.
var (
	rpcRequired = []string{"AccessKeyId", "Signature", "Action", "Version", "Timestamp", "SignatureNonce", "SignatureMethod", "SignatureVersion"}
	rpcOptional = []string{"SignatureType", "Format", "SecurityToken"}
)

// rpcV1 is a request signed with RPC signature version 1.0: the parameters are signed and nothing else is, so no
// header and no path is believed.
type rpcV1 struct{ message }

func readRPCV1(m message) (claim, error) {
	request := rpcV1{m}
	if err := request.check(); err != nil {
		return claim{}, err
	}
	value := func(name string) string {
		text, _ := m.param(name)
		return text
	}
	signedAt, err := parseTime(value("Timestamp"))
	if err != nil {
		return claim{}, err
	}
	params := m.params()
	for _, name := range slices.Concat(rpcRequired, rpcOptional) {
		params.Del(name)
	}
	token, err := m.token(false)
	if err != nil {
		return claim{}, err
	}
	return claim{
		dialect:     RPCV1,
		accessKeyID: value("AccessKeyId"),
		nonce:       value("SignatureNonce"),
		signedAt:    signedAt,
		action:      value("Action"),
		version:     value("Version"),
		params:      params,
		token:       token,
		signature:   value("Signature"),
		sign:        request.sign,
	}, nil
}

func (r rpcV1) check() error {
	for _, name := range rpcRequired {
		if value, _ := r.param(name); value == "" {
			return fault.MissingParameter(name)
		}
	}
	method, _ := r.param("SignatureMethod")
	version, _ := r.param("SignatureVersion")
	kind, _ := r.param("SignatureType")
	signature, _ := r.param("Signature")
	switch {
	case method != "HMAC-SHA1", version != "1.0", kind != "":
		return ErrUnsupported
	case r.path != "/":
		return ErrInvalidPath.Withf("The request path must be / : this signature does not cover another.")
	case len(r.body) > 0 && r.form == nil:
		return ErrContentType.Withf("The request body must be a form: this signature does not cover another.")
	case len(signature) != base64.StdEncoding.EncodedLen(sha1.Size):
		return incomplete("Signature must be the base64 of an HMAC-SHA1")
	}
	return nil
}

func (r rpcV1) sign(key secret.Secret) (stringToSign, signature string, err error) {
	stringToSign = r.method + "&%2F&" + encode(r.canonical())
	mac := hmac.New(sha1.New, []byte(key.Reveal()+"&"))
	mac.Write([]byte(stringToSign))
	return stringToSign, base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

func (r rpcV1) canonical() string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(r.query)), maps.Keys(r.form))
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		if name == "Signature" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		value, _ := r.param(name)
		b.WriteString(name + "=" + encode(value))
	}
	return b.String()
}
