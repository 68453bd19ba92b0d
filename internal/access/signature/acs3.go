package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/secret"
)

const acs3Algorithm = "ACS3-HMAC-SHA256"

// acs3Headers must be there and signed, each of them, in every request.
var acs3Headers = []string{
	"host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce", "x-acs-version",
}

// acs3 is a request signed with ACS3-HMAC-SHA256.
type acs3 struct {
	message
	signedHeaders []string
}

func readACS3(m message, authorization string) (claim, error) {
	id, signedHeaders, signature, err := parseAuthorization(authorization)
	if err != nil {
		return claim{}, err
	}
	request := acs3{message: m, signedHeaders: signedHeaders}
	if err := request.checkHeaders(); err != nil {
		return claim{}, err
	}
	signedAt, err := parseTime(request.header("x-acs-date"))
	if err != nil {
		return claim{}, err
	}
	if named := request.header("x-acs-accesskey-id"); named != "" && named != id {
		return claim{}, incomplete("the header x-acs-accesskey-id names another access key than Authorization")
	}
	token, err := m.token(true)
	if err != nil {
		return claim{}, err
	}
	return claim{
		dialect:     ACS3,
		accessKeyID: id,
		nonce:       request.header("x-acs-signature-nonce"),
		signedAt:    signedAt,
		action:      request.header("x-acs-action"),
		version:     request.header("x-acs-version"),
		params:      m.params(),
		token:       token,
		signature:   signature,
		sign:        request.sign,
	}, nil
}

// parseAuthorization takes ALGORITHM Credential=ID,SignedHeaders=A;B,Signature=HEX apart.
func parseAuthorization(value string) (id string, signedHeaders []string, signature string, err error) {
	algorithm, rest, _ := strings.Cut(value, " ")
	if algorithm != acs3Algorithm {
		return "", nil, "", ErrUnsupported
	}
	parts := strings.Split(rest, ",")
	if len(parts) != 3 {
		return "", nil, "", incomplete("Authorization must be %s Credential=…,SignedHeaders=…,Signature=…", acs3Algorithm)
	}
	values := make([]string, len(parts))
	for i, name := range []string{"Credential=", "SignedHeaders=", "Signature="} {
		var ok bool
		if values[i], ok = strings.CutPrefix(parts[i], name); !ok || values[i] == "" {
			return "", nil, "", incomplete("part %d of Authorization must be %s…", i+1, name)
		}
	}
	id, signature = values[0], values[2]
	if len(signature) != 2*sha256.Size || !onlyOf(signature, isLowerHex) {
		return "", nil, "", incomplete("Signature must be %d lower-case hexadecimal digits", 2*sha256.Size)
	}
	return id, strings.Split(values[1], ";"), signature, nil
}

func isLowerHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }

// header returns the one value of a header that checkHeaders has seen, trimmed as it is signed.
func (a acs3) header(name string) string {
	if name == "host" {
		return a.host
	}
	if values := a.headers[name]; len(values) == 1 {
		return strings.TrimSpace(values[0])
	}
	return ""
}

// checkHeaders makes sure that nothing a later step reads is left unsigned, or can be read in two ways.
func (a acs3) checkHeaders() error {
	for i, name := range a.signedHeaders {
		if i > 0 && name <= a.signedHeaders[i-1] {
			return incomplete("SignedHeaders must be in order, each name once")
		}
		if name != "host" && len(a.headers[name]) == 0 {
			return incomplete("SignedHeaders names %q, which is not there", name)
		}
		if len(a.headers[name]) > 1 {
			return incomplete("the header %s is there more than once", name)
		}
	}
	for _, name := range acs3Headers {
		if a.header(name) == "" && len(a.headers[name]) <= 1 {
			return fault.MissingParameter(name)
		}
		if !a.signs(name) {
			return incomplete("the header %s must be signed", name)
		}
	}
	for name := range a.headers {
		if strings.HasPrefix(name, "x-acs-") && !a.signs(name) {
			return incomplete("the header %s must be signed", name)
		}
	}
	return nil
}

func (a acs3) signs(name string) bool {
	_, ok := slices.BinarySearch(a.signedHeaders, name)
	return ok
}

func (a acs3) sign(key secret.Secret) (stringToSign, signature string, err error) {
	payload := hexSHA256(a.body)
	stringToSign = acs3Algorithm + "\n" + hexSHA256([]byte(a.canonical(payload)))
	mac := hmac.New(sha256.New, []byte(key.Reveal()))
	mac.Write([]byte(stringToSign))
	if payload != a.header("x-acs-content-sha256") {
		err = ErrMismatch.Withf("%s The header x-acs-content-sha256 is not the SHA-256 of the body.", ErrMismatch.Cause)
	}
	return stringToSign, hex.EncodeToString(mac.Sum(nil)), err
}

func (a acs3) canonical(payload string) string {
	var b strings.Builder
	b.WriteString(a.method + "\n" + a.path + "\n")
	for i, name := range slices.Sorted(maps.Keys(a.query)) {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(name + "=" + encode(a.query[name]))
	}
	b.WriteByte('\n')
	for _, name := range a.signedHeaders {
		b.WriteString(name + ":" + a.header(name) + "\n")
	}
	b.WriteString("\n" + strings.Join(a.signedHeaders, ";") + "\n" + payload)
	return b.String()
}

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
