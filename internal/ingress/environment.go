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
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/resourcegroup"
)

// The refusals about environments.
var (
	ErrEnvironmentNotFound = fault.New(fault.NotFound, "NotFound.EnvironmentNotFound",
		"The environment does not exist.", "Call ListEnvironments for the ids of this account.")
	ErrEnvironmentNameTaken = fault.New(fault.Conflict, "Conflict.EnvironmentNameDuplicate",
		"The gateway has an environment of this name already.", "Choose another name.")
	ErrEnvironmentInUse = fault.New(fault.Conflict, "Conflict.EnvironmentInUse",
		"The environment still has Model APIs or authorization rules.", "Delete them first.")
	ErrDefaultEnvironment = fault.New(fault.Conflict, "Conflict.EnvironmentIsDefault",
		"The default environment goes with its gateway.", "Delete the gateway.")
)

// Environment is where Model APIs are published to: a place of a gateway with a sub-domain of its own.
type Environment struct {
	ID              string
	GatewayID       string
	GatewayName     string
	Name            string
	Alias           string
	Description     string
	Default         bool
	SubDomain       string
	ResourceGroupID string
	CreatedAt       time.Time
	UpdatedAt       time.Time
}

// EnvironmentSpec is what a caller asks CreateEnvironment for.
type EnvironmentSpec struct {
	GatewayID       string
	Name            string
	Alias           string // "": the name
	Description     string
	ResourceGroupID string // "": the account's default group
}

// EnvironmentFilter narrows a list of environments; empty fields do not.
type EnvironmentFilter struct {
	GatewayID       string
	NameLike        string
	AliasLike       string
	GatewayNameLike string
	ResourceGroupID string
	Page            instance.Page
}

// CreateEnvironment adds an environment to a gateway of the account.
func (i *Ingress) CreateEnvironment(ctx context.Context, accountID string, spec EnvironmentSpec) (Environment, error) {
	if err := checkEnvironment(&spec); err != nil {
		return Environment{}, err
	}
	id := ids.New(ids.Environment)
	err := pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		if err := insertEnvironment(ctx, tx, accountID, id, spec); err != nil {
			return err
		}
		return record(ctx, tx, id)
	})
	if err != nil {
		return Environment{}, err
	}
	return i.GetEnvironment(ctx, accountID, id)
}

func checkEnvironment(spec *EnvironmentSpec) error {
	spec.Alias = cmp.Or(spec.Alias, spec.Name)
	spec.ResourceGroupID = cmp.Or(spec.ResourceGroupID, instance.DefaultResourceGroup)
	return cmp.Or(checkName(spec.Name), checkText("alias", spec.Alias, maxAlias),
		checkText("description", spec.Description, maxDescription))
}

func insertEnvironment(ctx context.Context, tx pgx.Tx, accountID, id string, spec EnvironmentSpec) error {
	if err := resourcegroup.Lock(ctx, tx, accountID, spec.ResourceGroupID); err != nil {
		return err
	}
	done, err := tx.Exec(ctx, `
		INSERT INTO environment (id, account_id, gateway_id, name, alias, description, resource_group_id)
		SELECT $1, $2, g.id, $4, $5, $6, $7 FROM gateway g WHERE g.id = $3 AND g.account_id = $2`,
		id, accountID, spec.GatewayID, spec.Name, spec.Alias, spec.Description, spec.ResourceGroupID)
	switch {
	case postgres.IsUniqueViolation(err, "environment_gateway_id_name_key"):
		return ErrEnvironmentNameTaken.Withf("The gateway has an environment named %s already. Choose another name.", spec.Name)
	case postgres.IsForeignKeyViolation(err, "environment_gateway_id_fkey"): // it went in the meantime
		return gatewayNotFound(spec.GatewayID)
	case err != nil:
		return fmt.Errorf("insert the environment: %w", err)
	case done.RowsAffected() == 0:
		return gatewayNotFound(spec.GatewayID)
	}
	return nil
}

const environmentColumns = `e.id, e.gateway_id, g.name, e.name, e.alias, e.description, e.is_default, e.resource_group_id,
	e.created_at, e.updated_at`

