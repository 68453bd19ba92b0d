package ram_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
)

func TestEveryOperationIsCompletelyDescribed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, op described) {
		require.NotEmpty(t, op.Summary)
		require.Contains(t, op.Extensions, "x-ram")
		require.Contains(t, op.Extensions, "x-errors")
		require.Equal(t, "#/components/schemas/"+op.OperationID+"Request", op.RequestBody.Value.Content.Get("application/json").Schema.Ref)
		require.NotNil(t, op.request().AdditionalProperties.Has)
		require.False(t, *op.request().AdditionalProperties.Has)
		for name, property := range op.request().Properties {
			require.NotEmpty(t, property.Value.Description, name)
			_, rendered := property.Value.Extensions["x-rendering"]
			require.Equal(t, property.Value.Type.Is("array") || property.Value.Type.Is("object"), rendered, name)
		}
		success := op.Responses.Status(http.StatusOK).Value.Content.Get("application/json")
		require.Contains(t, success.Schema.Value.Required, "RequestId")
		require.NoError(t, success.Schema.Value.VisitJSON(success.Example, openapi3.VisitAsResponse()))
		require.NoError(t, op.request().VisitJSON(maps.Clone(op.example), openapi3.VisitAsRequest()))
		require.Len(t, op.Responses.Map(), 2, "errors are the default response only")
	})
}

func TestEveryOperationRefusesAnUnsignedCall(t *testing.T) {
	t.Parallel()
	w := empty(t)
	each(t, func(t *testing.T, op described) {
		params := apitest.Encode(op.request(), op.example)
		params.Set("Action", op.OperationID)
		params.Set("Version", op.version)
		for name, r := range map[string]*http.Request{
			"direct": w.Request(http.MethodPost, "/"+op.OperationID, nil),
			"RPC":    w.Request(http.MethodPost, "/?"+params.Encode(), nil),
		} {
			r.Header.Set("x-acs-action", op.OperationID)
			r.Header.Set("x-acs-version", op.version)
			a := w.Send(r)
			require.Equal(t, []any{400, "MissingParameter"}, []any{a.Status, a.Code}, name)
		}
	})
}

func TestEveryOperationAnswersAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	shared := newWorld(t)
	shared.root(ramVersion, "AttachPolicyToUser", object{"UserName": "alice", "PolicyType": "System", "PolicyName": "AliyunSTSAssumeRoleAccess"})
	each(t, func(t *testing.T, op described) {
		w, level := shared, op.Extensions["x-ram"].(object)["level"]
		reads := level == "get" || level == "list"
		if !reads && op.OperationID != "AssumeRole" {
			w = newWorld(t)
		}
		keyID := apitest.RootKey
		if op.OperationID == "AssumeRole" {
			keyID = w.keyID
		}
		answers := op.Responses.Status(http.StatusOK).Value.Content.Get("application/json").Schema.Value
		a := w.Of(op.version).RPC(keyID, op.OperationID, apitest.Encode(op.request(), w.fit(op)))
		require.Equal(t, 200, a.Status, "%v", a.Body)
		require.NoError(t, answers.VisitJSON(a.Body, openapi3.VisitAsResponse()))
		require.Equal(t, a.Header.Get("x-acs-request-id"), a.Body["RequestId"])
		for member := range a.Body {
			require.Contains(t, answers.Properties, member)
		}
		var rows int
		require.NoError(t, w.DB.Owner.QueryRow(t.Context(), `SELECT count(*) FROM audit_event WHERE request_id = $1`, a.Body["RequestId"]).Scan(&rows))
		require.Equal(t, !reads, rows == 1, "a mutating call, and no other, leaves an audit row")
	})
}

// Whoever may do everything in another account learns nothing about this one: each call answers as it does where this
// one is empty.
func TestAStrangersNameAnswersAsAnUnknownOne(t *testing.T) {
	t.Parallel()
	with, without := newWorld(t), empty(t)
	each(t, func(t *testing.T, op described) {
		params := op.example
		if op.OperationID != "DeleteUser" {
			params = with.fit(op)
		}
		theirs, unknown := with.Of(op.version).JSON(apitest.NeighbourKey, op.OperationID, params), without.Of(op.version).JSON(apitest.NeighbourKey, op.OperationID, params)
		require.Equal(t, unknown.Status, theirs.Status)
		require.Equal(t, unknown.Code, theirs.Code)
		if theirs.Status == 200 {
			require.Equal(t, strip(unknown.Body), strip(theirs.Body))
			return
		}
		require.Equal(t, unknown.Body["Message"], theirs.Body["Message"])
	})
}

// strip takes out what differs from call to call: ids and times.
func strip(value any) any {
	switch value := value.(type) {
	case object:
		for name, member := range value {
			if text, ok := member.(string); ok && (strings.HasSuffix(name, "Id") || strings.HasSuffix(name, "Date") || name == "AccessKeySecret") && text != "" {
				value[name] = "set"
				continue
			}
			value[name] = strip(member)
		}
	case []any:
		for i := range value {
			value[i] = strip(value[i])
		}
	}
	return value
}

func TestEveryOperationIsDeniedToWhoMayDoNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	each(t, func(t *testing.T, op described) {
		if op.OperationID == "GetCallerIdentity" {
			require.Equal(t, "acs:ram::"+apitest.Account+":user/alice", w.done(w.keyID, op.version, op.OperationID, object{})["Arn"])
			return
		}
		a := w.Of(op.version).JSON(w.keyID, op.OperationID, op.example)
		require.Equal(t, []any{403, "NoPermission"}, []any{a.Status, a.Code}, a.Body)
		detail := a.Body["AccessDeniedDetail"].(object)
		require.Equal(t, op.Extensions["x-ram"].(object)["action"], detail["AuthAction"])
		require.Equal(t, "ImplicitDeny", detail["NoPermissionType"])
	})
}
