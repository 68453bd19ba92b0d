package config

import (
	"slices"

	"github.com/engineshed/engineshed/internal/gateway/balance"
	"github.com/engineshed/engineshed/internal/route"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// observed is what an API observes of targets.
type observed struct {
	scene   string
	targets []snapshot.Target
	*balance.Observed
}

// Observed returns what chooses among the targets of one of the API's routes; nil when its scene does not go by what is
// observed. It is the same value in every configuration in which the API has these targets.
func (a *API) Observed(r *route.Route) *balance.Observed {
	return a.observed[&r.Targets[0]].Observed
}

// observe has the API observe the targets of its scenes, and go on with what old has observed of the same ones.
func (a *API) observe(old *API) {
	for r := range a.All {
		first := &r.Targets[0]
		if !snapshot.Observed(r.Scene) || a.observed[first].Observed != nil {
			continue
		}
		if a.observed == nil {
			a.observed = map[*snapshot.Target]observed{}
		}
		a.observed[first] = old.observation(r)
	}
}

// observation is what the API has observed of the route's targets, or nothing yet.
func (a *API) observation(r *route.Route) observed {
	if a != nil {
		for _, o := range a.observed {
			if o.scene == r.Scene && slices.Equal(o.targets, r.Targets) {
				return o
			}
		}
	}
	targets := make([]balance.Target, len(r.Targets))
	for i, t := range r.Targets {
		targets[i] = balance.Target{Share: t.Share, Window: t.Window}
	}
	return observed{r.Scene, r.Targets, balance.NewObserved(modes[r.Scene], targets)}
}

var modes = map[string]balance.Mode{
	snapshot.SceneLeastBusy:         balance.LeastBusy,
	snapshot.SceneLeastFirstContent: balance.LeastFirstContent,
	snapshot.SceneLeastTotal:        balance.LeastTotal,
}
