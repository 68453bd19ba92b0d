package directory

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
)

// querier asks: a transaction or a pool.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// room refuses one more of what sql counts for id when there are limit of them.
func room(ctx context.Context, tx pgx.Tx, sql, id string, limit int, full *fault.Fault) error {
	var count int
	if err := tx.QueryRow(ctx, sql, id).Scan(&count); err != nil {
		return fmt.Errorf("count: %w", err)
	}
	if count >= limit {
		return full
	}
	return nil
}

// left is a question whether something is left that must go first.
type left struct {
	sql   string
	still *fault.Fault
}

// none refuses when anything of id is left.
func none(ctx context.Context, tx pgx.Tx, id any, questions ...left) error {
	for _, question := range questions {
		var exists bool
		if err := tx.QueryRow(ctx, question.sql, id).Scan(&exists); err != nil {
			return fmt.Errorf("look for what is left: %w", err)
		}
		if exists {
			return question.still
		}
	}
	return nil
}

// list returns a page of what sql reads: rows of id whose names come after $2, in their order, $3 of them.
func list[T any](ctx context.Context, db querier, page Page, name func(T) string, sql string, id string) (items []T, next string, err error) {
	after, err := page.after()
	if err != nil {
		return nil, "", err
	}
	rows, _ := db.Query(ctx, sql, id, after, page.Size+1)
	items, err = pgx.CollectRows(rows, pgx.RowToStructByName[T])
	if err != nil {
		return nil, "", fmt.Errorf("read a page: %w", err)
	}
	items, next = cut(page, items, name)
	return items, next, nil
}
