package consumer_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const publicKeys = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

// sharedKeys is a set with one secret, which repeats the text.
func sharedKeys(text string) string {
	k := base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat(text, 32/len(text)+1)))
	return fmt.Sprintf(`{"keys":[{"kty":"oct","kid":"1","alg":"HS256","k":"%s"}]}`, k)
}

func token(value string) *consumer.TokenIdentity {
	return &consumer.TokenIdentity{SecretType: "Asymmetry", KeySet: secret.New(publicKeys), Value: value}
}

func accessKey(id, text string) consumer.AccessKey {
	return consumer.AccessKey{ID: id, Secret: secret.New(text), GenerateMode: consumer.Custom}
}

func TestATokenIdentityIsPublishedWithItsKeysSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keys := sharedKeys("canary")
	made, err := w.consumers.Create(t.Context(), account, consumer.Spec{Name: "alice", Token: &consumer.TokenIdentity{
		SecretType: "symmetry", KeySet: secret.New(keys), Value: "7", Position: "query", Name: "token", Issuer: "me", Audience: "models",
	}})
	require.NoError(t, err)
	got, err := w.consumers.Get(t.Context(), account, made.ID)
	require.NoError(t, err)
	require.Equal(t, made, got)
	require.Equal(t, []string{"Symmetry", "uid", "QUERY", ""}, []string{got.Token.SecretType, got.Token.Claim, got.Token.Position, *got.Token.Prefix})
	require.JSONEq(t, `{"keys":[{"kty":"oct","kid":"1","alg":"HS256","k":"****"}]}`, got.Token.Shown)

	w.work(t)
	shown := w.shown(t, made.ID)
	opened, err := w.published.Open(snapshot.TokenKeysPurpose(made.ID), shown.Token.SealedKeys)
	require.NoError(t, err)
	require.Equal(t, keys, opened.Reveal())
	shown.Token.SealedKeys = nil
	require.Equal(t, &snapshot.ConsumerToken{
		Symmetric: true, Claim: "uid", Value: "7", Source: "QueryString", Name: "token", Issuer: "me", Audience: "models",
	}, shown.Token)
	w.requireSealed(t, base64.RawURLEncoding.EncodeToString([]byte("canarycanary")))
}

