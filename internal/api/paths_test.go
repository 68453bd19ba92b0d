package api_test

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/idempotency"
)

// pathDocument describes a small path-style product.
const pathDocument = `
openapi: 3.0.3
info: {title: paths, version: "2024-03-27"}
paths:
  /v1/things:
    get:
      operationId: ListThings
      x-ram: {action: "paths:ListThings", level: list, resource: "*"}
      parameters:
        - {name: keyword, in: query, schema: {type: string, maxLength: 64}}
        - {name: exact, in: query, schema: {type: boolean}}
        - {name: pageSize, in: query, schema: {type: integer, format: int32, minimum: 1, maximum: 9000000, default: 2000000}}
        - {name: types, in: query, schema: {type: array, x-rendering: simple, maxItems: 3, items: {type: string, minLength: 1}}}
      responses: {default: {description: refused}}
    post:
      operationId: MakeThing
      x-ram: {action: "paths:MakeThing", level: create, resource: "*"}
      x-client-token: true
      parameters: [{name: clientToken, in: query, schema: {type: string, maxLength: 64}}]
      requestBody:
        content:
          application/json:
            schema:
              type: object
              required: [name]
              properties:
                name: {type: string, minLength: 1}
                parts:
                  type: array
                  items: {type: object, required: [num], properties: {num: {type: integer}, free: {type: object, additionalProperties: true}}}
      responses: {default: {description: refused}}
  /v1/things/import:
    post:
      operationId: ImportThings
      x-ram: {action: "paths:ImportThings", level: create, resource: "*"}
      responses: {default: {description: refused}}
  /v1/things/{httpApiId}:
    post:
      operationId: PokeThing
      x-ram: {action: "paths:PokeThing", level: update, resource: thing, arn: "acs:paths:{region}:{account}:thing/{httpApiId}"}
      parameters: [{name: httpApiId, in: path, required: true, schema: {type: string}}]
      responses: {default: {description: refused}}
    get:
      operationId: GetThing
      x-ram: {action: "paths:GetThing", level: get, resource: thing, arn: "acs:paths:{region}:{account}:thing/{httpApiId}"}
      parameters: [{name: httpApiId, in: path, required: true, schema: {type: string}}]
      responses: {default: {description: refused}}
  /v1/things/{httpApiId}/parts/{partId}:
    delete:
      operationId: DeletePart
      x-ram: {action: "paths:DeletePart", level: delete, resource: thing, arn: "acs:paths:{region}:{account}:thing/{httpApiId}"}
      parameters:
        - {name: httpApiId, in: path, required: true, schema: {type: string}}
        - {name: partId, in: path, required: true, schema: {type: string}}
      responses: {default: {description: refused}}
`

// reached is what the handler of a path-style product got.
type reached struct {
	method, path string
	query        url.Values
	body         object
	key          idempotency.Key
	err          error
}

func (h *reached) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.method, h.path, h.query, h.body = r.Method, r.URL.EscapedPath(), r.URL.Query(), nil
	h.key = idempotency.KeyFrom(r.Context())
	text, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(text, &h.body)
	if h.err != nil {
		api.Fail(w, r, h.err)
		return
	}
	w.WriteHeader(http.StatusOK)
	_ = json.NewEncoder(w).Encode(object{"requestId": api.RequestID(r.Context())})
}

func pathProduct(t *testing.T, text string, h http.Handler) (api.Product, error) {
	t.Helper()
	parsed, err := api.LoadDocument(fstest.MapFS{"test.yaml": {Data: []byte(text)}}, "test.yaml")
	return api.Product{Name: "paths", Version: "2024-03-27", Document: parsed, Handler: h, Paths: true}, err
}

func servePaths(t *testing.T) (*apitest.Server, *reached) {
	t.Helper()
	h := &reached{}
	product, err := pathProduct(t, pathDocument, h)
	require.NoError(t, err)
	return apitest.New(t, product, productOf(t, document, &handler{})), h
}

const thing = "api-0123456789abcdefghij"

