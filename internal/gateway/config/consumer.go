package config

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/engineshed/engineshed/internal/gateway/identity"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// Consumer is who may call Model APIs.
type Consumer struct {
	*snapshot.Consumer
	Tokens  *identity.Verifier  // nil: it has none
	allowed map[string]struct{} // the APIs that it may call
	secrets []secret.Secret     // of its access keys
	source
}

// Ways are the places where an API's own consumers carry their keys and tokens, beside the usual ones.
type Ways struct{ Keys, Tokens Places }

// Places are names of headers and query parameters.
type Places struct {
	Headers []string // canonical
	Query   []string
}

// claim is what names a consumer in tokens.
type claim struct{ accountID, name, value string }

type accessKeyID struct{ accountID, id string }

type accessKey struct {
	secret   secret.Secret
	consumer *Consumer
}

type consumerKey struct {
	*snapshot.ConsumerKey
	consumer *Consumer
}

// The sources of consumers' keys.
const (
	DefaultSource     = "Default" // Authorization: Bearer, and x-api-key where Anthropic is spoken
	HeaderSource      = "Header"
	QueryStringSource = "QueryString"
)

// Ways returns where else the consumers that may call the API carry their keys and tokens.
func (c *Config) Ways(apiID string) *Ways {
	if w := c.ways[apiID]; w != nil {
		return w
	}
	return noWays
}

var noWays = new(Ways)

// Consumer returns whose key it is, nil when it is nobody's. A key counts only where its consumer is to carry it. The
// key is hashed before it is looked up, so the time it takes says nothing about keys there are.
func (c *Config) Consumer(key, source, name string) *Consumer {
	k := c.byKey[sha256.Sum256([]byte(key))]
	if k == nil || k.Source != source || k.Name != name {
		return nil
	}
	return k.consumer
}

// Named returns the account's consumer that a claim names, nil when it names nobody. Whether it does so is for the
// consumer's Tokens to verify.
func (c *Config) Named(accountID, name, value string) *Consumer {
	return c.byClaim[claim{accountID, name, value}]
}

// Algorithms are those that tokens of the account's consumers may be signed with. A token of any other needs no work.
func (c *Config) Algorithms(accountID string) []jose.SignatureAlgorithm {
	return c.algorithms[accountID]
}

// Signer returns the account's consumer that has the access key, and the key's secret; nil and none when nobody has it.
func (c *Config) Signer(accountID, id string) (*Consumer, secret.Secret) {
	key := c.byAccessKey[accessKeyID{accountID, id}]
	return key.consumer, key.secret
}

// Has reports whether the consumer is as it was.
func (c *Config) Has(consumer *Consumer) bool { return c.consumers.find(consumer.ID) == consumer }

// CarriesToken reports whether the consumer is to carry its token there, after this prefix.
func (c *Consumer) CarriesToken(source, name, prefix string) bool {
	return c.Token.Source == source && c.Token.Name == name && strings.EqualFold(c.Token.Prefix, prefix)
}

// Allows reports whether the consumer may call the API.
func (c *Consumer) Allows(apiID string) bool {
	_, ok := c.allowed[apiID]
	return ok
}

func (b *builder) consumer(item Item, _ *Consumer) (*Consumer, error) {
	published := new(snapshot.Consumer)
	if err := decode(item, published, &published.ID); err != nil {
		return nil, err
	}
	allowed := make(map[string]struct{}, len(published.Allowed))
	for i, id := range published.Allowed {
		if a := b.apis.find(id); a != nil {
			published.Allowed[i] = a.ID // one string instead of two, which is found equal without a look at it
		}
		allowed[published.Allowed[i]] = struct{}{}
	}
	for i, key := range published.Keys {
		wrong := len(key.Hash) != sha256.Size
		switch key.Source {
		case DefaultSource:
			published.Keys[i].Name = ""
		case HeaderSource:
			published.Keys[i].Name = http.CanonicalHeaderKey(key.Name)
			wrong = wrong || key.Name == ""
		case QueryStringSource:
			wrong = wrong || key.Name == ""
		default:
			wrong = true
		}
		if wrong {
			return nil, fmt.Errorf("consumer %s: key %d has source %q, name %q and a hash of %d bytes",
				published.ID, i, key.Source, key.Name, len(key.Hash))
		}
	}
	c := &Consumer{Consumer: published, allowed: allowed, source: sourceOf(item)}
	if err := b.openToken(c); err != nil {
		return nil, fmt.Errorf("consumer %s: its tokens: %w", c.ID, err)
	}
	for _, key := range published.AccessKeys {
		opened, err := b.box.Open(snapshot.AccessKeyPurpose(c.ID, key.ID), key.SealedSecret)
		if err != nil {
			return nil, err
		}
		c.secrets = append(c.secrets, opened)
	}
	return c, nil
}

func (b *builder) openToken(c *Consumer) error {
	token := c.Token
	if token == nil {
		return nil
	}
	if token.Claim == "" || token.Value == "" || token.Name == "" || token.Source != HeaderSource && token.Source != QueryStringSource {
		return fmt.Errorf("claim %q, source %q, name %q", token.Claim, token.Source, token.Name)
	}
	if token.Source == HeaderSource {
		token.Name = http.CanonicalHeaderKey(token.Name)
	}
	set, err := b.box.Open(snapshot.TokenKeysPurpose(c.ID), token.SealedKeys)
	if err != nil {
		return err
	}
	keys, err := snapshot.ReadKeySet(set.Reveal(), token.Symmetric)
	if err != nil {
		return err
	}
	c.Tokens = &identity.Verifier{Keys: keys, Issuer: token.Issuer, Audience: token.Audience}
	return nil
}

// indexConsumers makes the indexes of what consumers prove themselves with, and of where each API's carry it.
func (c *Config) indexConsumers() {
	c.byKey = make(map[[sha256.Size]byte]*consumerKey, len(c.consumers))
	c.byClaim, c.byAccessKey = map[claim]*Consumer{}, map[accessKeyID]accessKey{}
	c.algorithms = map[string][]jose.SignatureAlgorithm{}
	c.ways = map[string]*Ways{}
	for _, consumer := range c.consumers {
		for i := range consumer.Keys {
			key := &consumer.Keys[i]
			c.byKey[[sha256.Size]byte(key.Hash)] = &consumerKey{key, consumer}
			if key.Source == DefaultSource {
				continue
			}
			for _, api := range consumer.Allowed {
				c.waysTo(api).Keys.add(key.Source, key.Name)
			}
		}
		if token := consumer.Token; token != nil {
			c.byClaim[claim{consumer.AccountID, token.Claim, token.Value}] = consumer
			c.algorithms[consumer.AccountID] = consumer.Tokens.AppendAlgorithms(c.algorithms[consumer.AccountID])
			for _, api := range consumer.Allowed {
				c.waysTo(api).Tokens.add(token.Source, token.Name)
			}
		}
		for i, key := range consumer.AccessKeys {
			c.byAccessKey[accessKeyID{consumer.AccountID, key.ID}] = accessKey{consumer.secrets[i], consumer}
		}
	}
}

func (c *Config) waysTo(api string) *Ways {
	if c.ways[api] == nil {
		c.ways[api] = new(Ways)
	}
	return c.ways[api]
}

func (p *Places) add(source, name string) {
	names := &p.Headers
	if source == QueryStringSource {
		names = &p.Query
	}
	if !slices.Contains(*names, name) {
		*names = append(*names, name)
	}
}
