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
	// OFFSET 0 and LIMIT 1 keep the planner from reading a whole table to join it: what it believes of how many
	// attachments somebody has is wrong for as long as it has not looked at the tables, and often after.
	rows, _ := s.db.Query(ctx, `
		WITH caller AS MATERIALIZED (
			SELECT id, account_id FROM ram_user WHERE id = $2 UNION ALL SELECT id, account_id FROM ram_role WHERE id = $3),
		own AS (SELECT id FROM caller WHERE account_id = $1),
		principal AS (
			SELECT id FROM own UNION ALL
			SELECT m.group_id FROM own CROSS JOIN LATERAL (SELECT group_id FROM ram_group_member WHERE user_id = own.id OFFSET 0) m)
		SELECT DISTINCT ON (a.resource_group_id, p.id) a.resource_group_id,
			p.name, CASE WHEN p.account_id IS NULL THEN 'System' ELSE 'Custom' END,
			p.id || '/v' || p.default_version, v.document
		FROM principal
		CROSS JOIN LATERAL (SELECT policy_id, resource_group_id FROM policy_attachment WHERE principal_id = principal.id OFFSET 0) a
		CROSS JOIN LATERAL (SELECT id, account_id, name, default_version FROM policy WHERE id = a.policy_id LIMIT 1) p
		CROSS JOIN LATERAL (SELECT document FROM policy_version WHERE policy_id = p.id AND version = p.default_version LIMIT 1) v
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
