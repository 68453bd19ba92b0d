package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/resource"
)

const maxAtOnce = 1000 // ids or rules of one call

// CreateGroup makes a group without members.
func (c *Consumers) CreateGroup(ctx context.Context, accountID, name, description string) (Group, error) {
	g := Group{ID: ids.New(ids.ConsumerGroup), Name: name, Description: description}
	if err := checkGroup(g); err != nil {
		return Group{}, err
	}
	err := pgx.BeginFunc(ctx, c.db, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			INSERT INTO consumer_group (id, account_id, name, description) VALUES ($1, $2, $3, $4)
			RETURNING created_at, updated_at`, g.ID, accountID, name, description).Scan(&g.CreatedAt, &g.UpdatedAt)
		if err != nil {
			return groupName(err, name)
		}
		return record(ctx, tx, g.ID)
	})
	if err != nil {
		return Group{}, err
	}
	return g, nil
}

func checkGroup(g Group) error {
	if err := checkName(g.Name); err != nil {
		return err
	}
	return checkDescription(g.Description)
}

func groupName(err error, name string) error {
	if postgres.IsUniqueViolation(err, "consumer_group_account_id_name_key") {
		return ErrGroupNameTaken.Withf("The account has a consumer group named %s already. Choose another name.", name)
	}
	return fmt.Errorf("write the consumer group: %w", err)
}

const groupColumns = `g.id, g.name, g.description, g.created_at, g.updated_at,
	(SELECT count(*) FROM consumer_group_member m WHERE m.group_id = g.id)`

func scanGroup(row pgx.CollectableRow) (g Group, err error) {
	return g, row.Scan(&g.ID, &g.Name, &g.Description, &g.CreatedAt, &g.UpdatedAt, &g.Members)
}

// GetGroup returns the account's group, or ErrGroupNotFound.
func (c *Consumers) GetGroup(ctx context.Context, accountID, id string) (Group, error) {
	rows, err := c.db.Query(ctx, `
		SELECT `+groupColumns+` FROM consumer_group g WHERE g.id = $1 AND g.account_id = $2`, id, accountID)
	if err != nil {
		return Group{}, err
	}
	return oneGroup(rows, id)
}

func oneGroup(rows pgx.Rows, id string) (Group, error) {
	found, err := pgx.CollectExactlyOneRow(rows, scanGroup)
	if errors.Is(err, pgx.ErrNoRows) {
		return Group{}, groupNotFound(id)
	}
	return found, err
}

func groupNotFound(id string) error {
	return ErrGroupNotFound.Withf("The consumer group %.64q does not exist. Call ListConsumerGroups for the ids of this account.", id)
}

// ListGroups returns one page of the account's groups, oldest first, and how many there are in all.
func (c *Consumers) ListGroups(ctx context.Context, accountID string, f Filter) ([]Group, int, error) {
	found, total, err := list(ctx, c.db, groupColumns, `
		FROM consumer_group g WHERE g.account_id = $1 AND ($2 = '' OR strpos(g.name, $2) > 0)`,
		`g.created_at, g.id`, f.Page, []any{accountID, f.NameLike}, scanGroup)
	if err != nil {
		return nil, 0, fmt.Errorf("list the consumer groups: %w", err)
	}
	return found, total, nil
}

// UpdateGroup changes how the account's group is called.
func (c *Consumers) UpdateGroup(ctx context.Context, accountID, id string, change GroupChange) error {
	return pgx.BeginFunc(ctx, c.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT `+groupColumns+` FROM consumer_group g WHERE g.id = $1 AND g.account_id = $2 FOR NO KEY UPDATE`, id, accountID)
		if err != nil {
			return err
		}
		g, err := oneGroup(rows, id)
		if err != nil {
			return err
		}
		set(&g.Name, change.Name)
		set(&g.Description, change.Description)
		if err := checkGroup(g); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `
			UPDATE consumer_group SET name = $2, description = $3, updated_at = now() WHERE id = $1`,
			id, g.Name, g.Description); err != nil {
			return groupName(err, g.Name)
		}
		return record(ctx, tx, id)
	})
}

