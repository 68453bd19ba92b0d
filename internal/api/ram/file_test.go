package ram_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
)

// fromFiles are calls that aim at what came from policy files: the user, key and policy called fred, and the attachment of
// the one to the other. They name every mutating operation of ram and resourcemanager, and how it is answered.
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
	"CreateGroup":             {object{"GroupName": "fred"}, done},
	"UpdateGroup":             {object{"GroupName": "researchers", "NewGroupName": "fred"}, done},
	"DeleteGroup":             {object{"GroupName": "researchers"}, done},
	"AddUserToGroup":          {object{"UserName": "fred", "GroupName": "researchers"}, done},
	"RemoveUserFromGroup":     {object{"UserName": "fred", "GroupName": "researchers"}, "EntityNotExist.User.Group"},
	"CreateRole":              {object{"RoleName": "fred", "AssumeRolePolicyDocument": trustRoot}, done},
	"UpdateRole":              {object{"RoleName": "deployer", "NewDescription": "x"}, done},
	"DeleteRole":              {object{"RoleName": "deployer"}, done},
	"CreatePolicy":            {object{"PolicyName": "fred", "PolicyDocument": nothing}, "EntityAlreadyExists.Policy"},
	"UpdatePolicyDescription": {object{"PolicyName": "fred", "NewDescription": "x"}, managedByFile},
	"DeletePolicy":            {object{"PolicyName": "fred"}, managedByFile},
	"CreatePolicyVersion":     {object{"PolicyName": "fred", "PolicyDocument": nothing, "SetAsDefault": true}, managedByFile},
	"SetDefaultPolicyVersion": {object{"PolicyName": "fred", "VersionId": "v1"}, managedByFile},
	"DeletePolicyVersion":     {object{"PolicyName": "fred", "VersionId": "v1"}, managedByFile},
	"AttachPolicyToUser":      {object{"UserName": "fred", "PolicyType": "Custom", "PolicyName": "fred"}, "EntityAlreadyExists.User.Policy"},
	"DetachPolicyFromUser":    {object{"UserName": "fred", "PolicyType": "Custom", "PolicyName": "fred"}, managedByFile},
	"AttachPolicyToGroup":     {object{"GroupName": "researchers", "PolicyType": "Custom", "PolicyName": "fred"}, done},
	"DetachPolicyFromGroup":   {object{"GroupName": "researchers", "PolicyType": "Custom", "PolicyName": "fred"}, "EntityNotExist.Group.Policy"},
	"AttachPolicyToRole":      {object{"RoleName": "deployer", "PolicyType": "Custom", "PolicyName": "fred"}, done},
	"DetachPolicyFromRole":    {object{"RoleName": "deployer", "PolicyType": "Custom", "PolicyName": "fred"}, "EntityNotExist.Role.Policy"},
	"AttachPolicy":            {fredIn(apitest.Account), "EntityAlreadyExists.User.Policy"},
	"DetachPolicy":            {fredIn(apitest.Account), managedByFile},
	"CreateResourceGroup":     {object{"Name": "fred", "DisplayName": "fred"}, done},
	"UpdateResourceGroup":     {object{"NewDisplayName": "fred"}, done},
	"DeleteResourceGroup":     {object{}, done},
	"MoveResources":           {object{"Resources": []any{object{"Service": "gpdb", "ResourceType": "dbinstance", "ResourceId": "gp-none"}}}, done},
}

const managedByFile, done = "OperationDenied.ManagedByFile", "done"

var fredsKey = apitest.KeyOf("fred")

func fredIn(resourceGroupID string) object {
	return object{
		"ResourceGroupId": resourceGroupID, "PolicyType": "Custom", "PolicyName": "fred", "PrincipalType": "IMSUser", "PrincipalName": "fred",
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
		w.Users(map[string]string{"fred": everything})
		if slices.Contains([]string{"UpdateResourceGroup", "DeleteResourceGroup", "MoveResources"}, op.OperationID) {
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

// fromFiles are the rows that came from files, whole.
func (w *world) fromFiles() []string {
	w.t.Helper()
	rows, _ := w.DB.Owner.Query(w.t.Context(), `
		          SELECT format('user %s', to_jsonb(u)) FROM ram_user u WHERE source = 'file'
		UNION ALL SELECT format('key %s', to_jsonb(k)) FROM access_key k WHERE source = 'file'
		UNION ALL SELECT format('policy %s', to_jsonb(p)) FROM policy p WHERE source = 'file'
		UNION ALL SELECT format('version %s', to_jsonb(v)) FROM policy_version v JOIN policy p ON p.id = v.policy_id WHERE p.source = 'file'
		UNION ALL SELECT format('attachment %s', to_jsonb(a)) FROM policy_attachment a WHERE source = 'file'
		ORDER BY 1`)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w.t, err)
	require.Len(w.t, all, 7, "two root keys, and fred with a key, a policy, its version and its attachment")
	return all
}

// What came from files says so wherever it is shown.
func TestWhatCameFromFilesSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Users(map[string]string{"fred": everything})
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
	fred := object{"PrincipalType": "IMSUser", "PrincipalName": "fred"}
	require.Equal(t, "file", member(w.root(rmVersion, "ListPolicyAttachments", fred), "PolicyAttachments", "PolicyAttachment", "Source"))
	w.root(rmVersion, "AttachPolicy", fredIn(w.groupID))
	require.Equal(t, "api", member(w.root(rmVersion, "ListPolicyAttachments", fred), "PolicyAttachments", "PolicyAttachment", "Source"))
}
