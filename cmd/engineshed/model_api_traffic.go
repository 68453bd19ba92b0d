package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/engineshed/engineshed/sdk/apig"
)

// traffic is what the flags say of fallback, timeouts and limits; nil stays as it is.
type traffic struct {
	fallback                   *[]string // SERVICE[/MODEL]
	codesOnly                  *bool
	firstPacket, connect, idle *int32 // milliseconds
	concurrency, queue         *int32
	replicas                   *string
}

func addTrafficFlags(flags *pflag.FlagSet) {
	flags.StringArray("fallback", nil, "where a request goes while the services before fail, as SERVICE[/MODEL]; repeat for more, in order; empty is nowhere")
	flags.Bool("fallback-upstream-codes-only", false, "fall back only after a 4xx or 5xx of a service, not when it cannot be reached or is slow")
	flags.Duration("first-packet-timeout", 0, "time until the first content of a stream, such as 3s; 0 is without limit")
	flags.Duration("connect-timeout", 0, "time to connect to a service; 0 is the gateway's default")
	flags.Duration("idle-timeout", 0, "time between two pieces of an answer; 0 is the gateway's default")
	flags.Int32("max-concurrency", 0, "requests under way at a time in each gateway process; 0 is without limit")
	flags.Int32("max-queue", 0, "with --max-concurrency: requests that wait for their turn")
	flags.String("replica-selection", "", "of a model service: LeastInFlight, or PrefixAware for the replica that has seen the beginning of a prompt")
}

func readTraffic(cmd *cobra.Command) (t traffic, err error) {
	flags := cmd.Flags()
	number := func(name string) *int32 {
		value, _ := flags.GetInt32(name)
		return ifGiven(flags, name, value)
	}
	duration := func(name string) *int32 {
		value, _ := flags.GetDuration(name)
		if value%time.Millisecond != 0 || value.Milliseconds() != int64(int32(value.Milliseconds())) {
			err = errors.Join(err, fmt.Errorf("--%s %s: give whole milliseconds, at most %s", name, value, time.Duration(math.MaxInt32)*time.Millisecond))
		}
		return ifGiven(flags, name, int32(value.Milliseconds())) //nolint:gosec // it fits, or err says that it does not
	}
	fallback, _ := flags.GetStringArray("fallback")
	codesOnly, _ := flags.GetBool("fallback-upstream-codes-only")
	replicas, _ := flags.GetString("replica-selection")
	t = traffic{
		fallback: ifGiven(flags, "fallback", fallback), codesOnly: ifGiven(flags, "fallback-upstream-codes-only", codesOnly),
		firstPacket: duration("first-packet-timeout"), connect: duration("connect-timeout"), idle: duration("idle-timeout"),
		concurrency: number("max-concurrency"), queue: number("max-queue"), replicas: ifGiven(flags, "replica-selection", replicas),
	}
	return t, err
}

// ifGiven is the value of a flag, nil when nobody gave it.
func ifGiven[T any](flags *pflag.FlagSet, name string, value T) *T {
	if !flags.Changed(name) {
		return nil
	}
	return &value
}

// some reports whether a flag was given.
func (t traffic) some() bool { return t != traffic{} }

// fallsBack reports whether a flag says something of the fallback.
func (t traffic) fallsBack() bool { return t.fallback != nil || t.codesOnly != nil }

// config is the one before with what the flags say; nil when they say nothing.
func (t traffic) config(before *apig.TrafficConfig) *apig.TrafficConfig {
	if t.connect == nil && t.idle == nil && t.concurrency == nil && t.queue == nil && t.replicas == nil {
		return nil
	}
	config := apig.TrafficConfig{}
	if before != nil {
		config = *before
	}
	config.ConnectTimeout, config.IdleTimeout = orBefore(t.connect, config.ConnectTimeout), orBefore(t.idle, config.IdleTimeout)
	config.MaxConcurrency, config.MaxQueue = orBefore(t.concurrency, config.MaxConcurrency), orBefore(t.queue, config.MaxQueue)
	config.ReplicaSelection = orBefore(t.replicas, config.ReplicaSelection)
	return &config
}