func TestAnOperationIsFoundByMethodAndPath(t *testing.T) {
	t.Parallel()
	s, h := servePaths(t)
	for _, c := range []struct{ action, method, target string }{
		{"ListThings", "GET", "/v1/things"},
		{"MakeThing", "POST", "/v1/things"},
		{"ImportThings", "POST", "/v1/things/import"},
		{"GetThing", "GET", "/v1/things/import"},
		{"PokeThing", "POST", "/v1/things/" + thing},
		{"DeletePart", "DELETE", "/v1/things/" + thing + "/parts/x"},
	} {
		var body any
		if c.action == "MakeThing" {
			body = object{"name": "n"}
		}
		a := s.Call(apitest.RootKey, c.action, c.method, c.target, body)
		require.Equal(t, 200, a.Status, "%s: %v", c.action, a.Body)
		require.Equal(t, []string{c.method, c.target}, []string{h.method, h.path}, c.action)
	}
}

func TestWhatIsNoOperationIsRefused(t *testing.T) {
	t.Parallel()
	s, h := servePaths(t)
	for name, c := range map[string]struct {
		action, method, target string
		body                   any
		status                 int
		code, says             string
	}{
		"no such path":            {"GetThing", "GET", "/v1/nothing", nil, 404, "InvalidAction.NotFound", "no operation at this path"},
		"the root":                {"GetThing", "POST", "/", nil, 404, "InvalidAction.NotFound", ""},
		"below an operation":      {"GetThing", "GET", "/v1/things/a/b", nil, 404, "InvalidAction.NotFound", ""},
		"another method":          {"GetThing", "PUT", "/v1/things/" + thing, nil, 403, "UnsupportedHTTPMethod", "GET, POST"},
		"signed for another":      {"PokeThing", "GET", "/v1/things/" + thing, nil, 404, "InvalidAction.NotFound", "those of GetThing"},
		"action in another case":  {"getThing", "GET", "/v1/things/" + thing, nil, 404, "InvalidAction.NotFound", ""},
		"an encoded slash":        {"GetThing", "GET", "/v1/things/a%2Fb", nil, 400, "InvalidPath", ""},
		"dots":                    {"GetThing", "GET", "/v1/things/..", nil, 400, "InvalidPath", ""},
		"a trailing slash":        {"ListThings", "GET", "/v1/things/", nil, 400, "InvalidPath", ""},
		"U+0000 in the path":      {"GetThing", "GET", "/v1/things/a%00", nil, 400, "InvalidPath", ""},
		"body where none belongs": {"PokeThing", "POST", "/v1/things/" + thing, object{}, 400, "InvalidParameter", "no request body"},
		"no body":                 {"MakeThing", "POST", "/v1/things", nil, 400, "MissingParameter", "name"},
		"not an object":           {"MakeThing", "POST", "/v1/things", "[]", 400, "InvalidParameter", "object"},
		"duplicate member":        {"MakeThing", "POST", "/v1/things", `{"name":"a","name":"b"}`, 400, "InvalidParameter", "twice"},
		"duplicate in what is ignored": {
			"MakeThing", "POST", "/v1/things", `{"name":"a","extra":{"b":1,"b":2}}`, 400, "InvalidParameter", "twice",
		},
		"invalid UTF-8":     {"MakeThing", "POST", "/v1/things", "{\"name\":\"\xff\"}", 400, "InvalidParameter", "UTF-8"},
		"a wrong type":      {"MakeThing", "POST", "/v1/things", object{"name": 1}, 400, "InvalidParameter", "The parameter name"},
		"null is absent":    {"MakeThing", "POST", "/v1/things", `{"name":null}`, 400, "MissingParameter", "name"},
		"a part's number":   {"MakeThing", "POST", "/v1/things", object{"name": "n", "parts": []object{{"num": "1"}}}, 400, "InvalidParameter", "parts.1.num"},
		"a text for a bool": {"ListThings", "GET", "/v1/things?exact=yes", nil, 400, "InvalidParameter", "exact"},
		"a fraction":        {"ListThings", "GET", "/v1/things?pageSize=1.5", nil, 400, "InvalidParameter", "pageSize"},
		"twice":             {"ListThings", "GET", "/v1/things?keyword=a&keyword=b", nil, 400, "InvalidParameter", "more than once"},
		"an empty type":     {"ListThings", "GET", "/v1/things?types=a,,b", nil, 400, "InvalidParameter", "types.2"},
		"a rehearsal":       {"MakeThing", "POST", "/v1/things?dryRun=true", object{"name": "n"}, 400, "UnsupportedParameter", "nothing was done"},
		"one in the body":   {"MakeThing", "POST", "/v1/things", object{"name": "n", "dryRun": true}, 400, "UnsupportedParameter", "dryRun"},
		"too many types":    {"ListThings", "GET", "/v1/things?types=a,b,c,d", nil, 400, "InvalidParameter", "types"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.Call(apitest.RootKey, c.action, c.method, c.target, c.body)
			require.Equal(t, []any{c.status, c.code}, []any{a.Status, a.Code}, a.Body)
			require.Contains(t, a.Body["Message"], c.says)
		})
	}
	require.Empty(t, h.method, "nothing of it reached the handler")
	r := s.Request("POST", "/v1/things", strings.NewReader("name=n"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	require.Equal(t, "UnsupportedContentType", s.Signed(apitest.RootKey, "MakeThing", r).Code)
}

func TestTheHandlerGetsWhatWasValidated(t *testing.T) {
	t.Parallel()
	s, h := servePaths(t)
	a := s.Call(apitest.RootKey, "ListThings", "GET", "/v1/things?keyword=a%26b+c&exact=true&types=x,y&unknown=1", nil)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, url.Values{"keyword": {"a&b c"}, "exact": {"true"}, "types": {"x,y"}, "pageSize": {"2000000"}}, h.query)

	body := `{"name":"n","extra":1,"dryRun":false,"parts":[{"num":1,"extra":2,"free":{"kept":[1,{"a":null}]}},{"num":2,"free":null}]}`
	a = s.Call(apitest.RootKey, "MakeThing", "POST", "/v1/things?clientToken=t&dryRun=false", body)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, object{"name": "n", "parts": []any{
		object{"num": 1.0, "free": object{"kept": []any{1.0, object{"a": nil}}}}, object{"num": 2.0},
	}}, h.body)
	first := h.key
	require.Equal(t, []string{"paths:MakeThing", "t"}, []string{first.Action, first.Token})
	s.Call(apitest.RootKey, "MakeThing", "POST", "/v1/things?clientToken=t", `{"parts":[{"free":{"kept":[1,{"a":null}]},"num":1},{"num":2}],"name":"n"}`)
	require.Equal(t, first, h.key, "what is ignored is no part of the fingerprint")
	s.Call(apitest.RootKey, "MakeThing", "POST", "/v1/things?clientToken=t", object{"name": "other"})
	require.NotEqual(t, first.Fingerprint, h.key.Fingerprint)
}

