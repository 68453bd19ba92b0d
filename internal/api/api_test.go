package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/fault"
)

const id = "gp-aaaaaaaaaaaaaaaaaaaa"

func TestEveryAnswerIsIdentifiedJSON(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	answers := map[string]apitest.Answer{
		"success":  s.JSON(apitest.RootKey, "Get", object{"DBInstanceId": id}),
		"refusal":  s.JSON(apitest.RootKey, "Get", object{}),
		"unsigned": s.Send(s.Request(http.MethodPost, "/", nil)),
	}
	for name, a := range answers {
		require.Regexp(t, regexp.MustCompile(`^[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$`), a.Body["RequestId"], name)
		require.Equal(t, a.Body["RequestId"], a.Header.Get("x-acs-request-id"), name)
		require.NotEmpty(t, a.Header.Get("x-acs-trace-id"), name)
		require.Equal(t, "application/json;charset=utf-8", a.Header.Get("Content-Type"), name)
	}
	refusal := answers["refusal"].Body
	require.Equal(t, strings.TrimPrefix(s.URL, "http://"), refusal["HostId"])
	for _, member := range []string{"RequestId", "HostId", "Code", "Message", "Recommend"} {
		require.IsType(t, "", refusal[member], member)
	}
	require.Equal(t, "Send the parameter that the message names.", refusal["Recommend"])
	require.Len(t, refusal, 5)
}

func TestTheHandlerGetsValidatedParametersWithDefaults(t *testing.T) {
	t.Parallel()
	s, h := serve(t)
	want := object{"DBInstanceId": id, "Count": 1.0, "RegionId": apitest.Region}
	require.Equal(t, 200, s.JSON(apitest.RootKey, "Get", object{"DBInstanceId": id}).Status)
	require.Equal(t, want, h.params)
	require.Equal(t, 200, s.RPC(apitest.RootKey, "Get", url.Values{"DBInstanceId": {id}, "RegionId": {apitest.Region}, "Unknown": {"x"}}).Status)
	require.Equal(t, want, h.params)
	require.Equal(t, "127.0.0.1", h.caller.SourceIP.String())
	require.Equal(t, apitest.Account, h.caller.AccountID)
}

func TestGetAndAFormAreTheSameAsAQuery(t *testing.T) {
	t.Parallel()
	s, h := serve(t)
	r := s.Request(http.MethodGet, "/?DBInstanceId="+id, nil)
	require.Equal(t, 200, s.Signed(apitest.RootKey, "Get", r).Status)
	r = s.Request(http.MethodPost, "/?Count=2", strings.NewReader("DBInstanceId="+id))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	require.Equal(t, 200, s.Signed(apitest.RootKey, "Get", r).Status)
	require.Equal(t, object{"DBInstanceId": id, "Count": 2.0, "RegionId": apitest.Region}, h.params)
}

