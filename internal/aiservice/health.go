package aiservice

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// How a service is.
const (
	Healthy   = "Healthy"
	Unhealthy = "Unhealthy"
)

// GatewayHealth is how the latest requests of one gateway process to a service went, when they did not go well.
type GatewayHealth struct {
	ProcessID  string
	ReportedAt time.Time
	snapshot.ServiceHealth
}

// HealthStatus is Unhealthy when a gateway process finds that the service as a whole, or each of its endpoints, fails again
// and again; "" when no gateway process has been heard of lately.
func (s *Service) HealthStatus() string {
	if !s.Heard {
		return ""
	}
	for _, h := range s.Health {
		if h.isUnhealthy() {
			return Unhealthy
		}
	}
	return Healthy
}

// Outliers are the endpoints and replicas of the service that a gateway process finds failing again and again.
func (s *Service) Outliers() []string {
	all := []string{}
	for _, h := range s.Health {
		all = append(all, h.Outliers...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (h *GatewayHealth) isUnhealthy() bool {
	return h.Ejected || h.Targets > 0 && len(h.Outliers) == h.Targets
}

// Message says in a sentence or two what is the matter.
func (h *GatewayHealth) Message() string {
	var sentences []string
	say := func(format string, args ...any) { sentences = append(sentences, fmt.Sprintf(format, args...)) }
	if h.Ejected {
		say("Requests to the service failed again and again: other services are asked first, and this one now and then.")
	}
	if n := len(h.Outliers); n > 0 {
		say("Requests to %d of its %d endpoints or replicas failed again and again: others are asked first, and these now and then.", n, h.Targets)
	}
	if h.KeysSetAside > 0 {
		say("%d of its %d keys are refused by the service, or have reached a limit there: check them with the provider.", h.KeysSetAside, h.Keys)
	}
	return strings.Join(sentences, " ")
}

// readHealth fills in what the gateway processes report about the services.
func (s *Services) readHealth(ctx context.Context, services []Service) error {
	byID := map[string]*Service{}
	ids := []string{}
	for i := range services {
		byID[services[i].ID] = &services[i]
		ids = append(ids, services[i].ID)
	}
	rows, err := s.db.Query(ctx, `
		SELECT g.process_id, g.gateway_id, g.reported_at, h.key, h.value
		FROM gateway_status g LEFT JOIN jsonb_each(g.health) h ON h.key = ANY ($1)
		WHERE g.reported_at > now() - $2::interval
		ORDER BY g.started_at, g.process_id, h.key`, ids, publish.HeardWithin)
	if err != nil {
		return err
	}
	var process, gateway string
	var at time.Time
	var id *string
	var health *snapshot.ServiceHealth
	_, err = pgx.ForEachRow(rows, []any{&process, &gateway, &at, &id, &health}, func() error {
		for i := range services {
			services[i].Heard = services[i].Heard || gateway == "" || gateway == services[i].GatewayID
		}
		if id != nil {
			byID[*id].Health = append(byID[*id].Health, GatewayHealth{process, at, *health})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what gateways report about services: %w", err)
	}
	return nil
}
