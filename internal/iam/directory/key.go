package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/iam"
)

// Key is an access key without its secret.
type Key struct {
	ID        string
	Active    bool
	Source    string // FromAPI, FromFile or FromRoot
	CreatedAt time.Time
}

// CreateKey makes an access key of the user, or without a name of the account itself, and returns it with its secret,
// which nobody can read again.
func (d *Directory) CreateKey(ctx context.Context, accountID, userName string) (iam.AccessKey, time.Time, error) {
	made, at := iam.NewAccessKey(), time.Time{}
	err := d.change(ctx, accountID, func(tx pgx.Tx) (string, error) {
		owner, err := ownerOf(ctx, tx, accountID, userName)
		if err != nil {
			return "", err
		}
		var have int
		err = tx.QueryRow(ctx, `
			SELECT count(*) FROM access_key WHERE account_id = $1 AND user_id IS NOT DISTINCT FROM $2`, accountID, owner).Scan(&have)
		switch {
		case err != nil:
			return "", err
		case have >= maxKeys:
			return "", ErrKeyLimit
		}
		sealed, err := d.box.Seal(iam.SecretPurpose(made.ID), made.Secret)
		if err != nil {
			return "", fmt.Errorf("seal the secret: %w", err)
		}
		return made.ID, tx.QueryRow(ctx, `
			INSERT INTO access_key (id, account_id, user_id, secret_sealed, source) VALUES ($1, $2, $3, $4, 'api')
			RETURNING created_at`, made.ID, accountID, owner, sealed).Scan(&at)
	})
	if err != nil {
		return iam.AccessKey{}, time.Time{}, fmt.Errorf("make the access key: %w", err)
	}
	return made, at, nil
}

// ownerOf returns the id of the user, or nil for the account itself.
func ownerOf(ctx context.Context, db querier, accountID, userName string) (*string, error) {
	if userName == "" {
		return nil, nil
	}
	user, err := findUser(ctx, db, accountID, userName)
	return &user.ID, err
}

// Keys returns the access keys of the user, or without a name of the account itself, the oldest first.
func (d *Directory) Keys(ctx context.Context, accountID, userName string) ([]Key, error) {
	owner, err := ownerOf(ctx, d.db, accountID, userName)
	if err != nil {
		return nil, err
	}
	rows, _ := d.db.Query(ctx, `
		SELECT id, status = 'Active' AS active, source, created_at FROM access_key
		WHERE account_id = $1 AND user_id IS NOT DISTINCT FROM $2 ORDER BY created_at, id`, accountID, owner)
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByName[Key])
	if err != nil {
		return nil, fmt.Errorf("read the access keys: %w", err)
	}
	return keys, nil
}

// SetKeyActive lets an access key in, or keeps it out.
func (d *Directory) SetKeyActive(ctx context.Context, accountID, userName, keyID string, active bool) error {
	status := map[bool]string{true: "Active", false: "Inactive"}[active]
	return d.changeKey(ctx, accountID, userName, keyID, `UPDATE access_key SET status = $2 WHERE id = $1`, status)
}

// DeleteKey deletes an access key.
func (d *Directory) DeleteKey(ctx context.Context, accountID, userName, keyID string) error {
	return d.changeKey(ctx, accountID, userName, keyID, `DELETE FROM access_key WHERE id = $1`)
}

func (d *Directory) changeKey(ctx context.Context, accountID, userName, keyID, sql string, args ...any) error {
	err := d.change(ctx, accountID, func(tx pgx.Tx) (string, error) {
		owner, err := ownerOf(ctx, tx, accountID, userName)
		if err != nil {
			return "", err
		}
		var source string
		err = tx.QueryRow(ctx, `
			SELECT source FROM access_key WHERE id = $1 AND account_id = $2 AND user_id IS NOT DISTINCT FROM $3`,
			keyID, accountID, owner).Scan(&source)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return "", ErrNoKey.Withf("The access key %.128s does not exist. Call ListAccessKeys for those of the user.", keyID)
		case err != nil:
			return "", err
		}
		if err := fromFile(source, "access key "+keyID); err != nil {
			return "", err
		}
		_, err = tx.Exec(ctx, sql, append([]any{keyID}, args...)...)
		return keyID, err
	})
	if err != nil {
		return fmt.Errorf("change the access key: %w", err)
	}
	return nil
}