// A parameter of the path is decoded once, for the policy and for the handler alike: what is encoded twice is no other
// spelling of an id.
func TestPathParametersAreDecodedOnce(t *testing.T) {
	t.Parallel()
	s, h := servePaths(t)
	s.Users(map[string]string{"one": `{"Version":"1","Statement":[{"Effect":"Allow","Action":"paths:*","Resource":"acs:paths:*:*:thing/` + thing + `"}]}`})
	require.Equal(t, 200, s.Call(apitest.KeyOf("one"), "GetThing", "GET", "/v1/things/"+thing, nil).Status)
	for _, id := range []string{"api-1123456789abcdefghij", thing + "%20", "%2561pi-0123456789abcdefghij", "*", thing + "%3Fx"} {
		require.Equal(t, []any{403, "NoPermission"}, func() []any {
			a := s.Call(apitest.KeyOf("one"), "GetThing", "GET", "/v1/things/"+strings.ReplaceAll(id, "*", "%2A"), nil)
			return []any{a.Status, a.Code}
		}(), id)
	}
	a := s.Call(apitest.RootKey, "GetThing", "GET", "/v1/things/%2561pi", nil)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, "/v1/things/%2561pi", h.path)
}

func TestPathStyleErrorsAreSpelledInBothWays(t *testing.T) {
	t.Parallel()
	s, h := servePaths(t)
	s.Users(map[string]string{"none": `{"Version":"1","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`})
	h.err = fault.New(fault.NotFound, "NotFound.Thing", "There is no such thing.", "Do something else.")
	unsigned := s.Request("GET", "/v1/things", nil)
	unsigned.Header.Set("x-acs-version", "2024-03-27")
	denied := s.Call(apitest.KeyOf("none"), "GetThing", "GET", "/v1/things/"+thing, nil)
	for name, a := range map[string]apitest.Answer{
		"of the handler": s.Call(apitest.RootKey, "GetThing", "GET", "/v1/things/"+thing, nil),
		"of the edge":    s.Call(apitest.RootKey, "GetThing", "GET", "/v1/nothing", nil),
		"unsigned":       s.Send(unsigned),
		"denied":         denied,
	} {
		for upper, lower := range map[string]string{
			"RequestId": "requestId", "HostId": "hostId", "Code": "code", "Message": "message", "Recommend": "recommend",
		} {
			require.IsType(t, "", a.Body[upper], name)
			require.Equal(t, a.Body[upper], a.Body[lower], name)
		}
		require.NotEmpty(t, a.Code, name)
	}
	require.Contains(t, denied.Body["recommend"], "Ask for a policy")
	require.Equal(t, denied.Body["AccessDeniedDetail"], denied.Body["accessDeniedDetail"])
	require.NotNil(t, denied.Body["accessDeniedDetail"])
	require.NotContains(t, s.Send(s.Request("POST", "/", nil)).Body, "code", "other products keep to one spelling")
}

