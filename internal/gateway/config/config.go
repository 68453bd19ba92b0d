// Package config keeps what a gateway serves: one immutable value, fetched from Postgres, remembered in a file.
package config

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/go-jose/go-jose/v4"

	"github.com/engineshed/engineshed/internal/gateway/admission"
	"github.com/engineshed/engineshed/internal/gateway/upstream"
	"github.com/engineshed/engineshed/internal/route"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// Config is one revision of everything that is served. It never changes: take it once per request.
type Config struct {
	Revision  int64
	services  list[*Service]
	apis      list[*API]
	upstreams list[*Upstream]
	consumers list[*Consumer]
	domains   list[*Domain]
	bad       map[place]int64 // whose newest item could not be used, and its revision

	operatorKeys list[*OperatorKey]

	// What requests are looked up in, made of the above.
	serviceByID  map[string]*Service
	upstreamByID map[string]*Upstream

	table       *route.Table
	byKey       map[[sha256.Size]byte]*consumerKey
	byClaim     map[claim]*Consumer
	byAccessKey map[accessKeyID]accessKey
	algorithms  map[string][]jose.SignatureAlgorithm // of tokens, by account
	ways        map[string]*Ways                     // by API
	names       route.Hosts[*Domain]
	operators   map[[sha256.Size]byte]*OperatorKey
	opened      map[string]map[string][]*Service // by account and name
}

// place is where an item lies among all.
type place struct{ kind, id string }

// Service returns the model service with this id, nil when there is none.
func (c *Config) Service(id string) *Service { return c.serviceByID[id] }

// Services yields every service.
func (c *Config) Services(yield func(*Service) bool) { slices.Values(c.services)(yield) }

// Bad is how many items are served in an older form, or not at all, because their newest form could not be used.
func (c *Config) Bad() int { return len(c.bad) }

// refused are the ids of the items that Bad counts.
func (c *Config) refused() []string {
	ids := make([]string, 0, len(c.bad))
	for at := range c.bad {
		ids = append(ids, at.id)
	}
	slices.Sort(ids)
	return ids
}

// Service is a model service, ready to serve.
type Service struct {
	ID        string
	AccountID string // "": published before there were usage records
	ModelName string
	Public    bool
	Replicas  []*upstream.Replica
	Traffic   *Traffic  // the same value in every configuration that has the service
	Standing  *Standing // likewise

	keyHash [sha256.Size]byte
	allow   []netip.Prefix
	source
}

