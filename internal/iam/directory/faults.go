package directory

import "github.com/engineshed/engineshed/internal/fault"

// What does not exist, as the original calls it.
var (
	ErrNoUser        = fault.New(fault.NotFound, "EntityNotExist.User", "The user does not exist.")
	ErrNoKey         = fault.New(fault.NotFound, "EntityNotExist.User.AccessKey", "The access key does not exist.")
	ErrNotInGroup    = fault.New(fault.NotFound, "EntityNotExist.User.Group", "The user is not in the group.")
	ErrNoGroup       = fault.New(fault.NotFound, "EntityNotExist.Group", "The group does not exist.")
	ErrNoRole        = fault.New(fault.NotFound, "EntityNotExist.Role", "The role does not exist.")
	ErrNoPolicy      = fault.New(fault.NotFound, "EntityNotExist.Policy", "The policy does not exist.")
	ErrNoVersion     = fault.New(fault.NotFound, "EntityNotExist.Policy.Version", "The policy has no such version.")
	ErrNoUserPolicy  = fault.New(fault.NotFound, "EntityNotExist.User.Policy", "The policy is not attached to the user.")
	ErrNoGroupPolicy = fault.New(fault.NotFound, "EntityNotExist.Group.Policy", "The policy is not attached to the group.")
	ErrNoRolePolicy  = fault.New(fault.NotFound, "EntityNotExist.Role.Policy", "The policy is not attached to the role.")
)

// What exists already.
var (
	ErrUserExists        = fault.New(fault.Conflict, "EntityAlreadyExists.User", "The account has a user of this name.")
	ErrGroupExists       = fault.New(fault.Conflict, "EntityAlreadyExists.Group", "The account has a group of this name.")
	ErrRoleExists        = fault.New(fault.Conflict, "EntityAlreadyExists.Role", "The account has a role of this name.")
	ErrPolicyExists      = fault.New(fault.Conflict, "EntityAlreadyExists.Policy", "The account has a policy of this name.")
	ErrInGroup           = fault.New(fault.Conflict, "EntityAlreadyExists.User.Group", "The user is in the group.")
	ErrUserPolicyExists  = fault.New(fault.Conflict, "EntityAlreadyExists.User.Policy", "The policy is attached to the user.")
	ErrGroupPolicyExists = fault.New(fault.Conflict, "EntityAlreadyExists.Group.Policy", "The policy is attached to the group.")
	ErrRolePolicyExists  = fault.New(fault.Conflict, "EntityAlreadyExists.Role.Policy", "The policy is attached to the role.")
)

// What must go before the thing itself may.
var (
	ErrUserInGroups     = fault.New(fault.Conflict, "DeleteConflict.User.Group", "The user is in a group: call RemoveUserFromGroup first.")
	ErrUserHasKeys      = fault.New(fault.Conflict, "DeleteConflict.User.AccessKey", "The user has an access key: call DeleteAccessKey first.")
	ErrUserHasPolicies  = fault.New(fault.Conflict, "DeleteConflict.User.Policy", "The user has a policy: call DetachPolicyFromUser, or DetachPolicy of resourcemanager, first.")
	ErrGroupHasUsers    = fault.New(fault.Conflict, "DeleteConflict.Group.User", "The group has a user: call RemoveUserFromGroup first.")
	ErrGroupHasPolicies = fault.New(fault.Conflict, "DeleteConflict.Group.Policy", "The group has a policy: call DetachPolicyFromGroup, or DetachPolicy of resourcemanager, first.")
	ErrRoleHasPolicies  = fault.New(fault.Conflict, "DeleteConflict.Role.Policy", "The role has a policy: call DetachPolicyFromRole, or DetachPolicy of resourcemanager, first.")
	ErrPolicyOfUser     = fault.New(fault.Conflict, "DeleteConflict.Policy.User", "The policy is attached to a user: ListEntitiesForPolicy and ListPolicyAttachments show to whom; detach it first.")
	ErrPolicyOfGroup    = fault.New(fault.Conflict, "DeleteConflict.Policy.Group", "The policy is attached to a group: ListEntitiesForPolicy and ListPolicyAttachments show to which; detach it first.")
	ErrPolicyOfRole     = fault.New(fault.Conflict, "DeleteConflict.Policy.Role", "The policy is attached to a role: ListEntitiesForPolicy and ListPolicyAttachments show to which; detach it first.")
	ErrPolicyVersions   = fault.New(fault.Conflict, "DeleteConflict.Policy.Version", "The policy has versions beside the default: call DeletePolicyVersion first.")
	ErrDefaultVersion   = fault.New(fault.Conflict, "DeleteConflict.Policy.Version.Default", "The version is in force: call SetDefaultPolicyVersion with another one first.")
)

// What an account, or a part of it, has no room for.
var (
	ErrUserLimit        = fault.New(fault.Conflict, "LimitExceeded.User", "The account has 5000 users.")
	ErrKeyLimit         = fault.New(fault.Conflict, "LimitExceeded.User.AccessKey", "There are two access keys: delete one first.")
	ErrGroupLimit       = fault.New(fault.Conflict, "LimitExceeded.Group", "The account has 300 groups.")
	ErrUserGroupLimit   = fault.New(fault.Conflict, "LimitExceeded.User.Group", "The user is in 10 groups.")
	ErrRoleLimit        = fault.New(fault.Conflict, "LimitExceeded.Role", "The account has 1000 roles.")
	ErrPolicyLimit      = fault.New(fault.Conflict, "LimitExceeded.Policy", "The account has 1500 custom policies.")
	ErrVersionLimit     = fault.New(fault.Conflict, "LimitExceeded.Policy.Version", "The policy has five versions: delete one, or set RotateStrategy.")
	ErrUserPolicyLimit  = fault.New(fault.Conflict, "LimitExceeded.User.Policy", "The user has 20 system or 10 custom policies: detach one first.")
	ErrGroupPolicyLimit = fault.New(fault.Conflict, "LimitExceeded.Group.Policy", "The group has 20 system or 10 custom policies: detach one first.")
	ErrRolePolicyLimit  = fault.New(fault.Conflict, "LimitExceeded.Role.Policy", "The role has 20 system or 10 custom policies: detach one first.")
)

// ErrManagedByFile refuses to change through the API what comes from a file.
var ErrManagedByFile = fault.New(fault.Conflict, "OperationDenied.ManagedByFile",
	"It comes from the policy files: change it there and apply them.")

// fromFile refuses what comes from a file.
func fromFile(source, what string) error {
	switch source {
	case FromFile:
		return ErrManagedByFile.Withf("The %s comes from the policy files: change it there and apply them.", what)
	case FromRoot:
		return ErrManagedByFile.Withf("The %s comes from the root key file that the installation was started with: change it there and start again.", what)
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
