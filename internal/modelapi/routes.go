package modelapi

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/ids"
)

// CreateRoute adds a route to an API. Gateways serve it once the API is deployed.
func (a *APIs) CreateRoute(ctx context.Context, accountID, apiID string, spec RouteSpec) (Route, error) {
	r := RouteDefinition{
		ID: ids.New(ids.HTTPAPIRoute), Name: spec.Name, Description: spec.Description, Match: spec.Match,
		Backend: spec.Backend, PolicyConfigs: spec.PolicyConfigs,
	}
	return a.changeRoutes(ctx, accountID, apiID, r.ID, func(s *stored) error {
		if err := r.check(s.BasePath); err != nil {
			return err
		}
		s.Routes = append(s.Routes, r)
		return nil
	})
}

// UpdateRoute changes a route, one of the system's too. Gateways serve the change once the API is deployed.
func (a *APIs) UpdateRoute(ctx context.Context, accountID, apiID, id string, u RouteUpdate) (Route, error) {
	return a.changeRoutes(ctx, accountID, apiID, id, func(s *stored) error {
		if _, err := s.route(id); err != nil {
			return err
		}
		r := &s.Routes[slices.IndexFunc(s.Routes, func(r RouteDefinition) bool { return r.ID == id })]
		set(&r.Description, u.Description)
		set(&r.Match, u.Match)
		if u.Backend != nil {
			r.Backend = u.Backend
		}
		if u.PolicyConfigs != nil {
			r.PolicyConfigs = u.PolicyConfigs
		}
		return r.check(s.BasePath)
	})
}

// DeleteRoute removes a route, one of the system's too. Gateways serve it until the API is deployed again.
func (a *APIs) DeleteRoute(ctx context.Context, accountID, apiID, id string) error {
	_, err := a.changeRoutes(ctx, accountID, apiID, id, func(s *stored) error {
		if _, err := s.route(id); err != nil {
			return err
		}
		s.Routes = slices.DeleteFunc(s.Routes, func(r RouteDefinition) bool { return r.ID == id })
		return nil
	})
	return err
}

