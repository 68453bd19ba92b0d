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
)

// backend is where requests go: the services, and how one of them is chosen.
type backend struct {
	scene    string
	services []apig.HttpApiServiceConfig
}

// readBackend reads what the flags --service, --route and --model say. Services are still called as they were named.
func readBackend(services, routes []string, model string) (backend, error) {
	switch {
	case len(services) == 0 && len(routes) == 0:
		return backend{}, errors.New("say where requests go: --service ms-… or svc-…")
	case len(services) > 0 && len(routes) > 0:
		return backend{}, errors.New("--service shares requests out by weight and --route chooses by model name: give one of them")
	case model != "" && (len(routes) > 0 || len(services) > 1):
		return backend{}, errors.New("--model goes with one service; of several, write it behind each: svc-…/MODEL")
	case len(routes) > 0:
		return readRoutes(routes)
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
	rows := [][]string{{"Services", map[string]string{byRatio: "by proportion", byModelName: "by model name, the first that matches"}[e.BackendScene]}}
	for _, s := range e.ServiceConfigs {
		name := or(text(s.Name), s.ServiceId)
		if s.ModelName != nil {
			name += ", asked for " + *s.ModelName
		}
		when := text(s.ModelNamePattern)
		if s.Weight != nil {
			when = fmt.Sprintf("%d %%", *s.Weight)
		}
		rows = append(rows, []string{"  " + when, name})
	}
	return rows
}
