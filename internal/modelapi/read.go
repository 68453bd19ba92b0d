package modelapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// stored is an API with what is needed to change it.
type stored struct {
	API
	times    map[string]routeTimes // by route id
	deployed *Definition           // what gateways serve; nil: nothing
}

type routeTimes struct {
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// queryer is a transaction or a pool.
type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// selectAPIs reads APIs whole, in one statement, so that a read shows one moment.
const selectAPIs = `
	SELECT a.id, a.account_id, a.name, a.type, a.model_category, a.ai_protocols, a.base_path, a.remove_base_path, a.protocols,
		a.description, a.enable_auth, a.auth_config, a.first_byte_timeout, a.deploy_config, a.resource_group_id,
		a.deployed_revision, a.created_at, a.updated_at, a.traffic_config, g.name, e.name, e.alias, v.content,
		coalesce((SELECT jsonb_agg(jsonb_build_object('ID', d.id, 'Name', d.name, 'Protocol', d.protocol) ORDER BY d.name)
			FROM domain d WHERE d.id IN (SELECT jsonb_array_elements_text(a.deploy_config -> 'customDomainIds'))), '[]'),
		coalesce((SELECT jsonb_object_agg(s.id, s.name) FROM ai_service s WHERE s.id IN (
			SELECT named #>> '{}' FROM jsonb_path_query(a.deploy_config, '$.**.serviceId') named
			UNION ALL SELECT named #>> '{}'
				FROM http_api_route r, jsonb_path_query(jsonb_build_array(r.backend, r.policy_configs), '$.**.serviceId') named
				WHERE r.http_api_id = a.id)), '{}'),
		coalesce((SELECT jsonb_agg(jsonb_build_object('routeId', r.id, 'name', r.name, 'description', r.description,
				'builtin', r.builtin, 'match', r.match, 'backend', r.backend, 'policyConfigs', r.policy_configs))
			FROM http_api_route r WHERE r.http_api_id = a.id), '[]'),
		coalesce((SELECT jsonb_object_agg(r.id, jsonb_build_object('created', r.created_at, 'updated', r.updated_at))
			FROM http_api_route r WHERE r.http_api_id = a.id), '{}')
	FROM http_api a
	JOIN gateway g ON g.id = a.gateway_id
	JOIN environment e ON e.id = a.environment_id
	LEFT JOIN http_api_revision v ON v.http_api_id = a.id AND v.number = a.deployed_revision`

func (a *APIs) collect(rows pgx.Rows) ([]*stored, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*stored, error) {
		s := new(stored)
		names := map[string]string{}
		if err := row.Scan(&s.ID, &s.AccountID, &s.Name, &s.Type, &s.ModelCategory, &s.AIProtocols, &s.BasePath,
			&s.RemoveBasePath, &s.Protocols, &s.Description, &s.EnableAuth, &s.AuthConfig, &s.FirstByteTimeout,
			&s.DeployConfig, &s.ResourceGroupID, &s.DeployedRevision, &s.CreatedAt, &s.UpdatedAt, &s.TrafficConfig,
			&s.GatewayName, &s.EnvironmentName, &s.EnvironmentAlias, &s.deployed, &s.CustomDomains, &names, &s.Routes, &s.times); err != nil {
			return nil, err
		}
		s.SubDomain = a.subDomain(s.DeployConfig.EnvironmentID)
		sortRoutes(&s.Definition)
		s.DeployStatus = status(s.Definition, s.deployed)
		s.DeployConfig.BuiltinRouteNames = builtinNames(s.Routes)
		nameServices(s.DeployConfig.Services, s.DeployConfig.PolicyConfigs, names)
		for _, r := range s.Routes {
			var services []ServiceConfig
			if r.Backend != nil {
				services = r.Backend.Services
			}
			nameServices(services, r.PolicyConfigs, names)
		}
		return s, nil
	})
}

func nameServices(services []ServiceConfig, policies []PolicyConfig, names map[string]string) {
	for i := range services {
		services[i].Name = names[services[i].ServiceID]
	}
	for _, p := range policies {
		if p.AiFallback != nil {
			for i := range p.AiFallback.Services {
				p.AiFallback.Services[i].Name = names[p.AiFallback.Services[i].ServiceID]
			}
		}
	}
}

// status compares what is stored with what gateways serve.
func status[T any](draft T, deployed *T) string {
	if deployed == nil {
		return NotDeployed
	}
	mine, err := json.Marshal(draft)
	theirs, err2 := json.Marshal(*deployed)
	if err != nil || err2 != nil || !bytes.Equal(mine, theirs) {
		return DeployedWithChanges
	}
	return Deployed
}

