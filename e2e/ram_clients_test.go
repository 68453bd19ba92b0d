package e2e

import (
	"testing"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	"github.com/alibabacloud-go/tea/tea"
	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ram"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/resourcemanager"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/sts"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// at points a request of the official clients at a control plane: nothing else of it is changed.
func at[R interface {
	SetDomain(string)
	SetScheme(string)
}](addr string, request R) R {
	request.SetDomain(addr)
	request.SetScheme(requests.HTTP)
	return request
}

// newSession is newDarabonba with the key of a session, signing with ACS3 or with the older signatures.
func newSession(t *testing.T, addr string, lent sts.Credentials, algorithm string) *darabonba {
	t.Helper()
	client, err := openapi.NewClient(&openapi.Config{
		AccessKeyId: tea.String(lent.AccessKeyId), AccessKeySecret: tea.String(lent.AccessKeySecret), SecurityToken: tea.String(lent.SecurityToken),
		Endpoint: tea.String(addr), Protocol: tea.String("HTTP"), RegionId: tea.String(region), SignatureAlgorithm: tea.String(algorithm),
	})
	require.NoError(t, err)
	return &darabonba{client}
}

func refusedByClassic(t *testing.T, err error, code string) {
	t.Helper()
	var failure *sdkerrors.ServerError
	require.ErrorAs(t, err, &failure)
	require.Equal(t, code, failure.ErrorCode(), failure.Message())
}

const (
	readModels = `{"Version":"1","Statement":[{"Effect":"Allow","Action":["gpdb:Describe*","apig:List*","sts:AssumeRole"],"Resource":"*"}]}`
	onlyModels = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"gpdb:Describe*","Resource":"*"}]}`
	trustAlice = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"RAM":["acs:ram::` + rootAccount + `:user/alice"]}}]}`
)

// TestIdentitiesWithTheOfficialClients manages users, roles and resource groups on one process with the official typed
// clients, and sees on another one that what they say is so at the next call.
func TestIdentitiesWithTheOfficialClients(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	first, second := s.controlPlane("both"), s.controlPlane("api")
	here, there := first.addr, second.addr
	instance, _ := newInstance(t, newDarabonba(t, here, rootKey), 1)
	users, err := ram.NewClientWithAccessKey(region, rootKey.id, rootKey.secret)
	require.NoError(t, err)

	user := at(here, ram.CreateCreateUserRequest())
	user.UserName, user.DisplayName = "alice", "Alice"
	made, err := users.CreateUser(user)
	require.NoError(t, err)
	require.Equal(t, "alice", made.User.UserName)
	require.Len(t, made.User.UserId, 18)
	newKey := at(here, ram.CreateCreateAccessKeyRequest())
	newKey.UserName = "alice"
	key, err := users.CreateAccessKey(newKey)
	require.NoError(t, err)
	alice := credentials{key.AccessKey.AccessKeyId, key.AccessKey.AccessKeySecret}
	policy := at(here, ram.CreateCreatePolicyRequest())
	policy.PolicyName, policy.PolicyDocument = "ReadModels", readModels
	_, err = users.CreatePolicy(policy)
	require.NoError(t, err)

	models := newDarabonba(t, there, alice).(*darabonba)
	_, err = models.call("DescribeDBInstances", map[string]string{"RegionId": region})
	refused(t, err, 403, "Forbidden.RAM")
	attach := at(here, ram.CreateAttachPolicyToUserRequest())
	attach.UserName, attach.PolicyName, attach.PolicyType = "alice", "ReadModels", "Custom"
	_, err = users.AttachPolicyToUser(attach)
	require.NoError(t, err)
	_, err = models.call("DescribeDBInstances", map[string]string{"RegionId": region})
	require.NoError(t, err, "on another process, at the next call")
	_, err = models.roa("ListGateways", "GET", "/v1/gateways", nil)
	require.NoError(t, err)
	listed, err := users.ListPoliciesForUser(func() *ram.ListPoliciesForUserRequest {
		r := at(there, ram.CreateListPoliciesForUserRequest())
		r.UserName = "alice"
		return r
	}())
	require.NoError(t, err)
	require.Len(t, listed.Policies.Policy, 1)
	require.NotEmpty(t, listed.Policies.Policy[0].AttachDate)

	role := at(here, ram.CreateCreateRoleRequest())
	role.RoleName, role.AssumeRolePolicyDocument = "reader", trustAlice
	reader, err := users.CreateRole(role)
	require.NoError(t, err)
	toRole := at(here, ram.CreateAttachPolicyToRoleRequest())
	toRole.RoleName, toRole.PolicyName, toRole.PolicyType = "reader", "AdministratorAccess", "System"
	_, err = users.AttachPolicyToRole(toRole)
	require.NoError(t, err)
	lender, err := sts.NewClientWithAccessKey(region, alice.id, alice.secret)
	require.NoError(t, err)
	assume := at(there, sts.CreateAssumeRoleRequest())
	assume.RoleArn, assume.RoleSessionName, assume.Policy = reader.Role.Arn, "laptop", onlyModels
	lent, err := lender.AssumeRole(assume)
	require.NoError(t, err)
	require.Equal(t, reader.Role.Arn+"/laptop", lent.AssumedRoleUser.Arn)

	for _, algorithm := range []string{"ACS3-HMAC-SHA256", "v2"} {
		session := newSession(t, here, lent.Credentials, algorithm)
		_, err = session.call("DescribeDBInstances", map[string]string{"RegionId": region})
		require.NoError(t, err, algorithm)
		_, err = session.roa("ListGateways", "GET", "/v1/gateways", nil)
		denied := refused(t, err, 403, "NoPermission")
		require.Equal(t, []any{"AssumedRoleUser", "SessionPolicy"}, []any{denied["AuthPrincipalType"], denied["PolicyType"]}, algorithm)
	}
	inSession, err := sts.NewClientWithStsToken(region, lent.Credentials.AccessKeyId, lent.Credentials.AccessKeySecret, lent.Credentials.SecurityToken)
	require.NoError(t, err)
	who, err := inSession.GetCallerIdentity(at(here, sts.CreateGetCallerIdentityRequest()))
	require.NoError(t, err)
	require.Equal(t, []string{"AssumedRoleUser", reader.Role.Arn + "/laptop", reader.Role.RoleId}, []string{who.IdentityType, who.Arn, who.RoleId})

	t.Run("a policy that counts for one resource group", func(t *testing.T) {
		inGroupOnly(t, here, users, alice, instance)
	})

	detach := at(here, ram.CreateDetachPolicyFromUserRequest())
	detach.UserName, detach.PolicyName, detach.PolicyType = "alice", "ReadModels", "Custom"
	_, err = users.DetachPolicyFromUser(detach)
	require.NoError(t, err)
	_, err = models.roa("ListGateways", "GET", "/v1/gateways", nil)
	refused(t, err, 403, "NoPermission")
	off := at(here, ram.CreateDetachPolicyFromRoleRequest())
	off.RoleName, off.PolicyName, off.PolicyType = "reader", "AdministratorAccess", "System"
	_, err = users.DetachPolicyFromRole(off)
	require.NoError(t, err)
	gone := at(here, ram.CreateDeleteRoleRequest())
	gone.RoleName = "reader"
	_, err = users.DeleteRole(gone)
	require.NoError(t, err)
	_, err = inSession.GetCallerIdentity(at(there, sts.CreateGetCallerIdentityRequest()))
	refusedByClassic(t, err, "InvalidAccessKeyId.NotFound")
	last := at(here, ram.CreateDeleteAccessKeyRequest())
	last.UserName, last.UserAccessKeyId = "alice", alice.id
	_, err = users.DeleteAccessKey(last)
	require.NoError(t, err)
	_, err = models.call("DescribeDBInstances", map[string]string{"RegionId": region})
	refused(t, err, 404, "InvalidAccessKeyId.NotFound")
}

