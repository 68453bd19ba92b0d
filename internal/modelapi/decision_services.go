package modelapi

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/route"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// Share is one of the services that requests are shared out between.
type Share struct {
	ServiceID string
	Name      string // "": the service is not published
	Model     string // that the service is asked for; "": the request names none, or its route does not look
	Weight    int    // percent
}

// Candidate is one of the services that gateways choose from by what they observe.
type Candidate struct {
	ServiceID string
	Name      string  // "": the service is not published
	Model     string  // that the service is asked for; "": the request names none, or its route does not look
	Share     float64 // of the requests that it gets at most; 0: all
	Window    int     // over how many of the last answers a latency is taken; 0: the gateway's default
}

// What leads from one service to the next.
const (
	UpstreamCode     = "UpstreamCode"     // it answers 4xx or 5xx
	ConnectFailure   = "ConnectFailure"   // it cannot be reached
	Ejection         = "Ejection"         // it has failed too often lately
	BrokenAnswer     = "BrokenAnswer"     // it breaks off, falls silent or reports an error before its first content
	FirstByteTimeout = "FirstByteTimeout" // the first content of a stream takes longer than allowed
)

// DecidedFallback is where a request goes while the services before fail.
type DecidedFallback struct {
	After    []string // what leads to the next service
	Services []FallbackTarget
}

// FallbackTarget is a service that is asked when those before have failed.
type FallbackTarget struct {
	ServiceID    string
	Name         string // "": the service is not published
	Model        string // that the service is asked for; "": the request names none
	UpstreamPath string // what the service is asked for; "": it is not published or is asked for no such path, and so passed over
}

// asked reports whether the service is one that can be asked.
func (t FallbackTarget) asked() bool { return t.UpstreamPath != "" }

// share lists the services that requests are shared out between.
func (d *Decision) share(ctx context.Context, tx pgx.Tx, r *route.Route, model string) error {
	for _, t := range r.Targets {
		service, _, err := publishedService(ctx, tx, t.ServiceID)
		if err != nil {
			return err
		}
		d.Shares = append(d.Shares, Share{t.ServiceID, service.Name, r.Meant(t, model, service), t.Weight})
	}
	return nil
}

// goOn is what happens when the service that was chosen is not published.
func (d *Decision) goOn(serviceID string) {
	reason := "The service " + serviceID + " behind the route is not published"
	if d.Fallback != nil && slices.Contains(d.Fallback.After, ConnectFailure) {
		if at := slices.IndexFunc(d.Fallback.Services, FallbackTarget.asked); at >= 0 {
			d.Status, d.Reason = 200, reason+": the request goes on to the service "+d.Fallback.Services[at].Name+" of the policy AiFallback."
			return
		}
	}
	d.refuse(503, "service_not_found", reason+".")
}

// observations say what the scenes prefer, after "to have".
var observations = map[string]string{
	snapshot.SceneLeastBusy:         "the fewest requests under way",
	snapshot.SceneLeastFirstContent: "the least time to the first content of a stream",
	snapshot.SceneLeastTotal:        "the least time to the end of an answer",
}

// observe lists the services that gateways choose from.
func (d *Decision) observe(ctx context.Context, tx pgx.Tx, r *route.Route, model string) error {
	for _, t := range r.Targets {
		service, _, err := publishedService(ctx, tx, t.ServiceID)
		if err != nil {
			return err
		}
		d.Candidates = append(d.Candidates, Candidate{t.ServiceID, service.Name, r.Meant(t, model, service), t.Share, t.Window})
	}
	return nil
}

// fallBack lists where the request goes while services fail.
func (d *Decision) fallBack(ctx context.Context, tx pgx.Tx, found route.Match, model string) error {
	fallback := found.Route.Fallback
	if fallback == nil {
		return nil
	}
	d.Fallback = &DecidedFallback{After: []string{UpstreamCode}}
	if !fallback.UpstreamCodesOnly {
		d.Fallback.After = append(d.Fallback.After, ConnectFailure, Ejection, BrokenAnswer)
		if d.Limits != nil && d.Limits.FirstContent > 0 {
			d.Fallback.After = append(d.Fallback.After, FirstByteTimeout)
		}
	}
	for _, t := range fallback.Targets {
		service, known, err := publishedService(ctx, tx, t.ServiceID)
		if err != nil {
			return err
		}
		next := FallbackTarget{ServiceID: t.ServiceID, Name: service.Name, Model: found.Route.Meant(t, model, service)}
		if asked, ok := found.Asked(d.Path, service); ok && known {
			next.UpstreamPath = asked
		}
		d.Fallback.Services = append(d.Fallback.Services, next)
	}
	return nil
}

// publishedService returns what gateways know of a service; false and an empty one when it is not published.
func publishedService(ctx context.Context, tx pgx.Tx, id string) (*snapshot.AIService, bool, error) {
	service := new(snapshot.AIService)
	known, err := published(ctx, tx, snapshot.KindAIService, id, service)
	return service, known, err
}
