package modelapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
)

// insertRevision keeps the state of the locked API as its next revision and returns the number.
func insertRevision(ctx context.Context, tx pgx.Tx, s *stored) (number int64, err error) {
	content, err := json.Marshal(s.Definition)
	if err != nil {
		return 0, err
	}
	err = tx.QueryRow(ctx, `
		INSERT INTO http_api_revision (http_api_id, number, id, content, author)
		SELECT $1, coalesce(max(number), 0) + 1, $2, $3, $4 FROM http_api_revision WHERE http_api_id = $1
		RETURNING number`, s.ID, ids.New(ids.HTTPAPIRevision), content, audit.From(ctx).Principal).Scan(&number)
	if err != nil {
		return 0, fmt.Errorf("insert a revision of %s: %w", s.ID, err)
	}
	return number, nil
}

const selectRevisions = `
	SELECT v.id, v.number, v.number = a.deployed_revision, v.author, v.created_at, v.content
	FROM http_api_revision v JOIN http_api a ON a.id = v.http_api_id`

func scanRevision(row pgx.CollectableRow) (v Revision, err error) {
	return v, row.Scan(&v.ID, &v.Number, &v.Deployed, &v.Author, &v.CreatedAt, &v.Content)
}

// revision returns one revision of an API that the caller has found in the account.
func revision(ctx context.Context, db queryer, apiID string, number int64) (Revision, error) {
	rows, err := db.Query(ctx, selectRevisions+` WHERE a.id = $1 AND v.number = $2`, apiID, number)
	if err != nil {
		return Revision{}, err
	}
	found, err := pgx.CollectExactlyOneRow(rows, scanRevision)
	if errors.Is(err, pgx.ErrNoRows) {
		return Revision{}, ErrRevisionNotFound.Withf("The Model API %s has no revision %d. Call ListHttpApiRevisions for those it has.", apiID, number)
	}
	return found, err
}

// GetRevision returns one revision of the account's API.
func (a *APIs) GetRevision(ctx context.Context, accountID, id string, number int64) (Revision, error) {
	if err := exists(ctx, a.db, accountID, id); err != nil {
		return Revision{}, err
	}
	return revision(ctx, a.db, id, number)
}

// ListRevisions returns one page of an API's revisions, newest first, and how many there are in all.
func (a *APIs) ListRevisions(ctx context.Context, accountID, id string, page instance.Page) ([]Revision, int, error) {
	if err := exists(ctx, a.db, accountID, id); err != nil {
		return nil, 0, err
	}
	total := 0
	if err := a.db.QueryRow(ctx, `SELECT count(*) FROM http_api_revision WHERE http_api_id = $1`, id).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count the revisions of %s: %w", id, err)
	}
	rows, err := a.db.Query(ctx, selectRevisions+`
		WHERE a.id = $1 ORDER BY v.number DESC OFFSET $2 LIMIT $3`, id, (page.Number-1)*page.Size, page.Size)
	if err != nil {
		return nil, 0, err
	}
	revisions, err := pgx.CollectRows(rows, scanRevision)
	return revisions, total, err
}

func exists(ctx context.Context, db queryer, accountID, id string) error {
	var found bool
	err := db.QueryRow(ctx, `SELECT true FROM http_api WHERE id = $1 AND account_id = $2`, id, accountID).Scan(&found)
	if errors.Is(err, pgx.ErrNoRows) {
		return notFound(id)
	}
	return err
}
