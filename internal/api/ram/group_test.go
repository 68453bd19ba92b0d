package ram_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
)

func TestAResourceGroupLives(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := object{"ResourceGroupId": w.groupID}
	moved := w.root(rmVersion, "MoveResources", object{"ResourceGroupId": w.groupID, "Resources": []any{
		object{"Service": "GPDB", "ResourceType": "DBInstance", "ResourceId": w.instanceID},
		object{"Service": "gpdb", "ResourceType": "dbinstance", "ResourceId": "gp-00000000000000000000"},
		object{"Service": "ecs", "ResourceType": "instance", "ResourceId": "i-1"},
	}})["Responses"].([]any)
	var codes []any
	for _, m := range moved {
		codes = append(codes, m.(object)["Status"], m.(object)["ErrorCode"])
	}
	require.Equal(t, []any{"SUCCESS", "", "FAILED", "InvalidDBInstanceId.NotFound", "FAILED", "InvalidParameter"}, codes)
	listed := w.root(rmVersion, "ListResources", group)
	require.Equal(t, 1.0, listed["TotalCount"])
	require.Equal(t, w.instanceID, listed["Resources"].(object)["Resource"].([]any)[0].(object)["ResourceId"])
	require.Equal(t, []any{409, "DeleteConflict.ResourceGroup.Resource"}, w.refused(apitest.RootKey, rmVersion, "DeleteResourceGroup", group))
	w.root(rmVersion, "MoveResources", object{"ResourceGroupId": "rg-default", "Resources": []any{
		object{"Service": "gpdb", "ResourceType": "dbinstance", "ResourceId": w.instanceID},
	}})
	w.root(rmVersion, "DeleteResourceGroup", group)
	missing := []any{404, "EntityNotExist.ResourceGroup"}
	require.Equal(t, missing, w.refused(apitest.RootKey, rmVersion, "GetResourceGroup", group))
	require.Equal(t, missing, w.refused(apitest.RootKey, rmVersion, "MoveResources", object{"ResourceGroupId": w.groupID, "Resources": []any{
		object{"Service": "gpdb", "ResourceType": "dbinstance", "ResourceId": w.instanceID},
	}}))
	require.Equal(t, []any{403, "OperationDenied.DefaultResourceGroup"},
		w.refused(apitest.RootKey, rmVersion, "DeleteResourceGroup", object{"ResourceGroupId": "rg-default"}))
	require.Equal(t, []any{409, "EntityAlreadyExists.ResourceGroup"},
		w.refused(apitest.RootKey, rmVersion, "CreateResourceGroup", object{"Name": "Default", "DisplayName": "x"}))
	groups := w.root(rmVersion, "ListResourceGroups", object{})
	require.Equal(t, 1.0, groups["TotalCount"])
	require.Equal(t, "rg-default", groups["ResourceGroups"].(object)["ResourceGroup"].([]any)[0].(object)["Id"])
}

func TestMovingNeedsTheRightOfTheResourceToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	document := `{"Version":"1","Statement":[{"Effect":"Allow","Action":"resourcemanager:*","Resource":"*"}]}`
	w.root(ramVersion, "CreatePolicy", object{"PolicyName": "Movers", "PolicyDocument": document})
	w.root(ramVersion, "AttachPolicyToUser", alice(object{"PolicyType": "Custom", "PolicyName": "Movers"}))
	move := object{"ResourceGroupId": w.groupID, "Resources": []any{object{"Service": "gpdb", "ResourceType": "dbinstance", "ResourceId": w.instanceID}}}
	moved := w.done(w.keyID, rmVersion, "MoveResources", move)["Responses"].([]any)[0].(object)
	require.Equal(t, []any{"FAILED", "Forbidden.RAM"}, []any{moved["Status"], moved["ErrorCode"]})
	w.root(ramVersion, "AttachPolicyToUser", alice(object{"PolicyType": "System", "PolicyName": "AliyunGPDBFullAccess"}))
	moved = w.done(w.keyID, rmVersion, "MoveResources", move)["Responses"].([]any)[0].(object)
	require.Equal(t, "SUCCESS", moved["Status"])
}

func TestAttachmentsAreListedWithTheirScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	attach := func(scope, kind, name string) object {
		return object{"ResourceGroupId": scope, "PolicyType": "Custom", "PolicyName": "OneInstance", "PrincipalType": kind, "PrincipalName": name}
	}
	w.root(rmVersion, "AttachPolicy", attach(w.groupID, "IMSUser", "alice@"+apitest.Account+".onaliyun.com"))
	w.root(rmVersion, "AttachPolicy", attach(w.groupID, "IMSGroup", "researchers"))
	w.root(rmVersion, "AttachPolicy", attach(apitest.Account, "ServiceRole", "deployer@role."+apitest.Account+".onaliyunservice.com"))
	count := func(with object) float64 {
		return w.root(rmVersion, "ListPolicyAttachments", with)["TotalCount"].(float64)
	}
	require.Equal(t, 3.0, count(object{}))
	require.Equal(t, 2.0, count(object{"ResourceGroupId": w.groupID}))
	require.Equal(t, 1.0, count(object{"ResourceGroupId": apitest.Account}))
	require.Equal(t, 1.0, count(object{"PrincipalType": "IMSUser", "PrincipalName": "alice"}))
	require.Equal(t, 0.0, count(object{"PolicyType": "System"}))
	require.Empty(t, w.root(ramVersion, "ListPoliciesForUser", alice(nil))["Policies"].(object)["Policy"], "that one counts for the group only")
	require.Len(t, w.root(ramVersion, "ListPoliciesForRole", object{"RoleName": "deployer"})["Policies"].(object)["Policy"], 1)
	require.Equal(t, []any{409, "DeleteConflict.Policy.User"}, w.refused(apitest.RootKey, ramVersion, "DeletePolicy", object{"PolicyName": "OneInstance"}))
	w.root(rmVersion, "DetachPolicy", attach(w.groupID, "IMSUser", "alice"))
	require.Equal(t, []any{404, "EntityNotExist.User.Policy"}, w.refused(apitest.RootKey, rmVersion, "DetachPolicy", attach(w.groupID, "IMSUser", "alice")))
	w.root(rmVersion, "DeleteResourceGroup", object{"ResourceGroupId": w.groupID})
	require.Equal(t, 1.0, count(object{}), "attachments go with their group")
}
