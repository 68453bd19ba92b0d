package signature_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/secret"
)

func TestACS3IsAccepted(t *testing.T) {
	t.Parallel()
	const form = "ClientToken=t-1&ResourceGroupId="
	for name, c := range map[string]call{
		"query only":                    newACS3("/?AiNodes=%5B%22ai-1%22%5D&Empty=&Space=a+b%2Ac~&Bare", ""),
		"query and form":                newACS3("/?DBInstanceId=gp-1", form),
		"form type without a body":      newACS3("/", "").with("content-type", "application/x-www-form-urlencoded"),
		"JSON body":                     newACS3("/CreateModelService", `{"a":"b&c"}`).set("content-type", "application/json; charset=utf-8"),
		"content type that is not read": newACS3("/", "").with("content-type", "application/octet-stream"),
		"value with blanks around":      newACS3("/", "").set("x-acs-credentials-provider", "  static_ak  "),
		"path with encoded characters":  newACS3("/v1/a%20b%2A", ""),
		"nothing in the query":          newACS3("/?", ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, signature.ACS3, requireVerified(t, c.signACS3()).Dialect)
		})
	}
	verified := requireVerified(t, newACS3("/?DBInstanceId=gp-1&Blank=", form).signACS3())
	require.Equal(t, url.Values{"DBInstanceId": {"gp-1"}, "Blank": {""}, "ClientToken": {"t-1"}, "ResourceGroupId": {""}}, verified.Params)
	require.Empty(t, requireVerified(t, newACS3("/", `{"a=b":"c"}`).set("content-type", "application/json").signACS3()).Params)
}

func TestAnUnsignedContentTypeIsAcceptedWithoutABody(t *testing.T) {
	t.Parallel()
	c := newACS3("/?A=1", "")
	requireVerified(t, c.signACS3().with("content-type", "text/plain"))
}

func TestRPCV1IsAccepted(t *testing.T) {
	t.Parallel()
	params := rpcParams()
	rest := url.Values{"RegionId": {"cn-hangzhou"}, "ModelName": {"a b*c~/é"}}
	verified := requireVerified(t, newRPC(rpcParams(), nil))
	require.Equal(t, signature.RPCV1, verified.Dialect)
	require.Equal(t, rest, verified.Params)

	rest.Set("ClientToken", "t 1")
	require.Equal(t, rest, requireVerified(t, newRPC(rpcParams(), url.Values{"ClientToken": {"t 1"}})).Params)

	params.Set("Signature", rpcSignature("GET", params, nil))
	requireVerified(t, call{method: "GET", target: "/?" + params.Encode()}.with("host", "h"))

	inForm := rpcParams()
	inForm.Set("Signature", rpcSignature("POST", inForm, nil))
	requireVerified(t, call{method: "POST", target: "/", body: inForm.Encode()}.with("host", "h").with("content-type", "application/x-www-form-urlencoded;charset=UTF-8"))
}

func TestRPCV1NeverReadsHeaders(t *testing.T) {
	t.Parallel()
	c := newRPC(rpcParams(), nil).with("x-acs-action", "DeleteModelService").with("x-acs-version", "2024-03-27").
		with("x-acs-date", "never").with("x-acs-signature-nonce", "other")
	requireVerified(t, c)
}

func TestFifteenMinutesEitherSideAreAccepted(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{-signature.Window, 0, signature.Window} {
		date := now.Add(skew).Format(time.RFC3339)
		requireVerified(t, newACS3("/", "").set("x-acs-date", date).signACS3())
		params := rpcParams()
		params.Set("Timestamp", date)
		requireVerified(t, newRPC(params, nil))
	}
}

func TestAReplayOnASecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	first, nonces := newVerifier()
	second := signature.New(keys(), nonces, func() time.Time { return now })
	for _, c := range []call{newACS3("/", "").signACS3(), newRPC(rpcParams(), nil)} {
		_, err := c.verify(first)
		require.NoError(t, err)
		_, err = c.verify(second)
		require.ErrorIs(t, err, signature.ErrNonceUsed)
	}
}

