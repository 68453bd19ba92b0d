package usage_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/usage"
)

const account, neighbour = "1000000000000001", "2000000000000002"

var page = instance.Page{Number: 1, Size: 10}

// written is a database with some records, and the moment they are read at.
func written(t *testing.T) (*usage.Usage, time.Time) {
	t.Helper()
	db := pgtest.New(t)
	now := time.Now().UTC().Truncate(time.Second)
	for i, r := range []struct {
		account, api, name, service, model, consumer, state string
		ago                                                 time.Duration
		tokens                                              any
	}{
		{account, "api-1", "old name", "svc-1", "m1", "cs-1", "complete", 3 * time.Hour, 10},
		{account, "api-1", "chat", "svc-1", "m1", "cs-2", "complete", 2 * time.Hour, 20},
		{account, "api-1", "chat", "svc-1", "m2", "cs-2", "client_gone", time.Hour, nil},
		{account, "api-2", "images", "svc-2", "m2", "", "complete", time.Hour, 5},
		{account, "", "", "ms-1", "m1", "", "complete", 25 * time.Hour, 1000},
		{neighbour, "api-1", "chat", "svc-1", "m1", "cs-1", "complete", time.Hour, 7777},
	} {
		_, err := db.Gateway.Exec(t.Context(), `
			INSERT INTO usage_record (began_at, request_id, account_id, gateway_process, http_api_id, http_api_name, service_id,
				model, consumer_id, consumer_name, end_state, status, streamed, input_tokens, total_tokens, first_content_ms, total_ms)
			VALUES ($1, $2, $3, 'g', $4, $5, $6, $7, $8, $8, $9, 200, $10, 1, $11, $12, 100)`,
			now.Add(-r.ago), fmt.Sprint(i), r.account, r.api, r.name, r.service, r.model, r.consumer, r.state, r.tokens != nil, r.tokens, r.tokens)
		require.NoError(t, err)
	}
	return usage.New(db.Control, func() time.Time { return now }), now
}

func list(t *testing.T, u *usage.Usage, q usage.Query) []usage.Sum {
	t.Helper()
	if q.Page.Size == 0 {
		q.Page = page
	}
	sums, total, _, err := u.List(t.Context(), account, q)
	require.NoError(t, err)
	require.GreaterOrEqual(t, total, len(sums))
	return sums
}

func TestUsageIsSummedUp(t *testing.T) {
	t.Parallel()
	u, now := written(t)
	all := list(t, u, usage.Query{})
	first := int64(12) // of 10, 20 and 5
	require.Equal(t, []usage.Sum{{Requests: 4, Streams: 3, Unknown: 1, Input: 4, Total: 35, Duration: 100, FirstContent: &first}}, all,
		"of the last day, and of this account")
	require.EqualValues(t, 5, list(t, u, usage.Query{From: now.Add(-48 * time.Hour)})[0].Requests)
	require.EqualValues(t, 1, list(t, u, usage.Query{From: now.Add(-48 * time.Hour), To: now.Add(-24 * time.Hour)})[0].Requests)
	require.EqualValues(t, 3, list(t, u, usage.Query{To: now.Add(-time.Hour)})[0].Requests, "the end does not belong to it, the start does")

	for name, c := range map[string]struct {
		query    usage.Query
		requests int64
	}{
		"API by id":        {usage.Query{API: "api-1"}, 3},
		"API by name":      {usage.Query{API: "images"}, 1},
		"service":          {usage.Query{Service: "svc-2"}, 1},
		"model":            {usage.Query{Model: "m2"}, 2},
		"consumer":         {usage.Query{Consumer: "cs-2"}, 2},
		"several at once":  {usage.Query{API: "api-1", Consumer: "cs-2", Model: "m1"}, 1},
		"what nobody used": {usage.Query{API: "api-3"}, 0},
		"no SQL":           {usage.Query{API: "' OR true --"}, 0},
	} {
		require.EqualValues(t, c.requests, list(t, u, c.query)[0].Requests, name)
	}
}

func TestUsageIsGrouped(t *testing.T) {
	t.Parallel()
	u, now := written(t)
	byAPI := list(t, u, usage.Query{By: []string{"api"}, From: now.Add(-48 * time.Hour)})
	require.Len(t, byAPI, 3)
	require.Equal(t, []any{"", int64(1000), "api-1", "old name", int64(30), "api-2"},
		[]any{byAPI[0].APIID, byAPI[0].Total, byAPI[1].APIID, byAPI[1].APIName, byAPI[1].Total, byAPI[2].APIID}, "most tokens first")
	both := list(t, u, usage.Query{By: []string{"endState", "consumer"}, API: "api-1"})
	require.Len(t, both, 3)
	require.Equal(t, []string{"cs-2", "complete"}, []string{both[0].ConsumerID, both[0].EndState})
	days := list(t, u, usage.Query{By: []string{"day"}})
	for _, d := range days {
		require.Regexp(t, `^\d{4}-\d\d-\d\d$`, d.Day)
	}
	sums, total, _, err := u.List(t.Context(), account, usage.Query{By: []string{"service"}, Page: instance.Page{Number: 2, Size: 1}})
	require.NoError(t, err)
	require.Equal(t, 2, total)
	require.Equal(t, "svc-2", sums[0].ServiceID)
	everything := list(t, u, usage.Query{By: []string{"api", "service", "model", "consumer", "endState", "day"}})
	require.Len(t, everything, 4)
}

func TestUsageRefusesWhatThereIsNot(t *testing.T) {
	t.Parallel()
	u, now := written(t)
	for want, q := range map[string]usage.Query{
		"groupBy":   {By: []string{"request_id"}},
		"each once": {By: []string{"api", "api"}},
		"startTime": {From: now, To: now},
		"endTime":   {To: time.Unix(1<<40, 0)},
		"null":      {Model: "a\x00"},
	} {
		_, _, _, err := u.List(t.Context(), account, q)
		require.ErrorContains(t, err, want)
	}
}
