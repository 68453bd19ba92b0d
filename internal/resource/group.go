package resource

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/resourcegroup"
)

// Instances are the DB instances, as resource groups see them. They have tags of their own.
var Instances = Kind{
	Service: "gpdb", Name: "dbinstance", Table: "db_instance", Grouped: true,
	NotFound: func(id string) error {
		return instance.ErrNotFound.Withf("The DB instance %.64q does not exist. Call DescribeDBInstances for the ids of this account.", id)
	},
}

func (k Kind) service() string { return cmp.Or(k.Service, "apig") }

// Ref names a resource by its product, type and id. Case does not matter in the first two.
type Ref struct{ Service, Type, ID string }

// grouped finds the kind of a resource that belongs to a resource group.
func (r *Resources) grouped(ref Ref) (Kind, error) {
	var known []string
	for _, kind := range r.kinds {
		if !kind.Grouped {
			continue
		}
		if strings.EqualFold(kind.service(), ref.Service) && strings.EqualFold(kind.Name, ref.Type) {
			return kind, nil
		}
		known = append(known, kind.service()+" "+strings.ToLower(kind.Name))
	}
	return Kind{}, fault.InvalidParameter("ResourceType", fmt.Sprintf("%.64q of %.64q belongs to no resource group. What does: %s.",
		ref.Type, ref.Service, strings.Join(known, ", ")))
}

// MoveAll puts resources of the account into a group of it, each for itself: the first answer is what came of each. may
// says whether the caller may move a resource.
func (r *Resources) MoveAll(ctx context.Context, accountID, groupID string, refs []Ref, may func(Ref) error) ([]error, error) {
	outcomes := make([]error, len(refs))
	for i, ref := range refs {
		if _, outcomes[i] = r.grouped(ref); outcomes[i] == nil {
			outcomes[i] = may(ref)
		}
		if _, refused := fault.From(outcomes[i]); outcomes[i] != nil && !refused {
			return nil, outcomes[i]
		}
	}
	err := pgx.BeginFunc(ctx, r.db, func(tx pgx.Tx) error {
		if err := resourcegroup.Lock(ctx, tx, accountID, groupID); err != nil {
			return err
		}
		var moved []string
		for _, i := range inOrder(refs) {
			if outcomes[i] != nil {
				continue
			}
			kind, _ := r.grouped(refs[i])
			done, err := tx.Exec(ctx, `
				UPDATE `+kind.Table+` SET resource_group_id = $3 WHERE id = $1 AND account_id = $2`, refs[i].ID, accountID, groupID)
			switch {
			case err != nil:
				return fmt.Errorf("move %s: %w", refs[i].ID, err)
			case done.RowsAffected() == 0:
				outcomes[i] = kind.NotFound(refs[i].ID)
			default:
				moved = append(moved, refs[i].ID)
			}
		}
		entry := audit.From(ctx)
		entry.Detail = "resource group " + groupID
		return record(ctx, tx, moved)
	})
	return outcomes, err
}

// inOrder returns the places of the refs in the order of their ids, in which every call locks them.
func inOrder(refs []Ref) []int {
	places := make([]int, len(refs))
	for i := range places {
		places[i] = i
	}
	slices.SortFunc(places, func(a, b int) int { return strings.Compare(refs[a].ID, refs[b].ID) })
	return places
}

// Member is a resource and the group it is in.
type Member struct {
	Service, Type, ID, ResourceGroupID string
	CreatedAt                          time.Time
}

// MemberFilter says which resources of an account are meant; "" is any.
type MemberFilter struct {
	AccountID            string
	Service, Type, ID    string // case matters in the id alone
	ResourceGroupID      string
	PageNumber, PageSize int
}

// ListMembers returns a page of the resources that are in groups, by product, type and id, and how many there are in all.
func (r *Resources) ListMembers(ctx context.Context, f MemberFilter) (page []Member, total int, err error) {
	var parts []string
	for _, kind := range r.kinds {
		if kind.Grouped && (f.Service == "" || strings.EqualFold(kind.service(), f.Service)) && (f.Type == "" || strings.EqualFold(kind.Name, f.Type)) {
			parts = append(parts, fmt.Sprintf(`
				SELECT '%s' AS service, '%s' AS type, id, resource_group_id, created_at FROM %s
				WHERE account_id = $1 AND ($2 = '' OR id = $2) AND ($3 = '' OR resource_group_id = $3)`,
				kind.service(), strings.ToLower(kind.Name), kind.Table))
		}
	}
	if parts == nil {
		return []Member{}, 0, nil
	}
	from := ` FROM (` + strings.Join(parts, " UNION ALL ") + `) AS r`
	which := []any{f.AccountID, f.ID, f.ResourceGroupID}
	if err := r.db.QueryRow(ctx, `SELECT count(*)`+from, which...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count the resources: %w", err)
	}
	rows, _ := r.db.Query(ctx, `SELECT *`+from+` ORDER BY service, type, id LIMIT $4 OFFSET $5`,
		append(which, f.PageSize, (f.PageNumber-1)*f.PageSize)...)
	page, err = pgx.CollectRows(rows, pgx.RowToStructByName[Member])
	if err != nil {
		return nil, 0, fmt.Errorf("read the resources: %w", err)
	}
	return page, total, nil
}

// Tables are those of the kinds whose rows are in resource groups.
func (r *Resources) Tables() []string {
	var tables []string
	for _, kind := range r.kinds {
		if kind.Grouped {
			tables = append(tables, kind.Table)
		}
	}
	return tables
}
