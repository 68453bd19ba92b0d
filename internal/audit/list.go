package audit

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
)

// Query says which rows are listed. Patterns are of the whole text, with * and ?; an empty one matches everything.
type Query struct {
	From, To  time.Time // From is included; zero: all that is kept, and now
	Principal string
	Action    string
	Resource  string // of the ARN, or of the id of what was made
	Outcome   Outcome
	Size      int    // rows of a page
	After     string // the token of the page before; "": the first page
}

// List returns a page of an account's rows, the newest first, and the token of the next page, "" after the last.
func (t *Trail) List(ctx context.Context, accountID string, q Query) (records []Record, next string, err error) {
	after, err := q.complete(t.now())
	if err != nil {
		return nil, "", err
	}
	rows, _ := t.db.Query(ctx, `
		SELECT `+columns+` FROM audit_event
		WHERE account_id = $1 AND at >= $2 AND at < $3 AND (at, id) < ($4, $5)
		  AND ($6 = '' OR principal LIKE $6) AND ($7 = '' OR action ILIKE $7)
		  AND ($8 = '' OR resource LIKE $8 OR resource_id LIKE $8) AND ($9 = '' OR outcome = $9)
		ORDER BY at DESC, id DESC LIMIT $10`,
		accountID, q.From, q.To, after.at, after.id, like(q.Principal), like(q.Action), like(q.Resource), q.Outcome, q.Size+1)
	if records, err = pgx.CollectRows(rows, scanRecord); err != nil {
		return nil, "", fmt.Errorf("list the audit trail: %w", err)
	}
	if len(records) > q.Size {
		records = records[:q.Size]
		last := records[q.Size-1]
		next = place{last.At, last.ID}.token()
	}
	return records, next, nil
}

// complete fills in what is left out, and refuses what cannot be meant.
func (q *Query) complete(now time.Time) (after place, err error) {
	if q.To.IsZero() {
		q.To = now.Add(time.Minute) // another process's clock
	}
	if !q.From.Before(q.To) {
		return place{}, fault.InvalidParameter("StartTime", "it is a time before EndTime.")
	}
	for _, year := range []int{q.From.Year(), q.To.Year()} {
		if year > 9999 {
			return place{}, fault.InvalidParameter("StartTime", "it and EndTime are times before the year 10000.")
		}
	}
	for name, text := range map[string]string{"Principal": q.Principal, "Action": q.Action, "Resource": q.Resource} {
		if strings.ContainsRune(text, 0) {
			return place{}, fault.InvalidParameter(name, "it holds a null character.")
		}
	}
	if q.After == "" {
		return place{at: q.To}, nil
	}
	return parsePlace(q.After)
}

var escapeLike = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`, `?`, `_`)

// like is a pattern as SQL has it.
func like(pattern string) string { return escapeLike.Replace(pattern) }

// place is where a page ended.
type place struct {
	at time.Time
	id int64
}

func (p place) token() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%d", p.at.UnixMicro(), p.id))
}

var errToken = fault.InvalidParameter("NextToken", "it was not answered by this operation: give NextToken of the page before.")

func parsePlace(token string) (place, error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return place{}, errToken
	}
	at, id, _ := strings.Cut(string(text), ".")
	micro, err := strconv.ParseInt(at, 10, 64)
	if err != nil || micro < 0 || micro > 1<<57 {
		return place{}, errToken
	}
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return place{}, errToken
	}
	return place{time.UnixMicro(micro), n}, nil
}
