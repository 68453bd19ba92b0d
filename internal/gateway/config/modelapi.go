package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/engineshed/engineshed/internal/gateway/balance"
	"github.com/engineshed/engineshed/internal/gateway/upstream"
	"github.com/engineshed/engineshed/internal/route"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// API is a Model API, ready to serve. What every request looks at comes first.
type API struct {
	Traffic *Traffic // the same value in every configuration that has the API
	// By the first of the targets that one chooses among; nil: no scene is of the kind.
	wheels   map[*snapshot.Target]*balance.Wheel
	observed map[*snapshot.Target]observed
	route.API
	source
}

// Pick returns the target of a request of the method for one of the API's routes that names this model, or ""; false when
// none is for that model.
func (a *API) Pick(r *route.Route, method, model string) (snapshot.Target, bool) {
	if wheel := a.wheels[&r.Targets[0]]; wheel != nil {
		return r.Targets[wheel.Next()], true
	}
	return r.Pick(method, model)
}

// wheelsOf are an API's own, though its routes may be compiled once for many: of their requests each has its share.
func wheelsOf(compiled *route.API) map[*snapshot.Target]*balance.Wheel {
	var wheels map[*snapshot.Target]*balance.Wheel
	for r := range compiled.All {
		first := &r.Targets[0]
		if r.Scene != snapshot.SceneByRatio || wheels[first] != nil {
			continue
		}
		weights := make([]int, len(r.Targets))
		for i, t := range r.Targets {
			weights[i] = t.Weight
		}
		if wheels == nil {
			wheels = map[*snapshot.Target]*balance.Wheel{}
		}
		wheels[first] = balance.NewWheel(weights)
	}
	return wheels
}

// Found is what a request asks for.
type Found struct {
	route.Match
	API *API // nil: no API answers at this host and path
}

// Find finds the API and the route that a request asks for.
func (c *Config) Find(r *route.Request) Found {
	if c.table == nil {
		return Found{}
	}
	m := c.table.Find(r)
	if m.API == nil {
		return Found{}
	}
	return Found{m, m.API.Owner.(*API)}
}

// APIs yields every Model API, whether this gateway serves it or not.
func (c *Config) APIs(yield func(*API) bool) { slices.Values(c.apis)(yield) }

func (b *builder) api(item Item, old *API) (*API, error) {
	published := new(snapshot.ModelAPI)
	if err := decode(item, published, &published.ID); err != nil {
		return nil, err
	}
	if err := published.Validate(); err != nil {
		return nil, err
	}
	compiled, err := b.shared.Compile(published)
	if err != nil {
		return nil, err
	}
	first := &struct { // one piece of memory, since a request looks at both; the first form of an API stays while it counts
		API
		traffic Traffic
	}{API: API{wheels: wheelsOf(compiled), API: *compiled, source: sourceOf(item)}}
	a := &first.API
	a.Owner, a.Traffic = a, &first.traffic
	a.observe(old)
	if old != nil {
		a.Traffic = old.Traffic
	}
	a.Traffic.limit(published.Limits)
	return a, nil
}

// decode reads the body of an item, which must be for the item's own id.
func decode(item Item, into any, id *string) error {
	if err := json.Unmarshal(item.Body, into); err != nil {
		return fmt.Errorf("decode a published %s: %w", item.Kind, err)
	}
	if *id != item.ID {
		return fmt.Errorf("the item is for %s, its body for %s", item.ID, *id)
	}
	return nil
}

// indexPlaces makes the table of the APIs that this gateway serves. Every API was compiled when it came.
func (c *Config) indexPlaces(gatewayID string) {
	c.names = make(route.Hosts[*Domain], len(c.domains))
	for _, d := range c.domains {
		if there := c.names[d.Name]; there == nil || d.ID < there.ID {
			c.names[d.Name] = d
		}
	}
	c.table = route.NewTable(func(yield func(*route.API) bool) {
		for _, a := range c.apis {
			if (gatewayID == "" || a.GatewayID == gatewayID) && !yield(&a.API) {
				return
			}
		}
	}, slices.Collect(maps.Keys(c.names)))
}

// Upstream is a service that Model APIs forward to, ready to be asked: one of ours, or the endpoints of another.
type Upstream struct {
	*snapshot.AIService
	Endpoints []*upstream.Endpoint // as the URLs
	Standing  *Standing            // the same value in every configuration that has the service

	keys *upstream.Keys
	source
}

// Upstream returns the service with this id, nil when there is none.
func (c *Config) Upstream(id string) *Upstream { return c.upstreamByID[id] }

func (b *builder) upstream(item Item, old *Upstream) (*Upstream, error) {
	published := new(snapshot.AIService)
	if err := decode(item, published, &published.ID); err != nil {
		return nil, err
	}
	if err := published.Validate(); err != nil {
		return nil, err
	}
	if published.KeyHeader == "" {
		published.KeyHeader, published.KeyPrefix = "Authorization", "Bearer "
	}
	keys, err := b.serviceKeys(published)
	if err != nil {
		return nil, err
	}
	u := &Upstream{
		AIService: published, Standing: new(Standing), keys: upstream.NewKeys(keys, nil), source: sourceOf(item),
	}
	if old != nil {
		u.Standing = old.Standing
		if u.hasMoved(old) {
			u.Standing.Succeeded() // how it went elsewhere does not count
		} else {
			u.keys = upstream.NewKeys(keys, old.keys)
		}
	}
	for _, address := range published.URLs {
		endpoint, err := b.endpoint(address, old)
		if err != nil {
			return nil, err
		}
		u.Endpoints = append(u.Endpoints, endpoint)
	}
	return u, nil
}

// hasMoved reports whether the service is elsewhere than it was.
func (u *Upstream) hasMoved(old *Upstream) bool {
	return u.ModelServiceID != old.ModelServiceID || !slices.Equal(u.URLs, old.URLs)
}

// serviceKeys are the service's keys as values of its header.
func (b *builder) serviceKeys(s *snapshot.AIService) ([]string, error) {
	var keys []string
	for _, sealed := range s.SealedKeys {
		key, err := b.box.Open(snapshot.ServiceKeyPurpose(s.ID), sealed)
		if err != nil {
			return nil, err
		}
		keys = append(keys, s.KeyPrefix+key.Reveal())
	}
	return keys, nil
}

// endpoint keeps the endpoint at the address, connections and all, when there is one already.
func (b *builder) endpoint(address string, old *Upstream) (*upstream.Endpoint, error) {
	if old != nil {
		if i := slices.Index(old.URLs, address); i >= 0 {
			return old.Endpoints[i], nil
		}
	}
	return upstream.NewEndpoint(address, b.guard)
}

// closeIdle closes the idle connections to endpoints that after has not.
func (u *Upstream) closeIdle(after *Upstream) {
	for _, e := range u.Endpoints {
		if after == nil || !slices.Contains(after.Endpoints, e) {
			e.CloseIdle()
		}
	}
}

// Key is the key whose turn it is; nil when the service wants none. It goes into the header KeyHeader.
func (u *Upstream) Key() *upstream.Key { return u.keys.Next() }

// HasOtherKey reports whether a key of the service is not set aside.
func (u *Upstream) HasOtherKey() bool { return u.keys.AnyWell() }
