package directory

import "github.com/engineshed/engineshed/internal/fault"

// What does not exist, as the original calls it.
var (
	ErrNoUser = fault.New(fault.NotFound, "EntityNotExist.User",
		"The user does not exist.", "Call ListUsers for those of the account.")
	ErrNoKey = fault.New(fault.NotFound, "EntityNotExist.User.AccessKey",
		"The access key does not exist.", "Call ListAccessKeys for those of the user.")
	ErrNotInGroup = fault.New(fault.NotFound, "EntityNotExist.User.Group",
		"The user is not in the group.", "Call ListUsersForGroup for those who are.")
	ErrNoGroup = fault.New(fault.NotFound, "EntityNotExist.Group",
		"The group does not exist.", "Call ListGroups for those of the account.")
	ErrNoRole = fault.New(fault.NotFound, "EntityNotExist.Role",
		"The role does not exist, or is of another account and does not trust the caller.", "Call ListRoles for those of the account.")
	ErrNoPolicy = fault.New(fault.NotFound, "EntityNotExist.Policy",
		"The policy does not exist.", "Call ListPolicies for those that do, and send the PolicyType that it shows.")
	ErrNoVersion = fault.New(fault.NotFound, "EntityNotExist.Policy.Version",
		"The policy has no such version.", "Call ListPolicyVersions for those that it has.")
	ErrNoUserPolicy = fault.New(fault.NotFound, "EntityNotExist.User.Policy",
		"The policy is not attached to the user.",
		"Call ListPoliciesForUser for those that are; ListPolicyAttachments shows those of a resource group.")
	ErrNoGroupPolicy = fault.New(fault.NotFound, "EntityNotExist.Group.Policy",
		"The policy is not attached to the group.",
		"Call ListPoliciesForGroup for those that are; ListPolicyAttachments shows those of a resource group.")
	ErrNoRolePolicy = fault.New(fault.NotFound, "EntityNotExist.Role.Policy",
		"The policy is not attached to the role.",
		"Call ListPoliciesForRole for those that are; ListPolicyAttachments shows those of a resource group.")
)

// What exists already.
var (
	ErrUserExists = fault.New(fault.Conflict, "EntityAlreadyExists.User",
		"The account has a user of this name.", "Choose another name, or use the user that is there.")
	ErrGroupExists = fault.New(fault.Conflict, "EntityAlreadyExists.Group",
		"The account has a group of this name.", "Choose another name, or use the group that is there.")
	ErrRoleExists = fault.New(fault.Conflict, "EntityAlreadyExists.Role",
		"The account has a role of this name.", "Choose another name, or use the role that is there.")
	ErrPolicyExists = fault.New(fault.Conflict, "EntityAlreadyExists.Policy",
		"The account has a policy of this name.", "Choose another name, or add a version to it with CreatePolicyVersion.")
	ErrInGroup = fault.New(fault.Conflict, "EntityAlreadyExists.User.Group",
		"The user is in the group.", "Nothing is left to do.")
	ErrUserPolicyExists = fault.New(fault.Conflict, "EntityAlreadyExists.User.Policy",
		"The policy is attached to the user.", "Nothing is left to do.")
	ErrGroupPolicyExists = fault.New(fault.Conflict, "EntityAlreadyExists.Group.Policy",
		"The policy is attached to the group.", "Nothing is left to do.")
	ErrRolePolicyExists = fault.New(fault.Conflict, "EntityAlreadyExists.Role.Policy",
		"The policy is attached to the role.", "Nothing is left to do.")
)

