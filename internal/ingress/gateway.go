package ingress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/resourcegroup"
)

// The refusals about gateways.
var (
	ErrGatewayNotFound = fault.New(fault.NotFound, "NotFound.GatewayNotFound",
		"The gateway does not exist.", "Call ListGateways for the ids of this account.")
	ErrGatewayNameTaken = fault.New(fault.Conflict, "Conflict.GatewayNameDuplicate",
		"The account has a gateway of this name already.", "Choose another name.")
	ErrGatewayInUse = fault.New(fault.Conflict, "Conflict.GatewayInUse",
		"The gateway still has Model APIs or services.", "Delete them first.")
)

// The states of a gateway.
const (
	Running = "Running"
	Stopped = "Stopped"
)

// Gateway is what Model APIs and services belong to. Its processes serve its environments.
type Gateway struct {
	ID              string
	AccountID       string
	Name            string
	ResourceGroupID string
	Default         bool           // its default environment answers for any Host that no domain claims
	Status          string         // Running while a process that serves it reports
	Tags            []resource.Tag // in the order of their keys
	Environments    []Environment
	CreatedAt       time.Time
	UpdatedAt       time.Time
}

// GatewaySpec is what a caller asks CreateGateway for.
type GatewaySpec struct {
	Name            string
	ResourceGroupID string // "": the account's default group
	Tags            []resource.Tag
}

// GatewayFilter narrows a list of gateways; empty fields do not.
type GatewayFilter struct {
	ID              string
	Name            string
	Keyword         string // a part of the name, or an id
	ResourceGroupID string
	Tags            []resource.Tag // only gateways that have all of these; an empty value is any
	Page            instance.Page
}

// CreateGateway makes a gateway with its default environment.
func (i *Ingress) CreateGateway(ctx context.Context, accountID string, spec GatewaySpec) (Gateway, error) {
	if err := cmp.Or(checkName(spec.Name), resource.CheckTags(spec.Tags)); err != nil {
		return Gateway{}, err
	}
	g := Gateway{ID: ids.New(ids.Gateway), AccountID: accountID, Name: spec.Name, ResourceGroupID: cmp.Or(spec.ResourceGroupID, instance.DefaultResourceGroup)}
	err := pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		if err := insertGateway(ctx, tx, g); err != nil {
			return err
		}
		if err := resource.InsertTags(ctx, tx, g.ID, spec.Tags); err != nil {
			return err
		}
		return record(ctx, tx, g.ID)
	})
	if err != nil {
		return Gateway{}, err
	}
	return i.GetGateway(ctx, accountID, g.ID)
}

// insertGateway inserts the gateway and its default environment.
func insertGateway(ctx context.Context, tx pgx.Tx, g Gateway) error {
	if err := resourcegroup.Lock(ctx, tx, g.AccountID, g.ResourceGroupID); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO gateway (id, account_id, name, resource_group_id, is_default) VALUES ($1, $2, $3, $4, $5)`,
		g.ID, g.AccountID, g.Name, g.ResourceGroupID, g.Default)
	if err != nil {
		return gatewayName(err, g.Name)
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO environment (id, account_id, gateway_id, name, alias, is_default, resource_group_id)
		VALUES ($1, $2, $3, $4, 'default', true, $5)`,
		ids.New(ids.Environment), g.AccountID, g.ID, "default-"+g.ID, g.ResourceGroupID)
	if err != nil {
		return fmt.Errorf("insert the default environment: %w", err)
	}
	return nil
}

func gatewayName(err error, name string) error {
	if postgres.IsUniqueViolation(err, "gateway_account_id_name_key") {
		return ErrGatewayNameTaken.Withf("The account has a gateway named %s already. Choose another name.", name)
	}
	return fmt.Errorf("write the gateway: %w", err)
}

// GetGateway returns the account's gateway, or ErrGatewayNotFound.
func (i *Ingress) GetGateway(ctx context.Context, accountID, id string) (Gateway, error) {
	found, _, err := i.ListGateways(ctx, accountID, GatewayFilter{ID: id, Page: instance.Page{Number: 1, Size: 1}})
	if err != nil {
		return Gateway{}, err
	}
	if id == "" || len(found) == 0 {
		return Gateway{}, gatewayNotFound(id)
	}
	return found[0], nil
}

func gatewayNotFound(id string) error {
	return ErrGatewayNotFound.Withf("The gateway %.64q does not exist. Call ListGateways for the ids of this account.", id)
}

