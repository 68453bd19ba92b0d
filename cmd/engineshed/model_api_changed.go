package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/engineshed/engineshed/sdk/apig"
)

// recording is what the flags say of the policy AiStatistics; nil stays as it is.
type recording struct{ statistics, requests, responses *bool }

func addRecordingFlags(flags *pflag.FlagSet) {
	flags.Bool("statistics", false, "count tokens, log a line for each request, and trace it where gateways have a collector")
	flags.Bool("log-requests", false, "with --statistics: write all that people ask into the gateways' log")
	flags.Bool("log-responses", false, "with --statistics: write all that they are answered into the gateways' log")
}

func readRecording(cmd *cobra.Command) recording {
	given := func(name string) *bool {
		if !cmd.Flags().Changed(name) {
			return nil
		}
		value, _ := cmd.Flags().GetBool(name)
		return &value
	}
	return recording{given("statistics"), given("log-requests"), given("log-responses")}
}

// some reports whether a flag was given.
func (r recording) some() bool { return r.statistics != nil || r.requests != nil || r.responses != nil }

const aiStatistics = "AiStatistics"

// policies are those before with what the flags say. A content switch that is turned on turns the policy on.
func (r recording) policies(before *apig.HttpApiPolicyConfigs) *apig.HttpApiPolicyConfigs {
	policy, after := takePolicy(before, aiStatistics)
	config := apig.AiStatisticsConfig{}
	if policy.AiStatisticsConfig != nil {
		config = *policy.AiStatisticsConfig
	}
	config.LogRequestContent = orBefore(r.requests, config.LogRequestContent)
	config.LogResponseContent = orBefore(r.responses, config.LogResponseContent)
	policy.AiStatisticsConfig = &config
	on := isOn(r.requests) || isOn(r.responses)
	policy.Enable = orBefore(r.statistics, orBefore(unless(on), policy.Enable))
	after = append(after, policy)
	return &after
}

// takePolicy returns the policy of a type, a new one if there is none, and the others.
func takePolicy(policies *apig.HttpApiPolicyConfigs, kind string) (policy apig.HttpApiPolicyConfig, others apig.HttpApiPolicyConfigs) {
	policy.Type, others = kind, apig.HttpApiPolicyConfigs{}
	if policies == nil {
		return policy, others
	}
	for _, p := range *policies {
		if p.Type == kind {
			policy = p
		} else {
			others = append(others, p)
		}
	}
	return policy, others
}

func orBefore[T any](now, before *T) *T {
	if now != nil {
		return now
	}
	return before
}

func isOn(b *bool) bool { return b != nil && *b }

func unless(on bool) *bool {
	if !on {
		return nil
	}
	return &on
}

// Gateways have what was deployed a moment later: so long a verb waits for them before it shows that they have not.
const (
	servedTimeout  = 3 * time.Second
	servedInterval = 50 * time.Millisecond
)

// showChanged prints a Model API that was stored or deployed, when the gateways that report have it, and warns of what
// they write.
func (c *client) showChanged(ctx context.Context, cmd *cobra.Command, id string) error {
	var api *apig.HttpApiApiInfo
	for deadline := time.Now().Add(servedTimeout); ; {
		var err error
		if api, err = c.GetHttpApi(ctx, id); err != nil {
			return err
		}
		if isOn(api.ServedEverywhere) || api.Serving == nil || len(*api.Serving) == 0 || time.Now().After(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(servedInterval):
		}
	}
	if warning := recordingWarning(&api.DeployConfigs); warning != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), warning)
	}
	return c.print(cmd.OutOrStdout(), api)
}

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
