package iam

import (
	"context"
	"fmt"
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
// removal of a policy that is attached through the API. A user, group or role that is removed takes keys, memberships and
// attachments along, wherever they came from. Accounts are made and renamed, never removed, because they own more than identities.
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
	ids := map[holder]string{}
	for _, kind := range principalKinds {
		if err := c.principals(ctx, files, kind, ids); err != nil {
			return err
		}
	}
	if len(c.complaints) > 0 {
		return nil // what follows needs the ids of all of them
	}
	if err := c.keys(ctx, files, ids); err != nil {
		return err
	}
	if err := c.memberships(ctx, files, ids); err != nil {
		return err
	}
	if err := c.attachments(ctx, files, ids, policyIDs); err != nil {
		return err
	}
	if err := c.dropPrincipals(ctx, ids); err != nil {
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
