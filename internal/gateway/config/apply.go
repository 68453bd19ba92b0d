package config

import (
	"log/slog"
	"maps"
	"slices"
	"strings"

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

// apply returns the configuration after the change. An item that cannot be used leaves what it is for as it was.
func (b *builder) apply(log *slog.Logger, old *Config, ch change) *Config {
	next := *old
	next.Revision = ch.revision
	s := step{change: ch, log: log, bad: map[place]int64{}, byKind: map[string][]Item{}}
	if !ch.all {
		maps.Copy(s.bad, old.bad)
	}
	for _, item := range ch.items { // kinds that nobody asks for below are of a newer control plane
		s.byKind[item.Kind] = append(s.byKind[item.Kind], item)
	}
	next.bad = s.bad
	var services, operators, upstreams bool
	next.services, services = replace(&s, snapshot.KindModelService, old.services, b.service)
	next.operatorKeys, operators = replace(&s, snapshot.KindOperatorKey, old.operatorKeys, b.operatorKey)
	next.upstreams, upstreams = replace(&s, snapshot.KindAIService, old.upstreams, b.upstream)
	var apis, consumers, domains bool
	next.apis, apis = replace(&s, snapshot.KindModelAPI, old.apis, b.api)
	b.apis = next.apis
	next.consumers, consumers = replace(&s, snapshot.KindConsumer, old.consumers, b.consumer)
	next.domains, domains = replace(&s, snapshot.KindDomain, old.domains, b.domain)
	if services {
		next.serviceByID = next.services.byID()
	}
	if upstreams {
		next.upstreamByID = next.upstreams.byID()
	}
	if apis || domains {
		next.indexPlaces(b.gatewayID)
	}
	if consumers {
		next.indexConsumers()
	}
	if operators || services && len(next.operatorKeys) > 0 {
		next.indexOperators()
	}
	return &next
}

// step is one application of a change.
type step struct {
	change
	log    *slog.Logger
	byKind map[string][]Item
	bad    map[place]int64
}

// replace returns the things of one kind after the change, and whether that is another list than before.
func replace[T thing](s *step, kind string, old list[T], build func(Item, T) (T, error)) (list[T], bool) {
	items := s.byKind[kind]
	if len(items) == 0 && !s.all {
		return old, false
	}
	slices.SortFunc(items, func(a, b Item) int { return strings.Compare(a.ID, b.ID) })
	next := make(list[T], 0, max(len(old), len(items)))
	var none T
	for _, item := range items {
		i, found := old.at(item.ID)
		if !s.all {
			next = append(next, old[:i]...)
		}
		before, place := none, place{kind, item.ID}
		if old = old[i:]; found {
			before, old = old[0], old[1:]
		}
		delete(s.bad, place)
		if item.Deleted {
			continue
		}
		if before != none && before.has(item.Body) {
			next = append(next, before)
			continue
		}
		value, err := build(item, before)
		if err != nil {
			s.log.Error("published item refused, the gateway goes on with the one before",
				"kind", kind, "id", item.ID, "revision", item.Revision, "error", err)
			s.bad[place] = item.Revision
			value = before
		}
		if value != none {
			next = append(next, value)
		}
	}
	if !s.all {
		next = append(next, old...)
	}
	return next, true
}

// retire closes what old has and next has not. Call it when next is served.
func (b *builder) retire(old, next *Config) {
	for _, before := range old.services {
		after := next.Service(before.ID)
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
	for _, before := range old.upstreams {
		if after := next.Upstream(before.ID); after != before {
			before.closeIdle(after)
		}
	}
}

// items are the rows the configuration was made of, for the snapshot file.
func (c *Config) items() []Item {
	var items []Item
	items = collect(items, snapshot.KindModelService, c.services)
	items = collect(items, snapshot.KindModelAPI, c.apis)
	items = collect(items, snapshot.KindAIService, c.upstreams)
	items = collect(items, snapshot.KindConsumer, c.consumers)
	items = collect(items, snapshot.KindOperatorKey, c.operatorKeys)
	return collect(items, snapshot.KindDomain, c.domains)
}

func collect[T thing](items []Item, kind string, things list[T]) []Item {
	for _, t := range things {
		items = append(items, t.published(kind, t.itemID()))
	}
	return items
}