// DeleteGroup removes the account's group with its rules. Its members stay, without what those rules allowed.
func (c *Consumers) DeleteGroup(ctx context.Context, accountID, id string) error {
	return c.changeGroup(ctx, accountID, id, nil, func(tx pgx.Tx, reached []string) ([]string, error) {
		if _, err := tx.Exec(ctx, `DELETE FROM consumer_group WHERE id = $1`, id); err != nil {
			return nil, err
		}
		return reached, resource.DeleteTags(ctx, tx, id)
	})
}

// AddMembers puts the account's consumers in its group. Those that are in it already stay.
func (c *Consumers) AddMembers(ctx context.Context, accountID, id string, consumerIDs []string) error {
	if err := checkCount("consumerIds", len(consumerIDs)); err != nil {
		return err
	}
	return c.changeGroup(ctx, accountID, id, consumerIDs, func(tx pgx.Tx, _ []string) ([]string, error) {
		return changedMembers(ctx, tx, `
			INSERT INTO consumer_group_member (group_id, consumer_id) SELECT $1, unnest($2::text[])
			ON CONFLICT DO NOTHING
			RETURNING consumer_id`, id, consumerIDs)
	})
}

// RemoveMembers takes the account's consumers out of its group. Those that are not in it stay out.
func (c *Consumers) RemoveMembers(ctx context.Context, accountID, id string, consumerIDs []string) error {
	if err := checkCount("consumerIds", len(consumerIDs)); err != nil {
		return err
	}
	return c.changeGroup(ctx, accountID, id, consumerIDs, func(tx pgx.Tx, _ []string) ([]string, error) {
		return changedMembers(ctx, tx, `
			DELETE FROM consumer_group_member WHERE group_id = $1 AND consumer_id = ANY ($2)
			RETURNING consumer_id`, id, consumerIDs)
	})
}

func checkCount(parameter string, n int) error {
	if n < 1 || n > maxAtOnce {
		return fault.InvalidParameter(parameter, fmt.Sprintf("name 1 to %d of them; these are %d.", maxAtOnce, n))
	}
	return nil
}

func changedMembers(ctx context.Context, tx pgx.Tx, statement, groupID string, consumerIDs []string) ([]string, error) {
	rows, err := tx.Query(ctx, statement, groupID, consumerIDs)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// changeGroup locks the group, the named consumers and all members, makes the change and publishes the consumers that
// it touched.
func (c *Consumers) changeGroup(ctx context.Context, accountID, id string, named []string,
	change func(tx pgx.Tx, reached []string) (touched []string, err error),
) error {
	return pgx.BeginFunc(ctx, c.db, func(tx pgx.Tx) error {
		if err := lockGroups(ctx, tx, accountID, []string{id}); err != nil {
			return err
		}
		reached, err := lockReached(ctx, tx, accountID, named, []string{id})
		if err != nil {
			return err
		}
		touched, err := change(tx, reached)
		if err != nil {
			return fmt.Errorf("change the consumer group: %w", err)
		}
		if err := c.touch(ctx, tx, touched); err != nil {
			return err
		}
		return record(ctx, tx, id)
	})
}

// lockGroups locks the account's groups in the order of their ids.
func lockGroups(ctx context.Context, tx pgx.Tx, accountID string, wanted []string) error {
	rows, err := tx.Query(ctx, `
		SELECT id FROM consumer_group WHERE id = ANY ($1) AND account_id = $2 ORDER BY id FOR NO KEY UPDATE`, wanted, accountID)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("lock the consumer groups: %w", err)
	}
	return allFound(found, wanted, groupNotFound)
}

// ListMembers returns one page of the members of the account's group without their keys, and how many there are in all.
func (c *Consumers) ListMembers(ctx context.Context, accountID, id string, page instance.Page) ([]Consumer, int, error) {
	if _, err := c.GetGroup(ctx, accountID, id); err != nil {
		return nil, 0, err
	}
	found, total, err := list(ctx, c.db, consumerColumns, `
		FROM consumer_group_member m JOIN consumer c ON c.id = m.consumer_id
		WHERE m.group_id = $1`, `c.created_at, c.id`, page, []any{id}, scanConsumer)
	if err != nil {
		return nil, 0, fmt.Errorf("list the members: %w", err)
	}
	return found, total, nil
}