// Allows reports whether a client at addr may call.
func (s *Service) Allows(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, prefix := range s.allow {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// Opens reports whether key is the service's key. It takes the same time for every wrong key.
func (s *Service) Opens(key string) bool {
	sum := sha256.Sum256([]byte(key))
	return subtle.ConstantTimeCompare(sum[:], s.keyHash[:]) == 1
}

// Outcome is how a request ended, as it is counted.
type Outcome int

// The outcomes: the class of the status, or that an answer did not come to its end.
const (
	Informational Outcome = iota // not used by an engine; keeps Of simple
	Success
	Redirection
	ClientError
	ServerError
	Cut  // the engine broke off in the middle of its answer
	Gone // the client left before the answer ended
	outcomes
)

func (o Outcome) String() string {
	return [outcomes]string{"1xx", "2xx", "3xx", "4xx", "5xx", "cut", "gone"}[o]
}

// Of is the outcome of an answer with this status that was delivered in full.
func Of(status int) Outcome { return min(max(Outcome(status/100-1), Informational), ServerError) }

// Traffic counts the requests of one service or Model API.
type Traffic struct {
	gate      atomic.Pointer[admission.Gate]
	inFlight  atomic.Int64
	ended     [outcomes]atomic.Uint64
	fallbacks atomic.Uint64
}

// Any reports whether there has been any since the gateway started.
func (t *Traffic) Any() bool {
	some := t.InFlight() > 0
	t.Each(func(Outcome, uint64) { some = true })
	return some
}

// Begin counts a request in, until End counts it out.
func (t *Traffic) Begin() { t.inFlight.Add(1) }

// End counts a request out.
func (t *Traffic) End() { t.inFlight.Add(-1) }

// InFlight is how many requests are under way.
func (t *Traffic) InFlight() int64 { return t.inFlight.Load() }

// FellBack counts a request of a Model API that turned to another service.
func (t *Traffic) FellBack() { t.fallbacks.Add(1) }

// Fallbacks is how many did.
func (t *Traffic) Fallbacks() uint64 { return t.fallbacks.Load() }

// Gate is what the requests of a Model API pass; nil: they have never been limited.
func (t *Traffic) Gate() *admission.Gate { return t.gate.Load() }

// limit sets how many requests run and wait at once, which holds from now on for those that are under way, too.
func (t *Traffic) limit(l *snapshot.Limits) {
	if l == nil {
		l = new(snapshot.Limits)
	}
	gate := t.gate.Load()
	if gate == nil {
		if l.Concurrent == 0 {
			return
		}
		gate = new(admission.Gate)
		t.gate.Store(gate)
	}
	gate.SetLimits(l.Concurrent, l.Queued)
}

// Ended counts a request that ended so.
func (t *Traffic) Ended(o Outcome) { t.ended[o].Add(1) }

// Each calls f with every outcome that has occurred.
func (t *Traffic) Each(f func(o Outcome, count uint64)) {
	for o := range outcomes {
		if n := t.ended[o].Load(); n > 0 {
			f(o, n)
		}
	}
}

// Standing is what a gateway has found out about a service: how requests to it went, whichever of its replicas or endpoints
// they came to, and how many attempts more it may be asked for.
type Standing struct {
	upstream.Health
	upstream.Budget
	Ejections atomic.Uint64 // of its replicas or endpoints
}

// builder turns published items into what is served.
type builder struct {
	box       *secret.Box
	fleet     *upstream.Fleet
	guard     upstream.Guard
	gatewayID string // the one gateway whose APIs are served; "": all
	shared    route.Shared
	apis      list[*API] // that consumers may be allowed to call
}

// service reads an item. Nothing of the fleet has changed when it fails.
func (b *builder) service(item Item, old *Service) (*Service, error) {
	published, err := snapshot.DecodeModelService(item.Body)
	if err != nil {
		return nil, err
	}
	if published.ID != item.ID {
		return nil, fmt.Errorf("the item is for %s, its body for %s", item.ID, published.ID)
	}
	keys, err := b.engineKeys(published.Replicas)
	if err != nil {
		return nil, err
	}
	s := &Service{
		ID:        item.ID,
		AccountID: published.AccountID,
		ModelName: published.ModelName,
		Public:    published.Public,
		Traffic:   new(Traffic),
		Standing:  new(Standing),
		keyHash:   [sha256.Size]byte(published.KeyHash),
		allow:     unmapped(published.Allow),
		source:    sourceOf(item),
	}
	if old != nil {
		s.Traffic, s.Standing = old.Traffic, old.Standing
	}
	for i, r := range published.Replicas {
		s.Replicas = append(s.Replicas, b.fleet.Join(r.ID, r.Addr, keys[i]))
	}
	return s, nil
}

func (b *builder) engineKeys(replicas []snapshot.Replica) ([]secret.Secret, error) {
	keys := make([]secret.Secret, len(replicas))
	for i, r := range replicas {
		key, err := b.box.Open(snapshot.EngineKeyPurpose(r.ID), r.SealedKey)
		if err != nil {
			return nil, err
		}
		keys[i] = key
	}
	return keys, nil
}

// unmapped turns ::ffff:1.2.3.0/120 into 1.2.3.0/24, because clients are compared as IPv4.
func unmapped(prefixes []netip.Prefix) []netip.Prefix {
	plain := make([]netip.Prefix, len(prefixes))
	for i, p := range prefixes {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		plain[i] = p.Masked()
	}
	return plain
}