// requireSealed looks for a secret wherever it could have been written.
func (w *world) requireSealed(t *testing.T, secret string) {
	t.Helper()
	var everywhere string
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT concat((SELECT string_agg(c::text || encode(c.keys_sealed, 'escape') || encode(c.keys_published, 'escape'), '') FROM consumer_token c),
			(SELECT string_agg(c::text || encode(c.secret_sealed, 'escape') || encode(c.secret_published, 'escape'), '') FROM consumer_access_key c),
			(SELECT string_agg(p::text || convert_from(p.body, 'UTF8'), '') FROM published_item p),
			(SELECT string_agg(j::text, '') FROM river_job j), (SELECT string_agg(a::text, '') FROM audit_event a))`).Scan(&everywhere))
	require.NotEmpty(t, everywhere)
	require.NotContains(t, everywhere, secret)
}

func TestATokenIsCarriedInTheAuthorizationHeaderUnlessItIsSaidOtherwise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made, err := w.consumers.Create(t.Context(), account, consumer.Spec{Name: "alice", Token: token("alice")})
	require.NoError(t, err)
	require.Equal(t, []string{"HEADER", "Authorization", "Bearer", publicKeys},
		[]string{made.Token.Position, made.Token.Name, *made.Token.Prefix, made.Token.Shown}, "public keys are no secret")
	w.work(t)
	shown := w.shown(t, made.ID).Token
	require.Equal(t, []any{"Header", "Authorization", "Bearer", false}, []any{shown.Source, shown.Name, shown.Prefix, shown.Symmetric})
}

func TestAccessKeysAreGeneratedOrBroughtAlong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made, err := w.consumers.Create(t.Context(), account, consumer.Spec{Name: "alice", AccessKeys: []consumer.AccessKey{
		{GenerateMode: consumer.System}, accessKey("search-team", "a-secret-canary-WXYZ"),
	}})
	require.NoError(t, err)
	require.Regexp(t, `^AK[A-Z2-7]{26}$`, made.AccessKeys[0].ID)
	require.Regexp(t, `^[A-Z2-7]{52}$`, made.AccessKeys[0].Secret.Reveal(), "260 random bits")
	require.Equal(t, made.AccessKeys[0].Secret.Reveal(), made.AccessKeys[0].Shown())
	require.Equal(t, "****WXYZ", made.AccessKeys[1].Shown())
	got, err := w.consumers.Get(t.Context(), account, made.ID)
	require.NoError(t, err)
	require.Equal(t, made, got)

	w.work(t)
	shown := w.shown(t, made.ID).AccessKeys
	require.Len(t, shown, 2)
	for n, key := range shown {
		require.Equal(t, made.AccessKeys[n].ID, key.ID)
		opened, err := w.published.Open(snapshot.AccessKeyPurpose(made.ID, key.ID), key.SealedSecret)
		require.NoError(t, err)
		require.Equal(t, made.AccessKeys[n].Secret, opened)
	}
	w.requireSealed(t, "canary")
	w.requireSealed(t, made.AccessKeys[0].Secret.Reveal())
}

func TestBadIdentitiesAreRefusedAndLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.consumers.Create(t.Context(), account, consumer.Spec{
		Name: "taken", Token: token("taken"), AccessKeys: []consumer.AccessKey{accessKey("taken-key", "a-secret-of-16-characters")},
	})
	require.NoError(t, err)
	before := w.rows(t)
	withToken := func(change func(*consumer.TokenIdentity)) consumer.Spec {
		t := token("alice")
		change(t)
		return consumer.Spec{Name: "alice", Token: t}
	}
	withKeys := func(keys ...consumer.AccessKey) consumer.Spec { return consumer.Spec{Name: "alice", AccessKeys: keys} }
	for name, c := range map[string]struct {
		spec consumer.Spec
		want string
	}{
		"no secret type":       {withToken(func(t *consumer.TokenIdentity) { t.SecretType = "" }), "jwtIdentityConfig.secretType"},
		"unknown secret type":  {withToken(func(t *consumer.TokenIdentity) { t.SecretType = "Quantum" }), "jwtIdentityConfig.secretType"},
		"no keys":              {withToken(func(t *consumer.TokenIdentity) { t.KeySet = secret.Secret{} }), "jwtIdentityConfig.jwks"},
		"keys that are none":   {withToken(func(t *consumer.TokenIdentity) { t.KeySet = secret.New("canary") }), "JSON Web Key Set"},
		"keys of another kind": {withToken(func(t *consumer.TokenIdentity) { t.SecretType = "Symmetry" }), "secretType"},
		"a key set of 33 KiB":  {withToken(func(t *consumer.TokenIdentity) { t.KeySet = secret.New(strings.Repeat(" ", 33<<10)) }), "at most"},
		"a mask for nothing": {withToken(func(t *consumer.TokenIdentity) {
			t.SecretType, t.KeySet = "Symmetry", secret.New(`{"keys":[{"kty":"oct","k":"****"}]}`)
		}), "jwks"},
		"no value":              {withToken(func(t *consumer.TokenIdentity) { t.Value = "" }), "payloadKeyValue"},
		"a long value":          {withToken(func(t *consumer.TokenIdentity) { t.Value = strings.Repeat("x", 257) }), "payloadKeyValue"},
		"a null in the claim":   {withToken(func(t *consumer.TokenIdentity) { t.Claim = "a\x00" }), "payloadKeyName"},
		"an unknown place":      {withToken(func(t *consumer.TokenIdentity) { t.Position = "COOKIE" }), "HEADER or QUERY"},
		"the header Cookie":     {withToken(func(t *consumer.TokenIdentity) { t.Name = "Cookie" }), "jwtTokenConfig.key"},
		"a query without name":  {withToken(func(t *consumer.TokenIdentity) { t.Position = "QUERY" }), "jwtTokenConfig.key"},
		"a prefix in the query": {withToken(func(t *consumer.TokenIdentity) { t.Position, t.Name, t.Prefix = "QUERY", "t", to("Bearer") }), "jwtTokenConfig.prefix"},
		"two words":             {withToken(func(t *consumer.TokenIdentity) { t.Prefix = to("my token") }), "jwtTokenConfig.prefix"},
		"keys elsewhere":        {withToken(func(t *consumer.TokenIdentity) { t.Unserved = "jwtIdentityConfig.remoteJwks" }), "remoteJwks is not supported"},
		"a claim that is taken": {withToken(func(t *consumer.TokenIdentity) { t.Value = "taken" }), "Another consumer"},

		"an access key that is taken": {withKeys(accessKey("taken-key", "a-secret-of-16-characters")), "Another consumer"},
		"an access key twice":         {withKeys(accessKey("same-key", "a-secret-of-16-characters"), accessKey("same-key", "a-secret-of-16-characters")), "the same ak twice"},
		"a short access key":          {withKeys(accessKey("1234567", "a-secret-of-16-characters")), "8 to 128"},
		"an access key with a comma":  {withKeys(accessKey("1234567,", "a-secret-of-16-characters")), "8 to 128"},
		"a short secret":              {withKeys(accessKey("12345678", "canary-15-bytes")), "16 to 128"},
		"a chosen system key":         {withKeys(consumer.AccessKey{ID: "12345678", GenerateMode: "System"}), "is generated"},
		"an unknown mode":             {withKeys(consumer.AccessKey{GenerateMode: "Manual"}), "generateMode"},
		"11 access keys":              {withKeys(make([]consumer.AccessKey, 11)...), "at most 10"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.consumers.Create(t.Context(), account, c.spec)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "canary")
		})
	}
	require.Equal(t, before, w.rows(t))
	_, err = w.consumers.Create(t.Context(), stranger, consumer.Spec{
		Name: "taken", Token: token("taken"), AccessKeys: []consumer.AccessKey{accessKey("taken-key", "a-secret-of-16-characters")},
	})
	require.NoError(t, err, "claims and access keys are an account's own")
}

func TestWhatAReadShowsOfIdentitiesKeepsThemWhenItIsWrittenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made, err := w.consumers.Create(t.Context(), account, consumer.Spec{
		Name: "alice", AccessKeys: []consumer.AccessKey{{GenerateMode: "System"}, accessKey("search-team", "a-secret-of-16-characters")},
		Token: &consumer.TokenIdentity{SecretType: "Symmetry", KeySet: secret.New(sharedKeys("first")), Value: "7"},
	})
	require.NoError(t, err)
	update := func(change consumer.Change) consumer.Consumer {
		t.Helper()
		require.NoError(t, w.consumers.Update(t.Context(), account, made.ID, change))
		got, err := w.consumers.Get(t.Context(), account, made.ID)
		require.NoError(t, err)
		return got
	}
	shown := *made.Token
	shown.KeySet, shown.Shown = secret.New(made.Token.Shown), ""
	keys := []consumer.AccessKey{
		{ID: "search-team", Secret: secret.New("****ters"), GenerateMode: "Custom"},
		{ID: made.AccessKeys[0].ID, Secret: made.AccessKeys[0].Secret, GenerateMode: "System"},
	}
	got := update(consumer.Change{Token: &shown, AccessKeys: &keys})
	require.Equal(t, made.Token, got.Token)
	require.Equal(t, []consumer.AccessKey{made.AccessKeys[1], made.AccessKeys[0]}, got.AccessKeys)

	shown.KeySet, shown.Value = secret.Secret{}, "8"
	got = update(consumer.Change{Token: &shown})
	require.Equal(t, made.Token.KeySet, got.Token.KeySet, "left out, the keys stay")
	require.Equal(t, "8", got.Token.Value)
	require.Len(t, got.AccessKeys, 2, "left out, access keys stay")

	shown.KeySet = secret.New(sharedKeys("second"))
	require.Equal(t, shown.KeySet, update(consumer.Change{Token: &shown}).Token.KeySet)
	keys[0].Secret = secret.New("another-secret-of-mine")
	got = update(consumer.Change{AccessKeys: &keys})
	require.Equal(t, keys[0], got.AccessKeys[0])

	for _, change := range []consumer.Change{
		{AccessKeys: &[]consumer.AccessKey{{ID: "search-team", Secret: secret.New("****none"), GenerateMode: "Custom"}}},
		{AccessKeys: &[]consumer.AccessKey{{ID: "another-one", Secret: secret.New("****mine"), GenerateMode: "Custom"}}},
		{Token: &consumer.TokenIdentity{SecretType: "Asymmetry", KeySet: secret.New(got.Token.Shown), Value: "8"}},
	} {
		require.Error(t, w.consumers.Update(t.Context(), account, made.ID, change), "it stands for nothing")
	}
	got = update(consumer.Change{Token: &consumer.TokenIdentity{}, AccessKeys: &[]consumer.AccessKey{}})
	require.Nil(t, got.Token)
	require.Empty(t, got.AccessKeys)
	w.work(t)
	require.Nil(t, w.shown(t, made.ID).Token, "gateways forget them")
	require.Empty(t, w.shown(t, made.ID).AccessKeys)
}
