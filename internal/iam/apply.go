package iam

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ApplySystem makes the system policies in the database those of this program. It is safe to call on every start: what
// is equal already is not written, and changed is false.
//
// A policy that this program does not know stays while it is attached to anybody: it may be a newer program's.
func (s *Store) ApplySystem(ctx context.Context) (changed bool, err error) {
	differences, err := s.apply(ctx, true, func(*change, map[policyName]int64) error { return nil })
	return len(differences) > 0, err
}

// Apply makes everything in the database that came from files equal to files, and the system policies those of this
// program, in one transaction: all of it is in force at the next call on any process, or nothing is. What is equal
// already is not written. It returns what it changed, by account.
//
// What was made through the API stays as it is: a file that claims the name of such an object is refused, and so is the
// removal of a policy that is attached through the API. A user who is removed takes keys and attachments along, wherever
// they came from. Accounts are made and renamed, never removed, because they own more than identities.
func (s *Store) Apply(ctx context.Context, files Files) ([]Difference, error) {
	return s.apply(ctx, true, func(c *change, ids map[policyName]int64) error { return c.files(ctx, files, ids) })
}

// Diff returns what Apply would change, and refuses what Apply would refuse. Nothing stays changed.
func (s *Store) Diff(ctx context.Context, files Files) ([]Difference, error) {
	return s.apply(ctx, false, func(c *change, ids map[policyName]int64) error { return c.files(ctx, files, ids) })
}

func (s *Store) apply(ctx context.Context, keep bool, do func(*change, map[policyName]int64) error) ([]Difference, error) {
	system, err := systemPolicies(s.system)
	if err != nil {
		return nil, err
	}
	return s.change(ctx, keep, func(c *change) error {
		ids, err := c.systemPolicies(ctx, system)
		if err != nil {
			return err
		}
		if err := do(c, ids); err != nil {
			return err
		}
		return c.dropSystemPolicies(ctx, system)
	})
}

// files puts what the files name and then removes the rest, so that a key can move from a user who goes to one who comes.
func (c *change) files(ctx context.Context, files Files, policyIDs map[policyName]int64) error {
	if err := c.accounts(ctx, files); err != nil {
		return err
	}
	keptPolicies, err := c.customPolicies(ctx, files, policyIDs)
	if err != nil {
		return err
	}
	userIDs, err := c.users(ctx, files)
	if err != nil {
		return err
	}
	if len(c.complaints) > 0 {
		return nil // what follows needs the ids of all of them
	}
	if err := c.keys(ctx, files, userIDs); err != nil {
		return err
	}
	if err := c.attachments(ctx, files, userIDs, policyIDs); err != nil {
		return err
	}
	if err := c.dropUsers(ctx, userIDs); err != nil {
		return err
	}
	return c.dropPolicies(ctx, keptPolicies)
}

func (c *change) accounts(ctx context.Context, files Files) error {
	stored, err := c.accountNames(ctx, files.accountIDs())
	if err != nil {
		return err
	}
	for _, a := range files.accounts {
		name, exists := stored[a.id]
		switch {
		case !exists:
			err = c.account(ctx, a.id, a.name)
		case name != a.name:
			d := Difference{Change: Changed, Kind: KindAccount, AccountID: a.id, Name: a.name, Facts: facts(Fact{"name", name, a.name})}
			err = c.execute(ctx, d, `UPDATE account SET name = $2 WHERE id = $1`, a.id, a.name)
		}
		if err != nil {
			return fmt.Errorf("account %s: %w", a.id, err)
		}
	}
	return nil
}

func (f Files) accountIDs() []string {
	ids := make([]string, 0, len(f.accounts)) // never nil, which would be NULL to SQL
	for _, a := range f.accounts {
		ids = append(ids, a.id)
	}
	return ids
}

type userName struct{ accountID, name string }

type storedUser struct{ ID, AccountID, Name, DisplayName, Source string }

// users puts the users of the files and returns their ids.
func (c *change) users(ctx context.Context, files Files) (map[userName]string, error) {
	rows, _ := c.tx.Query(ctx, `
		SELECT id, account_id, name, display_name, source FROM ram_user WHERE account_id = ANY ($1)`, files.accountIDs())
	users, err := pgx.CollectRows(rows, pgx.RowToStructByName[storedUser])
	if err != nil {
		return nil, fmt.Errorf("read the users: %w", err)
	}
	stored := map[userName]storedUser{}
	for _, u := range users {
		stored[userName{u.AccountID, u.Name}] = u
	}
	ids := map[userName]string{}
	for _, a := range files.accounts {
		for _, u := range a.users {
			name := userName{a.id, u.name}
			if ids[name], err = c.user(ctx, a.id, u, stored[name]); err != nil {
				return nil, fmt.Errorf("%s: user %s: %w", u.place, u.name, err)
			}
		}
	}
	return ids, nil
}

