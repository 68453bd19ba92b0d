package e2e

import (
	"fmt"
	"testing"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ram"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/resourcemanager"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// typed calls with the official typed client of RAM.
type typed struct {
	*ram.Client
	t    *testing.T
	addr string
}

// asked is a request at the control plane, filled in.
func asked[R interface {
	SetDomain(string)
	SetScheme(string)
}](c typed, request R, fill func(R)) R {
	fill(at(c.addr, request))
	return request
}

func (c typed) user(name string) error {
	_, err := c.CreateUser(asked(c, ram.CreateCreateUserRequest(), func(r *ram.CreateUserRequest) { r.UserName = name }))
	return err
}

func (c typed) group(name string) error {
	_, err := c.CreateGroup(asked(c, ram.CreateCreateGroupRequest(), func(r *ram.CreateGroupRequest) { r.GroupName = name }))
	return err
}

func (c typed) member(user, group string) error {
	_, err := c.AddUserToGroup(asked(c, ram.CreateAddUserToGroupRequest(), func(r *ram.AddUserToGroupRequest) { r.UserName, r.GroupName = user, group }))
	return err
}

func (c typed) key(user string) (credentials, error) {
	made, err := c.CreateAccessKey(asked(c, ram.CreateCreateAccessKeyRequest(), func(r *ram.CreateAccessKeyRequest) { r.UserName = user }))
	if err != nil {
		return credentials{}, err
	}
	return credentials{made.AccessKey.AccessKeyId, made.AccessKey.AccessKeySecret}, nil
}

func (c typed) policy(name, document string) error {
	_, err := c.CreatePolicy(asked(c, ram.CreateCreatePolicyRequest(), func(r *ram.CreatePolicyRequest) { r.PolicyName, r.PolicyDocument = name, document }))
	return err
}

func (c typed) attach(policy string) error {
	_, err := c.AttachPolicyToGroup(asked(c, ram.CreateAttachPolicyToGroupRequest(), func(r *ram.AttachPolicyToGroupRequest) {
		r.PolicyType, r.PolicyName, r.GroupName = "Custom", policy, "team"
	}))
	return err
}

// version adds a version of the policy of the team.
func (c typed) version(document, rotate string, inForce bool) (string, error) {
	made, err := c.CreatePolicyVersion(asked(c, ram.CreateCreatePolicyVersionRequest(), func(r *ram.CreatePolicyVersionRequest) {
		r.PolicyName, r.PolicyDocument, r.RotateStrategy, r.SetAsDefault = "Describe", document, rotate, requests.NewBoolean(inForce)
	}))
	if err != nil {
		return "", err
	}
	return made.PolicyVersion.VersionId, nil
}

func (c typed) setDefault(version string) error {
	_, err := c.SetDefaultPolicyVersion(asked(c, ram.CreateSetDefaultPolicyVersionRequest(), func(r *ram.SetDefaultPolicyVersionRequest) {
		r.PolicyName, r.VersionId = "Describe", version
	}))
	return err
}

func (c typed) deleteVersion(version string) error {
	_, err := c.DeletePolicyVersion(asked(c, ram.CreateDeletePolicyVersionRequest(), func(r *ram.DeletePolicyVersionRequest) {
		r.PolicyName, r.VersionId = "Describe", version
	}))
	return err
}

// codes are what the official client says of refusals.
func codes(t *testing.T, calls map[string]error) {
	t.Helper()
	for code, err := range calls {
		refusedByClassic(t, err, code)
	}
}

// newTyped is an installation with the users u0 to u4 in the group team, which may describe instances.
func newTyped(t *testing.T) typed {
	t.Helper()
	client, err := ram.NewClientWithAccessKey(region, rootKey.id, rootKey.secret)
	require.NoError(t, err)
	c := typed{client, t, newShed(t, pgtest.New(t)).controlPlane("both").addr}
	require.NoError(t, c.group("team"))
	for n := range 5 {
		require.NoError(t, c.user(fmt.Sprint("u", n)))
		require.NoError(t, c.member(fmt.Sprint("u", n), "team"))
	}
	require.NoError(t, c.policy("Describe", onlyModels))
	require.NoError(t, c.attach("Describe"))
	return c
}

// The official clients follow markers until a list is whole.
func TestTheOfficialClientsPageThroughIdentities(t *testing.T) {
	t.Parallel()
	c := newTyped(t)
	pages := func(next func(marker string) (names []string, marker2 string, more bool)) (all []string, pages int) {
		for marker, more := "", true; more; pages++ {
			var names []string
			names, marker, more = next(marker)
			require.LessOrEqual(t, len(names), 2)
			require.Equal(t, more, marker != "")
			all = append(all, names...)
		}
		return all, pages
	}
	users := []string{"u0", "u1", "u2", "u3", "u4"}
	names, count := pages(func(marker string) (names []string, _ string, _ bool) {
		page, err := c.ListUsers(asked(c, ram.CreateListUsersRequest(), func(r *ram.ListUsersRequest) { r.Marker, r.MaxItems = marker, "2" }))
		require.NoError(t, err)
		for _, u := range page.Users.User {
			require.Len(t, u.UserId, 18)
			names = append(names, u.UserName)
		}
		return names, page.Marker, page.IsTruncated
	})
	require.Equal(t, []any{users, 3}, []any{names, count})
	names, count = pages(func(marker string) (names []string, _ string, _ bool) {
		page, err := c.ListUsersForGroup(asked(c, ram.CreateListUsersForGroupRequest(), func(r *ram.ListUsersForGroupRequest) {
			r.GroupName, r.Marker, r.MaxItems = "team", marker, "2"
		}))
		require.NoError(t, err)
		for _, u := range page.Users.User {
			require.NotEmpty(t, u.JoinDate)
			names = append(names, u.UserName)
		}
		return names, page.Marker, page.IsTruncated
	})
	require.Equal(t, []any{users, 3}, []any{names, count})
	names, _ = pages(func(marker string) (names []string, _ string, _ bool) {
		page, err := c.ListPolicies(asked(c, ram.CreateListPoliciesRequest(), func(r *ram.ListPoliciesRequest) { r.Marker, r.MaxItems = marker, "2" }))
		require.NoError(t, err)
		for _, p := range page.Policies.Policy {
			names = append(names, p.PolicyType+" "+p.PolicyName)
		}
		return names, page.Marker, page.IsTruncated
	})
	require.Subset(t, names, []string{"System AdministratorAccess", "System AliyunGPDBReadOnlyAccess", "System AliyunSTSAssumeRoleAccess", "Custom Describe"})
	have, err := c.ListEntitiesForPolicy(asked(c, ram.CreateListEntitiesForPolicyRequest(), func(r *ram.ListEntitiesForPolicyRequest) {
		r.PolicyType, r.PolicyName = "Custom", "Describe"
	}))
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 0}, []int{len(have.Users.User), len(have.Groups.Group), len(have.Roles.Role)})
}

