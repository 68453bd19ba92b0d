package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/postgres"
)

// User is a user of an account.
type User struct {
	ID, Name, DisplayName, MobilePhone, Email, Comments string

	Source               string // FromAPI or FromFile
	CreatedAt, UpdatedAt time.Time
	Since                *time.Time // in lists of members: when the user came in, or was given the policy
}

// UserChange is what UpdateUser changes; nil leaves a member as it is.
type UserChange struct {
	Name, DisplayName, MobilePhone, Email, Comments *string
}

const userColumns = `u.id, u.name, u.display_name, u.mobile_phone, u.email, u.comments, u.source, u.created_at, u.updated_at`

// CreateUser makes a user of the account.
func (d *Directory) CreateUser(ctx context.Context, accountID string, user User) (User, error) {
	err := d.change(ctx, accountID, func(tx pgx.Tx) (string, error) {
		if err := room(ctx, tx, `SELECT count(*) FROM ram_user WHERE account_id = $1`, accountID, maxUsers, ErrUserLimit); err != nil {
			return "", err
		}
		rows, _ := tx.Query(ctx, `
			INSERT INTO ram_user AS u (id, account_id, name, display_name, mobile_phone, email, comments, source)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 'api')
			RETURNING `+userColumns+`, NULL::timestamptz AS since`,
			newID(userID), accountID, user.Name, user.DisplayName, user.MobilePhone, user.Email, user.Comments)
		name := user.Name
		var err error
		user, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[User])
		if postgres.IsUniqueViolation(err, "ram_user_account_id_name_key") {
			return "", ErrUserExists.Withf("The account has a user %s.", name)
		}
		return name, err
	})
	if err != nil {
		return User{}, fmt.Errorf("make the user: %w", err)
	}
	return user, nil
}

// User returns the account's user of the name.
func (d *Directory) User(ctx context.Context, accountID, name string) (User, error) {
	return findUser(ctx, d.db, accountID, name)
}

func findUser(ctx context.Context, db querier, accountID, name string) (User, error) {
	rows, _ := db.Query(ctx, `
		SELECT `+userColumns+`, NULL::timestamptz AS since FROM ram_user u WHERE u.account_id = $1 AND u.name = $2`, accountID, name)
	user, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[User])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return User{}, ErrNoUser.Withf("The user %s does not exist. Call ListUsers for those of the account.", name)
	case err != nil:
		return User{}, fmt.Errorf("read the user: %w", err)
	}
	return user, nil
}

// UpdateUser changes a user and returns it as it is then.
func (d *Directory) UpdateUser(ctx context.Context, accountID, name string, c UserChange) (User, error) {
	var user User
	err := d.change(ctx, accountID, func(tx pgx.Tx) (string, error) {
		have, err := findUser(ctx, tx, accountID, name)
		if err == nil {
			err = fromFile(have.Source, "user "+name)
		}
		if err != nil {
			return "", err
		}
		rows, _ := tx.Query(ctx, `
			UPDATE ram_user u SET name = coalesce($2, name), display_name = coalesce($3, display_name),
				mobile_phone = coalesce($4, mobile_phone), email = coalesce($5, email), comments = coalesce($6, comments), updated_at = now()
			WHERE id = $1
			RETURNING `+userColumns+`, NULL::timestamptz AS since`, have.ID, c.Name, c.DisplayName, c.MobilePhone, c.Email, c.Comments)
		user, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[User])
		if postgres.IsUniqueViolation(err, "ram_user_account_id_name_key") {
			return "", ErrUserExists.Withf("The account has a user %s.", *c.Name)
		}
		return name, err
	})
	if err != nil {
		return User{}, fmt.Errorf("change the user: %w", err)
	}
	return user, nil
}

// DeleteUser deletes a user who has no keys, groups and policies.
func (d *Directory) DeleteUser(ctx context.Context, accountID, name string) error {
	err := d.change(ctx, accountID, func(tx pgx.Tx) (string, error) {
		user, err := findUser(ctx, tx, accountID, name)
		if err == nil {
			err = fromFile(user.Source, "user "+name)
		}
		if err != nil {
			return "", err
		}
		err = none(ctx, tx, user.ID,
			left{`SELECT EXISTS (SELECT FROM ram_group_member WHERE user_id = $1)`, ErrUserInGroups},
			left{`SELECT EXISTS (SELECT FROM access_key WHERE user_id = $1)`, ErrUserHasKeys},
			left{`SELECT EXISTS (SELECT FROM policy_attachment WHERE principal_id = $1)`, ErrUserHasPolicies})
		if err != nil {
			return "", err
		}
		_, err = tx.Exec(ctx, `DELETE FROM ram_user WHERE id = $1`, user.ID)
		return name, err
	})
	if err != nil {
		return fmt.Errorf("delete the user: %w", err)
	}
	return nil
}

// Users returns a page of the account's users.
func (d *Directory) Users(ctx context.Context, accountID string, page Page) (users []User, next string, err error) {
	return list(ctx, d.db, page, func(u User) string { return u.Name }, `
		SELECT `+userColumns+`, NULL::timestamptz AS since FROM ram_user u
		WHERE u.account_id = $1 AND u.name > $2 ORDER BY u.name LIMIT $3`, accountID)
}
