package ram_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
)

func alice(with object) object {
	params := object{"UserName": "alice"}
	for name, value := range with {
		params[name] = value
	}
	return params
}

func TestAUserMayDoWhatItsPoliciesAndGroupsAllow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const denied = "NoPermission"
	get := object{"UserName": "alice"}
	require.Equal(t, []any{403, denied}, w.refused(w.keyID, ramVersion, "GetUser", get))
	policy := object{"PolicyType": "System", "PolicyName": "ReadOnlyAccess"}
	to := func(member, name string) object {
		return object{"PolicyType": policy["PolicyType"], "PolicyName": policy["PolicyName"], member: name}
	}
	w.root(ramVersion, "AttachPolicyToUser", to("UserName", "alice"))
	w.done(w.keyID, ramVersion, "GetUser", get)
	w.root(ramVersion, "DetachPolicyFromUser", to("UserName", "alice"))
	require.Equal(t, []any{403, denied}, w.refused(w.keyID, ramVersion, "GetUser", get), "at the next call")

	w.root(ramVersion, "AttachPolicyToGroup", to("GroupName", "researchers"))
	require.Equal(t, []any{403, denied}, w.refused(w.keyID, ramVersion, "GetUser", get))
	w.root(ramVersion, "AddUserToGroup", alice(object{"GroupName": "researchers"}))
	w.done(w.keyID, ramVersion, "GetUser", get)
	w.root(ramVersion, "RemoveUserFromGroup", alice(object{"GroupName": "researchers"}))
	require.Equal(t, []any{403, denied}, w.refused(w.keyID, ramVersion, "GetUser", get))
}

func TestANewVersionIsInForceAtTheNextCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.root(ramVersion, "AttachPolicyToUser", alice(object{"PolicyType": "Custom", "PolicyName": "OneInstance"}))
	w.done(w.keyID, ramVersion, "ListUsers", object{})
	version := func(action string, with object) object {
		with["PolicyName"] = "OneInstance"
		return w.root(ramVersion, action, with)
	}
	version("CreatePolicyVersion", object{"PolicyDocument": nothing})
	w.done(w.keyID, ramVersion, "ListUsers", object{})
	version("SetDefaultPolicyVersion", object{"VersionId": "v2"})
	require.Equal(t, []any{403, "NoPermission"}, w.refused(w.keyID, ramVersion, "ListUsers", object{}))
	require.Equal(t, []any{409, "DeleteConflict.Policy.Version.Default"},
		w.refused(apitest.RootKey, ramVersion, "DeletePolicyVersion", object{"PolicyName": "OneInstance", "VersionId": "v2"}))
	version("DeletePolicyVersion", object{"VersionId": "v1"})
	for range 4 {
		version("CreatePolicyVersion", object{"PolicyDocument": everything})
	}
	require.Equal(t, []any{409, "LimitExceeded.Policy.Version"},
		w.refused(apitest.RootKey, ramVersion, "CreatePolicyVersion", object{"PolicyName": "OneInstance", "PolicyDocument": everything}))
	made := version("CreatePolicyVersion", object{"PolicyDocument": everything, "RotateStrategy": "DeleteOldestNonDefaultVersionWhenLimitExceeded"})
	require.Equal(t, "v7", made["PolicyVersion"].(object)["VersionId"], "a number is never used again")
	listed := w.root(ramVersion, "ListPolicyVersions", object{"PolicyType": "Custom", "PolicyName": "OneInstance"})
	var ids []any
	for _, v := range listed["PolicyVersions"].(object)["PolicyVersion"].([]any) {
		ids = append(ids, v.(object)["VersionId"])
	}
	require.Equal(t, []any{"v7", "v6", "v5", "v4", "v2"}, ids, "the default stays, v3 was the oldest of the others")
}

func TestWhatIsUsedIsNotDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	del := func(action string, params object) []any {
		return w.refused(apitest.RootKey, ramVersion, action, params)
	}
	w.root(ramVersion, "AddUserToGroup", alice(object{"GroupName": "researchers"}))
	require.Equal(t, []any{409, "DeleteConflict.User.Group"}, del("DeleteUser", alice(nil)))
	require.Equal(t, []any{409, "DeleteConflict.Group.User"}, del("DeleteGroup", object{"GroupName": "researchers"}))
	w.root(ramVersion, "RemoveUserFromGroup", alice(object{"GroupName": "researchers"}))
	require.Equal(t, []any{409, "DeleteConflict.User.AccessKey"}, del("DeleteUser", alice(nil)))
	w.root(ramVersion, "DeleteAccessKey", alice(object{"UserAccessKeyId": w.keyID}))
	policy := func(member, name string) object {
		return object{"PolicyType": "Custom", "PolicyName": "OneInstance", member: name}
	}
	for _, c := range []struct{ kind, member, name string }{
		{"User", "UserName", "alice"}, {"Group", "GroupName", "researchers"}, {"Role", "RoleName", "deployer"},
	} {
		w.root(ramVersion, "AttachPolicyTo"+c.kind, policy(c.member, c.name))
		require.Equal(t, []any{409, "EntityAlreadyExists." + c.kind + ".Policy"}, del("AttachPolicyTo"+c.kind, policy(c.member, c.name)))
		require.Equal(t, []any{409, "DeleteConflict." + c.kind + ".Policy"}, del("Delete"+c.kind, object{c.member: c.name}))
		require.Equal(t, []any{409, "DeleteConflict.Policy." + c.kind}, del("DeletePolicy", object{"PolicyName": "OneInstance"}))
		who := w.root(ramVersion, "ListEntitiesForPolicy", object{"PolicyType": "Custom", "PolicyName": "OneInstance"})
		entity := who[c.kind+"s"].(object)[c.kind].([]any)[0].(object)
		require.Equal(t, c.name, entity[c.member])
		require.NotEmpty(t, entity["AttachDate"])
		w.root(ramVersion, "DetachPolicyFrom"+c.kind, policy(c.member, c.name))
		require.Equal(t, []any{404, "EntityNotExist." + c.kind + ".Policy"}, del("DetachPolicyFrom"+c.kind, policy(c.member, c.name)))
		w.root(ramVersion, "Delete"+c.kind, object{c.member: c.name})
		require.Equal(t, []any{404, "EntityNotExist." + c.kind}, del("Delete"+c.kind, object{c.member: c.name}))
	}
	w.root(ramVersion, "CreatePolicyVersion", object{"PolicyName": "OneInstance", "PolicyDocument": everything})
	require.Equal(t, []any{409, "DeleteConflict.Policy.Version"}, del("DeletePolicy", object{"PolicyName": "OneInstance"}))
	w.root(ramVersion, "DeletePolicyVersion", object{"PolicyName": "OneInstance", "VersionId": "v2"})
	w.root(ramVersion, "DeletePolicy", object{"PolicyName": "OneInstance"})
}

func TestThereIsRoomForSoMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.newKey("alice")
	require.Equal(t, []any{409, "LimitExceeded.User.AccessKey"}, w.refused(apitest.RootKey, ramVersion, "CreateAccessKey", alice(nil)))
	for i := range 10 {
		name := fmt.Sprintf("p%d", i)
		w.root(ramVersion, "CreatePolicy", object{"PolicyName": name, "PolicyDocument": everything})
		w.root(ramVersion, "AttachPolicyToUser", alice(object{"PolicyType": "Custom", "PolicyName": name}))
		w.root(ramVersion, "CreateGroup", object{"GroupName": name})
		w.root(ramVersion, "AddUserToGroup", alice(object{"GroupName": name}))
	}
	require.Equal(t, []any{409, "LimitExceeded.User.Policy"},
		w.refused(apitest.RootKey, ramVersion, "AttachPolicyToUser", alice(object{"PolicyType": "Custom", "PolicyName": "OneInstance"})))
	w.root(ramVersion, "AttachPolicyToUser", alice(object{"PolicyType": "System", "PolicyName": "ReadOnlyAccess"}))
	require.Equal(t, []any{409, "LimitExceeded.User.Group"},
		w.refused(apitest.RootKey, ramVersion, "AddUserToGroup", alice(object{"GroupName": "researchers"})))
}

func TestTakenNamesAndBadValuesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		action string
		params object
		want   []any
	}{
		{"CreateUser", object{"UserName": "alice"}, []any{409, "EntityAlreadyExists.User"}},
		{"CreateGroup", object{"GroupName": "researchers"}, []any{409, "EntityAlreadyExists.Group"}},
		{"CreateRole", object{"RoleName": "deployer", "AssumeRolePolicyDocument": trustRoot}, []any{409, "EntityAlreadyExists.Role"}},
		{"CreatePolicy", object{"PolicyName": "OneInstance", "PolicyDocument": everything}, []any{409, "EntityAlreadyExists.Policy"}},
		{"CreateUser", object{"UserName": "al/ice"}, []any{400, "InvalidParameter.UserName.InvalidChars"}},
		{"CreateUser", object{"UserName": strings.Repeat("a", 65)}, []any{400, "InvalidParameter.UserName.Length"}},
		{"CreateGroup", object{"GroupName": "a.b"}, []any{400, "InvalidParameter.GroupName.InvalidChars"}},
		{"GetPolicy", object{"PolicyName": "x", "PolicyType": "custom"}, []any{400, "InvalidParameter.PolicyType"}},
		{"CreatePolicy", object{"PolicyName": "x", "PolicyDocument": `{"Version":"1","Statement":[{"Effect":"Allow"}]}`}, []any{400, "MalformedPolicyDocument"}},
		{"CreatePolicy", object{"PolicyName": "x", "PolicyDocument": everything + strings.Repeat(" ", 6144)}, []any{400, "MalformedPolicyDocument"}},
		{"CreateRole", object{"RoleName": "x", "AssumeRolePolicyDocument": everything}, []any{400, "MalformedPolicyDocument"}},
		{"UpdateRole", object{"RoleName": "deployer", "NewAssumeRolePolicyDocument": "{}"}, []any{400, "MalformedPolicyDocument"}},
		{"GetPolicyVersion", object{"PolicyType": "Custom", "PolicyName": "OneInstance", "VersionId": "v01"}, []any{404, "EntityNotExist.Policy.Version"}},
		{"GetPolicy", object{"PolicyName": "OneInstance", "PolicyType": "System"}, []any{404, "EntityNotExist.Policy"}},
		{"DeletePolicy", object{"PolicyName": "AdministratorAccess"}, []any{404, "EntityNotExist.Policy"}},
		{"ListUsers", object{"Marker": "%"}, []any{400, "InvalidParameter"}},
		{"UpdateAccessKey", object{"UserName": "alice", "UserAccessKeyId": apitest.RootKey, "Status": "Inactive"}, []any{404, "EntityNotExist.User.AccessKey"}},
	} {
		require.Equal(t, c.want, w.refused(apitest.RootKey, ramVersion, c.action, c.params), "%s %v", c.action, c.params)
	}
}

func TestListsAreAnsweredInPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 5 {
		w.root(ramVersion, "CreateUser", object{"UserName": fmt.Sprintf("u%d", i)})
		w.root(ramVersion, "AddUserToGroup", object{"UserName": fmt.Sprintf("u%d", i), "GroupName": "researchers"})
	}
	for _, c := range []struct {
		action, list, item, name string
		with                     object
		want                     string
	}{
		{"ListUsers", "Users", "User", "UserName", object{}, "alice u0 u1 u2 u3 u4"},
		{"ListUsersForGroup", "Users", "User", "UserName", object{"GroupName": "researchers"}, "u0 u1 u2 u3 u4"},
		{"ListGroups", "Groups", "Group", "GroupName", object{}, "researchers"},
		{"ListRoles", "Roles", "Role", "RoleName", object{}, "deployer"},
		{
			"ListPolicies", "Policies", "Policy", "PolicyName",
			object{},
			"AdministratorAccess AliyunAPIGFullAccess AliyunAPIGReadOnlyAccess AliyunGPDBFullAccess AliyunGPDBReadOnlyAccess AliyunRAMFullAccess AliyunSTSAssumeRoleAccess ReadOnlyAccess OneInstance",
		},
		{"ListPolicies", "Policies", "Policy", "PolicyName", object{"PolicyType": "Custom"}, "OneInstance"},
	} {
		var names []string
		for marker, more := "", true; more; {
			c.with["MaxItems"] = 2
			if marker != "" {
				c.with["Marker"] = marker
			}
			page := w.root(ramVersion, c.action, c.with)
			items := page[c.list].(object)[c.item].([]any)
			require.LessOrEqual(t, len(items), 2)
			for _, item := range items {
				names = append(names, item.(object)[c.name].(string))
			}
			marker, more = page["Marker"].(string), page["IsTruncated"].(bool)
		}
		if c.action == "ListPolicies" && c.with["PolicyType"] == nil {
			require.Subset(t, names, strings.Fields(c.want))
			require.Equal(t, "OneInstance", names[len(names)-1], "system policies come first")
			continue
		}
		require.Equal(t, c.want, strings.Join(names, " "), c.action)
	}
}