// A member may do what its group may, by the version that is in force.
func TestTheOfficialClientsManageVersions(t *testing.T) {
	t.Parallel()
	c := newTyped(t)
	key, err := c.key("u0")
	require.NoError(t, err)
	member := newDarabonba(t, c.addr, key)
	describe := func() error {
		_, err := member.call("DescribeDBInstances", map[string]string{"RegionId": region})
		return err
	}
	require.NoError(t, describe())
	denies, err := c.version(noCreate, "None", true)
	require.NoError(t, err)
	require.Equal(t, "v2", denies)
	refused(t, describe(), 403, "Forbidden.RAM")
	require.NoError(t, c.setDefault("v1"))
	require.NoError(t, describe())
	for range 3 {
		_, err := c.version(onlyModels, "None", false)
		require.NoError(t, err)
	}
	_, full := c.version(onlyModels, "None", false)
	newest, err := c.version(onlyModels, "DeleteOldestNonDefaultVersionWhenLimitExceeded", false)
	require.NoError(t, err)
	require.Equal(t, "v6", newest)
	listed, err := c.ListPolicyVersions(asked(c, ram.CreateListPolicyVersionsRequest(), func(r *ram.ListPolicyVersionsRequest) {
		r.PolicyType, r.PolicyName = "Custom", "Describe"
	}))
	require.NoError(t, err)
	versions := map[string]bool{}
	for _, v := range listed.PolicyVersions.PolicyVersion {
		versions[v.VersionId] = v.IsDefaultVersion
	}
	require.Equal(t, map[string]bool{"v6": false, "v5": false, "v4": false, "v3": false, "v1": true}, versions)
	_, malformed := c.version(`{"Version":"1","Statement":[{"Effect":"Allow","Action":"a:b","NotAction":"a:c","Resource":"*"}]}`, "None", false)
	codes(t, map[string]error{
		"LimitExceeded.Policy.Version":          full,
		"MalformedPolicyDocument":               malformed,
		"EntityNotExist.Policy.Version":         c.setDefault("v2"),
		"DeleteConflict.Policy.Version.Default": c.deleteVersion("v1"),
	})
	require.NoError(t, c.deleteVersion("v3"))
}

