package ram_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
)

// fromFiles are calls that aim at what came from policy files: the user, key, policy, group and role called fred, that the
// user is in the group, and that all of them have the policy, the role also in a resource group. They name every mutating operation of ram and resourcemanager, and how it is answered.
var fromFiles = map[string]struct {
	params object
	answer any // a code, or done: what it changes is not of the files
}{
	"CreateUser":              {object{"UserName": "fred"}, "EntityAlreadyExists.User"},
	"UpdateUser":              {object{"UserName": "fred", "NewComments": "x"}, managedByFile},
	"DeleteUser":              {object{"UserName": "fred"}, managedByFile},
	"CreateAccessKey":         {object{"UserName": "fred"}, done},
	"UpdateAccessKey":         {object{"UserName": "fred", "UserAccessKeyId": fredsKey, "Status": "Inactive"}, managedByFile},
	"DeleteAccessKey":         {object{"UserName": "fred", "UserAccessKeyId": fredsKey}, managedByFile},
	"CreateGroup":             {object{"GroupName": "fred"}, "EntityAlreadyExists.Group"},
	"UpdateGroup":             {object{"GroupName": "fred", "NewComments": "x"}, managedByFile},
	"DeleteGroup":             {object{"GroupName": "fred"}, managedByFile},
	"AddUserToGroup":          {object{"UserName": "alice", "GroupName": "fred"}, done},
	"RemoveUserFromGroup":     {object{"UserName": "fred", "GroupName": "fred"}, managedByFile},
	"CreateRole":              {object{"RoleName": "fred", "AssumeRolePolicyDocument": trustRoot}, "EntityAlreadyExists.Role"},
	"UpdateRole":              {object{"RoleName": "fred", "NewDescription": "x"}, managedByFile},
	"DeleteRole":              {object{"RoleName": "fred"}, managedByFile},
	"CreatePolicy":            {object{"PolicyName": "fred", "PolicyDocument": nothing}, "EntityAlreadyExists.Policy"},
	"UpdatePolicyDescription": {object{"PolicyName": "fred", "NewDescription": "x"}, managedByFile},
	"DeletePolicy":            {object{"PolicyName": "fred"}, managedByFile},
	"CreatePolicyVersion":     {object{"PolicyName": "fred", "PolicyDocument": nothing, "SetAsDefault": true}, managedByFile},
	"SetDefaultPolicyVersion": {object{"PolicyName": "fred", "VersionId": "v1"}, managedByFile},
	"DeletePolicyVersion":     {object{"PolicyName": "fred", "VersionId": "v1"}, managedByFile},
	"AttachPolicyToUser":      {object{"UserName": "fred", "PolicyType": "Custom", "PolicyName": "fred"}, "EntityAlreadyExists.User.Policy"},
	"DetachPolicyFromUser":    {object{"UserName": "fred", "PolicyType": "Custom", "PolicyName": "fred"}, managedByFile},
	"AttachPolicyToGroup":     {object{"GroupName": "fred", "PolicyType": "Custom", "PolicyName": "fred"}, "EntityAlreadyExists.Group.Policy"},
	"DetachPolicyFromGroup":   {object{"GroupName": "fred", "PolicyType": "Custom", "PolicyName": "fred"}, managedByFile},
	"AttachPolicyToRole":      {object{"RoleName": "fred", "PolicyType": "Custom", "PolicyName": "OneInstance"}, done},
	"DetachPolicyFromRole":    {object{"RoleName": "fred", "PolicyType": "Custom", "PolicyName": "fred"}, managedByFile},
	"AttachPolicy":            {fredIn(""), "EntityAlreadyExists.Role.Policy"},
	"DetachPolicy":            {fredIn(""), managedByFile},
	"CreateResourceGroup":     {object{"Name": "fred", "DisplayName": "fred"}, done},
	"UpdateResourceGroup":     {object{"NewDisplayName": "fred"}, done},
	"DeleteResourceGroup":     {object{}, managedByFile},
	"MoveResources":           {object{"Resources": []any{object{"Service": "gpdb", "ResourceType": "dbinstance", "ResourceId": "gp-none"}}}, done},
}

const managedByFile, done = "OperationDenied.ManagedByFile", "done"

var fredsKey = apitest.KeyOf("fred")

func fredIn(resourceGroupID string) object {
	return object{
		"ResourceGroupId": resourceGroupID, "PolicyType": "Custom", "PolicyName": "fred", "PrincipalType": "ServiceRole", "PrincipalName": "fred",
	}
}

