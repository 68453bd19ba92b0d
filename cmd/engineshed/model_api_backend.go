package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/engineshed/engineshed/sdk/apig"
)

// The scenes of several services, on the wire.
const (
	singleService = "SingleService"
	byRatio       = "MultiServiceByRatio"
	byModelName   = "MultiServiceByModelName"

	byObservability = "MultiServiceByObservability"
)

// backend is where requests go: the services, and how one of them is chosen.
type backend struct {
	scene    string
	services []apig.HttpApiServiceConfig
}

// readBackend reads what the flags --service, --route, --observe and --model say. Services are still called as they were
// named.
func readBackend(services, routes []string, mode, model string) (backend, error) {
	switch {
	case len(services) == 0 && len(routes) == 0:
		return backend{}, errors.New("say where requests go: --service ms-… or svc-…")
	case len(services) > 0 && len(routes) > 0:
		return backend{}, errors.New("--service and --route both say where requests go, and --route by the model they name: give one of them")
	case model != "" && (len(routes) > 0 || len(services) > 1):
		return backend{}, errors.New("--model goes with one service; of several, write it behind each: svc-…/MODEL")
	case mode != "" && len(routes) > 0:
		return backend{}, errors.New("--observe chooses between services by what gateways observe and --route by model name: give one of them")
	case len(routes) > 0:
		return readRoutes(routes)
	case mode != "":
		return readObserved(services, mode, model)
	case len(services) == 1 && !strings.Contains(services[0], "="):
		target := readTarget(services[0])
		if model != "" {
			target.ModelName = &model
		}
		return backend{singleService, []apig.HttpApiServiceConfig{target}}, nil
	}
	b, err := readWeights(services)
	if err == nil && model != "" {
		b.services[0].ModelName = &model
	}
	return b, err
}

// readWeights reads SERVICE[/MODEL]=WEIGHT.
func readWeights(services []string) (backend, error) {
	b := backend{scene: byRatio}
	for _, text := range services {
		at := strings.LastIndex(text, "=")
		weight, err := strconv.ParseInt(text[at+1:], 10, 32)
		if at < 1 || err != nil {
			return b, fmt.Errorf("--service %s: of several services each has its share in percent; write svc-…=70 or svc-…/MODEL=70", text)
		}
		target := readTarget(text[:at])
		target.Weight = &weight
		b.services = append(b.services, target)
	}
	return b, nil
}

// readObserved reads SERVICE[/MODEL][=SHARE%].
func readObserved(services []string, mode, model string) (backend, error) {
	b := backend{scene: byObservability}
	strategy := "ByObservability"
	for _, text := range services {
		target, share, err := readCapped(text)
		if err != nil {
			return b, err
		}
		if model != "" {
			target.ModelName = &model
		}
		target.MultiServiceRouteStrategy = &strategy
		target.ObservabilityRouteConfig = &apig.ObservabilityRouteConfig{Mode: &mode, RateLimit: unlessNone(share)}
		b.services = append(b.services, target)
	}
	return b, nil
}

// readCapped reads a service and the share of the requests that it gets at most; 0 is all.
func readCapped(text string) (target apig.HttpApiServiceConfig, share float64, err error) {
	at := strings.LastIndex(text, "=")
	if at < 0 {
		return readTarget(text), 0, nil
	}
	number, percent := strings.CutSuffix(text[at+1:], "%")
	share, err = strconv.ParseFloat(number, 64)
	switch {
	case err != nil && !percent && strings.Contains(text[:at], "/"): // the model's own =
		return readTarget(text), 0, nil
	case err != nil || !percent || at < 1 || !(share > 0 && share <= 100):
		return target, 0, fmt.Errorf("--service %s: with --observe a service may have the share of the requests that it gets at most; write svc-…=80%% or svc-…/MODEL=80%%", text)
	}
	return readTarget(text[:at]), share / 100, nil
}

// readRoutes reads PATTERN=SERVICE[/MODEL].
func readRoutes(routes []string) (backend, error) {
	b := backend{scene: byModelName}
	for _, text := range routes {
		pattern, service, ok := strings.Cut(text, "=")
		if !ok || pattern == "" || service == "" {
			return b, fmt.Errorf("--route %s: write PATTERN=SERVICE or PATTERN=SERVICE/MODEL, such as 'qwen-*=svc-…'", text)
		}
		target := readTarget(service)
		target.ModelNamePattern = &pattern
		b.services = append(b.services, target)
	}
	return b, nil
}

// readTarget reads SERVICE[/MODEL]. A model may have slashes of its own.
func readTarget(text string) apig.HttpApiServiceConfig {
	service, model, _ := strings.Cut(text, "/")
	return apig.HttpApiServiceConfig{ServiceId: service, ModelName: unlessNone(model)}
}

// resolve puts the ids of upstream services in the place of model services of ours.
func (c *client) resolve(ctx context.Context, gatewayID string, b *backend) (err error) {
	for i := range b.services {
		if b.services[i].ServiceId, err = c.upstream(ctx, gatewayID, b.services[i].ServiceId); err != nil {
			return err
		}
	}
	return nil
}

// backendRows show where the requests of an API with several services go.
func backendRows(e apig.HttpApiEnvironment) [][]string {
	if e.BackendScene == singleService {
		return nil
	}
	how := map[string]string{byRatio: "by proportion", byModelName: "by model name, the first that matches"}[e.BackendScene]
	var rows [][]string
	for _, s := range e.ServiceConfigs {
		when := text(s.ModelNamePattern)
		switch observed := s.ObservabilityRouteConfig; {
		case s.Weight != nil:
			when = fmt.Sprintf("%d %%", *s.Weight)
		case observed != nil:
			how, when = "by what gateways observe: "+text(observed.Mode), upTo(observed.RateLimit)
		}
		rows = append(rows, []string{"  " + when, asked(s.ServiceId, s.Name, s.ModelName)})
	}
	return append([][]string{{"Services", how}}, rows...)
}

// asked is a service with the model that it is asked for.
func asked(id string, name, model *string) string {
	service := or(text(name), id)
	if model != nil {
		service += ", asked for " + *model
	}
	return service
}

// upTo is the share of the requests that a service gets at most.
func upTo(share *float64) string {
	if share == nil {
		return "any share"
	}
	return fmt.Sprintf("up to %.4g %%", *share*100)
}