func TestAPathStyleMutationIsAudited(t *testing.T) {
	t.Parallel()
	s, h := servePaths(t)
	h.err = fault.New(fault.NotFound, "NotFound.Thing", "m", "Do something else.")
	s.Call(apitest.RootKey, "DeletePart", "DELETE", "/v1/things/"+thing+"/parts/p", nil)
	s.Call(apitest.RootKey, "GetThing", "GET", "/v1/things/"+thing, nil)
	found := rows(t, s)
	require.Len(t, found, 1)
	require.Equal(t, []string{"paths:DeletePart", "acs:paths:" + apitest.Region + ":" + apitest.Account + ":thing/" + thing, "NotFound.Thing"},
		[]string{found[0].Action, found[0].Resource, found[0].Code})
	require.Equal(t, access.Caller{Identity: access.Root, AccountID: apitest.Account}.ARN(), found[0].Principal)
}

func TestAPathStyleDocumentIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ replace, with, says string }{
		"one name in two places":     {"{name: clientToken, in: query", "{name: name, in: query", "the parameter name is in two places"},
		"a header":                   {"{name: clientToken, in: query", "{name: clientToken, in: header", "neither in the path nor in the query"},
		"no permission":              {`x-ram: {action: "paths:MakeThing"`, `x-no-ram: {action: "paths:MakeThing"`, "POST /v1/things: x-ram is missing"},
		"an ARN of what is not sent": {"thing/{httpApiId}\"}", "thing/{gatewayId}\"}", "gatewayId"},
	} {
		text := strings.Replace(pathDocument, c.replace, c.with, 1)
		require.NotEqual(t, pathDocument, text, name)
		product, err := pathProduct(t, text, http.NotFoundHandler())
		require.NoError(t, err, name)
		_, err = api.New(api.Config{Products: []api.Product{product}, Log: slog.New(slog.DiscardHandler)})
		require.ErrorContains(t, err, c.says, name)
	}
}

// signROAV1 signs as the aliyun CLI does: without an action and without a nonce.
func signROAV1(r *http.Request, version, body string) {
	sum := md5.Sum([]byte(body))
	lines := []string{r.Method, "application/json", base64.StdEncoding.EncodeToString(sum[:]), "application/json", time.Now().UTC().Format(http.TimeFormat)}
	for i, name := range []string{"Accept", "Content-MD5", "Content-Type", "Date"} {
		r.Header.Set(name, lines[i+1])
	}
	for _, header := range [][2]string{{"x-acs-signature-method", "HMAC-SHA1"}, {"x-acs-signature-version", "1.0"}, {"x-acs-version", version}} {
		r.Header.Set(header[0], header[1])
		lines = append(lines, header[0]+":"+header[1])
	}
	mac := hmac.New(sha1.New, []byte(apitest.KeySecret))
	mac.Write([]byte(strings.Join(append(lines, r.URL.RequestURI()), "\n")))
	r.Header.Set("Authorization", "acs "+apitest.RootKey+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

func TestROAV1CallsPathStyleProductsOnly(t *testing.T) {
	t.Parallel()
	s, h := servePaths(t)
	const body = `{"name":"n"}`
	r := s.Request("POST", "/v1/things", strings.NewReader(body))
	signROAV1(r, "2024-03-27", body)
	a := s.Send(r)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, object{"name": "n"}, h.body)
	r = s.Request("DELETE", "/v1/things/"+thing+"/parts/p", nil)
	signROAV1(r, "2024-03-27", "")
	require.Equal(t, 200, s.Send(r).Status)
	for _, target := range []string{"/", "/Get"} {
		r = s.Request("POST", target, strings.NewReader(body))
		signROAV1(r, "2016-05-03", body)
		require.Equal(t, "InvalidAction.NotFound", s.Send(r).Code)
	}
}
