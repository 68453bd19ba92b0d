package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/gateway/config"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	authorization = "Authorization"
	anthropicKey  = "X-Api-Key"
)

// presented is a key in a request and where it was.
type presented struct{ key, source, name string }

// identify decides whether the request is of a consumer that may call the API, by what the API's consumers are to prove it
// with and nothing else.
func (c *call) identify(cfg *config.Config, api *config.API) (refused *refusal) {
	switch api.AuthType {
	case snapshot.AuthByToken:
		c.consumer, refused = c.byToken(cfg, api)
	case snapshot.AuthBySignature:
		c.consumer, refused = c.bySignature(cfg, api)
	default:
		c.consumer, refused = c.byKey(cfg)
	}
	switch {
	case refused != nil:
		return refused
	case !c.consumer.Allows(api.ID):
		return errForbidden
	case c.signature != nil:
		return c.spendNonce(api.AccountID)
	}
	return nil
}

// byKey finds whose the one key of the request is.
func (c *call) byKey(cfg *config.Config) (*config.Consumer, *refusal) {
	keys := c.usualKeys(make([]presented, 0, 4))
	keys = c.ownKeys(keys)
	if len(keys) == 0 && knownElsewhere(cfg, c.in) {
		return nil, errForbidden
	}
	if len(keys) != 1 {
		return nil, errConsumerKey
	}
	consumer := find(cfg, keys[0])
	if consumer == nil {
		return nil, errConsumerKey
	}
	return consumer, nil
}

// find returns whose key it is. A header that usually carries keys may be a consumer's own choice, too.
func find(cfg *config.Config, p presented) *config.Consumer {
	if p.source != config.DefaultSource {
		return cfg.Consumer(p.key, p.source, p.name)
	}
	if consumer := cfg.Consumer(p.key, config.DefaultSource, ""); consumer != nil {
		return consumer
	}
	return cfg.Consumer(p.key, config.HeaderSource, p.name)
}

// usualKeys finds what is sent as a key without anybody's saying so.
func (c *call) usualKeys(keys []presented) []presented {
	for _, value := range c.in.Header[authorization] {
		scheme, key, _ := strings.Cut(value, " ")
		switch {
		case strings.EqualFold(scheme, "Bearer"):
			keys = append(keys, presented{strings.TrimSpace(key), config.DefaultSource, authorization})
		case slices.Contains(c.ways.Keys.Headers, authorization):
			keys = append(keys, presented{value, config.HeaderSource, authorization})
		}
	}
	if c.protocol == anthropic {
		for _, value := range c.in.Header[anthropicKey] {
			keys = append(keys, presented{value, config.DefaultSource, anthropicKey})
		}
	}
	return keys
}

// ownKeys finds keys where the API's own consumers carry theirs.
func (c *call) ownKeys(keys []presented) []presented {
	for _, name := range c.ways.Keys.Headers {
		if name == authorization || name == anthropicKey && c.protocol == anthropic {
			continue // found already
		}
		for _, value := range c.in.Header[name] {
			keys = append(keys, presented{value, config.HeaderSource, name})
		}
	}
	if len(c.ways.Keys.Query) > 0 {
		values, _ := url.ParseQuery(c.in.URL.RawQuery)
		for _, name := range c.ways.Keys.Query {
			for _, value := range values[name] {
				keys = append(keys, presented{value, config.QueryStringSource, name})
			}
		}
	}
	return keys
}

// knownElsewhere reports whether the request carries the key of a consumer where none of this API's do. Only the
// answer depends on it: the key opens nothing here.
func knownElsewhere(cfg *config.Config, r *http.Request) bool {
	for name, values := range r.Header {
		for _, value := range values {
			if cfg.Consumer(value, config.HeaderSource, name) != nil {
				return true
			}
		}
	}
	values, _ := url.ParseQuery(r.URL.RawQuery)
	for name, all := range values {
		for _, value := range all {
			if cfg.Consumer(value, config.QueryStringSource, name) != nil {
				return true
			}
		}
	}
	return false
}

// withoutKeys takes parameters out of a query and leaves the others as they are.
func withoutKeys(query string, names []string) string {
	if len(names) == 0 || query == "" {
		return query
	}
	parts := slices.DeleteFunc(strings.Split(query, "&"), func(part string) bool {
		escaped, _, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(escaped)
		return err != nil || slices.Contains(names, name)
	})
	return strings.Join(parts, "&")
}
