package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	maxKeySet = 32 << 10
	maxClaim  = 256
)

// tokenPrefix is one word: a header is then read in one way.
var tokenPrefix = regexp.MustCompile(`^[A-Za-z0-9._~+/-]{0,32}$`)

// checked returns the identity with its spellings in one form and what was left out filled in, and its keys as reads
// have them. held is the identity that the consumer has, nil when it has none: its keys are meant by what was shown of
// them, and where none are named.
func (t TokenIdentity) checked(held *TokenIdentity) (*TokenIdentity, error) {
	if t.Unserved != "" {
		return nil, fault.ErrUnsupported.Withf("The parameter %s is not supported: keys are given in jwtIdentityConfig.jwks, gateways fetch none, "+
			"and neither a token nor its claims are passed on.", t.Unserved)
	}
	for _, known := range []string{Symmetry, Asymmetry} {
		if strings.EqualFold(known, t.SecretType) {
			t.SecretType = known
		}
	}
	if t.SecretType != Symmetry && t.SecretType != Asymmetry {
		return nil, fault.InvalidParameter("jwtIdentityConfig.secretType", "it must be Symmetry, for shared secrets, or Asymmetry, for public keys.")
	}
	if err := t.checkKeys(held); err != nil {
		return nil, err
	}
	t.Claim = cmp.Or(t.Claim, "uid")
	for name, value := range map[string]string{
		"jwtPayloadConfig.payloadKeyName": t.Claim, "jwtPayloadConfig.payloadKeyValue": t.Value, "issuer": t.Issuer, "audience": t.Audience,
	} {
		if len(value) > maxClaim || strings.ContainsRune(value, 0) {
			return nil, fault.InvalidParameter("jwtIdentityConfig."+name, fmt.Sprintf("it must be at most %d bytes without null characters.", maxClaim))
		}
	}
	if t.Value == "" {
		return nil, fault.MissingParameter("jwtIdentityConfig.jwtPayloadConfig.payloadKeyValue")
	}
	return &t, t.checkPlace()
}

func (t *TokenIdentity) checkKeys(held *TokenIdentity) error {
	const parameter = "jwtIdentityConfig.jwks"
	given := t.KeySet.Reveal()
	switch {
	case held != nil && held.SecretType == t.SecretType && (given == "" || given == held.Shown):
		t.KeySet, t.Shown = held.KeySet, held.Shown
		return nil
	case given == "":
		return fault.MissingParameter(parameter)
	case len(given) > maxKeySet:
		return fault.InvalidParameter(parameter, fmt.Sprintf("it must be at most %d bytes.", maxKeySet))
	}
	if _, err := snapshot.ReadKeySet(given, t.SecretType == Symmetry); err != nil {
		return fault.InvalidParameter(parameter, err.Error()+".")
	}
	t.Shown = given
	if t.SecretType == Symmetry {
		t.Shown = withoutSecrets(given)
	}
	return nil
}

// withoutSecrets is a key set of shared secrets that tells what is not secret of them.
func withoutSecrets(keySet string) string {
	var set jose.JSONWebKeySet
	_ = json.Unmarshal([]byte(keySet), &set) // it was read before
	type shown struct {
		Kty string `json:"kty"`
		Kid string `json:"kid,omitempty"`
		Alg string `json:"alg,omitempty"`
		K   string `json:"k"`
	}
	var keys []shown
	for _, key := range set.Keys {
		keys = append(keys, shown{"oct", key.KeyID, key.Algorithm, hidden})
	}
	text, _ := json.Marshal(map[string][]shown{"keys": keys}) // strings never fail
	return string(text)
}

// hidden stands for a secret in reads.
const hidden = "****"

func (t *TokenIdentity) checkPlace() error {
	t.Position = strings.ToUpper(cmp.Or(t.Position, InHeader))
	if t.Prefix == nil {
		prefix := map[string]string{InHeader: "Bearer"}[t.Position]
		t.Prefix = &prefix
	}
	switch t.Position {
	case InHeader:
		t.Name = cmp.Or(t.Name, authorization)
		if !freeHeader(t.Name) {
			return fault.InvalidParameter("jwtIdentityConfig.jwtTokenConfig.key", "it must name a header that is free to carry a token, such as X-Token.")
		}
		if !tokenPrefix.MatchString(*t.Prefix) {
			return fault.InvalidParameter("jwtIdentityConfig.jwtTokenConfig.prefix", "it is one word of at most 32 characters, such as Bearer, or empty.")
		}
	case InQuery:
		if !queryName.MatchString(t.Name) {
			return fault.InvalidParameter("jwtIdentityConfig.jwtTokenConfig.key", "it must name a query parameter: 1 to 64 letters, digits, '.', '_' and '-'.")
		}
		if *t.Prefix != "" {
			return fault.InvalidParameter("jwtIdentityConfig.jwtTokenConfig.prefix", "a token in the query has none.")
		}
	default:
		return fault.InvalidParameter("jwtIdentityConfig.jwtTokenConfig.position", "it must be HEADER or QUERY.")
	}
	return nil
}

