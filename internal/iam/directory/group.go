package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/postgres"
)

// Group is users who share policies.
type Group struct {
	ID, Name, Comments   string
	Source               string // FromAPI or FromFile
	CreatedAt, UpdatedAt time.Time
	Since                *time.Time // in lists: when the user came in, or the group was given the policy
}

const groupColumns = `g.id, g.name, g.comments, g.source, g.created_at, g.updated_at`

// CreateGroup makes a group of the account.
func (d *Directory) CreateGroup(ctx context.Context, accountID, name, comments string) (Group, error) {
	var group Group
	err := d.change(ctx, accountID, func(tx pgx.Tx) (string, error) {
		if err := room(ctx, tx, `SELECT count(*) FROM ram_group WHERE account_id = $1`, accountID, maxGroups, ErrGroupLimit); err != nil {
			return "", err
		}
		rows, _ := tx.Query(ctx, `
			INSERT INTO ram_group AS g (id, account_id, name, comments) VALUES ($1, $2, $3, $4)
			RETURNING `+groupColumns+`, NULL::timestamptz AS since`, newID(groupID), accountID, name, comments)
		var err error
		group, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Group])
		if postgres.IsUniqueViolation(err, "ram_group_account_id_name_key") {
			return "", ErrGroupExists.Withf("The account has a group %s.", name)
		}
		return name, err
	})
	if err != nil {
		return Group{}, fmt.Errorf("make the group: %w", err)
	}
	return group, nil
}

// Group returns the account's group of the name.
func (d *Directory) Group(ctx context.Context, accountID, name string) (Group, error) {
	return findGroup(ctx, d.db, accountID, name)
}

func findGroup(ctx context.Context, db querier, accountID, name string) (Group, error) {
	rows, _ := db.Query(ctx, `
		SELECT `+groupColumns+`, NULL::timestamptz AS since FROM ram_group g WHERE g.account_id = $1 AND g.name = $2`, accountID, name)
	group, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Group])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Group{}, ErrNoGroup.Withf("The group %s does not exist. Call ListGroups for those of the account.", name)
	case err != nil:
		return Group{}, fmt.Errorf("read the group: %w", err)
	}
	return group, nil
}

// UpdateGroup changes the name or the comments of a group, where they are not nil.
func (d *Directory) UpdateGroup(ctx context.Context, accountID, name string, newName, comments *string) (Group, error) {
	var group Group
	err := d.change(ctx, accountID, func(tx pgx.Tx) (string, error) {
		have, err := findGroup(ctx, tx, accountID, name)
		if err == nil {
			err = fromFile(have.Source, "group "+name)
		}
		if err != nil {
			return "", err
		}
		rows, _ := tx.Query(ctx, `
			UPDATE ram_group g SET name = coalesce($2, name), comments = coalesce($3, comments), updated_at = now() WHERE id = $1
			RETURNING `+groupColumns+`, NULL::timestamptz AS since`, have.ID, newName, comments)
		group, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Group])
		if postgres.IsUniqueViolation(err, "ram_group_account_id_name_key") {
			return "", ErrGroupExists.Withf("The account has a group %s.", *newName)
		}
		return name, err
	})
	if err != nil {
		return Group{}, fmt.Errorf("change the group: %w", err)
	}
	return group, nil
}

// DeleteGroup deletes a group that has no users and no policies.
func (d *Directory) DeleteGroup(ctx context.Context, accountID, name string) error {
	err := d.change(ctx, accountID, func(tx pgx.Tx) (string, error) {
		group, err := findGroup(ctx, tx, accountID, name)
		if err == nil {
			err = fromFile(group.Source, "group "+name)
		}
		if err != nil {
			return "", err
		}
		err = none(ctx, tx, group.ID,
			left{`SELECT EXISTS (SELECT FROM ram_group_member WHERE group_id = $1)`, ErrGroupHasUsers},
			left{`SELECT EXISTS (SELECT FROM policy_attachment WHERE principal_id = $1)`, ErrGroupHasPolicies})
		if err != nil {
			return "", err
		}
		_, err = tx.Exec(ctx, `DELETE FROM ram_group WHERE id = $1`, group.ID)
		return name, err
	})
	if err != nil {
		return fmt.Errorf("delete the group: %w", err)
	}
	return nil
}

