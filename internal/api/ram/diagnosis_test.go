package ram_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
)

func explained(w *world, params object) object {
	return w.root(ramVersion, "ExplainAuthorization", params)["Explanation"].(object)
}

// deciding are the places of the statements that decide.
func deciding(explanation object) (places []string) {
	for _, stage := range explanation["Stages"].([]any) {
		for _, s := range stage.(object)["Statements"].([]any) {
			if s.(object)["Decides"].(bool) {
				places = append(places, s.(object)["PolicyName"].(string)+" "+s.(object)["Statement"].(string))
			}
		}
	}
	return places
}

func TestAnAuthorizationIsExplained(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const alice = "acs:ram::" + apitest.Account + ":user/alice"
	w.root(ramVersion, "CreatePolicy", object{"PolicyName": "Office", "PolicyDocument": `{"Version":"1","Statement":[
		{"Effect":"Allow","Action":"ram:Get*","Resource":"*","Condition":{"IpAddress":{"acs:SourceIp":"203.0.113.0/24"}}},
		{"Effect":"Allow","Action":"gpdb:*","Resource":"acs:gpdb:cn-hangzhou:` + apitest.Account + `:dbinstance/gp-a"}]}`})
	w.root(ramVersion, "AttachPolicyToUser", object{"PolicyType": "Custom", "PolicyName": "Office", "UserName": "alice"})

	question := object{"AuthPrincipal": alice, "AuthAction": "ram:GetUser"}
	e := explained(w, question)
	require.Equal(t, []any{false, "ImplicitDeny", alice}, []any{e["Allowed"], e["NoPermissionType"], e["Principal"]})
	require.Empty(t, deciding(e))
	question["AuthSourceIp"] = "203.0.113.7"
	e = explained(w, question)
	require.Equal(t, true, e["Allowed"])
	require.Equal(t, []string{"Office Statement[0]"}, deciding(e))

	e = explained(w, object{"AuthPrincipal": alice, "AuthAction": "gpdb:X", "AuthResource": "acs:gpdb::" + apitest.Account + ":dbinstance/gp-a"})
	require.Equal(t, []string{"Office Statement[1]"}, deciding(e), "the region may be left out")
	e = explained(w, object{"AuthAction": "gpdb:X"})
	require.Equal(t, []any{true, "", []any{}}, []any{e["Allowed"], e["DecidedBy"], e["Stages"]}, "root asks about itself")
	e = explained(w, object{"AuthPrincipal": deployerARN, "AuthAction": "gpdb:X"})
	require.Equal(t, deployerARN+"/explained", e["Principal"])

	for principal, want := range map[string][]any{
		"acs:ram::" + apitest.Account + ":user/nobody":  {404, "EntityNotExist.User"},
		"acs:ram::" + apitest.Account + ":role/nobody":  {404, "EntityNotExist.Role"},
		"acs:ram::" + apitest.Neighbour + ":user/alice": {400, "InvalidParameter.AuthPrincipal"},
		"alice": {400, "InvalidParameter"},
	} {
		require.Equal(t, want, w.refused(apitest.RootKey, ramVersion, "ExplainAuthorization", object{"AuthPrincipal": principal, "AuthAction": "gpdb:X"}))
	}
	require.Equal(t, []any{400, "InvalidParameter"}, w.refused(apitest.RootKey, ramVersion, "ExplainAuthorization", object{"AuthAction": "gpdb:X", "AuthSourceIp": "x"}))
}

func TestADenialsMessageIsOpenedInItsAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	denied := w.Of(ramVersion).JSON(w.keyID, "ListUsers", object{})
	require.Equal(t, 403, denied.Status, denied.Body)
	message := denied.Body["AccessDeniedDetail"].(object)["EncodedDiagnosticMessage"]
	opened := w.root(ramVersion, "DecodeDiagnosticMessage", object{"EncodedDiagnosticMessage": message})["DecodedDiagnosticMessage"].(object)
	require.Equal(t, []any{false, "AccountLevelIdentityBasedPolicy", "ram:ListUsers"},
		[]any{opened["ExplicitDeny"], opened["NoPermissionPolicyType"], opened["AuthAction"]})
	require.NotEmpty(t, opened["AuthConditions"])
	for key, message := range map[string]any{apitest.NeighbourKey: message, apitest.RootKey: "AAAA"} {
		require.Equal(t, []any{400, "InvalidParameter.EncodedDiagnosticMessage"},
			w.refused(key, ramVersion, "DecodeDiagnosticMessage", object{"EncodedDiagnosticMessage": message}))
	}
}
