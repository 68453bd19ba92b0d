package apig_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/usage"
)

func TestUsageIsAskedForAndShownByItsGroups(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	a := s.Call(apitest.RootKey, "ListUsage", http.MethodGet,
		"/v1/usage?startTime=1772357400000&endTime=1772357400001&httpApi=chat&service=svc&model=m&consumer=alice&groupBy=api,model&pageSize=5", nil)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, []any{usage.Query{
		From: created, To: created.Add(time.Millisecond), API: "chat", Service: "svc", Model: "m", Consumer: "alice",
		By: []string{"api", "model"}, Page: instance.Page{Number: 1, Size: 5},
	}}, d.asked)
	data := a.Body["data"].(object)
	require.Equal(t, []any{1772353800000.0, 1772357400000.0, 1.0}, []any{data["startTime"], data["endTime"], data["totalSize"]})
	require.Equal(t, object{
		"httpApiId": apiID, "httpApiName": "chat", "model": "qwen-plus", "requestCount": 12.0, "streamCount": 0.0, "unknownCount": 0.0,
		"inputTokens": 0.0, "outputTokens": 0.0, "totalTokens": 7168.0, "cachedTokens": 0.0, "reasoningTokens": 0.0,
		"averageDuration": 0.0, "averageFirstContent": 310.0,
	}, data["items"].([]any)[0], "members that are not grouped by are absent")

	require.Equal(t, 200, s.Call(apitest.RootKey, "ListUsage", http.MethodGet, "/v1/usage", nil).Status)
	require.Equal(t, []any{usage.Query{Page: instance.Page{Number: 1, Size: 10}}}, d.asked)
}
