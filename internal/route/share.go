package route

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
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

// Compile is as the function of this name, but the result has no list of published routes, and its compiled ones no ids,
// which would make every API's another.
func (s *Shared) Compile(published *snapshot.ModelAPI) (*API, error) {
	c, err := s.common(published)
	if err != nil {
		return nil, err
	}
	return at(published, c)
}

func (s *Shared) common(published *snapshot.ModelAPI) (*common, error) {
	alike := ofAll(*published)
	alike.Routes = slices.Clone(alike.Routes)
	for i := range alike.Routes {
		alike.Routes[i].ID = ""
	}
	text, err := json.Marshal(alike)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(text)
	if there := s.known[key].Value(); there != nil {
		return there, nil
	}
	compiled, err := compileRoutes(&alike)
	if err != nil {
		return nil, fmt.Errorf("model API %s: %w", published.ID, err)
	}
	alike.Routes = nil
	c := &common{*compiled, alike}
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
