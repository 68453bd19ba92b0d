package modelapi

import (
	"slices"

	"github.com/engineshed/engineshed/internal/fault"
)

// checkedPolicies returns the policies in their one form. It refuses one that is on and not of a served type. Of one that
// is off, and of no type that is served anywhere, only that it is there is kept.
func checkedPolicies(policies []PolicyConfig, served ...string) ([]PolicyConfig, error) {
	checked := make([]PolicyConfig, len(policies))
	for i, p := range policies {
		switch {
		case p.Type == "":
			return nil, ErrDeployConfigs.Withf("The parameter policyConfigs[%d].type is required.", i)
		case slices.ContainsFunc(policies[:i], func(other PolicyConfig) bool { return other.Type == p.Type }):
			return nil, ErrDeployConfigs.Withf("The policyConfigs name %.40s twice.", p.Type)
		case p.Enable && !slices.Contains(served, p.Type):
			return nil, fault.ErrUnsupported.Withf("The policy %.40s is not served here. Leave it out, or send it with enable false.", p.Type)
		}
		if err := p.checkStatistics(); err != nil {
			return nil, err
		}
		fallback, err := p.checkedFallback()
		if err != nil {
			return nil, err
		}
		p.AiFallback = fallback
		checked[i] = p
	}
	return checked, nil
}

// policyOn returns the policy of a type that is on; false when there is none.
func policyOn(policies []PolicyConfig, kind string) (PolicyConfig, bool) {
	at := slices.IndexFunc(policies, func(p PolicyConfig) bool { return p.Type == kind && p.Enable })
	if at < 0 {
		return PolicyConfig{}, false
	}
	return policies[at], true
}
