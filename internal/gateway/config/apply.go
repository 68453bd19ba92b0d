package config

import (
	"log/slog"
	"maps"
	"slices"

	"github.com/engineshed/engineshed/internal/gateway/upstream"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// Item is a row of published_item.
type Item struct {
	Kind     string `json:"kind"`
	ID       string `json:"id"`
	Revision int64  `json:"revision"`
	Deleted  bool   `json:"deleted,omitempty"`
	Body     []byte `json:"body"`
}

// change is what a fetch found: the items since a revision, or all there are.
type change struct {
	revision int64
	all      bool
	items    []Item
}

// apply returns the configuration after the change. An item that cannot be used leaves its service as it was.
func (b *builder) apply(log *slog.Logger, old *Config, ch change) *Config {
	next := &Config{Revision: ch.revision, services: map[string]*Service{}, bad: map[string]int64{}}
	if !ch.all {
		maps.Copy(next.services, old.services)
		maps.Copy(next.bad, old.bad)
	}
	for _, item := range ch.items {
		if item.Kind != snapshot.KindModelService {
			continue // of a newer control plane: this gateway has no use for it
		}
		delete(next.bad, item.ID)
		if item.Deleted {
			delete(next.services, item.ID)
			continue
		}
		before := old.Service(item.ID)
		service, err := b.build(item, before)
		if err != nil {
			log.Error("published item refused, the gateway goes on with the one before",
				"id", item.ID, "revision", item.Revision, "error", err)
			next.bad[item.ID] = item.Revision
			service = before
		}
		if service != nil {
			next.services[item.ID] = service
		}
	}
	return next
}

// retire closes what old has and next has not. Call it when next is served.
func (b *builder) retire(old, next *Config) {
	for id, before := range old.services {
		after := next.Service(id)
		if after == before {
			continue
		}
		var kept []*upstream.Replica
		if after != nil {
			kept = after.Replicas
		}
		for _, r := range before.Replicas {
			if !slices.Contains(kept, r) {
				b.fleet.Leave(r)
			}
		}
	}
}

// items are the rows the configuration was made of, for the snapshot file.
func (c *Config) items() []Item {
	items := make([]Item, 0, len(c.services))
	for s := range c.Services {
		items = append(items, Item{Kind: snapshot.KindModelService, ID: s.ID, Revision: s.revision, Body: s.body})
	}
	return items
}
