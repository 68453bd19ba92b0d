package usage

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
)

// OperatorQuery says which requests with ModelOperator keys are shown, and how. From, To and Period that are zero are
// completed.
type OperatorQuery struct {
	From, To time.Time
	Period   time.Duration
	Metrics  []Metric // empty: all
	KeyIDs   []int32  // empty: all
	Models   []string // empty: all
	ByModel  bool
	ByKey    bool
}

// Metric is something that is shown of requests.
type Metric string

// The metrics, in their order.
const (
	RequestCount Metric = "request_count"
	SuccessCount Metric = "success_count"
	ErrorCount   Metric = "error_count"
	SuccessRate  Metric = "success_rate"
	InputToken   Metric = "input_token"
	OutputToken  Metric = "output_token"
	TotalToken   Metric = "total_token"
)

// Metrics are all of them.
var Metrics = []Metric{RequestCount, SuccessCount, ErrorCount, SuccessRate, InputToken, OutputToken, TotalToken}

// OperatorSeries is what was used for one model, with one key, or both.
type OperatorSeries struct {
	Model  string // "" when series are not by model
	KeyID  int32  // 0 when series are not by key
	Points []OperatorPoint
}

// OperatorPoint is one period in which there were requests.
type OperatorPoint struct {
	At                 time.Time // when the period begins
	Requests, Success  int64
	Input, Output, All int64 // tokens
}

// Value is the metric as text: a whole number, or per cent with up to two decimals.
func (p OperatorPoint) Value(m Metric) string {
	switch m {
	case SuccessCount:
		return strconv.FormatInt(p.Success, 10)
	case ErrorCount:
		return strconv.FormatInt(p.Requests-p.Success, 10)
	case SuccessRate:
		hundredths := (p.Success*10_000 + p.Requests/2) / p.Requests
		return strconv.FormatFloat(float64(hundredths)/100, 'f', -1, 64)
	case InputToken:
		return strconv.FormatInt(p.Input, 10)
	case OutputToken:
		return strconv.FormatInt(p.Output, 10)
	case TotalToken:
		return strconv.FormatInt(p.All, 10)
	}
	return strconv.FormatInt(p.Requests, 10)
}

const (
	longestWindow = 7 * 24 * time.Hour
	farthestBack  = 30 * 24 * time.Hour
	maxPoints     = 100_000 // of one answer
)

var periods = []time.Duration{time.Second, 5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute, time.Hour}

// complete fills in what is left out, and refuses what there is not.
func (q *OperatorQuery) complete(now time.Time) error {
	if q.To.IsZero() {
		q.To = now.Truncate(time.Minute).Add(time.Minute)
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-time.Hour)
	}
	window := q.To.Sub(q.From)
	switch {
	case window <= 0:
		return fault.InvalidParameter("EndTime", "it must be later than StartTime.")
	case window > longestWindow:
		return fault.InvalidParameter("EndTime", "it must be at most 7 days after StartTime.")
	case now.Sub(q.From) > farthestBack:
		return fault.InvalidParameter("StartTime", "it must lie in the last 30 days.")
	}
	if q.Period == 0 {
		q.Period = time.Minute
		if window <= time.Hour {
			q.Period = time.Second
		}
	}
	switch {
	case !slices.Contains(periods, q.Period):
		return fault.InvalidParameter("Period", "it is 1, 5, 15, 60, 300 or 3600.")
	case q.Period == time.Second && window > 24*time.Hour:
		return fault.InvalidParameter("Period", "1 is for at most a day: take a longer one, or a shorter time.")
	}
	if len(q.Metrics) == 0 {
		q.Metrics = Metrics
	}
	return nil
}

// Operator returns what the account used with ModelOperator keys, series by series in the order of their names, and the
// query as it was completed. A request has succeeded when its answer was not an error and came to its end.
func (u *Usage) Operator(ctx context.Context, accountID string, q OperatorQuery) ([]OperatorSeries, OperatorQuery, error) {
	if err := q.complete(u.now()); err != nil {
		return nil, q, err
	}
	rows, err := u.db.Query(ctx, `
		SELECT CASE WHEN $7 THEN model ELSE '' END AS of_model, CASE WHEN $8 THEN operator_key_id ELSE 0 END AS of_key,
			date_bin($4::interval, began_at, 'epoch') AS at, count(*),
			count(*) FILTER (WHERE status BETWEEN 200 AND 399 AND end_state = 'complete'),
			coalesce(sum(input_tokens), 0)::bigint, coalesce(sum(output_tokens), 0)::bigint, coalesce(sum(total_tokens), 0)::bigint
		FROM usage_record
		WHERE account_id = $1 AND began_at >= $2 AND began_at < $3 AND operator_key_id IS NOT NULL
			AND (cardinality($5::integer[]) = 0 OR operator_key_id = ANY ($5))
			AND (cardinality($6::text[]) = 0 OR model = ANY ($6))
		GROUP BY of_model, of_key, at
		ORDER BY of_model, of_key, at
		LIMIT $9`,
		accountID, q.From, q.To, q.Period, append([]int32{}, q.KeyIDs...), append([]string{}, q.Models...), q.ByModel, q.ByKey, maxPoints+1)
	if err != nil {
		return nil, q, err
	}
	series, err := collectSeries(rows)
	if err != nil {
		return nil, q, fmt.Errorf("sum up the usage of ModelOperator keys: %w", err)
	}
	return series, q, tooMany(series)
}

func collectSeries(rows pgx.Rows) (series []OperatorSeries, err error) {
	var s OperatorSeries
	var p OperatorPoint
	_, err = pgx.ForEachRow(rows, []any{&s.Model, &s.KeyID, &p.At, &p.Requests, &p.Success, &p.Input, &p.Output, &p.All}, func() error {
		if last := len(series) - 1; last < 0 || series[last].Model != s.Model || series[last].KeyID != s.KeyID {
			series = append(series, OperatorSeries{Model: s.Model, KeyID: s.KeyID})
		}
		last := &series[len(series)-1]
		last.Points = append(last.Points, p)
		return nil
	})
	return series, err
}

// tooMany refuses what would be too long an answer.
func tooMany(series []OperatorSeries) error {
	points := 0
	for _, s := range series {
		points += len(s.Points)
	}
	if points > maxPoints {
		return fault.InvalidParameter("Period", fmt.Sprintf("there are more than %d points: take a longer Period, or a shorter time.", maxPoints))
	}
	return nil
}
