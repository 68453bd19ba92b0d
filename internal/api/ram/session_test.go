package ram_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/iam/session"
)

const readUsers = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"ram:ListUsers","Resource":"*"}]}`

// lending is a world whose alice may assume the role deployer, which may do everything.
func lending(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.root(ramVersion, "AttachPolicyToUser", alice(object{"PolicyType": "System", "PolicyName": "AliyunSTSAssumeRoleAccess"}))
	w.root(ramVersion, "AttachPolicyToRole", object{"RoleName": "deployer", "PolicyType": "System", "PolicyName": "AdministratorAccess"})
	return w
}

func TestASessionMayDoWhatItsRoleMay(t *testing.T) {
	t.Parallel()
	w := lending(t)
	require.Equal(t, []any{403, "NoPermission"}, w.refused(w.keyID, ramVersion, "ListUsers", object{}))
	lent := w.assume(w.keyID, nil)
	w.done(lent, ramVersion, "ListUsers", object{})
	identity := w.done(lent, stsVersion, "GetCallerIdentity", object{})
	require.Equal(t, []any{"AssumedRoleUser", deployerARN + "/laptop", ""}, []any{identity["IdentityType"], identity["Arn"], identity["UserId"]})
	require.True(t, strings.HasSuffix(identity["PrincipalId"].(string), ":laptop"))

	narrow := w.assume(w.keyID, object{"Policy": readUsers})
	w.done(narrow, ramVersion, "ListUsers", object{})
	a := w.Of(ramVersion).JSON(narrow, "ListGroups", object{})
	require.Equal(t, 403, a.Status)
	detail := a.Body["AccessDeniedDetail"].(object)
	require.Equal(t, []any{"AssumedRoleUser", "deployer:laptop", "SessionPolicy"},
		[]any{detail["AuthPrincipalType"], detail["AuthPrincipalDisplayName"], detail["PolicyType"]})

	w.root(ramVersion, "DetachPolicyFromRole", object{"RoleName": "deployer", "PolicyType": "System", "PolicyName": "AdministratorAccess"})
	for _, key := range []string{lent, narrow} {
		require.Equal(t, []any{403, "NoPermission"}, w.refused(key, ramVersion, "ListUsers", object{}), "a session never widens its role")
	}
	w.root(ramVersion, "DeleteRole", object{"RoleName": "deployer"})
	for _, key := range []string{lent, narrow} {
		require.Equal(t, []any{404, "InvalidAccessKeyId.NotFound"}, w.refused(key, stsVersion, "GetCallerIdentity", object{}))
	}
	var principal string
	require.NoError(t, w.DB.Owner.QueryRow(t.Context(),
		`SELECT principal FROM audit_event WHERE action = 'sts:AssumeRole' AND outcome = 'done' LIMIT 1`).Scan(&principal))
	require.Equal(t, "acs:ram::"+apitest.Account+":user/alice", principal)
}

func TestWhoMayAssumeARole(t *testing.T) {
	t.Parallel()
	w := lending(t)
	ask := func(keyID string, with object) []any {
		params := object{"RoleArn": deployerARN, "RoleSessionName": "laptop"}
		for name, value := range with {
			params[name] = value
		}
		a := w.Of(stsVersion).JSON(keyID, "AssumeRole", params)
		return []any{a.Status, a.Code}
	}
	trust := func(statement string) {
		w.root(ramVersion, "UpdateRole", object{"RoleName": "deployer", "NewAssumeRolePolicyDocument": `{"Version":"1","Statement":[` + statement + `]}`})
	}
	yes, no := []any{200, ""}, []any{403, "NoPermission"}
	require.Equal(t, yes, ask(w.keyID, nil))
	require.Equal(t, no, ask(apitest.RootKey, nil), "the account itself")
	w.root(ramVersion, "CreateUser", object{"UserName": "bob"})
	bob := w.newKey("bob")
	require.Equal(t, no, ask(bob, nil), "trusted, but without a policy")
	trust(`{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"RAM":["acs:ram::` + apitest.Account + `:user/bob"]}}`)
	a := w.Of(stsVersion).JSON(w.keyID, "AssumeRole", object{"RoleArn": deployerARN, "RoleSessionName": "laptop"})
	require.Equal(t, []any{403, "AssumeRolePolicy"}, []any{a.Status, a.Body["AccessDeniedDetail"].(object)["PolicyType"]}, "with a policy, but not trusted")
	trust(`{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"RAM":["acs:ram::` + apitest.Account + `:user/alice"]},
		"Condition":{"StringEquals":{"sts:ExternalId":"7c1e"}}}`)
	require.Equal(t, no, ask(w.keyID, nil))
	require.Equal(t, no, ask(w.keyID, object{"ExternalId": "7c1f"}))
	require.Equal(t, yes, ask(w.keyID, object{"ExternalId": "7c1e"}))

	unknown := []any{404, "EntityNotExist.Role"}
	require.Equal(t, unknown, ask(w.keyID, object{"RoleArn": deployerARN + "x"}))
	w.Users(map[string]string{"all": everything})
	elsewhere := strings.Replace(deployerARN, apitest.Account, apitest.Neighbour, 1)
	require.Equal(t, unknown, ask(w.keyID, object{"RoleArn": elsewhere}), "there is none")
	w.done(apitest.NeighbourKey, ramVersion, "CreateRole", object{"RoleName": "deployer", "AssumeRolePolicyDocument": strings.ReplaceAll(trustRoot, apitest.Account, apitest.Neighbour)})
	require.Equal(t, unknown, ask(w.keyID, object{"RoleArn": elsewhere}), "it does not trust this account")
	w.done(apitest.NeighbourKey, ramVersion, "UpdateRole", object{"RoleName": "deployer", "NewAssumeRolePolicyDocument": trustRoot})
	require.Equal(t, yes, ask(w.keyID, object{"RoleArn": elsewhere}))
}

func TestAssumeRoleRefusesWhatItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	w := lending(t)
	for name, c := range map[string]struct {
		with object
		code string
	}{
		"no ARN":               {object{"RoleArn": "deployer"}, "InvalidParameter.RoleArn"},
		"the ARN of a user":    {object{"RoleArn": "acs:ram::" + apitest.Account + ":user/alice"}, "InvalidParameter.RoleArn"},
		"one character":        {object{"RoleSessionName": "a"}, "InvalidParameter.RoleSessionName"},
		"a slash":              {object{"RoleSessionName": "a/b"}, "InvalidParameter.RoleSessionName"},
		"too short":            {object{"DurationSeconds": 899}, "InvalidParameter.DurationSeconds"},
		"longer than the role": {object{"DurationSeconds": 3601}, "InvalidParameter.DurationSeconds"},
		"no policy":            {object{"Policy": "{}"}, "InvalidParameter.PolicyGrammar"},
		"a trust policy":       {object{"Policy": trustRoot}, "InvalidParameter.PolicyGrammar"},
		"a long policy":        {object{"Policy": readUsers + strings.Repeat(" ", 1024)}, "InvalidParameter.PolicySize"},
	} {
		params := object{"RoleArn": deployerARN, "RoleSessionName": "laptop"}
		for member, value := range c.with {
			params[member] = value
		}
		w.root(ramVersion, "AttachPolicyToUser", alice(object{"PolicyType": "System", "PolicyName": "AdministratorAccess"}))
		require.Equal(t, []any{400, c.code}, w.refused(w.keyID, stsVersion, "AssumeRole", params), name)
		w.root(ramVersion, "DetachPolicyFromUser", alice(object{"PolicyType": "System", "PolicyName": "AdministratorAccess"}))
	}
	w.root(ramVersion, "UpdateRole", object{"RoleName": "deployer", "NewMaxSessionDuration": 7200})
	w.assume(w.keyID, object{"DurationSeconds": 7200})
}

func TestSessionsAreForgottenSomeTimeAfterTheyHaveExpired(t *testing.T) {
	t.Parallel()
	w := lending(t)
	fresh, old := w.assume(w.keyID, nil), w.assume(w.keyID, nil)
	_, err := w.DB.Owner.Exec(t.Context(), `
		UPDATE sts_session SET expires_at = now() - CASE WHEN id = $1 THEN interval '2 hours' ELSE interval '1 minute' END`, old)
	require.NoError(t, err)
	require.NoError(t, session.New(w.DB.Control, nil, nil).Forget(t.Context()))
	require.Equal(t, []any{400, "InvalidSecurityToken.Expired"}, w.refused(fresh, stsVersion, "GetCallerIdentity", object{}))
	require.Equal(t, []any{404, "InvalidAccessKeyId.NotFound"}, w.refused(old, stsVersion, "GetCallerIdentity", object{}))
}
