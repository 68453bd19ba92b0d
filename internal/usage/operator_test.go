package usage_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/usage"
)

// operated is a database with records of two keys in three minutes, and the moment they are read at.
func operated(t *testing.T) (*usage.Usage, time.Time) {
	t.Helper()
	db := pgtest.New(t)
	now := time.Now().UTC().Truncate(time.Minute)
	for i, r := range []struct {
		account, model, state string
		key                   any
		status                int
		ago                   time.Duration
		tokens                any
	}{
		{account, "m1", "complete", 1, 200, 3 * time.Minute, 10},
		{account, "m1", "complete", 1, 200, 3*time.Minute - time.Second, 20},
		{account, "m1", "refused", 1, 404, 3*time.Minute - 2*time.Second, nil},
		{account, "m1", "complete", 2, 200, time.Minute, 5},
		{account, "m2", "upstream_cut", 2, 200, time.Minute, 7},
		{account, "m2", "complete", nil, 200, time.Minute, 1000},
		{neighbour, "m1", "complete", 1, 200, time.Minute, 7777},
		{account, "m1", "complete", 1, 200, 3 * time.Hour, 100},
	} {
		_, err := db.Gateway.Exec(t.Context(), `
			INSERT INTO usage_record (began_at, request_id, account_id, gateway_process, model, end_state, status, streamed,
				input_tokens, output_tokens, total_tokens, total_ms, operator_key_id)
			VALUES ($1, $2, $3, 'g', $4, $5, $6, false, $7, 1, $7::bigint + 1, 100, $8)`,
			now.Add(-r.ago), fmt.Sprint(i), r.account, r.model, r.state, r.status, r.tokens, r.key)
		require.NoError(t, err)
	}
	return usage.New(db.Control, func() time.Time { return now }), now
}

func TestUsageOfOperatorKeysIsShownInSeries(t *testing.T) {
	t.Parallel()
	u, now := operated(t)
	first := usage.OperatorPoint{At: now.Add(-3 * time.Minute), Requests: 3, Success: 2, Input: 30, Output: 3, All: 32}
	last := func(requests, success, input int64) usage.OperatorPoint {
		return usage.OperatorPoint{At: now.Add(-time.Minute), Requests: requests, Success: success, Input: input, Output: requests, All: input + requests}
	}
	for name, c := range map[string]struct {
		q    usage.OperatorQuery
		want []usage.OperatorSeries
	}{
		"by model": {usage.OperatorQuery{ByModel: true}, []usage.OperatorSeries{
			{Model: "m1", Points: []usage.OperatorPoint{first, last(1, 1, 5)}}, {Model: "m2", Points: []usage.OperatorPoint{last(1, 0, 7)}},
		}},
		"by key": {usage.OperatorQuery{ByKey: true}, []usage.OperatorSeries{
			{KeyID: 1, Points: []usage.OperatorPoint{first}}, {KeyID: 2, Points: []usage.OperatorPoint{last(2, 1, 12)}},
		}},
		"by both, one model, one key": {usage.OperatorQuery{ByModel: true, ByKey: true, Models: []string{"m1"}, KeyIDs: []int32{2}}, []usage.OperatorSeries{
			{Model: "m1", KeyID: 2, Points: []usage.OperatorPoint{last(1, 1, 5)}},
		}},
		"another key":    {usage.OperatorQuery{ByModel: true, KeyIDs: []int32{3}}, nil},
		"another minute": {usage.OperatorQuery{ByModel: true, From: now.Add(-2 * time.Minute), To: now.Add(-time.Minute)}, nil},
	} {
		c.q.Period = time.Minute
		got, q, err := u.Operator(t.Context(), account, c.q)
		require.NoError(t, err, name)
		for _, s := range got {
			for i := range s.Points {
				s.Points[i].At = s.Points[i].At.UTC()
			}
		}
		require.Equal(t, c.want, got, name)
		require.Equal(t, usage.Metrics, q.Metrics)
	}
}

func TestPeriodsOfOperatorUsageHaveDefaultsAndLimits(t *testing.T) {
	t.Parallel()
	u, now := operated(t)
	ask := func(ago, length, period time.Duration) (usage.OperatorQuery, error) {
		q := usage.OperatorQuery{ByModel: true, Period: period}
		if length != 0 {
			q.From, q.To = now.Add(-ago), now.Add(length-ago)
		}
		_, q, err := u.Operator(t.Context(), account, q)
		return q, err
	}
	const day = 24 * time.Hour
	q, err := ask(0, 0, 0)
	require.NoError(t, err)
	require.Equal(t, []any{now.Add(time.Minute - time.Hour), now.Add(time.Minute), time.Second}, []any{q.From, q.To, q.Period})
	for length, want := range map[time.Duration]time.Duration{time.Hour: time.Second, time.Hour + time.Minute: time.Minute, 7 * day: time.Minute} {
		q, err := ask(8*day, length, 0)
		require.NoError(t, err)
		require.Equal(t, want, q.Period)
	}
	for name, c := range map[string]struct {
		ago, length, period time.Duration
		says                string
	}{
		"the end before the start": {day, -time.Hour, 0, "EndTime"},
		"more than a week":         {8 * day, 7*day + time.Minute, 0, "EndTime"},
		"too long ago":             {31 * day, day, 0, "StartTime"},
		"no such period":           {day, time.Hour, 7 * time.Second, "Period"},
		"seconds of two days":      {2 * day, 2 * day, time.Second, "Period"},
	} {
		_, err := ask(c.ago, c.length, c.period)
		require.ErrorContains(t, err, "The parameter "+c.says, name)
	}
}

func TestPointsAreText(t *testing.T) {
	t.Parallel()
	p := usage.OperatorPoint{Requests: 3, Success: 2, Input: 5, Output: 6, All: 11}
	for metric, want := range map[usage.Metric]string{
		usage.RequestCount: "3", usage.SuccessCount: "2", usage.ErrorCount: "1", usage.SuccessRate: "66.67",
		usage.InputToken: "5", usage.OutputToken: "6", usage.TotalToken: "11",
	} {
		require.Equal(t, want, p.Value(metric), metric)
	}
	require.Equal(t, "100", usage.OperatorPoint{Requests: 7, Success: 7}.Value(usage.SuccessRate))
	require.Equal(t, "0", usage.OperatorPoint{Requests: 7}.Value(usage.SuccessRate))
}
