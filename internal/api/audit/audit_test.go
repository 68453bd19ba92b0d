package audit_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/api/apitest"
	auditapi "github.com/engineshed/engineshed/internal/api/audit"
	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/openapi"
)

type object = map[string]any

// serve serves a trail with ten rows of the account and one of its neighbour.
func serve(t *testing.T) *apitest.Server {
	t.Helper()
	db := pgtest.New(t)
	master, err := secret.NewBox()
	require.NoError(t, err)
	product, err := auditapi.Product(audit.NewTrail(db.Control, master, time.Now))
	require.NoError(t, err)
	for n := range 10 {
		entry := &audit.Entry{
			RequestID: fmt.Sprint("r", n), AccountID: apitest.Account, Principal: "acs:ram::" + apitest.Account + ":user/alice", AccessKeyID: "k",
			SourceIP: "192.0.2.1", Action: "gpdb:DeleteModelService", Resource: "acs:gpdb::" + apitest.Account + ":dbinstance/gp-1", ResourceID: "ms-100%",
			Outcome: audit.Denied, Code: "NoPermission", At: time.Now().Add(time.Duration(n-60) * time.Second),
		}
		if n%2 == 0 {
			entry.Principal, entry.Action, entry.Outcome, entry.Code = "acs:ram::"+apitest.Account+":root", "apig:CreateHttpApi", audit.Done, ""
			entry.Resource, entry.ResourceID = "*", "api-1"
		}
		require.NoError(t, audit.Insert(t.Context(), db.Control, entry))
	}
	require.NoError(t, audit.Insert(t.Context(), db.Control, &audit.Entry{RequestID: "theirs", AccountID: apitest.Neighbour, Outcome: audit.Done}))
	return apitest.On(t, db, product)
}

func listed(a apitest.Answer) (requests []string) {
	events, _ := a.Body["Events"].([]any)
	for _, event := range events {
		requests = append(requests, event.(object)["EventRequestId"].(string))
	}
	return requests
}

func TestTheTrailIsListedNewestFirstAndPageByPage(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var seen []string
	token := ""
	for pages := 1; ; pages++ {
		params := object{"MaxResults": 4}
		if token != "" {
			params["NextToken"] = token
		}
		a := s.JSON(apitest.RootKey, "ListAuditEvents", params)
		require.Equal(t, 200, a.Status, a.Body)
		seen = append(seen, listed(a)...)
		if token = a.Body["NextToken"].(string); token == "" {
			require.Equal(t, 3, pages)
			break
		}
	}
	require.Equal(t, []string{"r9", "r8", "r7", "r6", "r5", "r4", "r3", "r2", "r1", "r0"}, seen, "and nothing of another account")
	require.Equal(t, []string{"theirs"}, listed(s.JSON(apitest.NeighbourKey, "ListAuditEvents", object{})))
}

func TestTheTrailIsFiltered(t *testing.T) {
	t.Parallel()
	s := serve(t)
	at := func(ago time.Duration) string { return time.Now().Add(-ago).UTC().Format(time.RFC3339Nano) }
	for name, test := range map[string]struct {
		params object
		want   int
	}{
		"a principal":             {object{"Principal": "acs:ram::" + apitest.Account + ":root"}, 5},
		"a pattern of principals": {object{"Principal": "*:user/*"}, 5},
		"part of a principal":     {object{"Principal": "root"}, 0},
		"an action in any case":   {object{"Action": "GPDB:*"}, 5},
		"an outcome":              {object{"Outcome": "denied"}, 5},
		"a resource":              {object{"Resource": "*dbinstance/gp-?"}, 5},
		"the id of what was made": {object{"Resource": "api-1"}, 5},
		"a sign that SQL knows":   {object{"Resource": "ms-100%"}, 5},
		"another such sign":       {object{"Resource": "ms-1_0%"}, 0},
		"a backslash":             {object{"Resource": `ms\-1*`}, 0},
		"all of it":               {object{"Action": "apig:*", "Outcome": "denied"}, 0},
		"since":                   {object{"StartTime": at(55*time.Second + 500*time.Millisecond)}, 5},
		"until":                   {object{"EndTime": at(55*time.Second + 500*time.Millisecond)}, 5},
	} {
		a := s.JSON(apitest.RootKey, "ListAuditEvents", test.params)
		require.Equal(t, 200, a.Status, a.Body)
		require.Len(t, listed(a), test.want, name)
	}
}

func TestWhatCannotBeMeantIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for name, params := range map[string]object{
		"StartTime": {"StartTime": "yesterday"}, "EndTime": {"EndTime": "2026-13-01T00:00:00Z"}, "NextToken": {"NextToken": "x"},
		"Outcome": {"Outcome": "well"}, "MaxResults": {"MaxResults": 501},
	} {
		a := s.JSON(apitest.RootKey, "ListAuditEvents", params)
		require.Equal(t, []any{400, "InvalidParameter"}, []any{a.Status, a.Code}, name)
		require.Contains(t, a.Body["Message"], name)
	}
	a := s.RPC(apitest.RootKey, "ListAuditEvents", url.Values{"Principal": {"a\x00"}})
	require.Equal(t, []any{400, "InvalidParameter"}, []any{a.Status, a.Code}, a.Body)
	a = s.JSON(apitest.RootKey, "ListAuditEvents", object{"StartTime": "2026-03-02T00:00:00Z", "EndTime": "2026-03-01T00:00:00Z"})
	require.Contains(t, a.Body["Message"], "before EndTime")
}

func TestWhoMayReadTheTrailIsDecidedByPolicies(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.Users(map[string]string{
		"auditor": `{"Version":"1","Statement":[{"Effect":"Allow","Action":"audit:List*","Resource":"*"}]}`,
		"other":   `{"Version":"1","Statement":[{"Effect":"Allow","Action":["gpdb:*","apig:*"],"Resource":"*"}]}`,
	})
	require.Len(t, listed(s.JSON(apitest.KeyOf("auditor"), "ListAuditEvents", object{})), 10)
	a := s.JSON(apitest.KeyOf("other"), "ListAuditEvents", object{})
	require.Equal(t, []any{403, "NoPermission"}, []any{a.Status, a.Code})
	require.Equal(t, "MissingParameter", s.Send(s.Request(http.MethodPost, "/ListAuditEvents", nil)).Code, "nobody")
}

func TestTheAnswerIsAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	s := serve(t)
	document, err := api.LoadDocument(openapi.Files, "audit.yaml")
	require.NoError(t, err)
	op := document.Paths.Find("/ListAuditEvents").Post
	answers := op.Responses.Status(http.StatusOK).Value.Content.Get("application/json")
	direct := s.JSON(apitest.RootKey, "ListAuditEvents", object{"Outcome": "denied", "MaxResults": 20})
	rpc := s.RPC(apitest.RootKey, "ListAuditEvents", url.Values{"Outcome": {"denied"}, "MaxResults": {"20"}})
	for _, a := range []apitest.Answer{direct, rpc} {
		require.NoError(t, answers.Schema.Value.VisitJSON(a.Body, openapi3.VisitAsResponse()))
		delete(a.Body, "RequestId")
	}
	require.Equal(t, direct.Body, rpc.Body)
	require.NoError(t, answers.Schema.Value.VisitJSON(answers.Example, openapi3.VisitAsResponse()))
	example := op.RequestBody.Value.Content.Get("application/json")
	require.NoError(t, example.Schema.Value.VisitJSON(example.Example, openapi3.VisitAsRequest()))
}
