package main

import "github.com/engineshed/engineshed/sdk/apig"

// recordingWarning says what the content switches of an API's policies mean; "" when none is on. Verbs that store or
// deploy an API print it.
func recordingWarning(configs *apig.HttpApiDeployConfigs) string {
	if configs == nil {
		return ""
	}
	var request, response bool
	for _, config := range *configs {
		if config.PolicyConfigs == nil {
			continue
		}
		for _, policy := range *config.PolicyConfigs {
			if s := policy.AiStatisticsConfig; s != nil && policy.Enable != nil && *policy.Enable {
				request = request || s.LogRequestContent != nil && *s.LogRequestContent
				response = response || s.LogResponseContent != nil && *s.LogResponseContent
			}
		}
	}
	what := ""
	switch {
	case request && response:
		what = "All requests and answers of this API are"
	case request:
		what = "All requests of this API are"
	case response:
		what = "All answers of this API are"
	default:
		return ""
	}
	return "WARNING: " + what + " written into the log of every gateway in clear, with whatever people put into them. " +
		"Whoever reads the logs reads them. That it was turned on is in the audit trail."
}
