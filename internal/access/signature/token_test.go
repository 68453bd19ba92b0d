package signature_test

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/secret"
)

const (
	sessionID    = "STS.session"
	sessionToken = "a-security-token+/="
)

var session = access.Caller{
	Identity: access.Session, AccountID: caller.AccountID, RoleID: "400000000000000001", RoleName: "deployer", SessionName: "ann",
	AccessKeyID: sessionID, PolicyEpoch: 7,
}

// newSessionVerifier knows a user's key and that of a session.
func newSessionVerifier(expires time.Time) *signature.Verifier {
	ring, hash := keys(), sha256.Sum256([]byte(sessionToken))
	ring[sessionID] = signature.Key{
		ID: sessionID, Secret: secret.New(keySecret), Active: true, Caller: session, TokenHash: hash[:], Expires: expires,
	}
	return signature.New(ring, &nonceTable{keys: ring}, func() time.Time { return now })
}

// dialects sign a call with a key and a token, which is left out when it is none.
var dialects = map[string]func(id, token string) call{
	"acs3": func(id, token string) call {
		c := newACS3("/?A=1", "").with("x-acs-accesskey-id", id)
		if token != "" {
			c = c.with("x-acs-security-token", token)
		}
		return c.with("authorization", c.authorization(id, keySecret, c.signedHeaders()))
	},
	"rpc-v1": func(id, token string) call {
		params := rpcParams()
		params.Set("AccessKeyId", id)
		if token != "" {
			params.Set("SecurityToken", token)
		}
		return newRPC(params, nil)
	},
	"roa-v1": func(id, token string) call {
		c := newROA("GET", "/v1/things?a=1", "")
		if token != "" {
			c = c.with("x-acs-security-token", token).with("x-acs-accesskey-id", id)
		}
		c = c.signROA()
		return c.set("authorization", strings.Replace(c.header("authorization"), keyID, id, 1))
	},
}

func TestASessionIsAcceptedWithItsToken(t *testing.T) {
	t.Parallel()
	for name, sign := range dialects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			verified, err := sign(sessionID, sessionToken).verify(newSessionVerifier(now.Add(time.Second)))
			require.NoError(t, err)
			require.Equal(t, session, verified.Caller)
			require.Equal(t, name, verified.Dialect)
			require.Empty(t, verified.Params.Get("SecurityToken"), "it is no parameter of the operation")
		})
	}
}

func TestATokenIsBoundToItsKeyAndItsTime(t *testing.T) {
	t.Parallel()
	for name, sign := range dialects {
		for what, c := range map[string]struct {
			call    call
			expires time.Time
			want    error
		}{
			"none":                {sign(sessionID, ""), now.Add(time.Hour), signature.ErrTokenMissing},
			"another":             {sign(sessionID, sessionToken+"x"), now.Add(time.Hour), signature.ErrTokenMismatch},
			"with a user's key":   {sign(keyID, sessionToken), now.Add(time.Hour), signature.ErrTokenMismatch},
			"expired":             {sign(sessionID, sessionToken), now, signature.ErrTokenExpired},
			"too long":            {sign(sessionID, strings.Repeat("x", 2049)), now.Add(time.Hour), signature.ErrTokenMalformed},
			"no token has spaces": {sign(sessionID, "a b"), now.Add(time.Hour), signature.ErrTokenMalformed},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				_, err := c.call.verify(newSessionVerifier(c.expires))
				require.ErrorIs(t, err, c.want)
				require.NotContains(t, err.Error(), sessionToken)
			})
		}
	}
}

// A token that the signature does not cover could have been put there by anybody.
func TestATokenCountsOnlyWhereItIsSigned(t *testing.T) {
	t.Parallel()
	v := newSessionVerifier(now.Add(time.Hour))
	_, err := dialects["rpc-v1"](sessionID, "").with("x-acs-security-token", sessionToken).verify(v)
	require.ErrorIs(t, err, signature.ErrTokenMissing)
	_, err = dialects["acs3"](sessionID, "").with("x-acs-security-token", sessionToken).verify(v)
	require.ErrorIs(t, err, signature.ErrIncomplete)
}

func TestAMismatchDoesNotTellTheToken(t *testing.T) {
	t.Parallel()
	for name, sign := range dialects {
		c := sign(sessionID, sessionToken)
		for _, change := range [][2]string{{"A=1", "A=2"}, {"a=1", "a=2"}, {"ModelName", "OtherName"}} {
			c.target = strings.Replace(c.target, change[0], change[1], 1)
		}
		_, err := c.verify(newSessionVerifier(now.Add(time.Hour)))
		require.ErrorIs(t, err, signature.ErrMismatch, name)
		require.NotContains(t, err.Error(), "a-security-token", name)
	}
}
