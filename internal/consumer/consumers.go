package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const maxDescription = 256

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,62}[A-Za-z0-9]$`)

func checkName(name string) error {
	if !plainName.MatchString(name) {
		return ErrName.Withf("The name %.80q is not valid: 2 to 64 letters, digits, '.' and '-' that begin and end with a letter or digit.", name)
	}
	return nil
}

func checkDescription(text string) error {
	if len(text) > maxDescription || strings.ContainsRune(text, 0) {
		return fault.InvalidParameter("description", fmt.Sprintf("it must be at most %d bytes without null characters.", maxDescription))
	}
	return nil
}

// Create makes a consumer with its keys.
func (c *Consumers) Create(ctx context.Context, accountID string, spec Spec) (Consumer, error) {
	made := Consumer{
		ID: ids.New(ids.Consumer), Name: spec.Name, Description: spec.Description, Enabled: spec.Enabled == nil || *spec.Enabled,
		KeySource: cmp.Or(spec.KeySource, Default), KeyName: spec.KeyName,
	}
	err := cmp.Or(checkName(spec.Name), checkDescription(spec.Description), checkSource(made.KeySource, &made.KeyName))
	if err != nil {
		return Consumer{}, err
	}
	if err := made.chooseIdentities(spec); err != nil {
		return Consumer{}, err
	}
	err = pgx.BeginFunc(ctx, c.db, func(tx pgx.Tx) error {
		if err := insertConsumer(ctx, tx, accountID, &made); err != nil {
			return err
		}
		if err := c.insertIdentities(ctx, tx, accountID, &made); err != nil {
			return err
		}
		if err := publish.Enqueue(ctx, tx, c.jobs, snapshot.KindConsumer, made.ID); err != nil {
			return err
		}
		return record(ctx, tx, made.ID)
	})
	if err != nil {
		return Consumer{}, err
	}
	return made, nil
}

// chooseIdentities gives a new consumer what it proves itself with.
func (c *Consumer) chooseIdentities(spec Spec) (err error) {
	if c.Keys, err = chooseKeys(spec.Keys, nil); err != nil {
		return err
	}
	if c.AccessKeys, err = chooseAccessKeys(spec.AccessKeys, nil); err != nil {
		return err
	}
	if spec.Token != nil && *spec.Token != (TokenIdentity{}) {
		c.Token, err = spec.Token.checked(nil)
	}
	return err
}

func (c *Consumers) insertIdentities(ctx context.Context, tx pgx.Tx, accountID string, made *Consumer) error {
	if err := c.insertKeys(ctx, tx, made.ID, made.Keys); err != nil {
		return err
	}
	if err := c.insertToken(ctx, tx, accountID, made.ID, made.Token); err != nil {
		return err
	}
	return c.insertAccessKeys(ctx, tx, accountID, made.ID, made.AccessKeys)
}

func insertConsumer(ctx context.Context, tx pgx.Tx, accountID string, made *Consumer) error {
	err := tx.QueryRow(ctx, `
		INSERT INTO consumer (id, account_id, name, enabled, description, key_source, key_name)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		RETURNING created_at, updated_at`,
		made.ID, accountID, made.Name, made.Enabled, made.Description, made.KeySource, made.KeyName).
		Scan(&made.CreatedAt, &made.UpdatedAt)
	if postgres.IsUniqueViolation(err, "consumer_account_id_name_key") {
		return ErrNameTaken.Withf("The account has a consumer named %s already. Choose another name.", made.Name)
	}
	if err != nil {
		return fmt.Errorf("insert the consumer: %w", err)
	}
	return nil
}

// record writes the audit row of a change that the transaction made.
func record(ctx context.Context, tx pgx.Tx, resourceID string) error {
	entry := audit.From(ctx)
	entry.ResourceID, entry.Outcome = resourceID, audit.Done
	return audit.Insert(ctx, tx, entry)
}

const consumerColumns = `c.id, c.name, c.description, c.enabled, c.key_source, c.key_name, c.created_at, c.updated_at`

func scanConsumer(row pgx.CollectableRow) (c Consumer, err error) {
	return c, row.Scan(&c.ID, &c.Name, &c.Description, &c.Enabled, &c.KeySource, &c.KeyName, &c.CreatedAt, &c.UpdatedAt)
}

// Get returns the account's consumer with what it proves itself with, or ErrNotFound.
func (c *Consumers) Get(ctx context.Context, accountID, id string) (found Consumer, err error) {
	err = pgx.BeginFunc(ctx, c.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT `+consumerColumns+` FROM consumer c WHERE c.id = $1 AND c.account_id = $2 FOR KEY SHARE`, id, accountID)
		if err != nil {
			return err
		}
		if found, err = oneConsumer(rows, id); err != nil {
			return err
		}
		if found.Keys, err = c.readKeys(ctx, tx, id); err != nil {
			return err
		}
		if found.Token, err = c.readToken(ctx, tx, id); err != nil {
			return err
		}
		found.AccessKeys, err = c.readAccessKeys(ctx, tx, id)
		return err
	})
	return found, err
}

