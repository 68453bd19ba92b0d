package modelapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// place is a host and a base path: one API answers there.
type place struct {
	domainID      string // "": the sub-domain of the environment
	environmentID string
	basePath      string
}

func (p place) host() string { return cmp.Or(p.domainID, p.environmentID) }

// places are where the stored state of an API is to answer and where gateways answer for it now: both are taken.
func (s *stored) places() []place {
	places := placesOf(&s.Definition)
	if s.deployed != nil {
		places = append(places, placesOf(s.deployed)...)
	}
	// In one order, so that two calls cannot wait for each other.
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.host(), b.host()), cmp.Compare(a.basePath, b.basePath))
	})
	return slices.Compact(places)
}

func placesOf(d *Definition) []place {
	var places []place
	for _, id := range d.DeployConfig.CustomDomainIDs {
		places = append(places, place{domainID: id, basePath: d.BasePath})
	}
	for _, id := range d.DeployConfig.EnvDomainIDs {
		places = append(places, place{environmentID: id, basePath: d.BasePath})
	}
	return places
}

// hold gives the API exactly the places, or returns ErrPlaceTaken. It lets go only after it has taken what it wants, so
// that whoever waits for it is not waited for.
func hold(ctx context.Context, tx pgx.Tx, apiID string, places []place) error {
	hosts, basePaths := make([]string, len(places)), make([]string, len(places))
	for i, p := range places {
		hosts[i], basePaths[i] = p.host(), p.basePath
		if err := take(ctx, tx, apiID, p); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `
		DELETE FROM http_api_host h WHERE h.http_api_id = $1 AND NOT EXISTS (
			SELECT FROM unnest($2::text[], $3::text[]) w (host, base_path)
			WHERE w.host = coalesce(h.domain_id, h.environment_id) AND w.base_path = h.base_path)`, apiID, hosts, basePaths); err != nil {
		return fmt.Errorf("let go of the domains of %s: %w", apiID, err)
	}
	return nil
}

// take inserts the row of one place. The unique index decides between two calls, and the second one waits for the first.
func take(ctx context.Context, tx pgx.Tx, apiID string, p place) error {
	for range 3 {
		tag, err := tx.Exec(ctx, `
			INSERT INTO http_api_host (http_api_id, domain_id, environment_id, base_path)
			VALUES ($1, nullif($2, ''), nullif($3, ''), $4)
			ON CONFLICT DO NOTHING`, apiID, p.domainID, p.environmentID, p.basePath)
		if err != nil {
			return fmt.Errorf("take the domain %s: %w", p.host(), err)
		}
		if tag.RowsAffected() == 1 {
			return nil
		}
		holder, err := holderOf(ctx, tx, p)
		switch {
		case errors.Is(err, pgx.ErrNoRows): // it was let go of in between
		case err != nil:
			return err
		case holder.id == apiID:
			return nil
		default:
			return ErrPlaceTaken.Withf("The Model API %s (%s) has the base path %s on %s. Choose another base path or domain.",
				holder.name, holder.id, p.basePath, holder.host)
		}
	}
	return ErrPlaceTaken
}

type holder struct{ id, name, host string }

func holderOf(ctx context.Context, tx pgx.Tx, p place) (h holder, err error) {
	err = tx.QueryRow(ctx, `
		SELECT a.id, a.name, coalesce(d.name, 'the sub-domain of the environment ' || h.environment_id)
		FROM http_api_host h JOIN http_api a ON a.id = h.http_api_id LEFT JOIN domain d ON d.id = h.domain_id
		WHERE coalesce(h.domain_id, h.environment_id) = $1 AND h.base_path = $2`, p.host(), p.basePath).Scan(&h.id, &h.name, &h.host)
	return h, err
}

// checkReferences refuses what the account has not, and keeps the rest from being deleted until tx ends.
func checkReferences(ctx context.Context, tx pgx.Tx, accountID string, d *Definition) error {
	c := &d.DeployConfig
	found, err := existing(ctx, tx, `
		SELECT id FROM gateway WHERE account_id = $1 AND id = $2 FOR KEY SHARE`, accountID, c.GatewayID)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return ErrGatewayNotFound.Withf("The gateway %.64q does not exist. Call ListGateways for the ids of this account.", c.GatewayID)
	}
	if found, err = existing(ctx, tx, `
		SELECT id FROM environment WHERE account_id = $1 AND id = $2 AND gateway_id = $3 FOR KEY SHARE`,
		accountID, c.EnvironmentID, c.GatewayID); err != nil {
		return err
	}
	if len(found) == 0 {
		return ErrEnvironmentNotFound.Withf("The environment %.64q does not exist on the gateway %s. Call ListEnvironments for the ids of this account.",
			c.EnvironmentID, c.GatewayID)
	}
	if found, err = existing(ctx, tx, `
		SELECT id FROM domain WHERE account_id = $1 AND id = ANY ($2) ORDER BY id FOR KEY SHARE`, accountID, c.CustomDomainIDs); err != nil {
		return err
	}
	if id, ok := missing(c.CustomDomainIDs, found); ok {
		return ErrNotFound.Withf("The domain %.64q does not exist. Call ListDomains for the ids of this account.", id)
	}
	return checkServices(ctx, tx, accountID, d)
}

func checkServices(ctx context.Context, tx pgx.Tx, accountID string, d *Definition) error {
	wanted := d.services()
	found, err := existing(ctx, tx, `
		SELECT id FROM ai_service WHERE account_id = $1 AND gateway_id = $2 AND id = ANY ($3) ORDER BY id FOR KEY SHARE`,
		accountID, d.DeployConfig.GatewayID, wanted)
	if err != nil {
		return err
	}
	if id, ok := missing(wanted, found); ok {
		return ErrServiceNotFound.Withf("The service %.64q does not exist on the gateway %s. Call ListServices for the ids of this account.",
			id, d.DeployConfig.GatewayID)
	}
	return nil
}

func serviceIDs(services []ServiceConfig) []string {
	found := make([]string, len(services))
	for i, s := range services {
		found[i] = s.ServiceID
	}
	return found
}

func existing(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]string, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// missing returns the first of wanted that is not found.
func missing(wanted, found []string) (string, bool) {
	for _, id := range wanted {
		if !slices.Contains(found, id) {
			return id, true
		}
	}
	return "", false
}