func (i *Ingress) scanEnvironment(row pgx.CollectableRow) (e Environment, err error) {
	err = row.Scan(&e.ID, &e.GatewayID, &e.GatewayName, &e.Name, &e.Alias, &e.Description, &e.Default, &e.ResourceGroupID,
		&e.CreatedAt, &e.UpdatedAt)
	e.SubDomain = i.SubDomain(e.ID)
	return e, err
}

// GetEnvironment returns the account's environment, or ErrEnvironmentNotFound.
func (i *Ingress) GetEnvironment(ctx context.Context, accountID, id string) (Environment, error) {
	rows, err := i.db.Query(ctx, `
		SELECT `+environmentColumns+`
		FROM environment e JOIN gateway g ON g.id = e.gateway_id
		WHERE e.id = $1 AND e.account_id = $2`, id, accountID)
	if err != nil {
		return Environment{}, err
	}
	found, err := pgx.CollectExactlyOneRow(rows, i.scanEnvironment)
	if errors.Is(err, pgx.ErrNoRows) {
		return Environment{}, environmentNotFound(id)
	}
	return found, err
}

func environmentNotFound(id string) error {
	return ErrEnvironmentNotFound.Withf("The environment %.64q does not exist. Call ListEnvironments for the ids of this account.", id)
}

// ListEnvironments returns one page of the account's environments, oldest first, and how many there are in all.
func (i *Ingress) ListEnvironments(ctx context.Context, accountID string, f EnvironmentFilter) ([]Environment, int, error) {
	found, total, err := list(ctx, i.db, environmentColumns, `
		FROM environment e JOIN gateway g ON g.id = e.gateway_id
		WHERE e.account_id = $1 AND ($2 = '' OR e.gateway_id = $2) AND ($3 = '' OR strpos(e.name, $3) > 0)
			AND ($4 = '' OR strpos(e.alias, $4) > 0) AND ($5 = '' OR strpos(g.name, $5) > 0)
			AND ($6 = '' OR e.resource_group_id = $6)`,
		`e.created_at, e.id`, f.Page,
		[]any{accountID, f.GatewayID, f.NameLike, f.AliasLike, f.GatewayNameLike, f.ResourceGroupID}, i.scanEnvironment)
	if err != nil {
		return nil, 0, fmt.Errorf("list the environments: %w", err)
	}
	return found, total, nil
}

// UpdateEnvironment changes the alias and, unless it is nil, the description of the account's environment.
func (i *Ingress) UpdateEnvironment(ctx context.Context, accountID, id, alias string, description *string) error {
	if alias == "" {
		return fault.MissingParameter("alias")
	}
	if err := checkText("alias", alias, maxAlias); err != nil {
		return err
	}
	if description != nil {
		if err := checkText("description", *description, maxDescription); err != nil {
			return err
		}
	}
	return pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `
			UPDATE environment SET alias = $3, description = coalesce($4, description), updated_at = now()
			WHERE id = $1 AND account_id = $2`, id, accountID, alias, description)
		if err != nil {
			return fmt.Errorf("update the environment: %w", err)
		}
		if done.RowsAffected() == 0 {
			return environmentNotFound(id)
		}
		return record(ctx, tx, id)
	})
}

// DeleteEnvironment removes the account's environment, unless it is a default one or something still uses it.
func (i *Ingress) DeleteEnvironment(ctx context.Context, accountID, id string) error {
	return pgx.BeginFunc(ctx, i.db, func(tx pgx.Tx) error {
		var name string
		var isDefault bool
		err := tx.QueryRow(ctx, `
			DELETE FROM environment WHERE id = $1 AND account_id = $2
			RETURNING name, is_default`, id, accountID).Scan(&name, &isDefault)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return environmentNotFound(id)
		case postgres.IsForeignKeyViolation(err, ""):
			return ErrEnvironmentInUse.Withf("The environment %s still has Model APIs or authorization rules. Delete them first.", id)
		case err != nil:
			return fmt.Errorf("delete the environment: %w", err)
		case isDefault:
			return ErrDefaultEnvironment.Withf("%s is the default environment of its gateway and goes with it.", name)
		}
		if err := resource.DeleteTags(ctx, tx, id); err != nil {
			return err
		}
		return record(ctx, tx, id)
	})
}