// Whatever an operation answers, what came from files is as it was. An operation that is added must be thought of here.
func TestNoOperationChangesWhatCameFromFiles(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, op described) {
		level := op.Extensions["x-ram"].(object)["level"]
		if op.version == stsVersion || level == "get" || level == "list" {
			return
		}
		call, ok := fromFiles[op.OperationID]
		require.True(t, ok, "say how it treats what came from files")
		w := newWorld(t)
		w.putFred()
		if _, ok := op.request().Properties["ResourceGroupId"]; ok && op.version == rmVersion {
			call.params["ResourceGroupId"] = w.groupID
		}
		before := w.fromFiles()
		a := w.Of(op.version).JSON(apitest.RootKey, op.OperationID, call.params)
		if call.answer == done {
			require.Equal(t, 200, a.Status, "%v", a.Body)
		} else {
			require.Equal(t, call.answer, a.Code, "%v", a.Body)
		}
		require.Equal(t, before, w.fromFiles())
	})
}

// putFred makes what fromFiles says by policy files.
func (w *world) putFred() {
	w.t.Helper()
	more := `
    groups:
      - {name: fred, users: [fred], policies: [{type: Custom, name: fred}]}
    roles:
      - name: fred
        trustPolicy: trust.json
        policies: [{type: Custom, name: fred}, {type: Custom, name: fred, resourceGroup: ` + w.groupID + `}]
`
	w.UsersAnd(map[string]string{"fred": everything}, more, map[string]string{"trust.json": trustRoot})
}

// fromFiles are the rows that came from files, whole.
func (w *world) fromFiles() []string {
	w.t.Helper()
	rows, _ := w.DB.Owner.Query(w.t.Context(), `
		          SELECT format('user %s', to_jsonb(u)) FROM ram_user u WHERE source = 'file'
		UNION ALL SELECT format('key %s', to_jsonb(k)) FROM access_key k WHERE source = 'file'
		UNION ALL SELECT format('group %s', to_jsonb(g)) FROM ram_group g WHERE source = 'file'
		UNION ALL SELECT format('member %s', to_jsonb(m)) FROM ram_group_member m WHERE source = 'file'
		UNION ALL SELECT format('role %s', to_jsonb(r)) FROM ram_role r WHERE source = 'file'
		UNION ALL SELECT format('policy %s', to_jsonb(p)) FROM policy p WHERE source = 'file'
		UNION ALL SELECT format('version %s', to_jsonb(v)) FROM policy_version v JOIN policy p ON p.id = v.policy_id WHERE p.source = 'file'
		UNION ALL SELECT format('attachment %s', to_jsonb(a)) FROM policy_attachment a WHERE source = 'file'
		ORDER BY 1`)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w.t, err)
	require.Len(w.t, all, 13, "two root keys; fred with a key; the group and who is in it; the role; the policy, its version and four attachments")
	return all
}

// What came from files says so wherever it is shown.
func TestWhatCameFromFilesSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.UsersAnd(map[string]string{"fred": everything}, `
    groups: [{name: zz, users: [fred]}]
    roles: [{name: zz, trustPolicy: trust.json}]
`, map[string]string{"trust.json": trustRoot})
	member := func(body object, path ...string) any {
		var value any = body
		for _, name := range path {
			value = value.(object)[name]
			if list, ok := value.([]any); ok {
				value = list[len(list)-1]
			}
		}
		return value
	}
	require.Equal(t, "file", member(w.root(ramVersion, "GetUser", object{"UserName": "fred"}), "User", "Source"))
	require.Equal(t, "file", member(w.root(ramVersion, "ListUsers", object{}), "Users", "User", "Source"))
	require.Equal(t, "file", member(w.root(ramVersion, "ListAccessKeys", object{"UserName": "fred"}), "AccessKeys", "AccessKey", "Source"))
	require.Equal(t, "file", member(w.root(ramVersion, "GetPolicy", object{"PolicyType": "Custom", "PolicyName": "fred"}), "Policy", "Source"))
	require.Equal(t, "file", member(w.root(ramVersion, "ListPolicies", object{}), "Policies", "Policy", "Source"))
	require.Equal(t, "file", member(w.root(ramVersion, "GetGroup", object{"GroupName": "zz"}), "Group", "Source"))
	require.Equal(t, "file", member(w.root(ramVersion, "ListGroups", object{}), "Groups", "Group", "Source"))
	require.Equal(t, "file", member(w.root(ramVersion, "GetRole", object{"RoleName": "zz"}), "Role", "Source"))
	require.Equal(t, "file", member(w.root(ramVersion, "ListRoles", object{}), "Roles", "Role", "Source"))
	fred := object{"PrincipalType": "IMSUser", "PrincipalName": "fred"}
	require.Equal(t, "file", member(w.root(rmVersion, "ListPolicyAttachments", fred), "PolicyAttachments", "PolicyAttachment", "Source"))
	w.root(rmVersion, "AttachPolicy", object{
		"ResourceGroupId": w.groupID, "PolicyType": "Custom", "PolicyName": "fred", "PrincipalType": "IMSUser", "PrincipalName": "fred",
	})
	require.Equal(t, "api", member(w.root(rmVersion, "ListPolicyAttachments", fred), "PolicyAttachments", "PolicyAttachment", "Source"))
}
