package identity

import (
	"crypto/hmac"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/secret"
)

var noon = time.Date(2026, 11, 22, 12, 0, 30, 0, time.UTC)

func TestNonceIsSpentForAsLongAsItsDateIsAccepted(t *testing.T) {
	t.Parallel()
	n := NewNonces()
	require.NoError(t, n.Spend("alice", "n", noon, noon))
	require.ErrorIs(t, n.Spend("alice", "n", noon, noon), ErrSpent)
	require.NoError(t, n.Spend("bob", "n", noon, noon))
	ahead := noon.Add(window - time.Second)
	require.NoError(t, n.Spend("alice", "ahead", ahead, noon))
	for now := noon; now.Before(ahead.Add(window)); now = now.Add(time.Minute) {
		require.ErrorIs(t, n.Spend("alice", "ahead", ahead, now), ErrSpent, now)
		if now.Before(noon.Add(window)) {
			require.ErrorIs(t, n.Spend("alice", "n", noon, now), ErrSpent, now)
		}
	}
	later := noon.Add(3 * window)
	require.NoError(t, n.Spend("alice", "later", later, later))
	require.Len(t, n.minutes, 1, "the others are forgotten")
	require.Equal(t, 1, n.total)
	require.Equal(t, map[string]int{"alice": 1}, n.ofOne)
}

func TestNoncesThatDoNotFitAreRefusedAndNoneIsForgotten(t *testing.T) {
	t.Parallel()
	n := NewNonces()
	for i := range maxNoncesOfOne {
		require.NoError(t, n.Spend("alice", fmt.Sprint(i), noon, noon))
	}
	require.ErrorIs(t, n.Spend("alice", "one more", noon, noon), ErrFull)
	require.ErrorIs(t, n.Spend("alice", "0", noon, noon), ErrSpent, "the first is still there")
	require.NoError(t, n.Spend("bob", "0", noon, noon), "who signs much hinders nobody else")
	n.total = maxNonces
	require.ErrorIs(t, n.Spend("bob", "1", noon, noon), ErrFull)
	require.ErrorIs(t, n.Spend("bob", "0", noon, noon), ErrSpent)
}

func TestMemoryIsBoundedAndEndsWithWhatItRemembers(t *testing.T) {
	t.Parallel()
	var m Memory[int]
	key := func(i int) (key [32]byte) {
		copy(key[:], fmt.Sprint(i))
		return key
	}
	_, ok := m.Get(key(0), noon)
	require.False(t, ok)
	m.Put(key(0), 7, noon.Add(time.Second))
	value, ok := m.Get(key(0), noon)
	require.Equal(t, []any{7, true}, []any{value, ok})
	_, ok = m.Get(key(0), noon.Add(time.Second))
	require.False(t, ok, "it has ended")
	for i := range 5 * maxRemembered {
		m.Put(key(i+1), i, noon.Add(time.Hour))
		if i%maxRemembered == 0 {
			_, ok = m.Get(key(1), noon)
			require.True(t, ok, "what is asked for stays")
		}
	}
	require.LessOrEqual(t, len(m.young)+len(m.old), 2*maxRemembered)
	_, ok = m.Get(key(2), noon)
	require.False(t, ok)
}

func TestSecretThatIsNobodysMakesNoSignature(t *testing.T) {
	t.Parallel()
	r := signedRequest("/v1/models")
	s, err := ReadSignature(r, "/v1/models")
	require.NoError(t, err)
	mac := hmac.New(s.newHash, []byte(nobodys.Reveal()))
	_, _ = mac.Write([]byte(s.signed))
	s.mac = mac.Sum(nil)
	require.True(t, s.IsBy(nobodys), "it would be")
	require.False(t, s.IsBy(secret.Secret{}))
}

