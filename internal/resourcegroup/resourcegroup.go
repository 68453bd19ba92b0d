// Package resourcegroup keeps the resource groups of accounts.
package resourcegroup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/postgres"
)

// Default is the group that every account has: what was put into no other is in it. It has no row.
const Default = "rg-default"

// maxGroups is how many groups an account may have beside the default one.
const maxGroups = 100

// The refusals of this package.
var (
	// ErrNotFound refuses to put something into a group that the account does not have.
	ErrNotFound = fault.New(fault.NotFound, "InvalidResourceGroupId.NotFound",
		"The resource group does not exist.", "Call ListResourceGroups for those of the account.")
	ErrMissing = fault.New(fault.NotFound, "EntityNotExist.ResourceGroup",
		"The resource group does not exist.", "Call ListResourceGroups for those of the account.")
	ErrExists = fault.New(fault.Conflict, "EntityAlreadyExists.ResourceGroup",
		"The account has a resource group of this name.", "Choose another name, or use the group that is there.")
	ErrLimit = fault.New(fault.Conflict, "LimitExceeded.ResourceGroup",
		"The account has 100 resource groups.", "Delete one first.")
	ErrResources = fault.New(fault.Conflict, "DeleteConflict.ResourceGroup.Resource",
		"The resource group has resources.", "ListResources shows them; move them with MoveResources first.")
	ErrAttached = fault.New(fault.Conflict, "OperationDenied.ManagedByFile",
		"The policy files attach a policy for the resource group.", "Take that out of the files and apply them.")
	ErrDefault = fault.New(fault.Denied, "OperationDenied.DefaultResourceGroup",
		"The default resource group stays as it is.", "Create a group of your own with CreateResourceGroup.")
)

// Group is a resource group.
type Group struct {
	ID, Name, DisplayName string
	CreatedAt             time.Time
}

// Groups are the resource groups of all accounts.
type Groups struct {
	db     *pgxpool.Pool
	tables []string
}

// New returns the groups in db. tables are those whose rows are in groups, by resource_group_id and account_id.
func New(db *pgxpool.Pool, tables ...string) *Groups { return &Groups{db, tables} }

// Lock makes sure that the account has the group, until the transaction ends. Call it before a row names the group.
func Lock(ctx context.Context, tx pgx.Tx, accountID, id string) error {
	if id == Default {
		return nil
	}
	var found string
	err := tx.QueryRow(ctx, `
		SELECT id FROM resource_group WHERE id = $1 AND account_id = $2 FOR KEY SHARE`, id, accountID).Scan(&found)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNotFound.Withf("The resource group %.64q does not exist.", id)
	case err != nil:
		return fmt.Errorf("lock the resource group: %w", err)
	}
	return nil
}

