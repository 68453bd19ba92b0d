package modelapi

import (
	"slices"
	"strings"
	"unicode"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// The backend scenes that are served: how one of the services is chosen.
const (
	SingleService = snapshot.SceneSingle
	ByRatio       = snapshot.SceneByRatio     // in proportion to the weights
	ByModelName   = snapshot.SceneByModelName // the first whose pattern the request's model matches

	ByObservability = "MultiServiceByObservability" // the one that gateways observe to be the best
)

const (
	maxServices = 100 // of one scene
	maxWeight   = 100 // and what the weights of a scene add up to
)

// scenes are the served scenes by the spellings that clients use. Single is how reads of routes spell it.
var scenes = map[string]string{
	SingleService: SingleService, "Single": SingleService,
	ByRatio:     ByRatio,
	ByModelName: ByModelName, "MultiServiceByContent": ByModelName,
	ByObservability: ByObservability,
}

// checked returns the backend in its one spelling, without what its scene has no use for. at is what the list of
// services is called where it was sent.
func (b Backend) checked(at string) (Backend, error) {
	scene, known := scenes[b.Scene]
	if !known {
		return b, fault.ErrUnsupported.Withf("The scene %.40q is not served; %s, %s, %s and %s are.", b.Scene, SingleService, ByRatio, ByModelName, ByObservability)
	}
	if scene == ByRatio && slices.ContainsFunc(b.Services, ServiceConfig.observed) {
		scene = ByObservability
	}
	b = Backend{scene, slices.Clone(b.Services)}
	if len(b.Services) > maxServices {
		return b, ErrDeployConfigs.Withf("%d %s are given; a scene has at most %d.", len(b.Services), at, maxServices)
	}
	for i, s := range b.Services {
		var err error
		if b.Services[i], err = s.checked(at, i, scene); err != nil {
			return b, err
		}
	}
	switch scene {
	case ByRatio:
		return b, checkWeights(at, b.Services)
	case ByModelName:
		return b, checkPatterns(at, b.Services)
	case ByObservability:
		return b, checkObserved(at, b.Services)
	}
	if len(b.Services) != 1 {
		return b, ErrDeployConfigs.Withf("%d %s are given; the scene %s has exactly one. For several, send the scene %s, %s or %s.",
			len(b.Services), at, SingleService, ByRatio, ByModelName, ByObservability)
	}
	return b, nil
}

// checked returns the service without what the scene has no use for.
func (s ServiceConfig) checked(at string, i int, scene string) (ServiceConfig, error) {
	if err := s.checkStrategy(at, i, scene); err != nil {
		return s, err
	}
	if len(s.ModelName) > maxValue {
		return s, ErrDeployConfigs.Withf("The %s[%d].modelName is longer than %d bytes.", at, i, maxValue)
	}
	if s.ModelNamePattern != "" && scene != ByModelName {
		return s, ErrDeployConfigs.Withf("%s[%d].modelNamePattern is given; the scene %s has none. Leave it out, or send the scene %s.",
			at, i, scene, ByModelName)
	}
	s.Strategy = ""
	if scene != ByRatio {
		s.Weight = 0
	}
	if scene != ByObservability {
		s.Observability = nil
	}
	return s, nil
}

func checkWeights(at string, services []ServiceConfig) error {
	if len(services) == 0 {
		return ErrDeployConfigs.Withf("No %s are given; the scene %s shares requests out between two or more.", at, ByRatio)
	}
	sum := 0
	for i, s := range services {
		if s.Weight < 1 || s.Weight > maxWeight {
			return ErrDeployConfigs.Withf("%s[%d].weight is %d; in the scene %s it is 1 to %d. Leave out a service that is to get nothing.",
				at, i, s.Weight, ByRatio, maxWeight)
		}
		sum += s.Weight
	}
	if sum != maxWeight {
		return ErrDeployConfigs.Withf("The weights of the %s add up to %d; in the scene %s they must add up to %d. Change them so that they do.",
			at, sum, ByRatio, maxWeight)
	}
	return nil
}

func checkPatterns(at string, services []ServiceConfig) error {
	if len(services) == 0 {
		return ErrDeployConfigs.Withf("No %s are given; the scene %s has one or more.", at, ByModelName)
	}
	for i, s := range services {
		switch pattern := s.ModelNamePattern; {
		case pattern == "":
			return ErrDeployConfigs.Withf("%s[%d].modelNamePattern is missing; in the scene %s every service has one, such as qwen-* or, for all models that are left, *.",
				at, i, ByModelName)
		case len(pattern) > maxValue:
			return ErrDeployConfigs.Withf("%s[%d].modelNamePattern is longer than %d bytes.", at, i, maxValue)
		case strings.ContainsFunc(pattern, unicode.IsControl):
			return ErrDeployConfigs.Withf("%s[%d].modelNamePattern holds a control character; no model is named so. Leave it out.", at, i)
		}
		first := slices.IndexFunc(services, func(other ServiceConfig) bool { return other.ModelNamePattern == s.ModelNamePattern })
		if first < i {
			return ErrDeployConfigs.Withf("%s[%d].modelNamePattern is %.64q, as that of %s[%d]: the first one that matches is taken, so this one never would be. Leave one of them out.",
				at, i, s.ModelNamePattern, at, first)
		}
	}
	return nil
}

// backendOf is what answers requests of a route: its own, or the API's.
func (d *Definition) backendOf(r *RouteDefinition) Backend {
	if r.Backend != nil {
		return *r.Backend
	}
	return Backend{d.DeployConfig.BackendScene, d.DeployConfig.Services}
}

// readsModel reports whether gateways look for a model where nothing but the backend says that there is one: one is to be
// written there, or decides, and then a request must be able to have a body.
func (b Backend) readsModel(methods []string) bool {
	if b.Scene == ByModelName {
		return len(methods) == 0 || slices.ContainsFunc(methods, func(method string) bool {
			return slices.Contains([]string{"POST", "PUT", "PATCH"}, method)
		})
	}
	return slices.ContainsFunc(b.Services, func(s ServiceConfig) bool { return s.ModelName != "" })
}

// checkModels refuses to choose by model name where requests name none.
func (d *Definition) checkModels() error {
	shared, named := 0, 0 // routes that lead to the API's services, and those of them whose requests name a model
	for i := range d.Routes {
		r := &d.Routes[i]
		_, model := d.speaks(r)
		switch {
		case r.Backend == nil:
			shared++
			if model != modelNowhere {
				named++
			}
		case r.Backend.Scene == ByModelName && model == modelNowhere:
			return ErrDeployConfigs.Withf("The requests of the route %s name no model, so that backendConfig.scene cannot be %s. Send %s or %s.",
				r.Name, ByModelName, SingleService, ByRatio)
		}
	}
	if d.DeployConfig.BackendScene == ByModelName && shared > 0 && named == 0 {
		return ErrDeployConfigs.Withf("The requests of no route of the Model API name a model (%s with %s), so that backendScene cannot be %s. Send %s or %s, or let it have a route whose requests do.",
			d.ModelCategory, strings.Join(d.AIProtocols, ", "), ByModelName, SingleService, ByRatio)
	}
	return nil
}
