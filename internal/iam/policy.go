package iam

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/access"
)

// PoliciesOf returns the policies that count for the caller, each in its default version: those of a user and the groups
// that the user is in, or those of the role of a session. A user or role of another account has none.
func (s *Store) PoliciesOf(ctx context.Context, caller access.Caller) (access.Attachments, error) {
	// The database never hands out a policy's number twice and a version never changes: both together name a document.
	rows, _ := s.db.Query(ctx, `
		WITH principal AS (
			SELECT id FROM ram_user WHERE id = $2 AND account_id = $1
			UNION ALL SELECT m.group_id FROM ram_group_member m JOIN ram_user u ON u.id = m.user_id WHERE u.id = $2 AND u.account_id = $1
			UNION ALL SELECT id FROM ram_role WHERE id = $3 AND account_id = $1)
		SELECT DISTINCT ON (a.resource_group_id, p.id) a.resource_group_id,
			p.name, CASE WHEN p.account_id IS NULL THEN 'System' ELSE 'Custom' END,
			p.id || '/v' || p.default_version, v.document
		FROM principal
		JOIN policy_attachment a ON a.principal_id = principal.id
		JOIN policy p ON p.id = a.policy_id
		JOIN policy_version v ON v.policy_id = p.id AND v.version = p.default_version
		ORDER BY a.resource_group_id, p.id`, caller.AccountID, caller.UserID, caller.RoleID)
	attached := access.Attachments{ResourceGroups: map[string][]access.AttachedPolicy{}}
	var group string
	var p access.AttachedPolicy
	_, err := pgx.ForEachRow(rows, []any{&group, &p.Name, &p.Type, &p.VersionID, &p.Document}, func() error {
		if group == "" {
			attached.Account = append(attached.Account, p)
		} else {
			attached.ResourceGroups[group] = append(attached.ResourceGroups[group], p)
		}
		return nil
	})
	if err != nil {
		return access.Attachments{}, fmt.Errorf("read the policies of %s: %w", caller.ARN(), err)
	}
	return attached, nil
}
