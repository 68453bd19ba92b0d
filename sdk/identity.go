package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/engineshed/engineshed/sdk/ram"
	"github.com/engineshed/engineshed/sdk/resourcemanager"
	"github.com/engineshed/engineshed/sdk/sts"
)

// The versions of the APIs that say who may do what.
const (
	ramVersion             = "2015-05-01"
	stsVersion             = "2015-04-01"
	resourcemanagerVersion = "2020-03-31"
)

// post calls an operation of a product by its name.
func post[Response any](ctx context.Context, c *Client, version, action string, request any) (*Response, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.server, "/")+"/"+action, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	if err := c.signer.Sign(r, action, version); err != nil {
		return nil, err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return read[Response](answer)
}

// CreateUser makes a user.
func (c *Client) CreateUser(ctx context.Context, request ram.CreateUserRequest) (*ram.CreateUserResponse, error) {
	return post[ram.CreateUserResponse](ctx, c, ramVersion, "CreateUser", request)
}

// GetUser shows a user.
func (c *Client) GetUser(ctx context.Context, request ram.GetUserRequest) (*ram.GetUserResponse, error) {
	return post[ram.GetUserResponse](ctx, c, ramVersion, "GetUser", request)
}

// UpdateUser changes a user.
func (c *Client) UpdateUser(ctx context.Context, request ram.UpdateUserRequest) (*ram.UpdateUserResponse, error) {
	return post[ram.UpdateUserResponse](ctx, c, ramVersion, "UpdateUser", request)
}

// DeleteUser deletes a user.
func (c *Client) DeleteUser(ctx context.Context, request ram.DeleteUserRequest) (*ram.DeleteUserResponse, error) {
	return post[ram.DeleteUserResponse](ctx, c, ramVersion, "DeleteUser", request)
}

// ListUsers lists the users of the account.
func (c *Client) ListUsers(ctx context.Context, request ram.ListUsersRequest) (*ram.ListUsersResponse, error) {
	return post[ram.ListUsersResponse](ctx, c, ramVersion, "ListUsers", request)
}

// CreateAccessKey makes an access key.
func (c *Client) CreateAccessKey(ctx context.Context, request ram.CreateAccessKeyRequest) (*ram.CreateAccessKeyResponse, error) {
	return post[ram.CreateAccessKeyResponse](ctx, c, ramVersion, "CreateAccessKey", request)
}

// ListAccessKeys lists the access keys of a user.
func (c *Client) ListAccessKeys(ctx context.Context, request ram.ListAccessKeysRequest) (*ram.ListAccessKeysResponse, error) {
	return post[ram.ListAccessKeysResponse](ctx, c, ramVersion, "ListAccessKeys", request)
}

// UpdateAccessKey activates or deactivate an access key.
func (c *Client) UpdateAccessKey(ctx context.Context, request ram.UpdateAccessKeyRequest) (*ram.UpdateAccessKeyResponse, error) {
	return post[ram.UpdateAccessKeyResponse](ctx, c, ramVersion, "UpdateAccessKey", request)
}

// DeleteAccessKey deletes an access key.
func (c *Client) DeleteAccessKey(ctx context.Context, request ram.DeleteAccessKeyRequest) (*ram.DeleteAccessKeyResponse, error) {
	return post[ram.DeleteAccessKeyResponse](ctx, c, ramVersion, "DeleteAccessKey", request)
}

// CreateGroup makes a group.
func (c *Client) CreateGroup(ctx context.Context, request ram.CreateGroupRequest) (*ram.CreateGroupResponse, error) {
	return post[ram.CreateGroupResponse](ctx, c, ramVersion, "CreateGroup", request)
}

// GetGroup shows a group.
func (c *Client) GetGroup(ctx context.Context, request ram.GetGroupRequest) (*ram.GetGroupResponse, error) {
	return post[ram.GetGroupResponse](ctx, c, ramVersion, "GetGroup", request)
}

// UpdateGroup changes a group.
func (c *Client) UpdateGroup(ctx context.Context, request ram.UpdateGroupRequest) (*ram.UpdateGroupResponse, error) {
	return post[ram.UpdateGroupResponse](ctx, c, ramVersion, "UpdateGroup", request)
}

// DeleteGroup deletes a group.
func (c *Client) DeleteGroup(ctx context.Context, request ram.DeleteGroupRequest) (*ram.DeleteGroupResponse, error) {
	return post[ram.DeleteGroupResponse](ctx, c, ramVersion, "DeleteGroup", request)
}

// ListGroups lists the groups of the account.
func (c *Client) ListGroups(ctx context.Context, request ram.ListGroupsRequest) (*ram.ListGroupsResponse, error) {
	return post[ram.ListGroupsResponse](ctx, c, ramVersion, "ListGroups", request)
}

