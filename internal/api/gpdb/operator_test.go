package gpdb_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/usage"
)

func TestAnOperatorKeyIsShownToWhoMayReadIt(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	const grant = `{"Version":"1","Statement":[{"Effect":"Allow","Action":%s,"Resource":"*"}]}`
	s.Users(map[string]string{
		"reader": fmt.Sprintf(grant, `["gpdb:Describe*","gpdb:List*"]`),
		"user":   fmt.Sprintf(grant, `["gpdb:DescribeModelOperatorApiKey","gpdb:GetModelOperatorApiKey"]`),
	})
	for keyID, want := range map[string]string{
		apitest.RootKey: apiKey, apitest.KeyOf("user"): apiKey, apitest.KeyOf("reader"): "****WXYZ",
	} {
		described := s.JSON(keyID, "DescribeModelOperatorApiKey", object{"ApiKeyId": 1})
		require.Equal(t, 200, described.Status, described.Body)
		require.Equal(t, want, described.Body["ApiKey"])
	}
	listed := s.JSON(apitest.KeyOf("reader"), "ListModelOperatorApiKeys", object{})
	require.Equal(t, []any{object{
		"ApiKeyId": 1.0, "Description": "d", "Endpoint": "http://g/operator/v1", "CreateTime": "2026-03-01T09:30:00Z",
	}}, listed.Body["ApiKeys"])
	require.Equal(t, 403, s.JSON(apitest.KeyOf("reader"), "DeleteModelOperatorApiKey", object{"ApiKeyId": 1}).Status)
	for _, operation := range []string{"DescribeModelOperatorApiKey", "DeleteModelOperatorApiKey"} {
		theirs := s.JSON(apitest.NeighbourKey, operation, object{"ApiKeyId": 1})
		require.Equal(t, []any{404, "InvalidApiKeyId.NotFound"}, []any{theirs.Status, theirs.Code}, "the key of another account")
		require.Equal(t, theirs.Code, s.JSON(apitest.NeighbourKey, operation, object{"ApiKeyId": 77}).Code)
	}
	require.NotContains(t, s.Log.String(), apiKey)
}

func TestOperatorUsageIsAskedForInTheWordsOfTheClients(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	answer := s.RPC(apitest.RootKey, "DescribeModelOperatorUsage", url.Values{
		"Keys": {"request_count,success_rate"}, "ApiKeyIds": {"1,2"}, "ModelNames": {"a,b"}, "GroupBy": {"api_key,model"},
		"StartTime": {"2026-03-01T09:00Z"}, "EndTime": {"2026-03-01T09:30:30Z"}, "Period": {"60"},
	})
	require.Equal(t, 200, answer.Status, answer.Body)
	require.Equal(t, usage.OperatorQuery{
		From: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), To: time.Date(2026, 3, 1, 9, 30, 30, 0, time.UTC), Period: time.Minute,
		Metrics: []usage.Metric{usage.RequestCount, usage.SuccessRate}, KeyIDs: []int32{1, 2}, Models: []string{"a", "b"}, ByModel: true, ByKey: true,
	}, d.query)
	delete(answer.Body, "RequestId")
	series := func(value string) []any {
		return []any{object{"Name": "m", "Role": "model,api_key", "ApiKeyId": 1.0, "Values": []any{object{"Point": []any{"1772357400000", value}}}}}
	}
	require.Equal(t, object{
		"StartTime": "2026-03-01T09:30Z", "EndTime": "2026-03-01T09:31Z", "Period": 60.0, "Keys": []any{
			object{"Name": "request_count", "Unit": "requests", "Series": series("3")},
			object{"Name": "success_rate", "Unit": "%", "Series": series("66.67")},
		},
	}, answer.Body)

	answer = s.JSON(apitest.RootKey, "DescribeModelOperatorUsage", object{"GroupBy": "api_key"})
	require.Equal(t, usage.OperatorQuery{ByKey: true}, d.query)
	keys := answer.Body["Keys"].([]any)
	require.Len(t, keys, 7)
	first := keys[0].(object)["Series"].([]any)[0].(object)
	require.Equal(t, []any{"1", "api_key", 1.0}, []any{first["Name"], first["Role"], first["ApiKeyId"]})
	s.JSON(apitest.RootKey, "DescribeModelOperatorUsage", object{})
	require.Equal(t, usage.OperatorQuery{ByModel: true}, d.query)
	for name, with := range map[string]object{
		"a time":    {"StartTime": "yesterday"},
		"a period":  {"Period": 7},
		"a metric":  {"Keys": []string{"joy"}},
		"a key":     {"ApiKeyIds": []int{0}},
		"dimension": {"GroupBy": "day"},
	} {
		answer := s.JSON(apitest.RootKey, "DescribeModelOperatorUsage", with)
		require.Equal(t, []any{400, "InvalidParameter"}, []any{answer.Status, answer.Code}, name)
	}
}

func TestActiveServicesAreListedByPages(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	listed := s.RPC(apitest.RootKey, "ListModelOperatorServices", url.Values{"PageNumber": {"2"}, "PageSize": {"50"}})
	require.Equal(t, instance.Page{Number: 2, Size: 50}, d.page)
	require.Equal(t, []any{object{"ServiceId": serviceID, "ModelName": "m"}}, listed.Body["Services"])
	require.Equal(t, 7.0, listed.Body["TotalRecordCount"])
}