func signedRequest(target string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for name, value := range map[string]string{
		keyHeader: "key", nonceHeader: "nonce", timestampHeader: "1", headersHeader: strings.Join(required, ","),
		signatureHeader: strict.EncodeToString(make([]byte, 32)),
	} {
		r.Header.Set(name, value)
	}
	return r
}

func TestWhatIsSignedIsWhatClientsSign(t *testing.T) {
	t.Parallel()
	r := signedRequest("/v1/m%6fdels?b=2&a=%20x&c=")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("Date", "Sun, 22 Nov 2026 12:00:30 GMT")
	r.Header.Set("X-Ca-Stage", "RELEASE")
	r.Header.Set(headersHeader, "X-Ca-Stage,accept,x-ca-key, x-ca-timestamp,x-ca-nonce,x-ca-signature,host")
	s, err := ReadSignature(r, "/v1/m%6fdels")
	require.NoError(t, err)
	require.Equal(t, "GET\napplication/json\n\napplication/json; charset=utf-8\nSun, 22 Nov 2026 12:00:30 GMT\n"+
		"host:example.com\nx-ca-key:key\nx-ca-nonce:nonce\nx-ca-stage:RELEASE\nx-ca-timestamp:1\n/v1/m%6fdels?a= x&b=2&c", s.signed)
}

// What is signed of a query can be read back in one way, so that no other query has the same signature that this gateway
// would accept.
func FuzzSignedParameters(f *testing.F) {
	for _, query := range []string{"", "a=1", "b=2&a=1", "a=1%26b=2", "a&b", "a=", "a=b=c", "%61=%3d", "a=1&a=2", "a%3Db=c", "a;b=1", "=1", "&", "a=%zz", "a=+"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		signed, err := signedParameters(query)
		if err != nil {
			require.Empty(t, signed)
			return
		}
		back := map[string]string{}
		if text, ok := strings.CutPrefix(signed, "?"); ok {
			for part := range strings.SplitSeq(text, "&") {
				name, value, _ := strings.Cut(part, "=")
				require.NotContains(t, back, name)
				back[name] = value
			}
		}
		if strings.Contains(query, ";") {
			return // url.ParseQuery refuses those
		}
		meant := map[string]string{}
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		for name, all := range values {
			require.Len(t, all, 1)
			meant[name] = all[0]
		}
		require.True(t, maps.Equal(meant, back), "%q is signed as %q", query, signed)
	})
}

// Whatever a request says, it is read without a panic, and is nobody's.
func FuzzSignature(f *testing.F) {
	f.Add("x-ca-key,x-ca-nonce,x-ca-timestamp", "1", "", strict.EncodeToString(make([]byte, 32)), "")
	f.Add("host,x-ca-key,x-ca-nonce,x-ca-timestamp", "-1", "HmacSHA1", strict.EncodeToString(make([]byte, 20)), "1B2M2Y8AsgTpgAmY7PhCfg==")
	f.Fuzz(func(t *testing.T, headers, timestamp, method, signature, sum string) {
		r := signedRequest("/")
		for name, value := range map[string]string{
			headersHeader: headers, timestampHeader: timestamp, methodHeader: method, signatureHeader: signature, md5Header: sum,
		} {
			r.Header.Set(name, value)
		}
		s, err := ReadSignature(r, "/")
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.False(t, s.IsBy(secret.Secret{}))
		require.Contains(t, s.signed, "x-ca-nonce:nonce\n")
		_ = s.IsFresh(noon)
		_ = s.Covers(nil)
	})
}

// A token that cannot be verified is read without a panic, and opens nothing.
func FuzzToken(f *testing.F) {
	f.Add("eyJhbGciOiJIUzI1NiJ9.eyJ1aWQiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.AAAA")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ReadToken(text, slices.Collect(maps.Keys(decoys)))
		if err != nil {
			return
		}
		for name, value := range token.Claims {
			_, _ = name, value
		}
		token.Decoy()
		_, err = new(Verifier).Verify(token, noon)
		require.ErrorIs(t, err, ErrToken)
	})
}