func (c *change) user(ctx context.Context, accountID string, u user, have storedUser) (id string, err error) {
	d := Difference{Change: Changed, Kind: KindUser, AccountID: accountID, Name: u.name, Facts: facts(Fact{"displayName", have.DisplayName, u.displayName})}
	switch {
	case have.ID == "":
		id, d.Change = c.newUserID(), Created
		err = c.execute(ctx, d, `INSERT INTO ram_user (id, account_id, name, display_name, source) VALUES ($1, $2, $3, $4, 'file')`,
			id, accountID, u.name, u.displayName)
		return id, err
	case have.Source != "file":
		c.complain(u.place, "account %s has a user %s that was made through the API: delete it there or use another name",
			accountID, u.name)
	case have.DisplayName != u.displayName:
		err = c.execute(ctx, d, `UPDATE ram_user SET display_name = $2, updated_at = now() WHERE id = $1`, have.ID, u.displayName)
	}
	return have.ID, err
}

// dropUsers removes the users that are in no file any more, with what the API has given them.
func (c *change) dropUsers(ctx context.Context, kept map[userName]string) error {
	ids := make([]string, 0, len(kept))
	for _, id := range kept {
		ids = append(ids, id)
	}
	for _, drop := range []struct{ kind, sql string }{
		{KindAccessKey, `DELETE FROM access_key k USING ram_user u WHERE u.id = k.user_id AND %s RETURNING u.account_id, k.id, u.name`},
		{KindAttachment, `
			DELETE FROM policy_attachment a USING ram_user u, policy p WHERE u.id = a.user_id AND p.id = a.policy_id AND %s
			RETURNING u.account_id, ` + attachmentName + `, u.name`},
		{KindMembership, `
			DELETE FROM ram_group_member m USING ram_user u, ram_group g WHERE u.id = m.user_id AND g.id = m.group_id AND %s
			RETURNING u.account_id, g.name, u.name`},
		{KindUser, `DELETE FROM ram_user u WHERE %s RETURNING account_id, name, ''`},
	} {
		err := c.write(ctx, Deleted, drop.kind, fmt.Sprintf(drop.sql, `u.source = 'file' AND u.id <> ALL ($1)`), ids)
		if err != nil {
			return fmt.Errorf("remove users: %w", err)
		}
	}
	return nil
}

// attachmentName is the policy of an attachment, and the resource group it counts in unless that is the whole account.
const attachmentName = `CASE WHEN p.account_id IS NULL THEN 'System ' ELSE 'Custom ' END || p.name ||
	CASE WHEN a.resource_group_id = '' THEN '' ELSE ' in ' || a.resource_group_id END`

// attachments attaches the policies that the files attach, and detaches those that files attached before. Where the API
// has attached the same policy, its attachment serves.
func (c *change) attachments(ctx context.Context, files Files, userIDs map[userName]string, policyIDs map[policyName]int64) error {
	users, policies := []string{}, []int64{}
	for _, a := range files.accounts {
		for _, u := range a.users {
			for _, ref := range u.policies {
				users = append(users, userIDs[userName{a.id, u.name}])
				policies = append(policies, policyIDs[ref.in(a.id)])
			}
		}
	}
	err := c.write(ctx, Created, KindAttachment, `
		WITH a AS (
			INSERT INTO policy_attachment (user_id, policy_id, source)
			SELECT user_id, policy_id, 'file' FROM unnest($1::text[], $2::bigint[]) AS wanted (user_id, policy_id)
			ON CONFLICT DO NOTHING
			RETURNING user_id, policy_id, resource_group_id)
		SELECT u.account_id, `+attachmentName+`, u.name
		FROM a JOIN ram_user u ON u.id = a.user_id JOIN policy p ON p.id = a.policy_id`, users, policies)
	if err != nil {
		return fmt.Errorf("attach policies: %w", err)
	}
	err = c.write(ctx, Deleted, KindAttachment, `
		DELETE FROM policy_attachment a USING ram_user u, policy p
		WHERE u.id = a.user_id AND p.id = a.policy_id AND a.source = 'file' AND NOT EXISTS (
			SELECT FROM unnest($1::text[], $2::bigint[]) AS wanted (user_id, policy_id)
			WHERE wanted.user_id = a.user_id AND wanted.policy_id = a.policy_id)
		RETURNING u.account_id, `+attachmentName+`, u.name`, users, policies)
	if err != nil {
		return fmt.Errorf("detach policies: %w", err)
	}
	return nil
}