func TestOnlyWhoCanSignSpendsANonce(t *testing.T) {
	t.Parallel()
	v, nonces := newVerifier()
	good := newACS3("/", "").signACS3()
	forged := newACS3("/", "").with("authorization", newACS3("/", "").authorization(keyID, "guessed", newACS3("/", "").signedHeaders()))
	asleep := newACS3("/", "").with("authorization", newACS3("/", "").authorization("AKasleep", keySecret, newACS3("/", "").signedHeaders()))
	for c, want := range map[string]error{forged.text(): signature.ErrMismatch, asleep.text(): signature.ErrInactiveKey} {
		_, err := verifyText(v, c)
		require.ErrorIs(t, err, want)
	}
	require.Zero(t, nonces.count())
	_, err := good.verify(v)
	require.NoError(t, err)
	require.Equal(t, 1, nonces.count())
}

func TestAMismatchTellsWhatWeSigned(t *testing.T) {
	t.Parallel()
	v, _ := newVerifier()
	params := rpcParams()
	_ = newRPC(params, nil)
	params.Set("Signature", "phi8UGpjOTbOjpHeqdnCLjKzbHs=")
	_, err := call{method: "POST", target: "/?" + params.Encode()}.with("host", "h").verify(v)
	params.Del("Signature")
	require.ErrorContains(t, err, "Specified signature is not matched with our calculation. server string to sign is:POST&%2F&"+oracleEncode(sortedPairs(params)))
	require.NotContains(t, err.Error(), keySecret)

	params.Set("Padding", strings.Repeat("x", 20_000))
	params.Set("Signature", "phi8UGpjOTbOjpHeqdnCLjKzbHs=")
	_, err = call{method: "POST", target: "/?" + params.Encode()}.with("host", "h").verify(v)
	require.ErrorIs(t, err, signature.ErrMismatch)
	require.Less(t, len(err.Error()), 200)
}

func TestAKeyWithoutASecretVerifiesNothing(t *testing.T) {
	t.Parallel()
	v, _ := newVerifier()
	c := newACS3("/", "")
	_, err := c.with("authorization", c.authorization("AKempty", "", c.signedHeaders())).verify(v)
	require.ErrorContains(t, err, "no secret")
}

func TestAFailingLookUpIsNotARefusal(t *testing.T) {
	t.Parallel()
	broken := errors.New("the database is away")
	v := signature.New(brokenKeys{broken}, &nonceTable{}, func() time.Time { return now })
	_, err := newACS3("/", "").signACS3().verify(v)
	require.ErrorIs(t, err, broken)
}

func TestAKeyThatChangedIsRefusedAtTheNextCall(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(keyring)
		want   error
	}{
		"deleted":  {func(k keyring) { delete(k, keyID) }, signature.ErrUnknownKey},
		"disabled": {func(k keyring) { k[keyID] = signature.Key{ID: keyID, Secret: secret.New(keySecret), Caller: caller} }, signature.ErrInactiveKey},
		"a new secret": {func(k keyring) {
			k[keyID] = signature.Key{ID: keyID, Secret: secret.New("new"), Active: true, Caller: caller}
		}, signature.ErrMismatch},
		"another owner": {func(k keyring) { k[keyID] = signature.Key{ID: keyID, Secret: secret.New(keySecret), Active: true} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, nonces := newVerifier()
			signed := func(nonce string) error {
				verified, err := newACS3("/", "").set("x-acs-signature-nonce", nonce).signACS3().verify(v)
				if err == nil {
					require.Equal(t, nonces.keys[keyID].Caller, verified.Caller)
				}
				return err
			}
			require.NoError(t, signed("1"))
			require.NoError(t, signed("2"), "from memory")
			c.change(nonces.keys)
			require.ErrorIs(t, signed("3"), c.want)
			spent := nonces.count()
			require.ErrorIs(t, signed("4"), c.want)
			if c.want != nil {
				require.Equal(t, spent, nonces.count(), "the key is not known any more, so it spends nothing")
			}
		})
	}
}
