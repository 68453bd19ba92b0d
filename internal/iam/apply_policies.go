package iam

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// keptVersions is how many versions of a policy stay.
const keptVersions = 5

// policyName names a policy; accountID is empty for a system policy.
type policyName struct{ accountID, name string }

// in is the policy that a user of the account means by r.
func (r policyRef) in(accountID string) policyName {
	if r.system {
		return policyName{name: r.name}
	}
	return policyName{accountID, r.name}
}

type storedPolicy struct {
	ID                                             int64
	AccountID, Name, Description, Source, Document string
}

func (c *change) storedPolicies(ctx context.Context, accountIDs []string) (map[policyName]storedPolicy, error) {
	rows, _ := c.tx.Query(ctx, `
		SELECT p.id, coalesce(p.account_id, '') AS account_id, p.name, p.description, p.source,
		       coalesce(v.document, '') AS document
		FROM policy p
		LEFT JOIN policy_version v ON v.policy_id = p.id AND v.version = p.default_version
		WHERE coalesce(p.account_id, '') = ANY ($1)`, accountIDs)
	policies, err := pgx.CollectRows(rows, pgx.RowToStructByName[storedPolicy])
	if err != nil {
		return nil, fmt.Errorf("read the policies: %w", err)
	}
	stored := map[policyName]storedPolicy{}
	for _, p := range policies {
		stored[policyName{p.AccountID, p.Name}] = p
	}
	return stored, nil
}

// systemPolicies puts the system policies and returns their ids.
func (c *change) systemPolicies(ctx context.Context, system []policy) (map[policyName]int64, error) {
	stored, err := c.storedPolicies(ctx, []string{everyone})
	if err != nil {
		return nil, err
	}
	ids := map[policyName]int64{}
	for _, p := range system {
		name := policyName{everyone, p.name}
		if ids[name], err = c.policy(ctx, everyone, "system", p, stored[name]); err != nil {
			return nil, fmt.Errorf("system policy %s: %w", p.name, err)
		}
	}
	return ids, nil
}

func (c *change) dropSystemPolicies(ctx context.Context, known []policy) error {
	names := make([]string, 0, len(known))
	for _, p := range known {
		names = append(names, p.name)
	}
	err := c.write(ctx, Deleted, KindPolicy, `
		DELETE FROM policy p
		WHERE source = 'system' AND name <> ALL ($1)
		  AND NOT EXISTS (SELECT FROM policy_attachment a WHERE a.policy_id = p.id)
		RETURNING '', name, ''`, names)
	if err != nil {
		return fmt.Errorf("remove system policies: %w", err)
	}
	return nil
}

// customPolicies puts the policies of the files, adds their ids to ids and returns them.
func (c *change) customPolicies(ctx context.Context, files Files, ids map[policyName]int64) (kept []int64, err error) {
	stored, err := c.storedPolicies(ctx, files.accountIDs())
	if err != nil {
		return nil, err
	}
	kept = []int64{}
	for _, a := range files.accounts {
		for _, p := range a.policies {
			name := policyName{a.id, p.name}
			if ids[name], err = c.policy(ctx, a.id, "file", p, stored[name]); err != nil {
				return nil, fmt.Errorf("%s: policy %s: %w", p.place, p.name, err)
			}
			kept = append(kept, ids[name])
		}
	}
	return kept, nil
}

// policy puts one policy. A document that changed becomes a new version.
func (c *change) policy(ctx context.Context, accountID, source string, p policy, have storedPolicy) (int64, error) {
	switch {
	case have.ID == 0:
		return c.newPolicy(ctx, accountID, source, p)
	case have.Source != source:
		c.complain(p.place, "account %s has a policy %s that was made through the API: delete it there or use another name",
			accountID, p.name)
		return have.ID, nil
	}
	return have.ID, c.changePolicy(ctx, accountID, p, have)
}

func (c *change) changePolicy(ctx context.Context, accountID string, p policy, have storedPolicy) error {
	d := Difference{Change: Changed, Kind: KindPolicy, AccountID: accountID, Name: p.name, Facts: facts(
		Fact{"description", have.Description, p.description}, Fact{"document", have.Document, p.document},
	)}
	if d.Facts == nil {
		return nil
	}
	c.differs(d)
	if have.Document != p.document {
		if err := c.newVersion(ctx, have.ID, p.document); err != nil {
			return err
		}
	}
	_, err := c.tx.Exec(ctx, `UPDATE policy SET description = $2, updated_at = now() WHERE id = $1`, have.ID, p.description)
	return err
}

func (c *change) newPolicy(ctx context.Context, accountID, source string, p policy) (id int64, err error) {
	err = c.tx.QueryRow(ctx, `
		WITH made AS (
			INSERT INTO policy (account_id, name, description, default_version, source)
			VALUES (nullif($1, ''), $2, $3, 1, $4)
			RETURNING id)
		INSERT INTO policy_version (policy_id, version, document) SELECT id, 1, $5 FROM made
		RETURNING policy_id`, accountID, p.name, p.description, source, p.document).Scan(&id)
	c.differs(Difference{Change: Created, Kind: KindPolicy, AccountID: accountID, Name: p.name, Facts: facts(
		Fact{"description", "", p.description}, Fact{"document", "", p.document},
	)})
	return id, err
}

func (c *change) newVersion(ctx context.Context, policyID int64, document string) error {
	_, err := c.tx.Exec(ctx, `
		WITH next AS (
			UPDATE policy SET last_version = last_version + 1, default_version = last_version + 1 WHERE id = $1
			RETURNING id, last_version)
		INSERT INTO policy_version (policy_id, version, document) SELECT id, last_version, $2 FROM next`, policyID, document)
	if err != nil {
		return err
	}
	_, err = c.tx.Exec(ctx, `
		DELETE FROM policy_version WHERE policy_id = $1 AND version <= (
			SELECT version FROM policy_version WHERE policy_id = $1 ORDER BY version DESC OFFSET $2 LIMIT 1)`,
		policyID, keptVersions)
	return err
}

// dropPolicies removes the policies that came from files and are in none any more. One that is attached through the API
// is not removed: its deny would end in silence.
func (c *change) dropPolicies(ctx context.Context, kept []int64) error {
	rows, _ := c.tx.Query(ctx, `
		SELECT p.account_id, p.name, coalesce('user ' || u.name, 'group ' || g.name, 'role ' || r.name) FROM policy p
		JOIN policy_attachment a ON a.policy_id = p.id
		LEFT JOIN ram_user u ON u.id = a.user_id
		LEFT JOIN ram_group g ON g.id = a.group_id
		LEFT JOIN ram_role r ON r.id = a.role_id
		WHERE p.source = 'file' AND p.id <> ALL ($1) ORDER BY 1, 2, 3`, kept)
	var accountID, policy, whom string
	attached, err := pgx.ForEachRow(rows, []any{&accountID, &policy, &whom}, func() error {
		c.complain("account "+accountID,
			"the policy %s is in no file any more, but it is attached to the %s through the API: detach it there first",
			policy, whom)
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for attached policies: %w", err)
	}
	if attached.RowsAffected() > 0 {
		return nil
	}
	err = c.write(ctx, Deleted, KindPolicy, `DELETE FROM policy WHERE source = 'file' AND id <> ALL ($1) RETURNING account_id, name, ''`, kept)
	if err != nil {
		return fmt.Errorf("remove policies: %w", err)
	}
	return nil
}
