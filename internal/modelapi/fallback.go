package modelapi

import (
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// PolicyAiFallback sends requests to other services while those before fail.
const PolicyAiFallback = "AiFallback"

const maxFallbacks = 10 // services of one policy

// checkedFallback returns the policy's services in their one form; nil when it is of another type.
func (p *PolicyConfig) checkedFallback() (*AiFallback, error) {
	if p.Type != PolicyAiFallback {
		return nil, nil
	}
	if p.AiFallback == nil || len(p.AiFallback.Services) == 0 {
		if p.Enable {
			return nil, ErrDeployConfigs.Withf("The policy AiFallback has no aiFallbackConfig.serviceConfigs; name 1 to %d services, or send it with enable false.", maxFallbacks)
		}
		return nil, nil
	}
	fallback := *p.AiFallback
	fallback.Services = slices.Clone(fallback.Services)
	if len(fallback.Services) > maxFallbacks {
		return nil, ErrDeployConfigs.Withf("%d aiFallbackConfig.serviceConfigs are given; at most %d are allowed.", len(fallback.Services), maxFallbacks)
	}
	for i := range fallback.Services {
		s := &fallback.Services[i]
		switch {
		case len(s.TargetModelName) > maxValue:
			return nil, ErrDeployConfigs.Withf("The aiFallbackConfig.serviceConfigs[%d].targetModelName is longer than %d bytes.", i, maxValue)
		case s.PassThroughModelName && s.TargetModelName != "":
			return nil, ErrDeployConfigs.Withf("aiFallbackConfig.serviceConfigs[%d] has passThroughModelName true and the targetModelName %.64q; a request names one model. Leave one of them out.",
				i, s.TargetModelName)
		}
		s.PassThroughModelName = s.TargetModelName == ""
	}
	return &fallback, nil
}

// fallback is what gateways see of the policy; nil when it is off.
func fallback(policies []PolicyConfig) *snapshot.Fallback {
	policy, on := policyOn(policies, PolicyAiFallback)
	if !on {
		return nil
	}
	rendered := &snapshot.Fallback{UpstreamCodesOnly: policy.AiFallback.OnlyRedirectUpstreamCode}
	for _, s := range policy.AiFallback.Services {
		rendered.Targets = append(rendered.Targets, snapshot.Target{ServiceID: s.ServiceID, Model: s.TargetModelName})
	}
	return rendered
}

// fallbackServices are the services that the policies name, whether they are on or off.
func fallbackServices(policies []PolicyConfig) (services []FallbackService) {
	for _, p := range policies {
		if p.AiFallback != nil {
			services = append(services, p.AiFallback.Services...)
		}
	}
	return services
}

// checkFallback refuses to send requests elsewhere that name no model: what they ask for is kept by one service.
func (d *Definition) checkFallback() error {
	named := 0
	for i := range d.Routes {
		r := &d.Routes[i]
		_, model := d.speaks(r)
		if model != modelNowhere {
			named++
			continue
		}
		if _, on := policyOn(r.PolicyConfigs, PolicyAiFallback); on {
			return ErrDeployConfigs.Withf("The requests of the route %s name no model, and only those that do can go to another service. Take the policy AiFallback off the route, or give its backendConfig a modelName.",
				r.Name)
		}
	}
	if _, on := policyOn(d.DeployConfig.PolicyConfigs, PolicyAiFallback); on && named == 0 && len(d.Routes) > 0 {
		return ErrDeployConfigs.Withf("The requests of no route of the Model API name a model (%s with %s), and only those that do can go to another service. Take the policy AiFallback off, or let the API have a route whose requests do.",
			d.ModelCategory, strings.Join(d.AIProtocols, ", "))
	}
	return nil
}
