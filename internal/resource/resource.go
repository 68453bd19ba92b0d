// Package resource keeps what resources of every kind have: tags, and the resource group they belong to.
package resource

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/resourcegroup"
)

// The refusals of this package.
var (
	// ErrType refuses the name of a kind that has no tags.
	ErrType = fault.New(fault.Invalid, "InvalidParameter.UnsupportedTagResourceType",
		"The parameter ResourceType names no type of resource that has tags.", "Send one that the message names.")
	// ErrBothEmpty refuses a question that names neither resources nor tags.
	ErrBothEmpty = fault.New(fault.Invalid, "InvalidParameter.BothEmpty",
		"One of the parameters ResourceId and Tag is required.", "Name resources, tags, or both.")
)

// Kind is what the package that owns a kind of resource says of it. The rows of its table have an id and an account_id.
type Kind struct {
	Service  string // the product; "" is apig
	Name     string // as callers write it; compared without case
	Table    string
	Prefix   string // of the ids
	Grouped  bool   // its rows have a resource_group_id
	NotFound func(id string) error
}

// Resources are the resources of one installation, of all kinds.
type Resources struct {
	db    *pgxpool.Pool
	kinds []Kind
}

// New returns the resources of these kinds.
func New(db *pgxpool.Pool, kinds ...Kind) *Resources {
	return &Resources{db, kinds}
}

// kind finds a kind by the name that a caller wrote.
func (r *Resources) kind(name string) (Kind, error) {
	found := slices.IndexFunc(r.kinds, func(k Kind) bool { return strings.EqualFold(k.Name, name) })
	if found < 0 {
		return Kind{}, ErrType.Withf("%.64q is no type of resource that has tags. These are: %s.", name, names(r.kinds))
	}
	return r.kinds[found], nil
}

func names(kinds []Kind) string {
	list := make([]string, len(kinds))
	for n, k := range kinds {
		list[n] = k.Name
	}
	return strings.Join(list, ", ")
}

// Move puts the account's resource into a resource group of the account.
func (r *Resources) Move(ctx context.Context, accountID, kindName, id, groupID string) error {
	grouped := slices.DeleteFunc(slices.Clone(r.kinds), func(k Kind) bool { return !k.Grouped })
	found := slices.IndexFunc(grouped, func(k Kind) bool { return strings.EqualFold(k.Name, kindName) })
	if found < 0 {
		return fault.InvalidParameter("ResourceType", fmt.Sprintf("%.64q belongs to no resource group. What does: %s.", kindName, names(grouped)))
	}
	kind := grouped[found]
	return pgx.BeginFunc(ctx, r.db, func(tx pgx.Tx) error {
		if err := resourcegroup.Lock(ctx, tx, accountID, groupID); err != nil {
			return err
		}
		done, err := tx.Exec(ctx, `
			UPDATE `+kind.Table+` SET resource_group_id = $3 WHERE id = $1 AND account_id = $2`, id, accountID, groupID)
		if err != nil {
			return fmt.Errorf("move %s: %w", id, err)
		}
		if done.RowsAffected() == 0 {
			return kind.NotFound(id)
		}
		return record(ctx, tx, []string{id})
	})
}

// lock locks the account's resources in the order of their ids, and refuses the first that the account does not have.
// Whoever deletes a resource deletes its row, or locks it, before its tags: tags that are added meanwhile go with it.
func lock(ctx context.Context, tx pgx.Tx, kind Kind, accountID string, wanted []string) error {
	rows, err := tx.Query(ctx, `
		SELECT id FROM `+kind.Table+` WHERE id = ANY ($1) AND account_id = $2 ORDER BY id FOR NO KEY UPDATE`, wanted, accountID)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("lock the resources: %w", err)
	}
	for _, id := range wanted {
		if !slices.Contains(found, id) {
			return kind.NotFound(id)
		}
	}
	return nil
}

// record writes the audit row of a change that the transaction made.
func record(ctx context.Context, tx pgx.Tx, resourceIDs []string) error {
	entry := audit.From(ctx)
	entry.ResourceID, entry.Outcome = strings.Join(resourceIDs, ","), audit.Done
	return audit.Insert(ctx, tx, entry)
}
