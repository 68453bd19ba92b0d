package config

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// Consumer is who may call Model APIs.
type Consumer struct {
	*snapshot.Consumer
	source
}

// Ways are the places where an API's own consumers carry their keys, beside the usual ones.
type Ways struct {
	Headers []string // canonical
	Query   []string
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

// Ways returns where else the consumers that may call the API carry their keys.
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

// Allows reports whether the consumer may call the API.
func (c *Consumer) Allows(apiID string) bool {
	_, found := slices.BinarySearch(c.Allowed, apiID)
	return found
}

func (b *builder) consumer(item Item, _ *Consumer) (*Consumer, error) {
	published := new(snapshot.Consumer)
	if err := decode(item, published, &published.ID); err != nil {
		return nil, err
	}
	slices.Sort(published.Allowed)
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
	return &Consumer{published, sourceOf(item.ID, item)}, nil
}

// indexKeys makes the index of all keys, and of where each API's consumers carry theirs.
func (c *Config) indexKeys() {
	c.byKey = make(map[[sha256.Size]byte]*consumerKey, len(c.consumers))
	c.ways = map[string]*Ways{}
	for _, consumer := range c.consumers {
		for i := range consumer.Keys {
			key := &consumer.Keys[i]
			c.byKey[[sha256.Size]byte(key.Hash)] = &consumerKey{key, consumer}
			if key.Source == DefaultSource {
				continue
			}
			for _, api := range consumer.Allowed {
				if c.ways[api] == nil {
					c.ways[api] = new(Ways)
				}
				c.ways[api].add(key)
			}
		}
	}
}

func (w *Ways) add(key *snapshot.ConsumerKey) {
	names := &w.Headers
	if key.Source == QueryStringSource {
		names = &w.Query
	}
	if !slices.Contains(*names, key.Name) {
		*names = append(*names, key.Name)
	}
}
