package iam

import (
	"context"
	"errors"
	"fmt"

	"github.com/engineshed/engineshed/internal/secret"
)

// RootSpec is the account that an installation starts with, and the access key of its root.
type RootSpec struct {
	AccountID   string
	AccountName string // of a new account; one that exists keeps its name
	KeyID       string
	Secret      secret.Secret
}

// EnsureRoot makes sure that the account exists and that its root has the access key. The key takes the place of the one
// that an earlier EnsureRoot has set, which is refused from then on; other keys stay. What is equal is not written.
func (s *Store) EnsureRoot(ctx context.Context, root RootSpec) error {
	if err := root.check(); err != nil {
		return err
	}
	_, err := s.change(ctx, true, func(c *change) error { return c.root(ctx, root) })
	return err
}

func (r RootSpec) check() error {
	var complaints []error
	if !accountIDPattern.MatchString(r.AccountID) {
		complaints = append(complaints, fmt.Errorf("the id of the account %s, not %q", accountIDRule, r.AccountID))
	}
	if r.AccountName == "" {
		complaints = append(complaints, errors.New("the name of the account is missing"))
	}
	if !keyIDPattern.MatchString(r.KeyID) {
		complaints = append(complaints, fmt.Errorf("the id of the root access key %s, not %q", keyIDRule, r.KeyID))
	}
	if !secretPattern.MatchString(r.Secret.Reveal()) {
		complaints = append(complaints, errors.New("the secret of the root access key "+secretRule))
	}
	return errors.Join(complaints...)
}

func (c *change) root(ctx context.Context, root RootSpec) error {
	names, err := c.accountNames(ctx, []string{root.AccountID})
	if err != nil {
		return err
	}
	if _, exists := names[root.AccountID]; !exists {
		if err := c.account(ctx, root.AccountID, root.AccountName); err != nil {
			return err
		}
	}
	stored, err := c.storedKeys(ctx, []string{root.KeyID})
	if err != nil {
		return err
	}
	have := stored[root.KeyID]
	if have.ID != "" && (have.Source != "root" || have.AccountID != root.AccountID) {
		return fmt.Errorf("the access key %s exists and is not the root key of account %s: choose another id",
			root.KeyID, root.AccountID)
	}
	wanted := key{id: root.KeyID, secret: root.Secret, status: "Active"}
	if err := c.key(ctx, owner{accountID: root.AccountID}, "root", wanted, have); err != nil {
		return err
	}
	err = c.write(ctx, Deleted, KindAccessKey, `
		DELETE FROM access_key WHERE source = 'root' AND account_id = $1 AND id <> $2
		RETURNING account_id, id, ''`, root.AccountID, root.KeyID)
	if err != nil {
		return fmt.Errorf("replace the root access key: %w", err)
	}
	return nil
}