func oneConsumer(rows pgx.Rows, id string) (Consumer, error) {
	found, err := pgx.CollectExactlyOneRow(rows, scanConsumer)
	if errors.Is(err, pgx.ErrNoRows) {
		return Consumer{}, notFound(id)
	}
	return found, err
}

func notFound(id string) error {
	return ErrNotFound.Withf("The consumer %.64q does not exist. Call ListConsumers for the ids of this account.", id)
}

// List returns one page of the account's consumers without their keys, oldest first, and how many there are in all.
func (c *Consumers) List(ctx context.Context, accountID string, f Filter) ([]Consumer, int, error) {
	found, total, err := list(ctx, c.db, consumerColumns, `
		FROM consumer c WHERE c.account_id = $1 AND ($2 = '' OR strpos(c.name, $2) > 0)`,
		`c.created_at, c.id`, f.Page, []any{accountID, f.NameLike}, scanConsumer)
	if err != nil {
		return nil, 0, fmt.Errorf("list the consumers: %w", err)
	}
	return found, total, nil
}

// list counts the rows that match and collects one page of them. from begins with FROM; its arguments are args.
func list[T any](ctx context.Context, db *pgxpool.Pool, columns, from, order string, page instance.Page, args []any,
	scan pgx.RowToFunc[T],
) ([]T, int, error) {
	total := 0
	if err := db.QueryRow(ctx, `SELECT count(*) `+from, args...).Scan(&total); err != nil {
		return nil, 0, err
	}
	rows, err := db.Query(ctx, fmt.Sprintf(`SELECT %s %s ORDER BY %s OFFSET %d LIMIT %d`,
		columns, from, order, (page.Number-1)*page.Size, page.Size), args...)
	if err != nil {
		return nil, 0, err
	}
	found, err := pgx.CollectRows(rows, scan)
	return found, total, err
}