func TestAUserManagesItsOwnKeysWithoutItsName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.root(ramVersion, "CreatePolicy", object{"PolicyName": "OwnKeys", "PolicyDocument": `{"Version":"1","Statement":[{"Effect":"Allow","Action":["ram:*AccessKey*","ram:GetUser"],"Resource":"acs:ram::*:user/alice"}]}`})
	w.root(ramVersion, "AttachPolicyToUser", alice(object{"PolicyType": "Custom", "PolicyName": "OwnKeys"}))
	made := w.done(w.keyID, ramVersion, "CreateAccessKey", object{})["AccessKey"].(object)
	listed := w.done(w.keyID, ramVersion, "ListAccessKeys", object{})["AccessKeys"].(object)["AccessKey"].([]any)
	require.Len(t, listed, 2)
	require.NotContains(t, fmt.Sprint(listed), made["AccessKeySecret"])
	require.Equal(t, "alice", w.done(w.keyID, ramVersion, "GetUser", object{})["User"].(object)["UserName"])
	w.done(w.keyID, ramVersion, "DeleteAccessKey", object{"UserAccessKeyId": made["AccessKeyId"]})
	w.root(ramVersion, "CreateUser", object{"UserName": "bob"})
	require.Equal(t, []any{403, "NoPermission"}, w.refused(w.keyID, ramVersion, "ListAccessKeys", object{"UserName": "bob"}))
	require.Equal(t, []any{403, "NoPermission"}, w.refused(w.keyID, ramVersion, "ListUsers", object{}))

	own := w.root(ramVersion, "CreateAccessKey", object{})["AccessKey"].(object)["AccessKeyId"]
	require.Len(t, w.root(ramVersion, "ListAccessKeys", object{})["AccessKeys"].(object)["AccessKey"], 2, "the account's own")
	w.root(ramVersion, "DeleteAccessKey", object{"UserAccessKeyId": own})
	require.Equal(t, []any{400, "MissingParameter"}, w.refused(apitest.RootKey, ramVersion, "GetUser", object{}))
	require.NotContains(t, w.Log.String(), made["AccessKeySecret"])
}

func TestWhatComesFromFilesIsChangedThere(t *testing.T) {
	t.Parallel()
	w := empty(t)
	w.Users(map[string]string{"carol": everything})
	user := w.root(ramVersion, "GetUser", object{"UserName": "carol"})["User"].(object)
	require.Equal(t, "file", user["Source"])
	want := []any{409, "OperationDenied.ManagedByFile"}
	for _, c := range []struct {
		action string
		params object
	}{
		{"UpdateUser", object{"UserName": "carol", "NewComments": "x"}},
		{"DeleteUser", object{"UserName": "carol"}},
		{"DeleteAccessKey", object{"UserName": "carol", "UserAccessKeyId": apitest.KeyOf("carol")}},
		{"UpdateAccessKey", object{"UserName": "carol", "UserAccessKeyId": apitest.KeyOf("carol"), "Status": "Inactive"}},
		{"UpdatePolicyDescription", object{"PolicyName": "carol", "NewDescription": "x"}},
		{"CreatePolicyVersion", object{"PolicyName": "carol", "PolicyDocument": nothing, "SetAsDefault": true}},
		{"DeletePolicy", object{"PolicyName": "carol"}},
		{"DetachPolicyFromUser", object{"UserName": "carol", "PolicyType": "Custom", "PolicyName": "carol"}},
	} {
		require.Equal(t, want, w.refused(apitest.RootKey, ramVersion, c.action, c.params), c.action)
	}
	w.root(ramVersion, "CreateGroup", object{"GroupName": "researchers"})
	w.root(ramVersion, "AddUserToGroup", object{"UserName": "carol", "GroupName": "researchers"})
	w.root(ramVersion, "AttachPolicyToUser", object{"UserName": "carol", "PolicyType": "System", "PolicyName": "ReadOnlyAccess"})
	w.Users(nil)
	require.Equal(t, []any{404, "EntityNotExist.User"}, w.refused(apitest.RootKey, ramVersion, "GetUser", object{"UserName": "carol"}))
	w.root(ramVersion, "DeleteGroup", object{"GroupName": "researchers"})
}

// Whoever may manage one user gives it no policy that they may not give.
func TestAttachingNeedsTheRightOnThePolicyToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.root(ramVersion, "CreatePolicy", object{"PolicyName": "Managers", "PolicyDocument": `{"Version":"1","Statement":[{"Effect":"Allow","Action":"ram:AttachPolicyToUser",
		"Resource":["acs:ram::*:user/alice","acs:ram::` + apitest.Account + `:policy/One*"]}]}`})
	w.root(ramVersion, "AttachPolicyToUser", alice(object{"PolicyType": "Custom", "PolicyName": "Managers"}))
	require.Equal(t, []any{403, "NoPermission"},
		w.refused(w.keyID, ramVersion, "AttachPolicyToUser", alice(object{"PolicyType": "System", "PolicyName": "AdministratorAccess"})))
	a := w.Of(ramVersion).RPC(w.keyID, "AttachPolicyToUser", url.Values{"UserName": {"alice"}, "PolicyType": {"Custom"}, "PolicyName": {"Managers"}})
	require.Equal(t, 403, a.Status)
	w.done(w.keyID, ramVersion, "AttachPolicyToUser", alice(object{"PolicyType": "Custom", "PolicyName": "OneInstance"}))
}
