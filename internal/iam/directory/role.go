package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/access/ram"
	"github.com/engineshed/engineshed/internal/postgres"
)

// Role is rights that are lent for a time to whom the trust policy names.
type Role struct {
	ID, Name, Description string
	TrustPolicy           string // RAM JSON
	MaxSessionSeconds     int
	Source                string // FromAPI or FromFile
	CreatedAt, UpdatedAt  time.Time
	Since                 *time.Time // in lists: when the role was given the policy
}

// RoleChange is what UpdateRole changes; nil leaves a member as it is.
type RoleChange struct {
	TrustPolicy, Description *string
	MaxSessionSeconds        *int
}

const roleColumns = `r.id, r.name, r.description, r.trust_policy, r.max_session_seconds, r.source, r.created_at, r.updated_at`

// CreateRole makes a role of the account.
func (d *Directory) CreateRole(ctx context.Context, accountID string, role Role) (Role, error) {
	if _, err := ram.ParseTrust(role.TrustPolicy); err != nil {
		return Role{}, err
	}
	err := d.change(ctx, accountID, func(tx pgx.Tx) (string, error) {
		if err := room(ctx, tx, `SELECT count(*) FROM ram_role WHERE account_id = $1`, accountID, maxRoles, ErrRoleLimit); err != nil {
			return "", err
		}
		name := role.Name
		rows, _ := tx.Query(ctx, `
			INSERT INTO ram_role AS r (id, account_id, name, description, trust_policy, max_session_seconds) VALUES ($1, $2, $3, $4, $5, $6)
			RETURNING `+roleColumns+`, NULL::timestamptz AS since`,
			newID(roleID), accountID, name, role.Description, role.TrustPolicy, role.MaxSessionSeconds)
		var err error
		role, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Role])
		if postgres.IsUniqueViolation(err, "ram_role_account_id_name_key") {
			return "", ErrRoleExists.Withf("The account has a role %s.", name)
		}
		return name, err
	})
	if err != nil {
		return Role{}, fmt.Errorf("make the role: %w", err)
	}
	return role, nil
}

// Role returns the account's role of the name.
func (d *Directory) Role(ctx context.Context, accountID, name string) (Role, error) {
	return findRole(ctx, d.db, accountID, name)
}

func findRole(ctx context.Context, db querier, accountID, name string) (Role, error) {
	rows, _ := db.Query(ctx, `
		SELECT `+roleColumns+`, NULL::timestamptz AS since FROM ram_role r WHERE r.account_id = $1 AND r.name = $2`, accountID, name)
	role, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Role])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Role{}, ErrNoRole.Withf("The role %s does not exist. Call ListRoles for those of the account.", name)
	case err != nil:
		return Role{}, fmt.Errorf("read the role: %w", err)
	}
	return role, nil
}

// UpdateRole changes a role. Sessions that are under way go on.
func (d *Directory) UpdateRole(ctx context.Context, accountID, name string, c RoleChange) (Role, error) {
	if c.TrustPolicy != nil {
		if _, err := ram.ParseTrust(*c.TrustPolicy); err != nil {
			return Role{}, err
		}
	}
	var role Role
	err := d.change(ctx, accountID, func(tx pgx.Tx) (string, error) {
		have, err := findRole(ctx, tx, accountID, name)
		if err == nil {
			err = fromFile(have.Source, "role "+name)
		}
		if err != nil {
			return "", err
		}
		rows, _ := tx.Query(ctx, `
			UPDATE ram_role r SET trust_policy = coalesce($2, trust_policy), description = coalesce($3, description),
				max_session_seconds = coalesce($4, max_session_seconds), updated_at = now()
			WHERE id = $1
			RETURNING `+roleColumns+`, NULL::timestamptz AS since`, have.ID, c.TrustPolicy, c.Description, c.MaxSessionSeconds)
		role, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Role])
		return name, err
	})
	if err != nil {
		return Role{}, fmt.Errorf("change the role: %w", err)
	}
	return role, nil
}

// DeleteRole deletes a role that has no policies, and its sessions with it.
func (d *Directory) DeleteRole(ctx context.Context, accountID, name string) error {
	err := d.change(ctx, accountID, func(tx pgx.Tx) (string, error) {
		role, err := findRole(ctx, tx, accountID, name)
		if err == nil {
			err = fromFile(role.Source, "role "+name)
		}
		if err != nil {
			return "", err
		}
		err = none(ctx, tx, role.ID, left{`SELECT EXISTS (SELECT FROM policy_attachment WHERE principal_id = $1)`, ErrRoleHasPolicies})
		if err != nil {
			return "", err
		}
		_, err = tx.Exec(ctx, `DELETE FROM ram_role WHERE id = $1`, role.ID)
		return name, err
	})
	if err != nil {
		return fmt.Errorf("delete the role: %w", err)
	}
	return nil
}

// Roles returns a page of the account's roles.
func (d *Directory) Roles(ctx context.Context, accountID string, page Page) (roles []Role, next string, err error) {
	return list(ctx, d.db, page, func(r Role) string { return r.Name }, `
		SELECT `+roleColumns+`, NULL::timestamptz AS since FROM ram_role r
		WHERE r.account_id = $1 AND r.name > $2 ORDER BY r.name LIMIT $3`, accountID)
}

// RoleARN is the ARN of an account's role.
func RoleARN(accountID, name string) string { return "acs:ram::" + accountID + ":role/" + name }