// ListGateways returns one page of the account's gateways, oldest first, and how many there are in all.
func (i *Ingress) ListGateways(ctx context.Context, accountID string, f GatewayFilter) ([]Gateway, int, error) {
	keys, values := resource.Columns(f.Tags)
	found, total, err := list(ctx, i.db, `
		g.id, g.account_id, g.name, g.resource_group_id, g.is_default, g.created_at, g.updated_at,
		EXISTS (SELECT FROM gateway_status s
			WHERE s.reported_at > now() - $6::interval AND s.gateway_id IN ('', g.id))`, `
		FROM gateway g
		WHERE g.account_id = $1 AND ($2 = '' OR g.id = $2) AND ($3 = '' OR g.name = $3)
			AND ($4 = '' OR g.id = $4 OR strpos(g.name, $4) > 0) AND ($5 = '' OR g.resource_group_id = $5)
			AND $6::interval IS NOT NULL AND `+resource.HasTags("g.id", "$7", "$8"),
		`g.created_at, g.id`, f.Page, []any{accountID, f.ID, f.Name, f.Keyword, f.ResourceGroupID, publish.HeardWithin, keys, values},
		func(row pgx.CollectableRow) (g Gateway, err error) {
			var heard bool
			err = row.Scan(&g.ID, &g.AccountID, &g.Name, &g.ResourceGroupID, &g.Default, &g.CreatedAt, &g.UpdatedAt, &heard)
			g.Status = Stopped
			if heard {
				g.Status = Running
			}
			return g, err
		})
	if err != nil {
		return nil, 0, fmt.Errorf("list the gateways: %w", err)
	}
	if err := i.fillTags(ctx, found); err != nil {
		return nil, 0, err
	}
	return found, total, i.fillEnvironments(ctx, found)
}

func (i *Ingress) fillTags(ctx context.Context, gateways []Gateway) error {
	gatewayIDs := make([]string, len(gateways))
	for n, g := range gateways {
		gatewayIDs[n] = g.ID
	}
	tags, err := resource.TagsOf(ctx, i.db, gatewayIDs)
	for n, g := range gateways {
		gateways[n].Tags = tags[g.ID]
	}
	return err
}

func (i *Ingress) fillEnvironments(ctx context.Context, gateways []Gateway) error {
	place := make(map[string]int, len(gateways))
	gatewayIDs := make([]string, len(gateways))
	for n, g := range gateways {
		place[g.ID], gatewayIDs[n] = n, g.ID
	}
	rows, err := i.db.Query(ctx, `
		SELECT `+environmentColumns+`
		FROM environment e JOIN gateway g ON g.id = e.gateway_id
		WHERE e.gateway_id = ANY ($1)
		ORDER BY e.created_at, e.id`, gatewayIDs)
	if err != nil {
		return err
	}
	environments, err := pgx.CollectRows(rows, i.scanEnvironment)
	if err != nil {
		return fmt.Errorf("read the environments of the gateways: %w", err)
	}
	for _, e := range environments {
		g := &gateways[place[e.GatewayID]]
		g.Environments = append(g.Environments, e)
	}
	return nil
}

// UpdateGatewayName renames the account's gateway.
func (i *Ingress) UpdateGatewayName(ctx context.Context, accountID, id, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `
			UPDATE gateway SET name = $3, updated_at = now() WHERE id = $1 AND account_id = $2`, id, accountID, name)
		if err != nil {
			return gatewayName(err, name)
		}
		if done.RowsAffected() == 0 {
			return gatewayNotFound(id)
		}
		return record(ctx, tx, id)
	})
}

// DeleteGateway removes the account's gateway with its environments, unless something still uses them.
func (i *Ingress) DeleteGateway(ctx context.Context, accountID, id string) error {
	return pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		var name string
		err := tx.QueryRow(ctx, `
			SELECT name FROM gateway WHERE id = $1 AND account_id = $2 FOR UPDATE`, id, accountID).Scan(&name)
		if errors.Is(err, pgx.ErrNoRows) {
			return gatewayNotFound(id)
		}
		if err != nil {
			return fmt.Errorf("lock the gateway: %w", err)
		}
		if err := removeGateway(ctx, tx, id); err != nil {
			if postgres.IsForeignKeyViolation(err, "") {
				return ErrGatewayInUse.Withf("The gateway %s still has Model APIs or services. Delete them first.", name)
			}
			return fmt.Errorf("delete the gateway: %w", err)
		}
		return record(ctx, tx, id)
	})
}

func removeGateway(ctx context.Context, tx pgx.Tx, id string) error {
	rows, err := tx.Query(ctx, `DELETE FROM environment WHERE gateway_id = $1 RETURNING id`, id)
	if err != nil {
		return err
	}
	gone, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM gateway WHERE id = $1`, id); err != nil {
		return err
	}
	return resource.DeleteTags(ctx, tx, append(gone, id)...)
}

// seedLock makes two control planes that start together seed one after the other.
const seedLock = 7055

// Seed makes the first gateway of an account that has none. The first of the installation is the default one.
func (i *Ingress) Seed(ctx context.Context, accountID string) error {
	return pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, seedLock); err != nil {
			return err
		}
		var seeded bool
		g := Gateway{ID: ids.New(ids.Gateway), AccountID: accountID, Name: "default", ResourceGroupID: instance.DefaultResourceGroup}
		err := tx.QueryRow(ctx, `
			SELECT EXISTS (SELECT FROM gateway WHERE account_id = $1), NOT EXISTS (SELECT FROM gateway WHERE is_default)`,
			accountID).Scan(&seeded, &g.Default)
		if err != nil || seeded {
			return err
		}
		return insertGateway(ctx, tx, g)
	})
}
