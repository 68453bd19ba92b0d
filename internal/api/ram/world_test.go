package ram_test

import (
	"maps"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/api/ram"
	"github.com/engineshed/engineshed/internal/api/resourcemanager"
	"github.com/engineshed/engineshed/internal/api/sts"
	"github.com/engineshed/engineshed/internal/iam/directory"
	"github.com/engineshed/engineshed/internal/iam/session"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/resourcegroup"
	"github.com/engineshed/engineshed/openapi"
	"github.com/engineshed/engineshed/sdk"
)

type object = map[string]any

const (
	ramVersion = "2015-05-01"
	stsVersion = "2015-04-01"
	rmVersion  = "2020-03-31"
)

// versions are the products that manage identities.
var versions = map[string]string{"ram.yaml": ramVersion, "sts.yaml": stsVersion, "resourcemanager.yaml": rmVersion}

const (
	everything  = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	nothing     = `{"Version":"1","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`
	trustRoot   = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"RAM":["acs:ram::` + apitest.Account + `:root"]}}]}`
	deployerARN = "acs:ram::" + apitest.Account + ":role/deployer"
)

func products(t testing.TB, parts apitest.Parts) []api.Product {
	t.Helper()
	people := directory.New(parts.DB.Control, parts.Box)
	users, err := ram.Product(people)
	require.NoError(t, err)
	sessions, err := sts.Product(session.New(parts.DB.Control, parts.Box, parts.Authorizer))
	require.NoError(t, err)
	resources := resource.New(parts.DB.Control, resource.Instances)
	groups, err := resourcemanager.Product(resourcemanager.Config{
		Groups: resourcegroup.New(parts.DB.Control, resources.Tables()...), Resources: resources, Directory: people, Region: apitest.Region,
	})
	require.NoError(t, err)
	return []api.Product{users, sessions, groups}
}

// world is an account with one thing of every kind.
type world struct {
	*apitest.Server
	t          testing.TB
	keyID      string // of alice
	groupID    string // a resource group
	instanceID string
}

// empty is a server with two accounts and nothing in them.
func empty(t testing.TB) *world {
	t.Helper()
	server := apitest.Identities(t, func(parts apitest.Parts) []api.Product { return products(t, parts) })
	return &world{Server: server, t: t, instanceID: ids.New(ids.DBInstance)}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := empty(t)
	w.root(ramVersion, "CreateUser", object{"UserName": "alice"})
	w.keyID = w.newKey("alice")
	w.root(ramVersion, "CreateGroup", object{"GroupName": "researchers"})
	w.root(ramVersion, "CreateRole", object{"RoleName": "deployer", "AssumeRolePolicyDocument": trustRoot})
	w.root(ramVersion, "CreatePolicy", object{"PolicyName": "OneInstance", "PolicyDocument": everything})
	made := w.root(rmVersion, "CreateResourceGroup", object{"Name": "search", "DisplayName": "Search"})
	w.groupID = made["ResourceGroup"].(object)["Id"].(string)
	_, err := w.DB.Control.Exec(t.Context(), `
		INSERT INTO db_instance (id, account_id, region_id, description, resource_group_id) VALUES ($1, $2, $3, '', 'rg-default')`,
		w.instanceID, apitest.Account, apitest.Region)
	require.NoError(t, err)
	return w
}

// newKey makes a key of a user that calls can be made with.
func (w *world) newKey(user string) (id string) {
	w.t.Helper()
	key := w.root(ramVersion, "CreateAccessKey", object{"UserName": user})["AccessKey"].(object)
	id = key["AccessKeyId"].(string)
	w.Knows(sdk.Signer{AccessKeyID: id, AccessKeySecret: key["AccessKeySecret"].(string)})
	return id
}

// root calls as the account itself, successfully.
func (w *world) root(version, action string, params object) object {
	w.t.Helper()
	return w.done(apitest.RootKey, version, action, params)
}

func (w *world) done(keyID, version, action string, params object) object {
	w.t.Helper()
	a := w.Of(version).JSON(keyID, action, params)
	require.Equal(w.t, 200, a.Status, "%s: %v", action, a.Body)
	return a.Body
}

// refused calls and returns the status and code of the refusal.
func (w *world) refused(keyID, version, action string, params object) []any {
	w.t.Helper()
	a := w.Of(version).JSON(keyID, action, params)
	require.NotEqual(w.t, 200, a.Status, "%s: %v", action, a.Body)
	return []any{a.Status, a.Code}
}

// assume begins a session of the role deployer.
func (w *world) assume(keyID string, with object) (sessionKeyID string) {
	w.t.Helper()
	params := object{"RoleArn": deployerARN, "RoleSessionName": "laptop"}
	maps.Copy(params, with)
	lent := w.done(keyID, stsVersion, "AssumeRole", params)["Credentials"].(object)
	signer := sdk.Signer{
		AccessKeyID: lent["AccessKeyId"].(string), AccessKeySecret: lent["AccessKeySecret"].(string), SecurityToken: lent["SecurityToken"].(string),
	}
	w.Knows(signer)
	return signer.AccessKeyID
}

// described is one operation of a document.
type described struct {
	*openapi3.Operation
	version string
	example object
}

func (d described) request() *openapi3.Schema {
	return d.RequestBody.Value.Content.Get("application/json").Schema.Value
}

// each walks every operation of every document, with the example of its request.
func each(t *testing.T, visit func(t *testing.T, op described)) {
	t.Helper()
	for name, version := range versions {
		document, err := api.LoadDocument(openapi.Files, name)
		require.NoError(t, err)
		require.Equal(t, version, document.Info.Version)
		for _, item := range document.Paths.Map() {
			t.Run(item.Post.OperationID, func(t *testing.T) {
				example, ok := item.Post.RequestBody.Value.Content.Get("application/json").Example.(object)
				require.True(t, ok, "a request has an example")
				visit(t, described{item.Post, version, maps.Clone(example)})
			})
		}
	}
}

// fit puts the ids of the world into an example, and brings about what the example asks to be undone.
func (w *world) fit(op described) object {
	w.t.Helper()
	params := op.example
	if _, ok := params["UserAccessKeyId"]; ok {
		params["UserAccessKeyId"] = w.keyID
	}
	if _, ok := params["ResourceGroupId"]; ok {
		params["ResourceGroupId"] = w.groupID
	}
	switch op.OperationID {
	case "CreateUser", "CreateGroup", "CreateRole", "CreatePolicy", "CreateResourceGroup":
		for _, name := range []string{"UserName", "GroupName", "RoleName", "PolicyName", "Name"} {
			if _, ok := params[name]; ok {
				params[name] = "another"
			}
		}
	case "DeleteUser":
		w.root(ramVersion, "DeleteAccessKey", object{"UserName": "alice", "UserAccessKeyId": w.keyID})
	case "RemoveUserFromGroup":
		w.root(ramVersion, "AddUserToGroup", params)
	case "DetachPolicyFromUser", "DetachPolicyFromGroup", "DetachPolicyFromRole":
		w.root(ramVersion, map[string]string{
			"DetachPolicyFromUser": "AttachPolicyToUser", "DetachPolicyFromGroup": "AttachPolicyToGroup", "DetachPolicyFromRole": "AttachPolicyToRole",
		}[op.OperationID], params)
	case "DetachPolicy":
		w.root(rmVersion, "AttachPolicy", object{
			"ResourceGroupId": w.groupID, "PolicyType": "Custom", "PolicyName": "OneInstance", "PrincipalType": "IMSUser", "PrincipalName": "alice",
		})
	case "DeletePolicyVersion":
		w.root(ramVersion, "CreatePolicyVersion", object{"PolicyName": "OneInstance", "PolicyDocument": everything, "SetAsDefault": true})
	case "MoveResources":
		params["Resources"].([]any)[0].(object)["ResourceId"] = w.instanceID
	}
	return params
}