// What must go before the thing itself may.
var (
	ErrUserInGroups = fault.New(fault.Conflict, "DeleteConflict.User.Group",
		"The user is in a group.", "Call RemoveUserFromGroup first.")
	ErrUserHasKeys = fault.New(fault.Conflict, "DeleteConflict.User.AccessKey",
		"The user has an access key.", "Call DeleteAccessKey first.")
	ErrUserHasPolicies = fault.New(fault.Conflict, "DeleteConflict.User.Policy",
		"The user has a policy.", "Call DetachPolicyFromUser, or DetachPolicy of resourcemanager, first.")
	ErrGroupHasUsers = fault.New(fault.Conflict, "DeleteConflict.Group.User",
		"The group has a user.", "Call RemoveUserFromGroup first.")
	ErrGroupHasPolicies = fault.New(fault.Conflict, "DeleteConflict.Group.Policy",
		"The group has a policy.", "Call DetachPolicyFromGroup, or DetachPolicy of resourcemanager, first.")
	ErrRoleHasPolicies = fault.New(fault.Conflict, "DeleteConflict.Role.Policy",
		"The role has a policy.", "Call DetachPolicyFromRole, or DetachPolicy of resourcemanager, first.")
	ErrPolicyOfUser = fault.New(fault.Conflict, "DeleteConflict.Policy.User",
		"The policy is attached to a user.", "ListEntitiesForPolicy and ListPolicyAttachments show to whom; detach it first.")
	ErrPolicyOfGroup = fault.New(fault.Conflict, "DeleteConflict.Policy.Group",
		"The policy is attached to a group.", "ListEntitiesForPolicy and ListPolicyAttachments show to which; detach it first.")
	ErrPolicyOfRole = fault.New(fault.Conflict, "DeleteConflict.Policy.Role",
		"The policy is attached to a role.", "ListEntitiesForPolicy and ListPolicyAttachments show to which; detach it first.")
	ErrPolicyVersions = fault.New(fault.Conflict, "DeleteConflict.Policy.Version",
		"The policy has versions beside the default.", "Call DeletePolicyVersion first.")
	ErrDefaultVersion = fault.New(fault.Conflict, "DeleteConflict.Policy.Version.Default",
		"The version is in force.", "Call SetDefaultPolicyVersion with another one first.")
)

// What an account, or a part of it, has no room for.
var (
	ErrUserLimit = fault.New(fault.Conflict, "LimitExceeded.User",
		"The account has 5000 users.", "Delete one first.")
	ErrKeyLimit = fault.New(fault.Conflict, "LimitExceeded.User.AccessKey",
		"There are two access keys.", "Delete one first.")
	ErrGroupLimit = fault.New(fault.Conflict, "LimitExceeded.Group",
		"The account has 300 groups.", "Delete one first.")
	ErrUserGroupLimit = fault.New(fault.Conflict, "LimitExceeded.User.Group",
		"The user is in 10 groups.", "Take the user out of one first.")
	ErrRoleLimit = fault.New(fault.Conflict, "LimitExceeded.Role",
		"The account has 1000 roles.", "Delete one first.")
	ErrPolicyLimit = fault.New(fault.Conflict, "LimitExceeded.Policy",
		"The account has 1500 custom policies.", "Delete one first.")
	ErrVersionLimit = fault.New(fault.Conflict, "LimitExceeded.Policy.Version",
		"The policy has five versions.", "Delete one, or set RotateStrategy.")
	ErrUserPolicyLimit = fault.New(fault.Conflict, "LimitExceeded.User.Policy",
		"The user has 20 system or 10 custom policies, on the account or on the resource group.", "Detach one first.")
	ErrGroupPolicyLimit = fault.New(fault.Conflict, "LimitExceeded.Group.Policy",
		"The group has 20 system or 10 custom policies, on the account or on the resource group.", "Detach one first.")
	ErrRolePolicyLimit = fault.New(fault.Conflict, "LimitExceeded.Role.Policy",
		"The role has 20 system or 10 custom policies, on the account or on the resource group.", "Detach one first.")
)

// ErrManagedByFile refuses to change through the API what comes from a file.
var ErrManagedByFile = fault.New(fault.Conflict, "OperationDenied.ManagedByFile",
	"It comes from the policy files, or from the root key file.", "Change it there and apply the files, or start again.")

// fromFile refuses what comes from a file.
func fromFile(source, what string) error {
	switch source {
	case FromFile:
		return ErrManagedByFile.Withf("The %s comes from the policy files.", what)
	case FromRoot:
		return ErrManagedByFile.Withf("The %s comes from the root key file that the installation was started with.", what)
	}
	return nil
}

// Limits, as RAM has them.
const (
	maxUsers          = 5000
	maxKeys           = 2 // of a user, and of the account itself
	maxGroups         = 300
	maxGroupsOfUser   = 10
	maxRoles          = 1000
	maxPolicies       = 1500 // custom ones
	maxVersions       = 5
	maxSystemAttached = 20 // of one principal, on the account or on one resource group
	maxCustomAttached = 10
)
