package route

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"weak"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// Shared compiles APIs of which many are alike: the ones with equal routes to equal services have one copy of them
// between them. Most APIs have the default routes of their scenario, so that among ten thousand of them the routes of
// all stay in a processor's cache. It is for one goroutine; the zero value is ready.
type Shared struct {
	known map[[sha256.Size]byte]weak.Pointer[common]
	sweep int // how many are known when those that nobody uses are looked for
}

// common is what APIs share.
type common struct {
	routing
	AccountID, GatewayID, EnvironmentID, Category, Scene string

	Schemes, Protocols []string
	Targets            []snapshot.Target
	Fallback           *snapshot.Fallback
	Routes             []snapshot.Route
}

// Compile is as the function of this name, but takes published over: the result has no list of published routes, and
// its compiled ones no ids, which would make every API's another.
func (s *Shared) Compile(published *snapshot.ModelAPI) (*API, error) {
	c, err := s.common(published)
	if err != nil {
		return nil, err
	}
	own := *published
	own.AccountID, own.GatewayID, own.EnvironmentID = c.AccountID, c.GatewayID, c.EnvironmentID
	own.Category, own.Scene, own.Schemes, own.Protocols, own.Targets = c.Category, c.Scene, c.Schemes, c.Protocols, c.Targets
	own.Fallback, own.Routes = c.Fallback, nil
	return at(own, &c.routing) // which keeps c
}

func (s *Shared) common(published *snapshot.ModelAPI) (*common, error) {
	c := &common{
		AccountID: published.AccountID, GatewayID: published.GatewayID, EnvironmentID: published.EnvironmentID,
		Category: published.Category, Scene: published.Scene, Schemes: published.Schemes, Protocols: published.Protocols,
		Targets: published.Targets, Fallback: published.Fallback, Routes: slices.Clone(published.Routes),
	}
	for i := range c.Routes {
		c.Routes[i].ID = ""
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(text)
	if there := s.known[key].Value(); there != nil {
		return there, nil
	}
	compiled, err := compileRoutes(&snapshot.ModelAPI{
		ID: published.ID, Routes: c.Routes, Targets: c.Targets, Schemes: c.Schemes, Scene: c.Scene, Fallback: c.Fallback,
	})
	if err != nil {
		return nil, err
	}
	c.routing, c.Routes = *compiled, nil
	s.keep(key, c)
	return c, nil
}

// keep remembers c as long as an API has it.
func (s *Shared) keep(key [sha256.Size]byte, c *common) {
	if s.known == nil {
		s.known = map[[sha256.Size]byte]weak.Pointer[common]{}
	}
	if len(s.known) >= s.sweep {
		for key, known := range s.known {
			if known.Value() == nil {
				delete(s.known, key)
			}
		}
		s.sweep = 2*len(s.known) + 1024
	}
	s.known[key] = weak.Make(c)
}