// AddUserToGroup puts a user into a group.
func (c *Client) AddUserToGroup(ctx context.Context, request ram.AddUserToGroupRequest) (*ram.AddUserToGroupResponse, error) {
	return post[ram.AddUserToGroupResponse](ctx, c, ramVersion, "AddUserToGroup", request)
}

// RemoveUserFromGroup takes a user out of a group.
func (c *Client) RemoveUserFromGroup(ctx context.Context, request ram.RemoveUserFromGroupRequest) (*ram.RemoveUserFromGroupResponse, error) {
	return post[ram.RemoveUserFromGroupResponse](ctx, c, ramVersion, "RemoveUserFromGroup", request)
}

// ListGroupsForUser lists the groups of a user.
func (c *Client) ListGroupsForUser(ctx context.Context, request ram.ListGroupsForUserRequest) (*ram.ListGroupsForUserResponse, error) {
	return post[ram.ListGroupsForUserResponse](ctx, c, ramVersion, "ListGroupsForUser", request)
}

// ListUsersForGroup lists the users of a group.
func (c *Client) ListUsersForGroup(ctx context.Context, request ram.ListUsersForGroupRequest) (*ram.ListUsersForGroupResponse, error) {
	return post[ram.ListUsersForGroupResponse](ctx, c, ramVersion, "ListUsersForGroup", request)
}

// CreateRole makes a role.
func (c *Client) CreateRole(ctx context.Context, request ram.CreateRoleRequest) (*ram.CreateRoleResponse, error) {
	return post[ram.CreateRoleResponse](ctx, c, ramVersion, "CreateRole", request)
}

// GetRole shows a role.
func (c *Client) GetRole(ctx context.Context, request ram.GetRoleRequest) (*ram.GetRoleResponse, error) {
	return post[ram.GetRoleResponse](ctx, c, ramVersion, "GetRole", request)
}

// UpdateRole changes a role.
func (c *Client) UpdateRole(ctx context.Context, request ram.UpdateRoleRequest) (*ram.UpdateRoleResponse, error) {
	return post[ram.UpdateRoleResponse](ctx, c, ramVersion, "UpdateRole", request)
}

// DeleteRole deletes a role.
func (c *Client) DeleteRole(ctx context.Context, request ram.DeleteRoleRequest) (*ram.DeleteRoleResponse, error) {
	return post[ram.DeleteRoleResponse](ctx, c, ramVersion, "DeleteRole", request)
}

// ListRoles lists the roles of the account.
func (c *Client) ListRoles(ctx context.Context, request ram.ListRolesRequest) (*ram.ListRolesResponse, error) {
	return post[ram.ListRolesResponse](ctx, c, ramVersion, "ListRoles", request)
}

// CreatePolicy makes a custom policy.
func (c *Client) CreatePolicy(ctx context.Context, request ram.CreatePolicyRequest) (*ram.CreatePolicyResponse, error) {
	return post[ram.CreatePolicyResponse](ctx, c, ramVersion, "CreatePolicy", request)
}

// GetPolicy shows a policy and the version that is in force.
func (c *Client) GetPolicy(ctx context.Context, request ram.GetPolicyRequest) (*ram.GetPolicyResponse, error) {
	return post[ram.GetPolicyResponse](ctx, c, ramVersion, "GetPolicy", request)
}

// UpdatePolicyDescription changes the description of a custom policy.
func (c *Client) UpdatePolicyDescription(ctx context.Context, request ram.UpdatePolicyDescriptionRequest) (*ram.UpdatePolicyDescriptionResponse, error) {
	return post[ram.UpdatePolicyDescriptionResponse](ctx, c, ramVersion, "UpdatePolicyDescription", request)
}

// DeletePolicy deletes a custom policy.
func (c *Client) DeletePolicy(ctx context.Context, request ram.DeletePolicyRequest) (*ram.DeletePolicyResponse, error) {
	return post[ram.DeletePolicyResponse](ctx, c, ramVersion, "DeletePolicy", request)
}

// ListPolicies lists policies.
func (c *Client) ListPolicies(ctx context.Context, request ram.ListPoliciesRequest) (*ram.ListPoliciesResponse, error) {
	return post[ram.ListPoliciesResponse](ctx, c, ramVersion, "ListPolicies", request)
}

// CreatePolicyVersion adds a version to a custom policy.
func (c *Client) CreatePolicyVersion(ctx context.Context, request ram.CreatePolicyVersionRequest) (*ram.CreatePolicyVersionResponse, error) {
	return post[ram.CreatePolicyVersionResponse](ctx, c, ramVersion, "CreatePolicyVersion", request)
}

