package config

import (
	"crypto/sha256"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// OperatorKey opens every model service of its account.
type OperatorKey struct {
	*snapshot.OperatorKey
	Number int32
	source
}

// OperatorKey returns the operator key that this is, nil when it is none. The key is hashed before it is looked up, so the
// time it takes says nothing about keys there are.
func (c *Config) OperatorKey(key string) *OperatorKey { return c.operators[sha256.Sum256([]byte(key))] }

// Opened returns the services that the key opens, by what a request names: their ModelName or their ModelServiceId.
func (c *Config) Opened(k *OperatorKey) map[string][]*Service { return c.opened[k.AccountID] }

func (b *builder) operatorKey(item Item, _ *OperatorKey) (*OperatorKey, error) {
	published := new(snapshot.OperatorKey)
	if err := decode(item, published, &published.ID); err != nil {
		return nil, err
	}
	if err := published.Validate(); err != nil {
		return nil, err
	}
	number, err := published.Number()
	return &OperatorKey{published, number, sourceOf(item)}, err
}

// indexOperators makes the index of all operator keys, and of what they open.
func (c *Config) indexOperators() {
	c.operators = make(map[[sha256.Size]byte]*OperatorKey, len(c.operatorKeys))
	c.opened = map[string]map[string][]*Service{}
	for _, k := range c.operatorKeys {
		c.operators[[sha256.Size]byte(k.Hash)] = k
		c.opened[k.AccountID] = map[string][]*Service{}
	}
	for _, s := range c.services {
		if names := c.opened[s.AccountID]; names != nil {
			names[s.ID] = append(names[s.ID], s)
			names[s.ModelName] = append(names[s.ModelName], s)
		}
	}
}
