package modelapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// Kind says that APIs are the source of published Model APIs.
func (a *APIs) Kind() string { return snapshot.KindModelAPI }

// Compile renders what gateways serve of an API: the revision that is deployed, never what is merely stored.
func (a *APIs) Compile(ctx context.Context, tx pgx.Tx, id string) (item publish.Item, ready bool, err error) {
	item = publish.Item{Kind: snapshot.KindModelAPI, ID: id}
	api := &snapshot.ModelAPI{ID: id}
	err = tx.QueryRow(ctx, `
		SELECT version, account_id, deployed_revision FROM http_api WHERE id = $1 FOR UPDATE`, id).Scan(
		&item.SourceVersion, &api.AccountID, &api.Revision)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && api.Revision == 0 {
		return item, true, nil
	}
	if err != nil {
		return item, false, fmt.Errorf("read the Model API %s: %w", id, err)
	}
	deployed, err := revision(ctx, tx, id, api.Revision)
	if err != nil {
		return item, false, err
	}
	if err := a.place(ctx, tx, api, &deployed.Content.DeployConfig); err != nil {
		return item, false, err
	}
	render(api, &deployed.Content)
	if err := api.Validate(); err != nil {
		return item, false, err
	}
	item.Body, err = snapshot.Encode(api)
	return item, true, err
}

// place fills in where the API answers.
func (a *APIs) place(ctx context.Context, tx pgx.Tx, api *snapshot.ModelAPI, c *DeployConfig) error {
	var hosts []string
	var anyHost bool
	err := tx.QueryRow(ctx, `
		SELECT ARRAY(SELECT lower(name) FROM domain WHERE id = ANY ($2) ORDER BY lower(name)), e.is_default AND g.is_default
		FROM environment e JOIN gateway g ON g.id = e.gateway_id
		WHERE e.id = $1`, c.EnvironmentID, c.CustomDomainIDs).Scan(&hosts, &anyHost)
	if err != nil {
		return fmt.Errorf("read where %s answers: %w", api.ID, err)
	}
	if len(c.EnvDomainIDs) > 0 {
		hosts = append(hosts, strings.ToLower(a.subDomain(c.EnvironmentID)))
		api.AnyHost = anyHost
	}
	api.Hosts = hosts
	return nil
}

func render(api *snapshot.ModelAPI, d *Definition) {
	c := &d.DeployConfig
	api.Name, api.GatewayID, api.EnvironmentID = d.Name, c.GatewayID, c.EnvironmentID
	api.BasePath, api.RemoveBasePath = d.BasePath, d.RemoveBasePath
	api.Protocols, api.Category, api.Auth = d.AIProtocols, d.ModelCategory, d.EnableAuth
	api.AuthType = d.authType()
	api.Statistics, api.Fallback, api.Limits = c.statistics(), fallback(c.PolicyConfigs), d.limits()
	api.Scene, api.Targets = Backend{c.BackendScene, c.Services}.targets()
	for _, protocol := range d.Protocols {
		api.Schemes = append(api.Schemes, strings.ToLower(protocol))
	}
	for i := range d.Routes {
		api.Routes = append(api.Routes, d.renderRoute(&d.Routes[i]))
	}
}

// targets are the services as gateways see them, and the scene: by observability it is called by what is observed.
func (b Backend) targets() (scene string, targets []snapshot.Target) {
	scene, targets = b.Scene, make([]snapshot.Target, len(b.Services))
	for i, s := range b.Services {
		targets[i] = snapshot.Target{ServiceID: s.ServiceID, Model: s.ModelName, Weight: s.Weight, Pattern: s.ModelNamePattern}
		if o := s.Observability; o != nil {
			scene, targets[i].Share, targets[i].Window = o.Mode, o.RateLimit, o.QueueSize
		}
	}
	return scene, targets
}

func (d *Definition) renderRoute(r *RouteDefinition) snapshot.Route {
	rendered := snapshot.Route{
		ID: r.ID, Name: r.Name, PathType: r.Match.Path.Type, Path: r.Match.Path.Value, IgnoreCase: r.Match.IgnoreURICase,
		Methods: r.Match.Methods, Headers: renderMatches(r.Match.Headers), Query: renderMatches(r.Match.QueryParams),
	}
	if r.Backend != nil {
		rendered.Scene, rendered.Targets = r.Backend.targets()
	}
	rendered.Fallback = fallback(r.PolicyConfigs)
	rendered.Protocol, rendered.Model = d.speaks(r)
	return rendered
}

func renderMatches(matches []ValueMatch) []snapshot.ValueMatch {
	var rendered []snapshot.ValueMatch
	for _, m := range matches {
		rendered = append(rendered, snapshot.ValueMatch{Name: m.Name, Type: m.Type, Value: m.Value})
	}
	return rendered
}

// speaks returns the protocol of a route and where its requests name their model. A route of one's own is what the
// default route with its path is; any other speaks the API's first protocol, and has a model in JSON if its
// backend wants one.
func (d *Definition) speaks(r *RouteDefinition) (protocol, model string) {
	if r.Builtin {
		defaults, _ := defaultsOf(d.ModelCategory, d.AIProtocols) // checked when it was stored
		for _, known := range defaults {
			if known.Name == r.Name {
				return known.Protocol, known.Model
			}
		}
	}
	protocol = d.AIProtocols[0]
	if known, ok := knownPath(d, r.Match.Path.Value); ok {
		if slices.Contains(d.AIProtocols, known.Protocol) {
			protocol = known.Protocol
		}
		return protocol, known.Model
	}
	if d.backendOf(r).readsModel(r.Match.Methods) {
		return protocol, modelInJSON
	}
	return protocol, modelNowhere
}

// Stale returns the APIs that gateways see otherwise than they are, and those that are gone.
func (a *APIs) Stale(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT a.id FROM http_api a
		LEFT JOIN published_item p ON p.kind = $1 AND p.id = a.id
		WHERE p.source_version IS DISTINCT FROM a.version AND (p.id IS NOT NULL OR a.deployed_revision > 0)
		UNION ALL
		SELECT p.id FROM published_item p
		WHERE p.kind = $1 AND NOT p.deleted AND NOT EXISTS (SELECT FROM http_api a WHERE a.id = p.id)`, snapshot.KindModelAPI)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
