package modelapi

import (
	"cmp"
	"slices"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// The strategies that clients name beside a scene.
const (
	strategyByWeight        = "ByWeight"
	strategyByObservability = "ByObservability"
)

const (
	maxWindow  = 10_000 // answers that a latency is taken over
	shareError = 1e-9   // what shares like 0.7, 0.2 and 0.1 lack of 1 when they are added up
)

var modes = []string{snapshot.SceneLeastBusy, snapshot.SceneLeastFirstContent, snapshot.SceneLeastTotal}

// observed reports whether the service is asked for by what gateways observe.
func (s ServiceConfig) observed() bool {
	return s.Strategy == strategyByObservability || s.Observability != nil && s.Observability.Mode != ""
}

// checkStrategy refuses a service that says another thing than its scene about how it is chosen.
func (s ServiceConfig) checkStrategy(at string, i int, scene string) error {
	switch {
	case s.Strategy != "" && s.Strategy != strategyByWeight && s.Strategy != strategyByObservability:
		return fault.ErrUnsupported.Withf("%s[%d].multiServiceRouteStrategy is %.40q, which is not served; %s and %s are.",
			at, i, s.Strategy, strategyByWeight, strategyByObservability)
	case scene == ByObservability && s.Strategy == strategyByWeight:
		return ErrDeployConfigs.Withf("%s[%d].multiServiceRouteStrategy is %s, and the services are chosen by what gateways observe. Leave it out, or leave out the observabilityRouteConfig of all of them.",
			at, i, strategyByWeight)
	case scene != ByObservability && s.observed():
		return ErrDeployConfigs.Withf("%s[%d].observabilityRouteConfig is given; the scene %s has none. Leave it out, or send the scene %s.",
			at, i, scene, ByObservability)
	}
	return nil
}

// checkObserved fills in the mode that all services of the scene have.
func checkObserved(at string, services []ServiceConfig) error {
	if len(services) == 0 {
		return ErrDeployConfigs.Withf("No %s are given; the scene %s chooses between two or more.", at, ByObservability)
	}
	mode, err := modeOf(at, services)
	if err != nil {
		return err
	}
	shares := 0.0
	for i := range services {
		o := Observability{}
		if sent := services[i].Observability; sent != nil {
			o = *sent
		}
		switch {
		case o.RateLimit < 0 || o.RateLimit > 1:
			return ErrDeployConfigs.Withf("%s[%d].observabilityRouteConfig.rateLimit is %v; it is the share of the requests that the service gets at most, above 0 to 1. Leave it out where it may get all of them.",
				at, i, o.RateLimit)
		case o.QueueSize < 0 || o.QueueSize > maxWindow:
			return ErrDeployConfigs.Withf("%s[%d].observabilityRouteConfig.queueSize is %d; it is 0 to %d answers.", at, i, o.QueueSize, maxWindow)
		}
		shares += cmp.Or(o.RateLimit, 1)
		o.Mode, services[i].Observability = mode, &o
	}
	if shares < 1-shareError {
		return ErrDeployConfigs.Withf("The rateLimits of the %s add up to %.4g, so that the other requests could go nowhere. Let them add up to 1 or more, or leave one out.", at, shares)
	}
	return nil
}

// modeOf is the one mode that the services name, be it only some of them.
func modeOf(at string, services []ServiceConfig) (mode string, err error) {
	for i, s := range services {
		if s.Observability == nil || s.Observability.Mode == "" {
			continue
		}
		named := s.Observability.Mode
		switch {
		case !slices.Contains(modes, named):
			return "", ErrDeployConfigs.Withf("%s[%d].observabilityRouteConfig.mode is %.40q; it is %s, %s or %s.", at, i, named, modes[0], modes[1], modes[2])
		case mode != "" && named != mode:
			return "", ErrDeployConfigs.Withf("%s[%d].observabilityRouteConfig.mode is %s, and that of another service is %s. Send the same for all of them.", at, i, named, mode)
		}
		mode = named
	}
	if mode == "" {
		return "", ErrDeployConfigs.Withf("No observabilityRouteConfig.mode is given; in the scene %s the %s have one: %s, %s or %s.", ByObservability, at, modes[0], modes[1], modes[2])
	}
	return mode, nil
}

// checkObservability refuses to choose by what is never there to be observed.
func (d *Definition) checkObservability() error {
	if d.ModelCategory != "Embedding" && d.ModelCategory != "Rerank" {
		return nil
	}
	backends := []Backend{{d.DeployConfig.BackendScene, d.DeployConfig.Services}}
	for _, r := range d.Routes {
		if r.Backend != nil {
			backends = append(backends, *r.Backend)
		}
	}
	for _, b := range backends {
		if mode, _ := b.targets(); mode == snapshot.SceneLeastFirstContent {
			return ErrDeployConfigs.Withf("No answer of the scenario %s is a stream, so that there is no first token to wait for: observabilityRouteConfig.mode cannot be %s. Send %s or %s.",
				d.ModelCategory, mode, snapshot.SceneLeastBusy, snapshot.SceneLeastTotal)
		}
	}
	return nil
}
