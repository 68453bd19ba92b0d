package config

import (
	"maps"
	"slices"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// maxReported is about how many services a process reports.
const maxReported = 1000

// Standing is how requests to the service with this id went: its own, or the one of the model service that it is. It is nil
// when there is no such service, or nobody of it who could be asked.
func (c *Config) Standing(serviceID string) *Standing {
	u := c.Upstream(serviceID)
	switch {
	case u == nil:
		return nil
	case u.ModelServiceID == "":
		return u.Standing
	}
	if s := c.Service(u.ModelServiceID); s != nil && len(s.Replicas) > 0 {
		return s.Standing
	}
	return nil
}

// Upstreams yields every service that Model APIs forward to.
func (c *Config) Upstreams(yield func(*Upstream) bool) { slices.Values(c.upstreams)(yield) }

// Outliers are the ids of the service's replicas that are ejected.
func (s *Service) Outliers() (ids []string) {
	for _, r := range s.Replicas {
		if r.Ejected() {
			ids = append(ids, r.ID())
		}
	}
	return ids
}

// Outliers are the addresses of the service's endpoints that are ejected.
func (u *Upstream) Outliers() (addresses []string) {
	for _, e := range u.Endpoints {
		if e.Ejected() {
			addresses = append(addresses, e.ID())
		}
	}
	return addresses
}

// KeysSetAside is how many of the service's keys are set aside.
func (u *Upstream) KeysSetAside() int { return u.keys.SetAside() }

// health is what there is to report about services that are not well.
func (c *Config) health() snapshot.Health {
	unwell := snapshot.Health{}
	for _, u := range c.upstreams {
		h := snapshot.ServiceHealth{
			Targets: len(u.Endpoints), Outliers: u.Outliers(), Keys: len(u.SealedKeys), KeysSetAside: u.KeysSetAside(),
		}
		if s := c.Service(u.ModelServiceID); s != nil {
			h.Targets, h.Outliers = len(s.Replicas), s.Outliers()
		}
		standing := c.Standing(u.ID)
		h.Ejected = standing != nil && standing.Ejected()
		if h.Ejected || len(h.Outliers) > 0 || h.KeysSetAside > 0 {
			unwell[u.ID] = h
		}
	}
	if len(unwell) > maxReported {
		for _, id := range slices.Sorted(maps.Keys(unwell))[maxReported:] { // the same ones each time
			delete(unwell, id)
		}
	}
	return unwell
}
