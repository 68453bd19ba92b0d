package resource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/ids"
)

// Facts returns the resource group and the tags of the account's resource, whatever its kind. One that the account does
// not have, has none.
func (r *Resources) Facts(ctx context.Context, accountID, id string) (access.Facts, error) {
	prefix, _, _ := strings.Cut(id, "-")
	found := slices.IndexFunc(r.kinds, func(k Kind) bool { return k.Prefix == prefix })
	if !ids.Valid(prefix, id) || found < 0 && prefix != ids.DBInstance {
		return access.Facts{}, nil
	}
	table, group, tags := "db_instance", "resource_group_id", "(SELECT key, value FROM db_instance_tag WHERE db_instance_id = r.id)"
	if found >= 0 {
		table, tags = r.kinds[found].Table, "(SELECT key, value FROM resource_tag WHERE resource_id = r.id)"
	}
	if found >= 0 && !r.kinds[found].Grouped {
		group = "''"
	}
	var facts access.Facts
	err := r.db.QueryRow(ctx, `
		SELECT `+group+`, coalesce((SELECT jsonb_object_agg(key, value) FROM `+tags+` t), '{}')
		FROM `+table+` r WHERE id = $1 AND account_id = $2`, id, accountID).Scan(&facts.ResourceGroupID, &facts.Tags)
	if errors.Is(err, pgx.ErrNoRows) {
		return access.Facts{}, nil
	}
	if err != nil {
		return access.Facts{}, fmt.Errorf("read the group and the tags of %s: %w", id, err)
	}
	return facts, nil
}