func tokenPurpose(consumerID string) string { return "consumer/" + consumerID + "/token" }

// readToken returns how the consumer is recognised by tokens; nil: it is not.
func (c *Consumers) readToken(ctx context.Context, tx pgx.Tx, consumerID string) (*TokenIdentity, error) {
	t := new(TokenIdentity)
	var sealed []byte
	err := tx.QueryRow(ctx, `
		SELECT secret_type, keys_sealed, keys_shown, claim, value, position, name, prefix, issuer, audience
		FROM consumer_token WHERE consumer_id = $1`, consumerID).
		Scan(&t.SecretType, &sealed, &t.Shown, &t.Claim, &t.Value, &t.Position, &t.Name, &t.Prefix, &t.Issuer, &t.Audience)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the token identity: %w", err)
	}
	t.KeySet, err = c.master.Open(tokenPurpose(consumerID), sealed)
	return t, err
}

// replaceToken gives the locked consumer the wanted token identity; nil leaves it the one it has, an empty one takes it
// away.
func (c *Consumers) replaceToken(ctx context.Context, tx pgx.Tx, accountID, consumerID string, wanted *TokenIdentity) error {
	if wanted == nil {
		return nil
	}
	var next *TokenIdentity
	if *wanted != (TokenIdentity{}) {
		held, err := c.readToken(ctx, tx, consumerID)
		if err != nil {
			return err
		}
		if next, err = wanted.checked(held); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `DELETE FROM consumer_token WHERE consumer_id = $1`, consumerID); err != nil {
		return fmt.Errorf("delete the token identity: %w", err)
	}
	return c.insertToken(ctx, tx, accountID, consumerID, next)
}

// insertToken writes the checked token identity; nil is none.
func (c *Consumers) insertToken(ctx context.Context, tx pgx.Tx, accountID, consumerID string, t *TokenIdentity) error {
	if t == nil {
		return nil
	}
	sealed, published, err := c.seal(tokenPurpose(consumerID), snapshot.TokenKeysPurpose(consumerID), t.KeySet)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO consumer_token (consumer_id, account_id, secret_type, keys_sealed, keys_published, keys_shown, claim, value,
			position, name, prefix, issuer, audience)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		consumerID, accountID, t.SecretType, sealed, published, t.Shown, t.Claim, t.Value,
		t.Position, t.Name, t.Prefix, t.Issuer, t.Audience)
	if postgres.IsUniqueViolation(err, "consumer_token_claim") {
		return ErrClaimTaken.Withf("Another consumer of the account is known by %.64s = %.64s already: a token would name both.", t.Claim, t.Value)
	}
	if err != nil {
		return fmt.Errorf("insert the token identity: %w", err)
	}
	return nil
}

// seal seals a secret for the database and for gateways.
func (c *Consumers) seal(purpose, publishedPurpose string, s secret.Secret) (sealed, published []byte, err error) {
	if sealed, err = c.master.Seal(purpose, s); err != nil {
		return nil, nil, err
	}
	published, err = c.snapshot.Seal(publishedPurpose, s)
	return sealed, published, err
}

// compileToken is the consumer's token identity as gateways see it.
func compileToken(ctx context.Context, tx pgx.Tx, consumerID string) (*snapshot.ConsumerToken, error) {
	token, position, secretType := new(snapshot.ConsumerToken), "", ""
	err := tx.QueryRow(ctx, `
		SELECT keys_published, secret_type, claim, value, position, name, prefix, issuer, audience
		FROM consumer_token WHERE consumer_id = $1`, consumerID).
		Scan(&token.SealedKeys, &secretType, &token.Claim, &token.Value, &position, &token.Name, &token.Prefix, &token.Issuer, &token.Audience)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the token identity: %w", err)
	}
	token.Symmetric = secretType == Symmetry
	token.Source = map[string]string{InHeader: Header, InQuery: QueryString}[position]
	return token, nil
}
