package apig_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/modelapi"
)

func TestADocumentIsTakenInAsItWasGivenOut(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	a := s.Call(apitest.RootKey, "ExportHttpApi", "GET", "/v1/http-apis/"+apiID+"/export?revision=7", nil)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, []any{int64(7)}, d.asked)
	a = s.Call(apitest.RootKey, "ImportHttpApi", "POST", "/v1/http-apis/import", object{"document": a.Body["data"], "dryRun": true})
	require.Equal(t, 200, a.Status, a.Body)
	got, want := d.asked[0].(modelapi.Document), document()
	require.Equal(t, []any{want, true}, []any{got, d.asked[1]})
	require.Equal(t, object{"httpApiId": apiID, "name": "chat", "created": false, "dryRun": true, "revision": 2.0, "changes": []any{}}, a.Body["data"])

	got = imported(t, s, d, func(o object) { delete(o, "routes"); delete(o, "consumers"); delete(o, "consumerGroups") })
	require.Nil(t, got.Routes, "absent is not none")
	require.False(t, got.SaysWhoMayCall())
	got = imported(t, s, d, func(o object) { o["routes"] = []any{}; o["consumers"] = []any{}; delete(o, "consumerGroups") })
	require.NotNil(t, got.Routes)
	require.True(t, got.SaysWhoMayCall())

	a = s.Call(apitest.RootKey, "ImportHttpApi", "POST", "/v1/http-apis/import", object{"document": changed(t, func(o object) { o["format"] = "other" })})
	require.Equal(t, []any{400, "InvalidParameter"}, []any{a.Status, a.Code})
}

// changed is the document as JSON, less or more.
func changed(t *testing.T, change func(object)) object {
	t.Helper()
	text, err := json.Marshal(document())
	require.NoError(t, err)
	var o object
	require.NoError(t, json.Unmarshal(text, &o))
	change(o)
	return o
}

func imported(t *testing.T, s *apitest.Server, d *domain, change func(object)) modelapi.Document {
	t.Helper()
	a := s.Call(apitest.RootKey, "ImportHttpApi", "POST", "/v1/http-apis/import", object{"document": changed(t, change)})
	require.Equal(t, 200, a.Status, a.Body)
	return d.asked[0].(modelapi.Document)
}

func TestRevisionsAreShownAndCompared(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	a := s.Call(apitest.RootKey, "DiffHttpApiRevision", "GET", "/v1/http-apis/"+apiID+"/diff?from=1&to=2", nil)
	require.Equal(t, object{"httpApiId": apiID, "from": 1.0, "to": 2.0, "changes": []any{
		object{"path": "basePath", "before": "/a", "after": "/b"}, object{"path": "routes[x]", "after": true},
	}}, a.Body["data"])
	a = s.Call(apitest.RootKey, "DiffHttpApiRevision", "GET", "/v1/http-apis/"+apiID+"/diff", nil)
	require.NotContains(t, a.Body["data"], "to", "the draft has no number")
	require.Equal(t, []any{int64(0), int64(0)}, d.asked)
	a = s.Call(apitest.RootKey, "GetHttpApiRevision", "GET", "/v1/http-apis/"+apiID+"/revisions/apr"+body, nil)
	require.Equal(t, "chat", a.Body["data"].(object)["document"].(object)["name"])
	require.Equal(t, []any{"apr" + body}, d.asked)
}

// What an import does needs the right to do it with the other operations, too.
func TestAnImportIsNoWayAroundOtherRights(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	allow := func(actions, deny string) string {
		return `{"Version":"1","Statement":[{"Effect":"Allow","Action":[` + actions + `],"Resource":"*"}` + deny + `]}`
	}
	const rules = `"apig:CreateConsumerAuthorizationRules","apig:BatchDeleteConsumerAuthorizationRule"`
	denied := `,{"Effect":"Deny","Action":"apig:UpdateHttpApi","Resource":"acs:apig:*:*:httpapi/` + apiID + `"}`
	s.Users(map[string]string{
		"import": allow(`"apig:ImportHttpApi"`, ""),
		"update": allow(`"apig:ImportHttpApi","apig:UpdateHttpApi"`, ""),
		"create": allow(`"apig:ImportHttpApi","apig:CreateHttpApi",`+rules, ""),
		"rules":  allow(`"apig:ImportHttpApi","apig:UpdateHttpApi",`+rules, ""),
		"half":   allow(`"apig:ImportHttpApi","apig:UpdateHttpApi","apig:CreateConsumerAuthorizationRules"`, ""),
		"denied": allow(`"apig:*"`, denied),
	})
	silent := func(o object) { delete(o, "consumers"); delete(o, "consumerGroups") }
	for _, c := range []struct {
		user   string
		change func(object)
		want   int
	}{
		{"import", silent, 403},
		{"update", silent, 200},
		{"update", func(object) {}, 403},
		{"update", func(o object) { silent(o); o["name"] = "new" }, 403},
		{"create", func(o object) { o["name"] = "new" }, 200},
		{"create", silent, 403},
		{"rules", func(object) {}, 200},
		{"half", func(object) {}, 403},
		{"denied", silent, 403},
		{"denied", func(o object) { silent(o); o["name"] = "new" }, 200},
	} {
		a := s.Call(apitest.KeyOf(c.user), "ImportHttpApi", "POST", "/v1/http-apis/import", object{"document": changed(t, c.change)})
		require.Equal(t, c.want, a.Status, "%s: %v", c.user, a.Body)
	}
	var denials int
	require.NoError(t, s.DB.Owner.QueryRow(t.Context(), `
		SELECT count(*) FROM audit_event WHERE action = 'apig:ImportHttpApi' AND outcome = 'denied'`).Scan(&denials))
	require.Equal(t, 6, denials)
}