func TestWhatIsNotARequestIsRefused(t *testing.T) {
	t.Parallel()
	s, h := serve(t)
	direct := func(path, body string) *http.Request {
		r := s.Request(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		return r
	}
	with := func(r *http.Request, name, value string) *http.Request {
		r.Header.Set(name, value)
		return r
	}
	good := `{"DBInstanceId":"` + id + `"}`
	for name, c := range map[string]struct {
		action string
		r      *http.Request
		status int
		code   string
		says   string
	}{
		"unknown action":            {"Fly", s.Request("POST", "/", nil), 404, "InvalidAction.NotFound", `"Fly"`},
		"unknown action, direct":    {"Fly", direct("/Fly", good), 404, "InvalidAction.NotFound", `"Fly"`},
		"action in another case":    {"get", direct("/get", good), 404, "InvalidAction.NotFound", `"get"`},
		"signed for another action": {"Get", direct("/Make", good), 404, "InvalidAction.NotFound", "/Get"},
		"below the action":          {"Get", direct("/Get/x", good), 404, "InvalidAction.NotFound", ""},
		"direct, with GET":          {"Get", s.Request("GET", "/Get", nil), 403, "UnsupportedHTTPMethod", ""},
		"PUT":                       {"Get", s.Request("PUT", "/", nil), 403, "UnsupportedHTTPMethod", ""},
		"direct, with a query":      {"Get", direct("/Get?DBInstanceId="+id, good), 400, "InvalidParameter", "query"},
		"direct, with a form":       {"Get", with(direct("/Get", "DBInstanceId="+id), "Content-Type", "application/x-www-form-urlencoded"), 415, "UnsupportedContentType", ""},
		"compressed":                {"Get", with(direct("/Get", good), "Content-Encoding", "gzip"), 415, "UnsupportedContentEncoding", ""},
		"not an object":             {"Get", direct("/Get", `[]`), 400, "InvalidParameter", "object"},
		"null":                      {"Get", direct("/Get", `null`), 400, "InvalidParameter", "object"},
		"not JSON":                  {"Get", direct("/Get", `{`), 400, "InvalidParameter", "not valid JSON"},
		"trailing data":             {"Get", direct("/Get", good+good), 400, "InvalidParameter", "not valid JSON"},
		"duplicate member":          {"Get", direct("/Get", `{"DBInstanceId":"x",`+good[1:]), 400, "InvalidParameter", `"DBInstanceId" twice`},
		"duplicate, deep":           {"Get", direct("/Get", `{"Free":{"a":[{"b":1,"b":2}]},`+good[1:]), 400, "InvalidParameter", `"b" twice`},
		"invalid UTF-8":             {"Get", direct("/Get", "{\"DBInstanceId\":\"\xff\"}"), 400, "InvalidParameter", "UTF-8"},
		"too deep":                  {"Get", direct("/Get", `{"Free":{"a":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+"}}"), 400, "InvalidParameter", "32 levels"},
		"no body":                   {"Get", direct("/Get", ""), 400, "MissingParameter", "DBInstanceId"},
		"11 MiB":                    {"Get", direct("/Get", `{"DBInstanceId":"`+strings.Repeat("x", 11<<20)+`"}`), 413, "RequestEntityTooLarge", "10 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.Signed(apitest.RootKey, c.action, c.r)
			require.Equal(t, c.code, a.Code, a.Body)
			require.Equal(t, c.status, a.Status)
			require.Contains(t, a.Body["Message"], c.says)
		})
	}
	require.Zero(t, h.calls.Load())
}

func TestAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	other := productOf(t, strings.ReplaceAll(document, "2016-05-03", "1999-01-01"), http.NotFoundHandler())
	other.Version = "1999-01-01"
	s2 := apitest.New(t, other)
	s2.URL = s.URL // the same call, signed for a version that s does not serve
	a := s2.JSON(apitest.RootKey, "Get", object{"DBInstanceId": id})
	require.Equal(t, []any{400, "InvalidVersion"}, []any{a.Status, a.Code})
}

func TestParametersAreRefusedByName(t *testing.T) {
	t.Parallel()
	s, h := serve(t)
	for name, c := range map[string]struct {
		with    object
		code    string
		message string
	}{
		"missing":              {object{"DBInstanceId": nil}, "MissingParameter", "The parameter DBInstanceId is required."},
		"null":                 {object{"Mode": json.RawMessage("null")}, "InvalidParameter", "The parameter Mode is not valid: "},
		"empty":                {object{"DBInstanceId": ""}, "InvalidParameter", "The parameter DBInstanceId is not valid: minimum string length is 1."},
		"too small":            {object{"Count": 0}, "InvalidParameter", "The parameter Count is not valid: number must be at least 1."},
		"negative":             {object{"Count": -1}, "InvalidParameter", "number must be at least 1."},
		"too large":            {object{"Count": 1001}, "InvalidParameter", "number must be at most 1000."},
		"far too large":        {object{"Count": 1e10}, "InvalidParameter", "The parameter Count is not valid: "},
		"a fraction":           {object{"Count": 1.5}, "InvalidParameter", "value must be an integer."},
		"a string for a count": {object{"Count": "1"}, "InvalidParameter", "value must be an integer."},
		"a number for a name":  {object{"Mode": 1}, "InvalidParameter", "The parameter Mode is not valid: "},
		"beyond 64 bits":       {object{"Big": json.RawMessage("1e19")}, "InvalidParameter", "The parameter Big is not valid: "},
		"digits beyond":        {object{"Big": json.RawMessage("9223372036854775808")}, "InvalidParameter", "64 bits"},
		"no such mode":         {object{"Mode": "warp"}, "InvalidParameter", `"fast"`},
		"repeated names":       {object{"Names": []string{"a", "a"}}, "InvalidParameter", "The parameter Names is not valid: duplicate items found."},
		"an empty name":        {object{"Names": []string{"a", ""}}, "InvalidParameter", "The parameter Names.2 is not valid: "},
		"too many names":       {object{"Names": []string{"a", "b", "c", "d"}}, "InvalidParameter", "maximum number of items is 3."},
		"a part's number":      {object{"Parts": []object{{"Num": "1"}, {"Num": "x"}}}, "InvalidParameter", "The parameter Parts.2.Num is not valid: it takes a digit."},
		"a part's number gone": {object{"Parts": []object{{}}}, "MissingParameter", "The parameter Parts.1.Num is required."},
		"a part's surplus":     {object{"Parts": []object{{"Num": "1", "X": 1}}}, "InvalidParameter", "The parameter Parts.1.X is not valid: there is no such parameter."},
		"unknown":              {object{"Surplus": 1}, "InvalidParameter", "The parameter Surplus is not valid: there is no such parameter."},
		"another case":         {object{"count": 1}, "InvalidParameter", "The parameter count is not valid: there is no such parameter."},
		"another region":       {object{"RegionId": "elsewhere"}, "InvalidRegionId.NotFound", "elsewhere"},
		"a long token":         {object{"ClientToken": strings.Repeat("x", 65)}, "InvalidParameter", "The parameter ClientToken is not valid: maximum string length is 64."},
		"a token in Greek":     {object{"ClientToken": "α"}, "InvalidParameter", "printable ASCII"},
		"a token with a tab":   {object{"ClientToken": "a\tb"}, "InvalidParameter", "printable ASCII"},
	} {
		t.Run(name, func(t *testing.T) {
			params := object{"DBInstanceId": id}
			for key, value := range c.with {
				if params[key] = value; value == nil {
					delete(params, key)
				}
			}
			a := s.JSON(apitest.RootKey, "Make", params)
			require.Equal(t, c.code, a.Code, a.Body)
			require.Contains(t, a.Body["Message"], c.message)
		})
	}
	require.Zero(t, h.calls.Load())
}

func TestErrorsBecomeStatuses(t *testing.T) {
	t.Parallel()
	s, h := serve(t)
	secret := errors.New("password=hunter2 at db.internal:5432")
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"invalid":     {fault.InvalidParameter("X", "no."), 400, "InvalidParameter"},
		"denied":      {fault.New(fault.Denied, "OperationDenied.ModelServiceStatus", "m", "Do something else."), 403, "OperationDenied.ModelServiceStatus"},
		"not found":   {fmt.Errorf("while looking: %w", fault.New(fault.NotFound, "N", "m", "Do something else.")), 404, "N"},
		"conflict":    {fault.New(fault.Conflict, "C", "m", "Do something else."), 409, "C"},
		"throttled":   {fault.New(fault.Throttled, "Throttling.User", "m", "Do something else."), 429, "Throttling.User"},
		"unavailable": {fault.New(fault.Unavailable, "U", "m", "Do something else."), 503, "U"},
		"unknown":     {secret, 500, "InternalError"},
		"too slow":    {fmt.Errorf("query: %w", context.DeadlineExceeded), 503, "ServiceUnavailable"},
	} {
		h.answer = func(context.Context, object) error { return c.err }
		a := s.JSON(apitest.RootKey, "Get", object{"DBInstanceId": id})
		require.Equal(t, []any{c.status, c.code}, []any{a.Status, a.Code}, name)
		require.NotContains(t, a.Body["Message"], "hunter2")
		require.NotContains(t, a.Body["Message"], "while looking")
	}
	require.Contains(t, s.Log.String(), "hunter2", "what is not shown is logged in full")

	h.answer = func(context.Context, object) error { panic("boom") }
	a := s.JSON(apitest.RootKey, "Get", object{"DBInstanceId": id})
	require.Equal(t, []any{500, "InternalError"}, []any{a.Status, a.Code})
	require.NotContains(t, a.Body["Message"], "boom")
	require.Contains(t, s.Log.String(), "panic: boom")
}

func TestTheDatabaseAwayIsServiceUnavailable(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	config, err := pgx.ParseConfig(s.DB.AdminURL)
	require.NoError(t, err)
	name := config.Database
	config.Database = "postgres"
	admin, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer admin.Close(t.Context())
	_, err = admin.Exec(t.Context(), `ALTER DATABASE `+name+` ALLOW_CONNECTIONS false`)
	require.NoError(t, err)
	_, err = admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, name)
	require.NoError(t, err)
	a := s.JSON(apitest.RootKey, "Get", object{"DBInstanceId": id})
	require.Equal(t, []any{503, "ServiceUnavailable"}, []any{a.Status, a.Code}, s.Log.String())
}

func TestPoliciesDecideByARN(t *testing.T) {
	t.Parallel()
	const other = "gp-bbbbbbbbbbbbbbbbbbbb"
	policy := func(effect, action, resource string) string {
		return `{"Effect":"` + effect + `","Action":"` + action + `","Resource":"` + resource + `"}`
	}
	s, h := serve(t)
	document := func(statements ...string) string {
		return `{"Version":"1","Statement":[` + strings.Join(statements, ",") + `]}`
	}
	arn := "acs:test:%s:" + apitest.Account + ":dbinstance/"
	s.Users(map[string]string{
		"filled":   document(policy("Allow", "test:*", fmt.Sprintf(arn, apitest.Region)+id)),
		"empty":    document(policy("Allow", "test:*", fmt.Sprintf(arn, "")+id)),
		"all":      document(policy("Allow", "test:*", fmt.Sprintf(arn, "*")+"*")),
		"but":      document(policy("Allow", "test:*", "*"), policy("Deny", "test:Make", fmt.Sprintf(arn, "*")+other)),
		"nothing":  document(policy("Allow", "other:*", "*")),
		"stranger": document(policy("Allow", "test:*", "acs:test:*:"+apitest.Neighbour+":dbinstance/*")),
	})
	for _, c := range []struct {
		user, action, id string
		allowed          bool
	}{
		{"filled", "Get", id, true},
		{"filled", "Make", id, true},
		{"empty", "Get", id, true},
		{"empty", "Make", id, true},
		{"filled", "Get", other, false},
		{"empty", "Make", other, false},
		{"all", "Get", other, true},
		{"all", "Get", "no-id:of/ours", true},
		{"filled", "Get", "no-id:of/ours", false},
		{"filled", "Get", id + "/x", false},
		{"but", "Make", id, true},
		{"but", "Make", other, false},
		{"but", "Get", other, true},
		{"nothing", "Get", id, false},
		{"stranger", "Get", id, false},
	} {
		calls := h.calls.Load()
		a := s.JSON(apitest.KeyOf(c.user), c.action, object{"DBInstanceId": c.id})
		if c.allowed {
			require.Equal(t, 200, a.Status, "%+v: %v", c, a.Body)
			continue
		}
		require.Equal(t, 403, a.Status, "%+v", c)
		require.Equal(t, calls, h.calls.Load(), "a denied call does not reach the handler")
		detail := a.Body["AccessDeniedDetail"].(object)
		require.Equal(t, "test:"+c.action, detail["AuthAction"])
		require.Equal(t, "SubUser", detail["AuthPrincipalType"])
		for member, value := range detail {
			require.IsType(t, "", value, member)
		}
	}
}

func TestAllowedAsksOnlyForWhatTheDocumentLists(t *testing.T) {
	t.Parallel()
	s, h := serve(t)
	s.Users(map[string]string{
		"peeker": `{"Version":"1","Statement":[{"Effect":"Allow","Action":["test:Get","test:Peek"],"Resource":"*"}]}`,
		"getter": `{"Version":"1","Statement":[{"Effect":"Allow","Action":"test:Get","Resource":"*"}]}`,
	})
	var allowed bool
	h.answer = func(ctx context.Context, _ object) (err error) {
		allowed, err = api.Allowed(ctx, "test:Peek")
		return err
	}
	for keyID, want := range map[string]bool{apitest.KeyOf("peeker"): true, apitest.KeyOf("getter"): false, apitest.RootKey: true} {
		require.Equal(t, 200, s.JSON(keyID, "Get", object{"DBInstanceId": id}).Status)
		require.Equal(t, want, allowed, keyID)
	}
	h.answer = func(ctx context.Context, _ object) error {
		_, err := api.Allowed(ctx, "test:Other")
		return err
	}
	require.Equal(t, 500, s.JSON(apitest.RootKey, "Get", object{"DBInstanceId": id}).Status)
}

func TestRequireAsksForTheRightToAnotherOperation(t *testing.T) {
	t.Parallel()
	s, h := serve(t)
	allow := func(actions string) string {
		return `{"Version":"1","Statement":[{"Effect":"Allow","Action":[` + actions + `],"Resource":"*"}]}`
	}
	s.Users(map[string]string{
		"both": allow(`"test:Get","test:Make"`), "get": allow(`"test:Get"`),
		"one": `{"Version":"1","Statement":[{"Effect":"Allow","Action":"test:Get","Resource":"*"},
			{"Effect":"Allow","Action":"test:Make","Resource":"acs:test:*:*:dbinstance/` + id + `"}]}`,
	})
	other := "gp-1123456789abcdefghij"
	for _, c := range []struct {
		user, id string
		want     int
	}{{"both", other, 200}, {"get", other, 403}, {"one", id, 200}, {"one", other, 403}} {
		h.answer = func(ctx context.Context, _ object) error {
			return api.Require(ctx, "Make", object{"DBInstanceId": c.id})
		}
		require.Equal(t, c.want, s.JSON(apitest.KeyOf(c.user), "Get", object{"DBInstanceId": id}).Status, c)
	}
	h.answer = func(ctx context.Context, _ object) error { return api.Require(ctx, "Get", nil) }
	require.Equal(t, 500, s.JSON(apitest.RootKey, "Get", object{"DBInstanceId": id}).Status, "it is not listed")
}

func TestTheFingerprintIsOfTheParametersAlone(t *testing.T) {
	t.Parallel()
	s, h := serve(t)
	fingerprint := func(params any) string {
		require.Equal(t, 200, s.JSON(apitest.RootKey, "Make", params).Status)
		require.NotContains(t, h.params, "ClientToken")
		return string(h.key.Fingerprint)
	}
	same := fingerprint(`{"DBInstanceId":"` + id + `","Free":{"a":1,"b":[1.50]},"ClientToken":"t"}`)
	require.Equal(t, "t", h.key.Token)
	require.Len(t, same, 32)
	for _, spelling := range []string{
		`{"ClientToken":"other","Free":{"b":[1.5],"a":1e0},"DBInstanceId":"` + id + `"}`,
		`{"Count":1,"RegionId":"cn-hangzhou","Free":{"a":1,"b":[1.5]},"DBInstanceId":"\u0067p-aaaaaaaaaaaaaaaaaaaa"}`,
	} {
		require.Equal(t, same, fingerprint(spelling))
	}
	for _, other := range []string{
		`{"DBInstanceId":"` + id + `","Free":{"a":1,"b":[1.5]},"Count":2}`,
		`{"DBInstanceId":"` + id + `","Free":{"a":"1","b":[1.5]}}`,
		`{"DBInstanceId":"` + id + `","Free":{"a":1,"b":[1.5]},"Flag":false}`,
	} {
		require.NotEqual(t, same, fingerprint(other))
	}
	require.Equal(t, 200, s.JSON(apitest.RootKey, "Make", object{"DBInstanceId": id, "ClientToken": ""}).Status)
	require.Empty(t, h.key.Token, "an empty token is none")
}

func TestTheLogHoldsNoParameters(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	s.RPC(apitest.RootKey, "Get", url.Values{"DBInstanceId": {id}, "Mode": {"canary-1"}})
	s.JSON(apitest.RootKey, "Get", object{"DBInstanceId": id, "Mode": "canary-2"})
	s.Send(s.Request("POST", "/canary-3?Signature=canary-4", nil))
	require.NotContains(t, s.Log.String(), "canary")
	require.Contains(t, s.Log.String(), `"action":"test:Get"`)
	require.Contains(t, s.Log.String(), apitest.RootKey)
}
