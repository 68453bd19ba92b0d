package iam

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

type storedKey struct {
	ID, AccountID, UserID, UserName string
	SecretSealed                    []byte
	Status, Source                  string
}

// owner is whom a key belongs to: a user, or without userID the account itself.
type owner struct{ accountID, userID, userName string }

func (c *change) storedKeys(ctx context.Context, ids []string) (map[string]storedKey, error) {
	rows, _ := c.tx.Query(ctx, `
		SELECT k.id, k.account_id, coalesce(k.user_id, '') AS user_id, coalesce(u.name, '') AS user_name, k.secret_sealed, k.status, k.source
		FROM access_key k LEFT JOIN ram_user u ON u.id = k.user_id WHERE k.id = ANY ($1)`, ids)
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByName[storedKey])
	if err != nil {
		return nil, fmt.Errorf("read the access keys: %w", err)
	}
	stored := map[string]storedKey{}
	for _, k := range keys {
		stored[k.ID] = k
	}
	return stored, nil
}

// keys puts the access keys of the files and removes those that are in none any more.
func (c *change) keys(ctx context.Context, files Files, ids map[holder]string) error {
	owners, wanted := map[string]owner{}, []key{}
	for _, a := range files.accounts {
		wanted = append(wanted, a.keys...)
		for _, k := range a.keys {
			owners[k.id] = owner{accountID: a.id}
		}
		for _, u := range a.users {
			wanted = append(wanted, u.keys...)
			for _, k := range u.keys {
				owners[k.id] = owner{a.id, ids[holder{a.id, userKind.name, u.name}], u.name}
			}
		}
	}
	keyIDs := make([]string, 0, len(wanted))
	for _, k := range wanted {
		keyIDs = append(keyIDs, k.id)
	}
	stored, err := c.storedKeys(ctx, keyIDs)
	if err != nil {
		return err
	}
	for _, k := range wanted {
		have := stored[k.id]
		if have.ID != "" && have.Source != "file" {
			c.complain(k.place, "the access key %s exists and was not made by a file: choose another id", k.id)
			continue
		}
		if err := c.key(ctx, owners[k.id], "file", k, have); err != nil {
			return fmt.Errorf("%s: %w", k.place, err)
		}
	}
	err = c.write(ctx, Deleted, KindAccessKey, `
		DELETE FROM access_key k WHERE source = 'file' AND id <> ALL ($1)
		RETURNING account_id, id, coalesce((SELECT 'user ' || name FROM ram_user u WHERE u.id = k.user_id), '')`, keyIDs)
	if err != nil {
		return fmt.Errorf("remove access keys: %w", err)
	}
	return nil
}

// key puts one access key, unless have is what is wanted.
func (c *change) key(ctx context.Context, of owner, source string, k key, have storedKey) error {
	known := c.opens(have, k)
	if have.AccountID == of.accountID && have.UserID == of.userID && have.Status == k.status && known {
		return nil
	}
	sealed, err := c.box.Seal(SecretPurpose(k.id), k.secret)
	if err != nil {
		return fmt.Errorf("seal the secret of %s: %w", k.id, err)
	}
	d := Difference{Change: Changed, Kind: KindAccessKey, AccountID: of.accountID, Name: k.id}
	if of.userName != "" {
		d.Of = "user " + of.userName
	}
	if have.ID == "" {
		d.Change, d.Facts = Created, facts(Fact{"status", "", k.status})
		err = c.execute(ctx, d, `
			INSERT INTO access_key (id, account_id, user_id, secret_sealed, status, source)
			VALUES ($1, $2, nullif($3, ''), $4, $5, $6)`, k.id, of.accountID, of.userID, sealed, k.status, source)
	} else {
		c.touched[have.AccountID] = true
		d.Facts = facts(Fact{"account", have.AccountID, of.accountID}, Fact{"user", have.UserName, of.userName}, Fact{"status", have.Status, k.status})
		if !known {
			d.Facts = append(d.Facts, Fact{Name: "secret"})
		}
		err = c.execute(ctx, d, `
			UPDATE access_key SET account_id = $2, user_id = nullif($3, ''), secret_sealed = $4, status = $5 WHERE id = $1`,
			k.id, of.accountID, of.userID, sealed, k.status)
	}
	if err != nil {
		return fmt.Errorf("store the access key %s: %w", k.id, err)
	}
	return nil
}

// opens reports whether have holds the secret of k. A secret sealed under another key file holds nothing.
func (c *change) opens(have storedKey, k key) bool {
	opened, err := c.box.Open(SecretPurpose(k.id), have.SecretSealed)
	return err == nil && opened == k.secret
}