// Create makes a group of the account.
func (g *Groups) Create(ctx context.Context, accountID, name, displayName string) (Group, error) {
	made := Group{ID: ids.New(ids.ResourceGroup), Name: name, DisplayName: displayName}
	err := iam.InAccount(ctx, g.db, accountID, func(tx pgx.Tx) (string, error) {
		var have int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM resource_group WHERE account_id = $1`, accountID).Scan(&have); err != nil {
			return "", err
		}
		switch {
		case have >= maxGroups:
			return "", ErrLimit
		case strings.EqualFold(name, defaultName):
			return "", ErrExists.Withf("The account has a resource group %s.", name)
		}
		err := tx.QueryRow(ctx, `
			INSERT INTO resource_group (id, account_id, name, display_name) VALUES ($1, $2, $3, $4) RETURNING created_at`,
			made.ID, accountID, name, displayName).Scan(&made.CreatedAt)
		if postgres.IsUniqueViolation(err, "resource_group_account_id_name_key") {
			return "", ErrExists.Withf("The account has a resource group %s.", name)
		}
		return made.ID, err
	})
	if err != nil {
		return Group{}, fmt.Errorf("make the resource group: %w", err)
	}
	return made, nil
}

// Get returns a group of the account.
func (g *Groups) Get(ctx context.Context, accountID, id string) (Group, error) {
	groups, _, err := g.List(ctx, Filter{AccountID: accountID, IDs: []string{id}, PageNumber: 1, PageSize: 1})
	if err != nil {
		return Group{}, err
	}
	if len(groups) == 0 {
		return Group{}, missing(id)
	}
	return groups[0], nil
}

func missing(id string) error {
	return ErrMissing.Withf("The resource group %.64q does not exist. Call ListResourceGroups for those of the account.", id)
}

// Filter says which groups of an account are meant; nil and "" are any.
type Filter struct {
	AccountID            string
	IDs                  []string
	Name                 string
	DisplayName          string // is contained
	PageNumber, PageSize int
}

// defaultName is the name of the default group.
const defaultName = "default"

// List returns a page of groups, the default one first and the others by name, and how many there are in all.
func (g *Groups) List(ctx context.Context, f Filter) (page []Group, total int, err error) {
	const matching = `
		FROM (SELECT $2 AS id, $3 AS name, $3 AS display_name, created_at, 0 AS place FROM account WHERE id = $1
			UNION ALL SELECT id, name, display_name, created_at, 1 FROM resource_group WHERE account_id = $1) AS g
		WHERE ($4::text[] IS NULL OR id = ANY ($4)) AND ($5 = '' OR name = $5) AND ($6 = '' OR strpos(display_name, $6) > 0)`
	which := []any{f.AccountID, Default, defaultName, f.IDs, f.Name, f.DisplayName}
	if err := g.db.QueryRow(ctx, `SELECT count(*)`+matching, which...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count the resource groups: %w", err)
	}
	rows, _ := g.db.Query(ctx, `SELECT id, name, display_name, created_at`+matching+`
		ORDER BY place, name LIMIT $7 OFFSET $8`, append(which, f.PageSize, (f.PageNumber-1)*f.PageSize)...)
	page, err = pgx.CollectRows(rows, pgx.RowToStructByName[Group])
	if err != nil {
		return nil, 0, fmt.Errorf("read the resource groups: %w", err)
	}
	return page, total, nil
}

// Rename changes what people call a group.
func (g *Groups) Rename(ctx context.Context, accountID, id, displayName string) (Group, error) {
	return g.change(ctx, accountID, id, func(tx pgx.Tx, group *Group) error {
		group.DisplayName = displayName
		_, err := tx.Exec(ctx, `UPDATE resource_group SET display_name = $2 WHERE id = $1`, id, displayName)
		return err
	})
}

// Delete deletes a group without resources, and the attachments of policies to it.
func (g *Groups) Delete(ctx context.Context, accountID, id string) (Group, error) {
	return g.change(ctx, accountID, id, func(tx pgx.Tx, _ *Group) error {
		for _, table := range g.tables {
			var used bool
			err := tx.QueryRow(ctx, `
				SELECT EXISTS (SELECT FROM `+table+` WHERE account_id = $1 AND resource_group_id = $2)`, accountID, id).Scan(&used)
			switch {
			case err != nil:
				return fmt.Errorf("look for resources: %w", err)
			case used:
				return ErrResources
			}
		}
		var attached bool
		err := tx.QueryRow(ctx, `
			SELECT EXISTS (SELECT FROM policy_attachment WHERE resource_group_id = $1 AND source = 'file')`, id).Scan(&attached)
		switch {
		case err != nil:
			return fmt.Errorf("look for attachments: %w", err)
		case attached:
			return ErrAttached
		}
		batch := &pgx.Batch{}
		batch.Queue(`DELETE FROM policy_attachment WHERE resource_group_id = $1`, id)
		batch.Queue(`DELETE FROM resource_group WHERE id = $1`, id)
		return tx.SendBatch(ctx, batch).Close()
	})
}

// change runs do on a group that is locked, and returns the group.
func (g *Groups) change(ctx context.Context, accountID, id string, do func(pgx.Tx, *Group) error) (Group, error) {
	var group Group
	err := iam.InAccount(ctx, g.db, accountID, func(tx pgx.Tx) (string, error) {
		if id == Default {
			return "", ErrDefault
		}
		rows, _ := tx.Query(ctx, `
			SELECT id, name, display_name, created_at FROM resource_group WHERE id = $1 AND account_id = $2 FOR UPDATE`, id, accountID)
		var err error
		group, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Group])
		if errors.Is(err, pgx.ErrNoRows) {
			return "", missing(id)
		}
		if err == nil {
			err = do(tx, &group)
		}
		return id, err
	})
	if err != nil {
		return Group{}, fmt.Errorf("change the resource group: %w", err)
	}
	return group, nil
}