const aiFallback = "AiFallback"

// fallback returns the policies with what the flags say of AiFallback. Without a service it is turned off.
func (c *client) fallback(ctx context.Context, gatewayID string, policies *apig.HttpApiPolicyConfigs, t traffic) (*apig.HttpApiPolicyConfigs, error) {
	policy, after := takePolicy(policies, aiFallback)
	config := apig.AiFallbackConfig{}
	if policy.AiFallbackConfig != nil {
		config = *policy.AiFallbackConfig
	}
	if t.fallback == nil && !isOn(policy.Enable) {
		return nil, errors.New("--fallback-upstream-codes-only goes with a fallback: say --fallback svc-… or svc-…/MODEL")
	}
	config.OnlyRedirectUpstreamCode = orBefore(t.codesOnly, config.OnlyRedirectUpstreamCode)
	if t.fallback != nil {
		services, err := c.fallbackServices(ctx, gatewayID, *t.fallback)
		if err != nil {
			return nil, err
		}
		if len(services) == 0 {
			return &after, nil
		}
		config.ServiceConfigs = &services
	}
	on := true
	policy.Enable, policy.AiFallbackConfig = &on, &config
	after = append(after, policy)
	return &after, nil
}

// fallbackServices reads SERVICE[/MODEL]. An empty one is none.
func (c *client) fallbackServices(ctx context.Context, gatewayID string, texts []string) ([]apig.AiFallbackServiceConfig, error) {
	services := []apig.AiFallbackServiceConfig{}
	for _, text := range texts {
		if text == "" {
			continue
		}
		target := readTarget(text)
		id, err := c.upstream(ctx, gatewayID, target.ServiceId)
		if err != nil {
			return nil, err
		}
		passThrough := target.ModelName == nil
		services = append(services, apig.AiFallbackServiceConfig{
			ServiceId: id, TargetModelName: target.ModelName, PassThroughModelName: &passThrough,
		})
	}
	return services, nil
}

// fallbackRows show where requests go while services fail.
func fallbackRows(configs apig.HttpApiDeployConfigs) (rows [][]string) {
	for _, config := range configs {
		policy, _ := takePolicy(config.PolicyConfigs, aiFallback)
		if !isOn(policy.Enable) || policy.AiFallbackConfig == nil || policy.AiFallbackConfig.ServiceConfigs == nil {
			continue
		}
		after := "when the services before fail"
		if isOn(policy.AiFallbackConfig.OnlyRedirectUpstreamCode) {
			after = "after a 4xx or 5xx of the services before"
		}
		rows = append(rows, []string{"Fallback", after})
		for i, s := range *policy.AiFallbackConfig.ServiceConfigs {
			rows = append(rows, []string{"  " + strconv.Itoa(i+1), asked(s.ServiceId, s.Name, s.TargetModelName)})
		}
	}
	return rows
}

// trafficRows show the timeouts and limits that are not the gateway's own.
func trafficRows(firstByte *int32, config *apig.TrafficConfig) (rows [][]string) {
	add := func(label, value string) { rows = append(rows, []string{label, value}) }
	wait := func(label string, milliseconds *int32) {
		if milliseconds != nil && *milliseconds > 0 {
			add(label, "within "+(time.Duration(*milliseconds)*time.Millisecond).String())
		}
	}
	wait("First packet", firstByte)
	if config == nil {
		return rows
	}
	wait("Connect", config.ConnectTimeout)
	wait("Idle", config.IdleTimeout)
	if config.MaxConcurrency != nil && *config.MaxConcurrency > 0 {
		text := fmt.Sprintf("%d at a time", *config.MaxConcurrency)
		if config.MaxQueue != nil && *config.MaxQueue > 0 {
			text += fmt.Sprintf(", %d more wait", *config.MaxQueue)
		}
		add("Concurrency", text)
	}
	if text(config.ReplicaSelection) == "PrefixAware" {
		add("Replicas", "PrefixAware")
	}
	return rows
}