// Update changes the account's consumer. Its name stays.
func (c *Consumers) Update(ctx context.Context, accountID, id string, change Change) error {
	return pgx.BeginFunc(ctx, c.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT `+consumerColumns+` FROM consumer c WHERE c.id = $1 AND c.account_id = $2 FOR NO KEY UPDATE`, id, accountID)
		if err != nil {
			return err
		}
		found, err := oneConsumer(rows, id)
		if err != nil {
			return err
		}
		change.apply(&found)
		if err := cmp.Or(checkDescription(found.Description), checkSource(found.KeySource, &found.KeyName)); err != nil {
			return err
		}
		if err := updateConsumer(ctx, tx, found); err != nil {
			return err
		}
		if err := c.replaceIdentities(ctx, tx, accountID, id, change); err != nil {
			return err
		}
		if err := c.touch(ctx, tx, []string{id}); err != nil {
			return err
		}
		return record(ctx, tx, id)
	})
}

func (c *Consumers) replaceIdentities(ctx context.Context, tx pgx.Tx, accountID, id string, change Change) error {
	if err := c.replaceKeys(ctx, tx, id, change.Keys); err != nil {
		return err
	}
	if err := c.replaceToken(ctx, tx, accountID, id, change.Token); err != nil {
		return err
	}
	return c.replaceAccessKeys(ctx, tx, accountID, id, change.AccessKeys)
}

func (change Change) apply(c *Consumer) {
	if change.KeySource != nil && *change.KeySource != c.KeySource {
		c.KeyName = "" // it was the name of something else
	}
	set(&c.Description, change.Description)
	set(&c.Enabled, change.Enabled)
	set(&c.KeySource, change.KeySource)
	set(&c.KeyName, change.KeyName)
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

func updateConsumer(ctx context.Context, tx pgx.Tx, c Consumer) error {
	_, err := tx.Exec(ctx, `
		UPDATE consumer SET enabled = $2, description = $3, key_source = $4, key_name = $5 WHERE id = $1`,
		c.ID, c.Enabled, c.Description, c.KeySource, c.KeyName)
	if err != nil {
		return fmt.Errorf("update the consumer: %w", err)
	}
	return nil
}

// Delete removes the account's consumer with its keys, memberships and rules.
func (c *Consumers) Delete(ctx context.Context, accountID, id string) error {
	return pgx.BeginFunc(ctx, c.db, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `DELETE FROM consumer WHERE id = $1 AND account_id = $2`, id, accountID)
		if err != nil {
			return fmt.Errorf("delete the consumer: %w", err)
		}
		if done.RowsAffected() == 0 {
			return notFound(id)
		}
		if err := resource.DeleteTags(ctx, tx, id); err != nil {
			return err
		}
		if err := c.publish(ctx, tx, []string{id}); err != nil {
			return err
		}
		return record(ctx, tx, id)
	})
}

// lockReached locks the named consumers and the members of the groups, in the order of their ids, so that two calls
// cannot wait for each other, and returns their ids. Whoever changes what consumers may do locks Model APIs first, then
// groups, then consumers: a published consumer shows every change that was committed before.
func lockReached(ctx context.Context, tx pgx.Tx, accountID string, named, groupIDs []string) ([]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT id FROM consumer
		WHERE account_id = $1 AND (id = ANY ($2)
			OR id IN (SELECT consumer_id FROM consumer_group_member WHERE group_id = ANY ($3)))
		ORDER BY id FOR NO KEY UPDATE`, accountID, named, groupIDs)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("lock the consumers: %w", err)
	}
	return found, allFound(found, named, notFound)
}

// allFound refuses the first wanted id that was not found.
func allFound(found, wanted []string, missing func(id string) error) error {
	known := make(map[string]bool, len(found))
	for _, id := range found {
		known[id] = true
	}
	for _, id := range wanted {
		if !known[id] {
			return missing(id)
		}
	}
	return nil
}

// atOnce is how many consumers are published in the transaction that changes them.
const atOnce = 100

// touch publishes the locked consumers as they are, so that what was taken from them opens nothing although no worker
// runs. Where they are many that is left to jobs: nobody else can publish meanwhile.
func (c *Consumers) touch(ctx context.Context, tx pgx.Tx, consumerIDs []string) error {
	if _, err := tx.Exec(ctx, `
		UPDATE consumer SET version = version + 1, updated_at = now() WHERE id = ANY ($1)`, consumerIDs); err != nil {
		return fmt.Errorf("touch the consumers: %w", err)
	}
	if len(consumerIDs) <= atOnce {
		return c.publish(ctx, tx, consumerIDs)
	}
	for _, id := range consumerIDs {
		if err := publish.Enqueue(ctx, tx, c.jobs, snapshot.KindConsumer, id); err != nil {
			return err
		}
	}
	return nil
}

// publish publishes the locked consumers, or that they are gone, in the caller's transaction.
func (c *Consumers) publish(ctx context.Context, tx pgx.Tx, consumerIDs []string) error {
	items := make([]publish.Item, len(consumerIDs))
	for n, id := range consumerIDs {
		var err error
		if items[n], _, err = c.Compile(ctx, tx, id); err != nil {
			return err
		}
	}
	return publish.Put(ctx, tx, items...)
}