// GetPolicyVersion shows a version of a policy.
func (c *Client) GetPolicyVersion(ctx context.Context, request ram.GetPolicyVersionRequest) (*ram.GetPolicyVersionResponse, error) {
	return post[ram.GetPolicyVersionResponse](ctx, c, ramVersion, "GetPolicyVersion", request)
}

// ListPolicyVersions lists the versions of a policy.
func (c *Client) ListPolicyVersions(ctx context.Context, request ram.ListPolicyVersionsRequest) (*ram.ListPolicyVersionsResponse, error) {
	return post[ram.ListPolicyVersionsResponse](ctx, c, ramVersion, "ListPolicyVersions", request)
}

// SetDefaultPolicyVersion puts a version of a custom policy in force.
func (c *Client) SetDefaultPolicyVersion(ctx context.Context, request ram.SetDefaultPolicyVersionRequest) (*ram.SetDefaultPolicyVersionResponse, error) {
	return post[ram.SetDefaultPolicyVersionResponse](ctx, c, ramVersion, "SetDefaultPolicyVersion", request)
}

// DeletePolicyVersion deletes a version of a custom policy.
func (c *Client) DeletePolicyVersion(ctx context.Context, request ram.DeletePolicyVersionRequest) (*ram.DeletePolicyVersionResponse, error) {
	return post[ram.DeletePolicyVersionResponse](ctx, c, ramVersion, "DeletePolicyVersion", request)
}

// AttachPolicyToUser attaches a policy to a user.
func (c *Client) AttachPolicyToUser(ctx context.Context, request ram.AttachPolicyToUserRequest) (*ram.AttachPolicyToUserResponse, error) {
	return post[ram.AttachPolicyToUserResponse](ctx, c, ramVersion, "AttachPolicyToUser", request)
}

// DetachPolicyFromUser detaches a policy from a user.
func (c *Client) DetachPolicyFromUser(ctx context.Context, request ram.DetachPolicyFromUserRequest) (*ram.DetachPolicyFromUserResponse, error) {
	return post[ram.DetachPolicyFromUserResponse](ctx, c, ramVersion, "DetachPolicyFromUser", request)
}

// ListPoliciesForUser lists the policies of a user.
func (c *Client) ListPoliciesForUser(ctx context.Context, request ram.ListPoliciesForUserRequest) (*ram.ListPoliciesForUserResponse, error) {
	return post[ram.ListPoliciesForUserResponse](ctx, c, ramVersion, "ListPoliciesForUser", request)
}

// AttachPolicyToGroup attaches a policy to a group.
func (c *Client) AttachPolicyToGroup(ctx context.Context, request ram.AttachPolicyToGroupRequest) (*ram.AttachPolicyToGroupResponse, error) {
	return post[ram.AttachPolicyToGroupResponse](ctx, c, ramVersion, "AttachPolicyToGroup", request)
}

// DetachPolicyFromGroup detaches a policy from a group.
func (c *Client) DetachPolicyFromGroup(ctx context.Context, request ram.DetachPolicyFromGroupRequest) (*ram.DetachPolicyFromGroupResponse, error) {
	return post[ram.DetachPolicyFromGroupResponse](ctx, c, ramVersion, "DetachPolicyFromGroup", request)
}

// ListPoliciesForGroup lists the policies of a group.
func (c *Client) ListPoliciesForGroup(ctx context.Context, request ram.ListPoliciesForGroupRequest) (*ram.ListPoliciesForGroupResponse, error) {
	return post[ram.ListPoliciesForGroupResponse](ctx, c, ramVersion, "ListPoliciesForGroup", request)
}

// AttachPolicyToRole attaches a policy to a role.
func (c *Client) AttachPolicyToRole(ctx context.Context, request ram.AttachPolicyToRoleRequest) (*ram.AttachPolicyToRoleResponse, error) {
	return post[ram.AttachPolicyToRoleResponse](ctx, c, ramVersion, "AttachPolicyToRole", request)
}

// DetachPolicyFromRole detaches a policy from a role.
func (c *Client) DetachPolicyFromRole(ctx context.Context, request ram.DetachPolicyFromRoleRequest) (*ram.DetachPolicyFromRoleResponse, error) {
	return post[ram.DetachPolicyFromRoleResponse](ctx, c, ramVersion, "DetachPolicyFromRole", request)
}

// ListPoliciesForRole lists the policies of a role.
func (c *Client) ListPoliciesForRole(ctx context.Context, request ram.ListPoliciesForRoleRequest) (*ram.ListPoliciesForRoleResponse, error) {
	return post[ram.ListPoliciesForRoleResponse](ctx, c, ramVersion, "ListPoliciesForRole", request)
}

