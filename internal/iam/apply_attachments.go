package iam

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// attachmentsTold ends a statement about the attachments a: it returns the account, the policy with the resource group it
// counts in unless that is the whole account, and who has it.
const attachmentsTold = `
	SELECT coalesce(u.account_id, g.account_id, r.account_id),
		CASE WHEN p.account_id IS NULL THEN 'System ' ELSE 'Custom ' END || p.name ||
			CASE WHEN a.resource_group_id = '' THEN '' ELSE ' in ' || a.resource_group_id END,
		coalesce('user ' || u.name, 'group ' || g.name, 'role ' || r.name)
	FROM a JOIN policy p ON p.id = a.policy_id
	LEFT JOIN ram_user u ON u.id = a.user_id LEFT JOIN ram_group g ON g.id = a.group_id LEFT JOIN ram_role r ON r.id = a.role_id`

// attachments attaches the policies that the files attach, and detaches those that files attached before. Where the API
// has attached the same policy, its attachment serves.
func (c *change) attachments(ctx context.Context, files Files, ids map[holder]string, policyIDs map[policyName]int64) error {
	groups, err := c.resourceGroups(ctx, files)
	if err != nil {
		return err
	}
	kinds, principals, policies, scopes := []string{}, []string{}, []int64{}, []string{}
	for _, a := range files.accounts {
		for _, kind := range principalKinds {
			for _, p := range a.of(kind) {
				for _, ref := range p.policies {
					scope, exists := groups[resourceGroup{a.id, ref.resourceGroup}]
					if !exists && ref.resourceGroup != "" {
						c.complain(ref.place, "account %s has no resource group %s: make it first, with engineshed resource-group create", a.id, ref.resourceGroup)
						continue
					}
					kinds, principals = append(kinds, kind.name), append(principals, ids[holder{a.id, kind.name, p.name}])
					policies, scopes = append(policies, policyIDs[ref.in(a.id)]), append(scopes, scope)
				}
			}
		}
	}
	err = c.write(ctx, Created, KindAttachment, `
		WITH a AS (
			INSERT INTO policy_attachment (user_id, group_id, role_id, policy_id, resource_group_id, source)
			SELECT CASE WHEN kind = 'user' THEN id END, CASE WHEN kind = 'group' THEN id END, CASE WHEN kind = 'role' THEN id END,
				policy_id, resource_group_id, 'file'
			FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS wanted (kind, id, policy_id, resource_group_id)
			ON CONFLICT DO NOTHING
			RETURNING *)`+attachmentsTold, kinds, principals, policies, scopes)
	if err != nil {
		return fmt.Errorf("attach policies: %w", err)
	}
	err = c.write(ctx, Deleted, KindAttachment, `
		WITH a AS (
			DELETE FROM policy_attachment a WHERE source = 'file' AND NOT EXISTS (
				SELECT FROM unnest($1::text[], $2::bigint[], $3::text[]) AS wanted (id, policy_id, resource_group_id)
				WHERE wanted.id = a.principal_id AND wanted.policy_id = a.policy_id AND wanted.resource_group_id = a.resource_group_id)
			RETURNING *)`+attachmentsTold, principals, policies, scopes)
	if err != nil {
		return fmt.Errorf("detach policies: %w", err)
	}
	return nil
}

// resourceGroup names a resource group of an account, by its name or its id.
type resourceGroup struct{ accountID, name string }

// resourceGroups returns the ids of the accounts' resource groups. They cannot go while the policy files are applied.
func (c *change) resourceGroups(ctx context.Context, files Files) (map[resourceGroup]string, error) {
	rows, _ := c.tx.Query(ctx, `SELECT account_id, name, id FROM resource_group WHERE account_id = ANY ($1)`, files.accountIDs())
	groups := map[resourceGroup]string{}
	var accountID, name, id string
	_, err := pgx.ForEachRow(rows, []any{&accountID, &name, &id}, func() error {
		groups[resourceGroup{accountID, name}], groups[resourceGroup{accountID, id}] = id, id
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the resource groups: %w", err)
	}
	for _, a := range files.accounts { // every account has it, and it has no row
		groups[resourceGroup{a.id, "default"}], groups[resourceGroup{a.id, "rg-default"}] = "rg-default", "rg-default"
	}
	return groups, nil
}
