package iam

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/access"
)

// PoliciesOf returns the policies that are attached to the user for the whole account, system and custom ones, each in
// its default version. A user of another account has none.
func (s *Store) PoliciesOf(ctx context.Context, caller access.Caller) (access.Attachments, error) {
	// The database never hands out a policy's number twice and a version never changes: both together name a document.
	rows, _ := s.db.Query(ctx, `
		SELECT p.name, CASE WHEN p.account_id IS NULL THEN 'System' ELSE 'Custom' END AS type,
		       p.id || '/v' || p.default_version AS version_id, v.document
		FROM policy_attachment a
		JOIN ram_user u ON u.id = a.user_id AND u.account_id = $1
		JOIN policy p ON p.id = a.policy_id
		JOIN policy_version v ON v.policy_id = p.id AND v.version = p.default_version
		WHERE a.user_id = $2 AND a.resource_group_id = ''
		ORDER BY p.id`, caller.AccountID, caller.UserID)
	attached, err := pgx.CollectRows(rows, pgx.RowToStructByName[access.AttachedPolicy])
	if err != nil {
		return access.Attachments{}, fmt.Errorf("read the policies of the user: %w", err)
	}
	return access.Attachments{Account: attached}, nil
}
