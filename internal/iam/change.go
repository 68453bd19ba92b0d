package iam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/secret"
)

// changeLock makes those who compare tables with a wanted state go one after the other.
const changeLock = 7053

// everyone stands for all accounts where one is named: a system policy belongs to none and concerns each.
const everyone = ""

// change is one transaction on the identities. It remembers which accounts it touched: their policy epochs grow with it.
type change struct {
	tx          pgx.Tx
	box         *secret.Box
	newID       func(digit string) string
	touched     map[string]bool
	differences []Difference
	complaints  []error
}

// errDiscarded ends a transaction that only wanted to see what it would do.
var errDiscarded = errors.New("what was written is not kept")

// change runs do in a transaction that commits, if it is to keep what it writes and unless do fails or complains. It
// returns what it wrote, or would have.
func (s *Store) change(ctx context.Context, keep bool, do func(*change) error) (differences []Difference, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, changeLock); err != nil {
			return fmt.Errorf("wait for other changes: %w", err)
		}
		c := &change{tx: tx, box: s.box, newID: s.newID, touched: map[string]bool{}}
		if err := do(c); err != nil {
			return err
		}
		if err := errors.Join(c.complaints...); err != nil {
			return err
		}
		differences = c.differences
		if !keep {
			return errDiscarded
		}
		return c.raiseEpochs(ctx)
	})
	if err != nil && !errors.Is(err, errDiscarded) {
		return nil, err
	}
	slices.SortStableFunc(differences, Difference.compare)
	return differences, nil
}

// differs notes a difference and that its account is touched.
func (c *change) differs(d Difference) {
	c.differences = append(c.differences, d)
	c.touched[d.AccountID] = true
}

func (c *change) complain(place, format string, args ...any) {
	c.complaints = append(c.complaints, fmt.Errorf("%s: %s", place, fmt.Sprintf(format, args...)))
}

// write runs a statement that returns the account and name of every row that it has written, and whose it is. It
// has no facts to tell.
func (c *change) write(ctx context.Context, what, kind, sql string, args ...any) error {
	rows, _ := c.tx.Query(ctx, sql, args...)
	d := Difference{Change: what, Kind: kind}
	_, err := pgx.ForEachRow(rows, []any{&d.AccountID, &d.Name, &d.Of}, func() error {
		c.differs(d)
		return nil
	})
	return err
}

// execute runs a statement that writes what d says.
func (c *change) execute(ctx context.Context, d Difference, sql string, args ...any) error {
	_, err := c.tx.Exec(ctx, sql, args...)
	c.differs(d)
	return err
}

func (c *change) raiseEpochs(ctx context.Context) error {
	if len(c.touched) == 0 {
		return nil
	}
	_, err := c.tx.Exec(ctx, `
		UPDATE account SET policy_epoch = policy_epoch + 1
		WHERE id IN (SELECT id FROM account WHERE $1 OR id = ANY ($2) ORDER BY id FOR UPDATE)`,
		c.touched[everyone], slices.Collect(maps.Keys(c.touched)))
	if err != nil {
		return fmt.Errorf("raise the policy epochs: %w", err)
	}
	return nil
}

// account makes an account.
func (c *change) account(ctx context.Context, id, name string) error {
	err := c.execute(ctx, Difference{Change: Created, Kind: KindAccount, AccountID: id, Name: name},
		`INSERT INTO account (id, name) VALUES ($1, $2)`, id, name)
	if err != nil {
		return fmt.Errorf("make the account %s: %w", id, err)
	}
	return nil
}

// accountNames returns the names of those of the accounts that exist.
func (c *change) accountNames(ctx context.Context, ids []string) (map[string]string, error) {
	rows, _ := c.tx.Query(ctx, `SELECT id, name FROM account WHERE id = ANY ($1)`, ids)
	names := map[string]string{}
	var id, name string
	_, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error {
		names[id] = name
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the accounts: %w", err)
	}
	return names, nil
}