// Groups returns a page of the account's groups.
func (d *Directory) Groups(ctx context.Context, accountID string, page Page) (groups []Group, next string, err error) {
	return list(ctx, d.db, page, func(g Group) string { return g.Name }, `
		SELECT `+groupColumns+`, NULL::timestamptz AS since FROM ram_group g
		WHERE g.account_id = $1 AND g.name > $2 ORDER BY g.name LIMIT $3`, accountID)
}

// AddToGroup puts a user into a group.
func (d *Directory) AddToGroup(ctx context.Context, accountID, userName, groupName string) error {
	err := d.inGroup(ctx, accountID, userName, groupName, func(tx pgx.Tx, user User, group Group) error {
		if err := room(ctx, tx, `SELECT count(*) FROM ram_group_member WHERE user_id = $1`, user.ID, maxGroupsOfUser, ErrUserGroupLimit); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO ram_group_member (user_id, group_id) VALUES ($1, $2)`, user.ID, group.ID)
		if postgres.IsUniqueViolation(err, "ram_group_member_pkey") {
			return ErrInGroup.Withf("The user %s is in the group %s.", userName, groupName)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("put the user into the group: %w", err)
	}
	return nil
}

// RemoveFromGroup takes a user out of a group.
func (d *Directory) RemoveFromGroup(ctx context.Context, accountID, userName, groupName string) error {
	err := d.inGroup(ctx, accountID, userName, groupName, func(tx pgx.Tx, user User, group Group) error {
		var source string
		err := tx.QueryRow(ctx, `SELECT source FROM ram_group_member WHERE user_id = $1 AND group_id = $2`, user.ID, group.ID).Scan(&source)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotInGroup.Withf("The user %s is not in the group %s.", userName, groupName)
		}
		if err == nil {
			err = fromFile(source, "membership of "+userName+" in "+groupName)
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM ram_group_member WHERE user_id = $1 AND group_id = $2`, user.ID, group.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("take the user out of the group: %w", err)
	}
	return nil
}

func (d *Directory) inGroup(ctx context.Context, accountID, userName, groupName string, do func(pgx.Tx, User, Group) error) error {
	return d.change(ctx, accountID, func(tx pgx.Tx) (string, error) {
		user, err := findUser(ctx, tx, accountID, userName)
		if err != nil {
			return "", err
		}
		group, err := findGroup(ctx, tx, accountID, groupName)
		if err != nil {
			return "", err
		}
		return userName + "," + groupName, do(tx, user, group)
	})
}

// GroupsOf returns the groups of a user, by name.
func (d *Directory) GroupsOf(ctx context.Context, accountID, userName string) ([]Group, error) {
	user, err := findUser(ctx, d.db, accountID, userName)
	if err != nil {
		return nil, err
	}
	rows, _ := d.db.Query(ctx, `
		SELECT `+groupColumns+`, m.created_at AS since FROM ram_group g JOIN ram_group_member m ON m.group_id = g.id
		WHERE m.user_id = $1 ORDER BY g.name`, user.ID)
	groups, err := pgx.CollectRows(rows, pgx.RowToStructByName[Group])
	if err != nil {
		return nil, fmt.Errorf("read the groups: %w", err)
	}
	return groups, nil
}

// Members returns a page of the users of a group.
func (d *Directory) Members(ctx context.Context, accountID, groupName string, page Page) (users []User, next string, err error) {
	group, err := findGroup(ctx, d.db, accountID, groupName)
	if err != nil {
		return nil, "", err
	}
	return list(ctx, d.db, page, func(u User) string { return u.Name }, `
		SELECT `+userColumns+`, m.created_at AS since FROM ram_user u JOIN ram_group_member m ON m.user_id = u.id
		WHERE m.group_id = $1 AND u.name > $2 ORDER BY u.name LIMIT $3`, group.ID)
}