// ListEntitiesForPolicy lists who has a policy.
func (c *Client) ListEntitiesForPolicy(ctx context.Context, request ram.ListEntitiesForPolicyRequest) (*ram.ListEntitiesForPolicyResponse, error) {
	return post[ram.ListEntitiesForPolicyResponse](ctx, c, ramVersion, "ListEntitiesForPolicy", request)
}

// AssumeRole borrows the rights of a role.
func (c *Client) AssumeRole(ctx context.Context, request sts.AssumeRoleRequest) (*sts.AssumeRoleResponse, error) {
	return post[sts.AssumeRoleResponse](ctx, c, stsVersion, "AssumeRole", request)
}

// GetCallerIdentity shows who is calling.
func (c *Client) GetCallerIdentity(ctx context.Context, request sts.GetCallerIdentityRequest) (*sts.GetCallerIdentityResponse, error) {
	return post[sts.GetCallerIdentityResponse](ctx, c, stsVersion, "GetCallerIdentity", request)
}

// CreateResourceGroup makes a resource group.
func (c *Client) CreateResourceGroup(ctx context.Context, request resourcemanager.CreateResourceGroupRequest) (*resourcemanager.CreateResourceGroupResponse, error) {
	return post[resourcemanager.CreateResourceGroupResponse](ctx, c, resourcemanagerVersion, "CreateResourceGroup", request)
}

// GetResourceGroup shows a resource group.
func (c *Client) GetResourceGroup(ctx context.Context, request resourcemanager.GetResourceGroupRequest) (*resourcemanager.GetResourceGroupResponse, error) {
	return post[resourcemanager.GetResourceGroupResponse](ctx, c, resourcemanagerVersion, "GetResourceGroup", request)
}

// ListResourceGroups lists the resource groups of the account.
func (c *Client) ListResourceGroups(ctx context.Context, request resourcemanager.ListResourceGroupsRequest) (*resourcemanager.ListResourceGroupsResponse, error) {
	return post[resourcemanager.ListResourceGroupsResponse](ctx, c, resourcemanagerVersion, "ListResourceGroups", request)
}

// UpdateResourceGroup changes what people call a resource group.
func (c *Client) UpdateResourceGroup(ctx context.Context, request resourcemanager.UpdateResourceGroupRequest) (*resourcemanager.UpdateResourceGroupResponse, error) {
	return post[resourcemanager.UpdateResourceGroupResponse](ctx, c, resourcemanagerVersion, "UpdateResourceGroup", request)
}

// DeleteResourceGroup deletes a resource group.
func (c *Client) DeleteResourceGroup(ctx context.Context, request resourcemanager.DeleteResourceGroupRequest) (*resourcemanager.DeleteResourceGroupResponse, error) {
	return post[resourcemanager.DeleteResourceGroupResponse](ctx, c, resourcemanagerVersion, "DeleteResourceGroup", request)
}

// MoveResources moves resources into a resource group.
func (c *Client) MoveResources(ctx context.Context, request resourcemanager.MoveResourcesRequest) (*resourcemanager.MoveResourcesResponse, error) {
	return post[resourcemanager.MoveResourcesResponse](ctx, c, resourcemanagerVersion, "MoveResources", request)
}

// ListResources lists resources and the groups that they are in.
func (c *Client) ListResources(ctx context.Context, request resourcemanager.ListResourcesRequest) (*resourcemanager.ListResourcesResponse, error) {
	return post[resourcemanager.ListResourcesResponse](ctx, c, resourcemanagerVersion, "ListResources", request)
}

// AttachPolicy attaches a policy for one resource group.
func (c *Client) AttachPolicy(ctx context.Context, request resourcemanager.AttachPolicyRequest) (*resourcemanager.AttachPolicyResponse, error) {
	return post[resourcemanager.AttachPolicyResponse](ctx, c, resourcemanagerVersion, "AttachPolicy", request)
}

// DetachPolicy detaches a policy from one resource group.
func (c *Client) DetachPolicy(ctx context.Context, request resourcemanager.DetachPolicyRequest) (*resourcemanager.DetachPolicyResponse, error) {
	return post[resourcemanager.DetachPolicyResponse](ctx, c, resourcemanagerVersion, "DetachPolicy", request)
}

// ListPolicyAttachments lists who has which policy, and where.
func (c *Client) ListPolicyAttachments(ctx context.Context, request resourcemanager.ListPolicyAttachmentsRequest) (*resourcemanager.ListPolicyAttachmentsResponse, error) {
	return post[resourcemanager.ListPolicyAttachmentsResponse](ctx, c, resourcemanagerVersion, "ListPolicyAttachments", request)
}
