package gateway

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/config"
	"github.com/engineshed/engineshed/internal/gateway/identity"
)

// maxNamed is how many consumers that a token names are tried: who makes up a token decides how many it names.
const maxNamed = 4

// carried is a token in a request and where it was.
type carried struct{ text, source, name, prefix string }

// byToken finds whose the one token of the request is.
func (c *call) byToken(cfg *config.Config, api *config.API) (*config.Consumer, *refusal) {
	tokens := c.ownTokens()
	if len(tokens) == 0 {
		tokens = tokensElsewhere(c.in)
	}
	if len(tokens) != 1 {
		return nil, errToken
	}
	now, key := time.Now(), tokens[0].digest(api.ID)
	if known, ok := c.tokens.Get(key, now); ok && cfg.Has(known) {
		return known, nil
	}
	consumer, until, refused := verify(cfg, api, tokens[0], now)
	if refused == nil {
		c.tokens.Put(key, consumer, until)
	}
	return consumer, refused
}

// verify finds whose token it is and until when. A token may name several consumers: one that may call the API goes first.
func verify(cfg *config.Config, api *config.API, p carried, now time.Time) (*config.Consumer, time.Time, *refusal) {
	token, err := identity.ReadToken(p.text, cfg.Algorithms(api.AccountID))
	if err != nil {
		return nil, now, errToken
	}
	var named []*config.Consumer
	for name, value := range token.Claims {
		if consumer := cfg.Named(api.AccountID, name, value); consumer != nil && consumer.CarriesToken(p.source, p.name, p.prefix) {
			named = append(named, consumer)
		}
	}
	slices.SortFunc(named, func(a, b *config.Consumer) int {
		if allowed := a.Allows(api.ID); allowed != b.Allows(api.ID) {
			return map[bool]int{true: -1, false: 1}[allowed]
		}
		return cmp.Compare(a.ID, b.ID)
	})
	if len(named) == 0 {
		token.Decoy()
	}
	refused := errToken
	for _, consumer := range named[:min(len(named), maxNamed)] {
		until, err := consumer.Tokens.Verify(token, now)
		if err == nil {
			return consumer, until, nil
		}
		if errors.Is(err, identity.ErrExpired) {
			refused = errTokenExpired
		}
	}
	return nil, now, refused
}

// digest names the token among those that were verified for the API. Nothing can be learned from it.
func (p carried) digest(apiID string) (sum [sha256.Size]byte) {
	hash := sha256.New()
	for _, part := range []string{apiID, p.source, p.name, p.prefix, p.text} {
		_, _ = io.WriteString(hash, part) // never fails
		_, _ = hash.Write([]byte{0})
	}
	return [sha256.Size]byte(hash.Sum(sum[:0]))
}

// ownTokens finds tokens where the API's own consumers carry theirs, and after Bearer, where most do.
func (c *call) ownTokens() []carried {
	var tokens []carried
	own := slices.Contains(c.ways.Tokens.Headers, authorization)
	for _, value := range c.in.Header[authorization] {
		if token := inHeader(authorization, value); own || strings.EqualFold(token.prefix, "Bearer") {
			tokens = append(tokens, token)
		}
	}
	for _, name := range c.ways.Tokens.Headers {
		if name == authorization {
			continue // found already
		}
		for _, value := range c.in.Header[name] {
			tokens = append(tokens, inHeader(name, value))
		}
	}
	if len(c.ways.Tokens.Query) == 0 {
		return tokens
	}
	values, _ := url.ParseQuery(c.in.URL.RawQuery)
	for _, name := range c.ways.Tokens.Query {
		for _, value := range values[name] {
			tokens = append(tokens, carried{text: value, source: config.QueryStringSource, name: name})
		}
	}
	return tokens
}

// inHeader takes a header apart: a word and the token, or the token alone.
func inHeader(name, value string) carried {
	prefix, text, ok := strings.Cut(value, " ")
	if !ok {
		prefix, text = "", value
	}
	return carried{strings.TrimSpace(text), config.HeaderSource, name, prefix}
}

// tokensElsewhere finds what has the form of a token where none of this API's consumers carry theirs. Only the answer
// depends on it: such a token opens nothing here.
func tokensElsewhere(r *http.Request) []carried {
	var tokens []carried
	for name, values := range r.Header {
		for _, value := range values {
			tokens = append(tokens, inHeader(name, value))
		}
	}
	values, _ := url.ParseQuery(r.URL.RawQuery)
	for name, all := range values {
		for _, value := range all {
			tokens = append(tokens, carried{text: value, source: config.QueryStringSource, name: name})
		}
	}
	return slices.DeleteFunc(tokens, func(p carried) bool { return strings.Count(p.text, ".") != 2 || !strings.HasPrefix(p.text, "ey") })
}
