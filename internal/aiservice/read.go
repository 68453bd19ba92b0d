package aiservice

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const selectServices = `
	SELECT id, gateway_id, name, source_type, addresses, model_service_id, config, api_keys_sealed, resource_group_id,
		created_at, updated_at`

// Get returns the account's service, its keys masked, or ErrNotFound.
func (s *Services) Get(ctx context.Context, accountID, id string) (Service, error) {
	rows, err := s.db.Query(ctx, selectServices+`
		FROM ai_service WHERE id = $1 AND account_id = $2`, id, accountID)
	if err != nil {
		return Service{}, err
	}
	found, err := s.collect(rows)
	if err != nil {
		return Service{}, err
	}
	if len(found) == 0 {
		return Service{}, notFound(id)
	}
	return found[0], s.readHealth(ctx, found)
}

// List returns one page of the account's services, oldest first, and how many there are in all.
func (s *Services) List(ctx context.Context, accountID string, f Filter) ([]Service, int, error) {
	args := []any{accountID, f.GatewayID, f.Name, append([]string{}, f.SourceTypes...), f.ResourceGroupID}
	const matching = `
		FROM ai_service
		WHERE account_id = $1
			AND ($2 = '' OR gateway_id = $2)
			AND ($3 = '' OR strpos(name, $3) > 0)
			AND (cardinality($4::text[]) = 0 OR source_type = ANY ($4))
			AND ($5 = '' OR resource_group_id = $5)`
	var total int
	if err := s.db.QueryRow(ctx, `SELECT count(*)`+matching, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count the services: %w", err)
	}
	rows, err := s.db.Query(ctx, selectServices+matching+`
		ORDER BY created_at, id
		OFFSET $6 LIMIT $7`, append(args, (f.Page.Number-1)*f.Page.Size, f.Page.Size)...)
	if err != nil {
		return nil, 0, err
	}
	services, err := s.collect(rows)
	if err != nil {
		return nil, 0, err
	}
	return services, total, s.readHealth(ctx, services)
}

func (s *Services) collect(rows pgx.Rows) ([]Service, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Service, error) {
		var svc Service
		var c config
		var sealed [][]byte
		if err := row.Scan(&svc.ID, &svc.GatewayID, &svc.Name, &svc.SourceType, &svc.Addresses, &svc.ModelServiceID, &c, &sealed,
			&svc.ResourceGroupID, &svc.CreatedAt, &svc.UpdatedAt); err != nil {
			return svc, err
		}
		shown, err := s.masked(svc.ID, sealed)
		svc.AI = AIConfig{c.Provider, c.Protocols, c.CompatibleProtocols, c.Address, shown, c.DefaultModelName, c.EnableHealthCheck}
		return svc, err
	})
}
