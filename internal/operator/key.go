// Package operator keeps ModelOperator keys: each opens every model service of its account.
package operator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// The refusals of this package.
var (
	ErrNotFound = fault.New(fault.NotFound, "InvalidApiKeyId.NotFound",
		"The ModelOperator key does not exist.", "Call ListModelOperatorApiKeys for the keys of this account.")
	ErrQuota = fault.New(fault.Denied, "QuotaExceeded.ModelOperatorApiKey",
		"An account has at most 50 ModelOperator keys.", "Delete one first with DeleteModelOperatorApiKey.")
)

const maxKeys = 50 // of an account

// Key is a ModelOperator key.
type Key struct {
	ID          int32
	Description string
	Secret      secret.Secret // of List: none
	Endpoint    string        // the base URL that OpenAI clients take
	CreatedAt   time.Time
}

// Keys are the ModelOperator keys of all accounts.
type Keys struct {
	db       *pgxpool.Pool
	master   *secret.Box
	endpoint string
}

// New returns the keys that db holds, sealed with master, for the gateway at the URL.
func New(db *pgxpool.Pool, master *secret.Box, gatewayURL string) *Keys {
	return &Keys{db, master, gatewayURL + "/operator/v1"}
}

func keyPurpose(id string) string { return "operator_key/" + id + "/key" }

// Create makes a key for the account and publishes it: it opens its services once the call has returned and gateways have
// fetched it.
func (k *Keys) Create(ctx context.Context, accountID, description string) (id int32, err error) {
	entry := audit.From(ctx)
	err = pgx.BeginFunc(ctx, k.db, func(tx pgx.Tx) error {
		if id, err = number(ctx, tx, accountID); err != nil {
			return err
		}
		key := secret.New("sk-" + rand.Text())
		sealed, err := k.master.Seal(keyPurpose(strconv.Itoa(int(id))), key)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `
			INSERT INTO operator_key (id, account_id, description, key_sealed, key_hash) VALUES ($1, $2, $3, $4, $5)`,
			id, accountID, description, sealed, snapshot.HashKey(key.Reveal())); err != nil {
			return fmt.Errorf("insert the ModelOperator key: %w", err)
		}
		return k.changed(ctx, tx, id, entry)
	})
	return id, err
}

// number returns the number of the account's next key, unless it has too many.
func number(ctx context.Context, tx pgx.Tx, accountID string) (id int32, err error) {
	var keys int
	if _, err := tx.Exec(ctx, `SELECT FROM account WHERE id = $1 FOR NO KEY UPDATE`, accountID); err != nil {
		return 0, fmt.Errorf("lock the account: %w", err)
	}
	err = tx.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM operator_key WHERE account_id = $1), nextval('operator_key_id_seq')`, accountID).Scan(&keys, &id)
	if err == nil && keys >= maxKeys {
		err = ErrQuota
	}
	return id, err
}

// Delete deletes the account's key. What it was used for stays in usage records.
func (k *Keys) Delete(ctx context.Context, accountID string, id int32) error {
	entry := audit.From(ctx)
	return pgx.BeginFunc(ctx, k.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM operator_key WHERE id = $1 AND account_id = $2`, id, accountID)
		switch {
		case err != nil:
			return fmt.Errorf("delete the ModelOperator key: %w", err)
		case tag.RowsAffected() == 0:
			return notFound(id)
		}
		return k.changed(ctx, tx, id, entry)
	})
}

// changed ends a transaction that made or deleted a key: with its audit row and what gateways see.
func (k *Keys) changed(ctx context.Context, tx pgx.Tx, id int32, entry *audit.Entry) error {
	name := strconv.Itoa(int(id))
	entry.ResourceID, entry.Outcome = name, audit.Done
	if err := audit.Insert(ctx, tx, entry); err != nil {
		return err
	}
	item, _, err := k.Compile(ctx, tx, name)
	if err != nil {
		return err
	}
	return publish.Put(ctx, tx, item)
}

// Describe returns the account's key with its secret, or ErrNotFound.
func (k *Keys) Describe(ctx context.Context, accountID string, id int32) (Key, error) {
	key := Key{ID: id, Endpoint: k.endpoint}
	var sealed []byte
	err := k.db.QueryRow(ctx, `
		SELECT description, key_sealed, created_at FROM operator_key WHERE id = $1 AND account_id = $2`, id, accountID).
		Scan(&key.Description, &sealed, &key.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return Key{}, notFound(id)
	}
	if err != nil {
		return Key{}, fmt.Errorf("read the ModelOperator key: %w", err)
	}
	key.Secret, err = k.master.Open(keyPurpose(strconv.Itoa(int(id))), sealed)
	return key, err
}

func notFound(id int32) error {
	return ErrNotFound.Withf("The ModelOperator key %d does not exist. Call ListModelOperatorApiKeys for the keys of this account.", id)
}

// List returns one page of the account's keys without their secrets, the oldest first, and how many there are in all.
func (k *Keys) List(ctx context.Context, accountID string, page instance.Page) (keys []Key, total int, err error) {
	if err := k.db.QueryRow(ctx, `SELECT count(*) FROM operator_key WHERE account_id = $1`, accountID).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count the ModelOperator keys: %w", err)
	}
	rows, err := k.db.Query(ctx, `
		SELECT id, description, created_at FROM operator_key WHERE account_id = $1
		ORDER BY id OFFSET $2 LIMIT $3`, accountID, (page.Number-1)*page.Size, page.Size)
	if err != nil {
		return nil, 0, err
	}
	keys, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Key, error) {
		key := Key{Endpoint: k.endpoint}
		err := row.Scan(&key.ID, &key.Description, &key.CreatedAt)
		return key, err
	})
	return keys, total, err
}