// changeRoutes runs do on the locked API, writes the routes it changed and the audit row, and returns the route id as
// it is then; the zero Route when do removed it.
func (a *APIs) changeRoutes(ctx context.Context, accountID, apiID, id string, do func(*stored) error) (changed Route, err error) {
	err = pgx.BeginFunc(ctx, a.db, func(tx pgx.Tx) error {
		s, err := a.locked(ctx, tx, accountID, apiID)
		if err != nil {
			return err
		}
		before := slices.Clone(s.Routes)
		if err := do(s); err != nil {
			return err
		}
		if err := s.checkRoutes(); err != nil {
			return err
		}
		if err := checkServices(ctx, tx, accountID, &s.Definition); err != nil {
			return err
		}
		if err := syncRoutes(ctx, tx, apiID, before, s.Routes); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE http_api SET updated_at = now() WHERE id = $1`, apiID); err != nil {
			return err
		}
		if _, err := a.finish(ctx, tx, accountID, apiID, id); err != nil {
			return err
		}
		after, err := a.get(ctx, tx, accountID, apiID)
		if err != nil || !slices.ContainsFunc(after.Routes, func(r RouteDefinition) bool { return r.ID == id }) {
			return err
		}
		changed, err = after.route(id)
		return err
	})
	return changed, err
}

// GetRoute returns a route of the account's API, or ErrRouteNotFound.
func (a *APIs) GetRoute(ctx context.Context, accountID, apiID, id string) (Route, error) {
	s, err := a.get(ctx, a.db, accountID, apiID)
	if err != nil {
		return Route{}, err
	}
	return s.route(id)
}

// ListRoutes returns one page of an API's routes, the system's first, and how many there are in all.
func (a *APIs) ListRoutes(ctx context.Context, accountID, apiID string, f RouteFilter) ([]Route, int, error) {
	s, err := a.get(ctx, a.db, accountID, apiID)
	if err != nil {
		return nil, 0, err
	}
	var matching []Route
	for _, def := range s.Routes {
		if f.Name != "" && def.Name != f.Name || !strings.Contains(def.Name, f.NameLike) || !strings.Contains(def.Match.Path.Value, f.PathLike) {
			continue
		}
		r, err := s.route(def.ID)
		if err != nil {
			return nil, 0, err
		}
		matching = append(matching, r)
	}
	from := min((f.Page.Number-1)*f.Page.Size, len(matching))
	return matching[from:min(from+f.Page.Size, len(matching))], len(matching), nil
}

// builtinRoutes returns the routes of an API of which the named ones are the system's, as they are where they exist
// already; nil names stand for all.
func builtinRoutes(d *Definition, existing []RouteDefinition, names []string) ([]RouteDefinition, error) {
	defaults, err := defaultsOf(d.ModelCategory, d.AIProtocols)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.ContainsFunc(defaults, func(r DefaultRoute) bool { return r.Name == name }) {
			return nil, ErrDeployConfigs.Withf("The builtinRouteNames hold %.64q, which is no default route of %s with %s.",
				name, d.ModelCategory, strings.Join(d.AIProtocols, ", "))
		}
	}
	routes := slices.DeleteFunc(slices.Clone(existing), func(r RouteDefinition) bool {
		return r.Builtin && names != nil && !slices.Contains(names, r.Name)
	})
	for _, r := range defaults {
		wanted := names == nil || slices.Contains(names, r.Name)
		if wanted && !slices.ContainsFunc(routes, func(there RouteDefinition) bool { return there.Builtin && there.Name == r.Name }) {
			routes = append(routes, r.definition())
		}
	}
	d.Routes = routes
	sortRoutes(d)
	return d.Routes, nil
}

func (r DefaultRoute) definition() RouteDefinition {
	return RouteDefinition{
		ID: ids.New(ids.HTTPAPIRoute), Name: r.Name, Description: r.Description, Builtin: true,
		Match: Match{Path: PathMatch{r.PathType, r.Path}, Methods: r.Methods}, PolicyConfigs: []PolicyConfig{},
	}
}

// builtinRouteNames returns the system's routes that an updated API is to have: those it names, or else those there
// are, and all of a protocol that is new.
func (u *UpdateSpec) builtinRouteNames(before, after *Definition) []string {
	if u.DeployConfigs != nil && u.DeployConfigs[0].BuiltinRouteNames != nil {
		return u.DeployConfigs[0].BuiltinRouteNames
	}
	names := []string{}
	defaults, err := defaultsOf(after.ModelCategory, after.AIProtocols)
	if err != nil {
		return names // refused by the caller's own look
	}
	there := builtinNames(before.Routes)
	for _, r := range defaults {
		if !slices.Contains(before.AIProtocols, r.Protocol) || slices.Contains(there, r.Name) {
			names = append(names, r.Name)
		}
	}
	return names
}

func builtinNames(routes []RouteDefinition) []string {
	names := []string{}
	for _, r := range routes {
		if r.Builtin {
			names = append(names, r.Name)
		}
	}
	return names
}

// sortRoutes gives the routes their one order: the system's as the table has them, then the others by name.
func sortRoutes(d *Definition) {
	if d.Routes == nil {
		d.Routes = []RouteDefinition{}
	}
	place := map[string]int{}
	if defaults, err := defaultsOf(d.ModelCategory, d.AIProtocols); err == nil {
		for i, r := range defaults {
			place[r.Name] = i - len(defaults)
		}
	}
	position := func(r RouteDefinition) int {
		if r.Builtin {
			return place[r.Name]
		}
		return 1
	}
	slices.SortFunc(d.Routes, func(a, b RouteDefinition) int {
		return cmp.Or(cmp.Compare(position(a), position(b)), cmp.Compare(a.Name, b.Name))
	})
}

// checkRoutes applies the rules that hold between the routes of an API.
func (d *Definition) checkRoutes() error {
	if len(d.Routes) > maxRoutes {
		return ErrDeployConfigs.Withf("The Model API would have %d routes; at most %d are allowed.", len(d.Routes), maxRoutes)
	}
	names := map[string]bool{}
	for i := range d.Routes {
		r := &d.Routes[i]
		if names[r.Name] {
			return ErrRouteNameDuplicate.Withf("Two routes of the Model API would be named %s. Choose another name.", r.Name)
		}
		names[r.Name] = true
		if err := r.check(d.BasePath); err != nil {
			return fmt.Errorf("route %s: %w", r.Name, err)
		}
	}
	sortRoutes(d)
	if err := d.checkModels(); err != nil {
		return err
	}
	if err := d.checkObservability(); err != nil {
		return err
	}
	return d.checkFallback()
}

// syncRoutes writes what differs between two states of an API's routes.
func syncRoutes(ctx context.Context, tx pgx.Tx, apiID string, before, after []RouteDefinition) error {
	known := map[string]RouteDefinition{}
	for _, r := range before {
		known[r.ID] = r
	}
	batch := &pgx.Batch{}
	gone := []string{}
	for _, r := range before {
		if !slices.ContainsFunc(after, func(kept RouteDefinition) bool { return kept.ID == r.ID }) {
			gone = append(gone, r.ID)
		}
	}
	batch.Queue(`DELETE FROM http_api_route WHERE http_api_id = $1 AND id = ANY ($2)`, apiID, gone)
	for _, r := range after {
		if reflect.DeepEqual(known[r.ID], r) {
			continue
		}
		if err := queueRoute(batch, apiID, r); err != nil {
			return err
		}
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("write the routes of %s: %w", apiID, err)
	}
	return nil
}

func queueRoute(batch *pgx.Batch, apiID string, r RouteDefinition) error {
	policies, err := json.Marshal(r.PolicyConfigs)
	if err != nil {
		return err
	}
	batch.Queue(`
		INSERT INTO http_api_route (id, http_api_id, name, description, builtin, match, backend, policy_configs)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (id) DO UPDATE SET description = excluded.description, match = excluded.match,
			backend = excluded.backend, policy_configs = excluded.policy_configs, updated_at = now()`,
		r.ID, apiID, r.Name, r.Description, r.Builtin, r.Match, r.Backend, policies)
	return nil
}