// What is refused has the code that programs written for the original branch on.
func TestTheOfficialClientsMeetTheRulesOfIdentities(t *testing.T) {
	t.Parallel()
	c := newTyped(t)
	for range 2 {
		_, err := c.key("u0")
		require.NoError(t, err)
	}
	_, third := c.key("u0")
	for n := range 10 {
		if n > 0 {
			require.NoError(t, c.group(fmt.Sprint("g", n)))
			require.NoError(t, c.member("u0", fmt.Sprint("g", n)))
		}
		require.NoError(t, c.policy(fmt.Sprint("p", n), onlyModels))
		if n < 9 {
			require.NoError(t, c.attach(fmt.Sprint("p", n)))
		}
	}
	require.NoError(t, c.group("g10"))
	deleteUser := asked(c, ram.CreateDeleteUserRequest(), func(r *ram.DeleteUserRequest) { r.UserName = "u0" })
	deleteGroup := asked(c, ram.CreateDeleteGroupRequest(), func(r *ram.DeleteGroupRequest) { r.GroupName = "team" })
	deletePolicy := asked(c, ram.CreateDeletePolicyRequest(), func(r *ram.DeletePolicyRequest) { r.PolicyName = "Describe" })
	_, inGroups := c.DeleteUser(deleteUser)
	_, hasUsers := c.DeleteGroup(deleteGroup)
	_, ofGroup := c.DeletePolicy(deletePolicy)
	codes(t, map[string]error{
		"LimitExceeded.User.AccessKey":     third,
		"LimitExceeded.User.Group":         c.member("u0", "g10"),
		"LimitExceeded.Group.Policy":       c.attach("p9"),
		"EntityAlreadyExists.User":         c.user("u0"),
		"EntityAlreadyExists.Group":        c.group("team"),
		"EntityAlreadyExists.Policy":       c.policy("Describe", onlyModels),
		"EntityAlreadyExists.User.Group":   c.member("u1", "team"),
		"DeleteConflict.User.Group":        inGroups,
		"DeleteConflict.Group.User":        hasUsers,
		"DeleteConflict.Policy.Group":      ofGroup,
		"EntityNotExist.User":              c.member("nobody", "team"),
		"EntityNotExist.Group":             c.member("u0", "nobody"),
		"EntityNotExist.Policy":            c.attach("nothing"),
		"MalformedPolicyDocument":          c.policy("p", "{}"),
		"EntityNotExist.Policy.Version":    c.setDefault("v9"),
		"InvalidParameter.UserName.Length": c.user(fmt.Sprintf("%065d", 0)),
	})
	for n := range 10 {
		group := "team"
		if n > 0 {
			group = fmt.Sprint("g", n)
		}
		_, err := c.RemoveUserFromGroup(asked(c, ram.CreateRemoveUserFromGroupRequest(), func(r *ram.RemoveUserFromGroupRequest) { r.UserName, r.GroupName = "u0", group }))
		require.NoError(t, err)
	}
	_, hasKeys := c.DeleteUser(deleteUser)
	refusedByClassic(t, hasKeys, "DeleteConflict.User.AccessKey")
	t.Run("resource groups", func(t *testing.T) { resourceGroupRules(t, c.addr) })
}

func resourceGroupRules(t *testing.T, addr string) {
	manager, err := resourcemanager.NewClientWithAccessKey(region, rootKey.id, rootKey.secret)
	require.NoError(t, err)
	create := at(addr, resourcemanager.CreateCreateResourceGroupRequest())
	var names []string
	for n := range 3 {
		create.Name, create.DisplayName = fmt.Sprint("rg", n), "Shown"
		_, err := manager.CreateResourceGroup(create)
		require.NoError(t, err)
		names = append(names, create.Name)
	}
	_, taken := manager.CreateResourceGroup(create)
	list := at(addr, resourcemanager.CreateListResourceGroupsRequest())
	list.PageSize = "3"
	var listed []string
	for number := 1; number <= 2; number++ {
		list.PageNumber = requests.NewInteger(number)
		page, err := manager.ListResourceGroups(list)
		require.NoError(t, err)
		require.Equal(t, []int{4, number, 3}, []int{page.TotalCount, page.PageNumber, page.PageSize})
		for _, group := range page.ResourceGroups.ResourceGroup {
			listed = append(listed, group.Name)
		}
	}
	require.Equal(t, append([]string{"default"}, names...), listed)
	remove := at(addr, resourcemanager.CreateDeleteResourceGroupRequest())
	remove.ResourceGroupId = "rg-default"
	_, stays := manager.DeleteResourceGroup(remove)
	remove.ResourceGroupId = "rg-00000000000000000000"
	_, missing := manager.DeleteResourceGroup(remove)
	codes(t, map[string]error{
		"EntityAlreadyExists.ResourceGroup": taken, "OperationDenied.DefaultResourceGroup": stays, "EntityNotExist.ResourceGroup": missing,
	})
}