// get returns the account's API, or ErrNotFound.
func (a *APIs) get(ctx context.Context, db queryer, accountID, id string) (*stored, error) {
	rows, err := db.Query(ctx, selectAPIs+` WHERE a.id = $1 AND a.account_id = $2`, id, accountID)
	if err != nil {
		return nil, err
	}
	found, err := a.collect(rows)
	if err != nil {
		return nil, fmt.Errorf("read the Model API: %w", err)
	}
	if len(found) == 0 {
		return nil, notFound(id)
	}
	return found[0], nil
}

// lock keeps everybody else from changing the account's API until tx ends.
func lock(ctx context.Context, tx pgx.Tx, accountID, id string) error {
	var found bool
	err := tx.QueryRow(ctx, `
		SELECT true FROM http_api WHERE id = $1 AND account_id = $2 FOR UPDATE`, id, accountID).Scan(&found)
	if errors.Is(err, pgx.ErrNoRows) {
		return notFound(id)
	}
	return err
}

// locked locks the account's API and then reads it: whoever had the lock before may have changed its routes.
func (a *APIs) locked(ctx context.Context, tx pgx.Tx, accountID, id string) (*stored, error) {
	if err := lock(ctx, tx, accountID, id); err != nil {
		return nil, err
	}
	return a.get(ctx, tx, accountID, id)
}

func notFound(id string) error {
	return ErrNotFound.Withf("The Model API %.64q does not exist. Call ListHttpApis for the ids of this account.", id)
}

// Get returns the account's API with its routes, or ErrNotFound.
func (a *APIs) Get(ctx context.Context, accountID, id string) (API, error) {
	s, err := a.get(ctx, a.db, accountID, id)
	if err != nil {
		return API{}, err
	}
	s.Serving, err = serving(ctx, a.db, s)
	return s.API, err
}

// List returns one page of the account's APIs, oldest first, and how many there are in all.
func (a *APIs) List(ctx context.Context, accountID string, f Filter) ([]API, int, error) {
	args := []any{accountID, f.GatewayID, f.EnvironmentID, f.Name, f.Keyword, append([]string{}, f.Types...), f.ResourceGroupID}
	const matching = `
		WHERE a.account_id = $1
			AND ($2 = '' OR a.gateway_id = $2)
			AND ($3 = '' OR a.environment_id = $3)
			AND ($4 = '' OR a.name = $4)
			AND ($5 = '' OR a.id = $5 OR strpos(lower(a.name), lower($5)) > 0)
			AND (cardinality($6::text[]) = 0 OR a.type = ANY ($6))
			AND ($7 = '' OR a.resource_group_id = $7)`
	total := 0
	if err := a.db.QueryRow(ctx, `SELECT count(*) FROM http_api a`+matching, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count the Model APIs: %w", err)
	}
	rows, err := a.db.Query(ctx, selectAPIs+matching+`
		ORDER BY a.created_at, a.id
		OFFSET $8 LIMIT $9`, append(args, (f.Page.Number-1)*f.Page.Size, f.Page.Size)...)
	if err != nil {
		return nil, 0, err
	}
	found, err := a.collect(rows)
	if err != nil {
		return nil, 0, fmt.Errorf("list the Model APIs: %w", err)
	}
	apis := make([]API, len(found))
	for i, s := range found {
		apis[i] = s.API
	}
	return apis, total, nil
}

// route returns the stored route with what gateways serve of it, or ErrRouteNotFound.
func (s *stored) route(id string) (Route, error) {
	at := slices.IndexFunc(s.Routes, func(r RouteDefinition) bool { return r.ID == id })
	if at < 0 {
		return Route{}, ErrRouteNotFound.Withf("The route %.64q does not exist. Call ListHttpApiRoutes for the routes of the Model API %s.", id, s.ID)
	}
	var deployed *RouteDefinition
	if s.deployed != nil {
		if i := slices.IndexFunc(s.deployed.Routes, func(r RouteDefinition) bool { return r.ID == id }); i >= 0 {
			deployed = &s.deployed.Routes[i]
		}
	}
	times := s.times[id]
	return Route{
		RouteDefinition: s.Routes[at], APIID: s.ID, DeployStatus: status(s.Routes[at], deployed),
		CreatedAt: times.Created, UpdatedAt: times.Updated,
	}, nil
}
