// Package rotation seals everything in the database anew when the master key changes.
package rotation

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/secret"
)

// Column is where a package keeps what it sealed under the master key. The package that owns the table declares it.
type Column struct {
	Table  string
	Column string   // bytea, or bytea[] where List is set
	List   bool     // each element is sealed
	Key    []string // the columns that the purpose is made of
	// Purpose is what the values of a row are sealed for, given its Key columns as text.
	Purpose func(key []string) string
}

// batch is how many rows are sealed anew in one transaction.
const batch = 200

// Count returns how many rows hold something that is sealed with another key than the one in use.
func Count(ctx context.Context, db *pgxpool.Pool, box *secret.Box, columns []Column) (rows int, err error) {
	for _, c := range columns {
		var n int
		if err := db.QueryRow(ctx, `SELECT count(*) FROM `+c.Table+` WHERE `+c.old(), box.Prefix()).Scan(&n); err != nil {
			return 0, fmt.Errorf("count what is sealed in %s.%s: %w", c.Table, c.Column, err)
		}
		rows += n
	}
	return rows, nil
}

// Reseal seals everything anew that is sealed with another key than the one in use, in transactions of some rows each, and
// returns how many rows that were. It may be stopped at any moment and called again, beside programs that read and write.
func Reseal(ctx context.Context, db *pgxpool.Pool, box *secret.Box, columns []Column) (rows int, err error) {
	for _, c := range columns {
		for {
			n, more, err := c.reseal(ctx, db, box)
			rows += n
			if err != nil {
				return rows, fmt.Errorf("seal %s.%s anew: %w", c.Table, c.Column, err)
			}
			if !more {
				break
			}
		}
	}
	return rows, nil
}

// old is the condition for rows that hold something that is sealed with another key than that of the prefix $1.
func (c Column) old() string {
	if c.List {
		return `EXISTS (SELECT FROM unnest(` + c.Column + `) s WHERE substring(s FROM 1 FOR 5) <> $1)`
	}
	return `substring(` + c.Column + ` FROM 1 FOR 5) <> $1`
}

// found is a row that holds something old.
type found struct {
	place  string // in the table; another one once somebody has changed the row
	key    []string
	values [][]byte
}

// reseal seals some rows of the column anew. A row that somebody changes meanwhile is left for the next time.
func (c Column) reseal(ctx context.Context, db *pgxpool.Pool, box *secret.Box) (rows int, more bool, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		old, err := c.find(ctx, tx, box)
		if err != nil || len(old) == 0 {
			return err
		}
		more = true
		updates := &pgx.Batch{}
		for _, row := range old {
			if err := c.update(updates, box, row); err != nil {
				return err
			}
		}
		results := tx.SendBatch(ctx, updates)
		for range old {
			tag, err := results.Exec()
			if err != nil {
				_ = results.Close()
				return err
			}
			rows += int(tag.RowsAffected())
		}
		return results.Close()
	})
	return rows, more && err == nil, err
}

func (c Column) find(ctx context.Context, tx pgx.Tx, box *secret.Box) ([]found, error) {
	key := strings.Join(slices.Collect(func(yield func(string) bool) {
		for _, column := range c.Key {
			if !yield(column + `::text`) {
				return
			}
		}
	}), ", ")
	values := c.Column
	if !c.List {
		values = `ARRAY[` + c.Column + `]`
	}
	rows, _ := tx.Query(ctx, `
		SELECT ctid::text, ARRAY[`+key+`], `+values+` FROM `+c.Table+` WHERE `+c.old()+` LIMIT $2`, box.Prefix(), batch)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (f found, err error) {
		return f, row.Scan(&f.place, &f.key, &f.values)
	})
}

func (c Column) update(updates *pgx.Batch, box *secret.Box, row found) error {
	fresh := make([][]byte, len(row.values))
	purpose := c.Purpose(row.key)
	for n, sealed := range row.values {
		text, err := box.Open(purpose, sealed)
		if err != nil {
			return err
		}
		if fresh[n], err = box.Seal(purpose, text); err != nil {
			return err
		}
	}
	statement := `UPDATE ` + c.Table + ` SET ` + c.Column + ` = $1 WHERE ctid = $2::text::tid AND ` + c.Column + ` = $3`
	if c.List {
		updates.Queue(statement, fresh, row.place, row.values)
	} else {
		updates.Queue(statement, fresh[0], row.place, row.values[0])
	}
	return nil
}
