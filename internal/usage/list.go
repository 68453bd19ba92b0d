package usage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/instance"
)

// Query says which requests are summed up, and how.
type Query struct {
	From, To time.Time // zero: the day before To, and now
	API      string    // id or name; "": any
	Service  string
	Model    string
	Consumer string
	By       []string // dimensions, each gets sums of its own
	Page     instance.Page
}

// Sum is what the requests of one group used. The members that are not grouped by are empty.
type Sum struct {
	APIID, APIName           string
	ServiceID, ServiceName   string
	Model                    string
	ConsumerID, ConsumerName string
	EndState                 string
	Day                      string // of UTC: 2026-03-01

	Requests, Streams int64
	Unknown           int64 // requests that did not tell their tokens
	Input, Output     int64
	Total             int64
	Cached, Reasoning int64
	Duration          int64  // milliseconds, on average
	FirstContent      *int64 // milliseconds, on average; nil: there was no stream with content
}

// dimension is something that sums can be made for.
type dimension struct {
	name    string // in the API
	column  string
	named   string // the column with a name for people, "" when there is none
	as, its string // in the answer
}

var dimensions = []dimension{
	{"api", "http_api_id", "http_api_name", "api_id", "api_name"},
	{"service", "service_id", "service_name", "service_id", "service_name"},
	{"model", "model", "", "model", ""},
	{"consumer", "consumer_id", "consumer_name", "consumer_id", "consumer_name"},
	{"endState", "end_state", "", "end_state", ""},
	{"day", "to_char(began_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')", "", "day", ""},
}

// complete fills in what is left out, and refuses what there is not.
func (q *Query) complete(now time.Time) error {
	if q.To.IsZero() {
		q.To = now
	}
	if q.To.Year() < 1970 || q.To.Year() > 9999 {
		return fault.InvalidParameter("endTime", "it is a time in milliseconds since 1970.")
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-24 * time.Hour)
	}
	if q.From.Year() < 1970 || !q.From.Before(q.To) {
		return fault.InvalidParameter("startTime", "it is a time in milliseconds since 1970, before endTime.")
	}
	for name, text := range map[string]string{"httpApi": q.API, "service": q.Service, "model": q.Model, "consumer": q.Consumer} {
		if strings.ContainsRune(text, 0) {
			return fault.InvalidParameter(name, "it holds a null character.")
		}
	}
	for i, by := range q.By {
		known := slices.ContainsFunc(dimensions, func(d dimension) bool { return d.name == by })
		if !known || slices.Contains(q.By[:i], by) {
			return fault.InvalidParameter("groupBy", "it is some of api, service, model, consumer, endState and day, each once.")
		}
	}
	return nil
}

// statement is the query with its parts for the dimensions; ours, never the caller's text.
func (q *Query) statement() string {
	var selected, grouped []string
	for _, d := range dimensions {
		if !slices.Contains(q.By, d.name) {
			selected = append(selected, "'' AS "+d.as)
			if d.its != "" {
				selected = append(selected, "'' AS "+d.its)
			}
			continue
		}
		selected, grouped = append(selected, d.column+" AS "+d.as), append(grouped, d.column)
		if d.named != "" {
			selected = append(selected, "max("+d.named+") AS "+d.its)
		}
	}
	groups := ""
	if len(grouped) > 0 {
		groups = "GROUP BY " + strings.Join(grouped, ", ")
	}
	return `
		SELECT ` + strings.Join(selected, ", ") + `,
			count(*) AS requests, count(*) FILTER (WHERE streamed) AS streams,
			count(*) FILTER (WHERE total_tokens IS NULL) AS unknown,
			coalesce(sum(input_tokens), 0)::bigint AS input, coalesce(sum(output_tokens), 0)::bigint AS output,
			coalesce(sum(total_tokens), 0)::bigint AS total, coalesce(sum(cached_tokens), 0)::bigint AS cached,
			coalesce(sum(reasoning_tokens), 0)::bigint AS reasoning,
			coalesce(round(avg(total_ms)), 0)::bigint AS duration, round(avg(first_content_ms))::bigint AS first_content
		FROM usage_record
		WHERE account_id = $1 AND began_at >= $2 AND began_at < $3
		  AND ($4 = '' OR http_api_id = $4 OR http_api_name = $4)
		  AND ($5 = '' OR service_id = $5 OR service_name = $5)
		  AND ($6 = '' OR model = $6)
		  AND ($7 = '' OR consumer_id = $7 OR consumer_name = $7)
		` + groups
}

// List returns one page of the sums that the account asked for, the one with the most tokens first, how many there are
// in all, and the time they are of.
func (u *Usage) List(ctx context.Context, accountID string, q Query) (sums []Sum, total int, of Query, err error) {
	if err := q.complete(u.now()); err != nil {
		return nil, 0, q, err
	}
	statement := q.statement()
	args := []any{accountID, q.From, q.To, q.API, q.Service, q.Model, q.Consumer}
	err = pgx.BeginTxFunc(ctx, u.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM (`+statement+`) s`, args...).Scan(&total); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `
			SELECT * FROM (`+statement+`) s
			ORDER BY total DESC, requests DESC, api_id, service_id, model, consumer_id, end_state, day
			OFFSET $8 LIMIT $9`, append(args, (q.Page.Number-1)*q.Page.Size, q.Page.Size)...)
		if err != nil {
			return err
		}
		sums, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Sum])
		return err
	})
	if err != nil {
		return nil, 0, q, fmt.Errorf("sum up the usage: %w", err)
	}
	return sums, total, q, nil
}