// inGroupOnly gives alice a right on the instances of one resource group, and moves the instance in and out.
func inGroupOnly(t *testing.T, addr string, users *ram.Client, alice credentials, instance string) {
	policy := at(addr, ram.CreateCreatePolicyRequest())
	policy.PolicyName, policy.PolicyDocument = "ListServices", `{"Version":"1","Statement":[{"Effect":"Allow","Action":"gpdb:ListModelServices","Resource":"*"}]}`
	_, err := users.CreatePolicy(policy)
	require.NoError(t, err)
	manager, err := resourcemanager.NewClientWithAccessKey(region, rootKey.id, rootKey.secret)
	require.NoError(t, err)
	create := at(addr, resourcemanager.CreateCreateResourceGroupRequest())
	create.Name, create.DisplayName = "search", "Search"
	made, err := manager.CreateResourceGroup(create)
	require.NoError(t, err)
	attach := at(addr, resourcemanager.CreateAttachPolicyRequest())
	attach.ResourceGroupId, attach.PolicyName, attach.PolicyType = made.ResourceGroup.Id, "ListServices", "Custom"
	attach.PrincipalType, attach.PrincipalName = "IMSUser", "alice@"+rootAccount+".onaliyun.com"
	_, err = manager.AttachPolicy(attach)
	require.NoError(t, err)

	c := newDarabonba(t, addr, alice)
	list := func() error {
		_, err := c.call("ListModelServices", map[string]string{"DBInstanceId": instance})
		return err
	}
	refused(t, list(), 403, "Forbidden.RAM")
	move := at(addr, resourcemanager.CreateMoveResourcesRequest())
	move.ResourceGroupId = made.ResourceGroup.Id
	move.Resources = &[]resourcemanager.MoveResourcesResources{{Service: "gpdb", ResourceType: "dbinstance", ResourceId: instance, RegionId: region}}
	moved, err := manager.MoveResources(move)
	require.NoError(t, err)
	require.Equal(t, "SUCCESS", moved.Responses[0].Status)
	require.NoError(t, list())
	move.ResourceGroupId = "rg-default"
	_, err = manager.MoveResources(move)
	require.NoError(t, err)
	refused(t, list(), 403, "Forbidden.RAM")
}
