package modelapi

import (
	"context"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// PolicyAiStatistics has the requests of an API counted, logged and traced.
const PolicyAiStatistics = "AiStatistics"

// checkStatistics refuses fields of one's own, which nobody would read.
func (p *PolicyConfig) checkStatistics() error {
	if p.Enable && p.AiStatistics != nil && p.AiStatistics.OwnFields {
		return fault.ErrUnsupported.Withf("The parameter aiStatisticsConfig.pathFieldConfigs is not served: the fields of the log are fixed. Leave it out.")
	}
	return nil
}

// statistics is what gateways see of the policy; nil when it is off.
func (c *DeployConfig) statistics() *snapshot.Statistics {
	p, on := policyOn(c.PolicyConfigs, PolicyAiStatistics)
	if !on {
		return nil
	}
	s := new(snapshot.Statistics)
	if p.AiStatistics != nil {
		s.LogRequestContent, s.LogResponseContent = p.AiStatistics.LogRequestContent, p.AiStatistics.LogResponseContent
	}
	return s
}

// recorded names the switches by which bodies are recorded that are on: as the API is stored, and as gateways serve it.
func (s *stored) recorded() []string {
	on := switches("stored", s.DeployConfig.statistics())
	if s.deployed != nil {
		on = append(on, switches("deployed", s.deployed.DeployConfig.statistics())...)
	}
	return on
}

func switches(state string, statistics *snapshot.Statistics) (on []string) {
	if statistics != nil && statistics.LogRequestContent {
		on = append(on, state+" logRequestContent")
	}
	if statistics != nil && statistics.LogResponseContent {
		on = append(on, state+" logResponseContent")
	}
	return on
}

// noteRecording has the audit row of a call say which switches it turned on: from then on, what people write is in logs.
func noteRecording(ctx context.Context, before, after []string) {
	turned := slices.DeleteFunc(slices.Clone(after), func(s string) bool { return slices.Contains(before, s) })
	if len(turned) > 0 {
		audit.From(ctx).Detail = "content recording turned on: " + strings.Join(turned, ", ")
	}
}
