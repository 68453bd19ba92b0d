package access

import (
	"strings"

	"github.com/engineshed/engineshed/internal/fault"
)

// AccessDeniedDetail goes with every denial to the client. The official clients break on a member that is not a string.
type AccessDeniedDetail struct {
	AuthAction string
	AuthPrincipal
	PolicyType               Stage  // that refused
	NoPermissionType         string // ExplicitDeny or ImplicitDeny
	EncodedDiagnosticMessage string // which policy decided, sealed: it may say more than the caller may know
}

// AuthPrincipal names a caller as denials do.
type AuthPrincipal struct {
	AuthPrincipalType        string // SubUser, AssumedRoleUser or Account
	AuthPrincipalDisplayName string // the user's id, ROLE:SESSION, or the account's id
	AuthPrincipalOwnerID     string `json:"AuthPrincipalOwnerId"` // the account's id
}

func authPrincipal(c Caller) AuthPrincipal {
	switch c.Identity {
	case User:
		return AuthPrincipal{"SubUser", c.UserID, c.AccountID}
	case Session:
		return AuthPrincipal{"AssumedRoleUser", c.RoleName + ":" + c.SessionName, c.AccountID}
	default:
		return AuthPrincipal{"Account", c.AccountID, c.AccountID} // only a trust policy refuses root
	}
}

// DeniedError is a denial. It unwraps to the fault with the code of the action's product.
type DeniedError struct {
	AccessDeniedDetail
	fault *fault.Fault
}

func (e *DeniedError) Error() string { return e.fault.Error() }

// Unwrap returns the fault.
func (e *DeniedError) Unwrap() error { return e.fault }

// What a denied caller is told. gpdb says so with a code of its own, as its clients expect.
var (
	ErrForbiddenRAM = fault.New(fault.Denied, "Forbidden.RAM",
		"User not authorized to operate on the specified resource, or this API doesn't support RAM.",
		"Ask for a policy that allows the action on the resource; `engineshed policy explain` shows which statement decides.")
	ErrNoPermission = fault.New(fault.Denied, "NoPermission",
		"You are not authorized to do this action.",
		"Ask for a policy that allows the action on the resource; `engineshed policy explain` shows which statement decides.")
)

func (a *Authorizer) denied(q *question, decision Decision) error {
	message, err := a.seal(newDiagnostic(q, decision))
	if err != nil {
		return err
	}
	return &DeniedError{
		AccessDeniedDetail: AccessDeniedDetail{
			AuthAction:               q.request.Action,
			AuthPrincipal:            authPrincipal(q.caller),
			PolicyType:               decision.Stage,
			NoPermissionType:         decision.NoPermissionType,
			EncodedDiagnosticMessage: message,
		},
		fault: faultOf(q.request, decision),
	}
}

func faultOf(request Request, decision Decision) *fault.Fault {
	f := ErrNoPermission
	if strings.HasPrefix(request.Action, "gpdb:") {
		f = ErrForbiddenRAM
	}
	return f.Withf("%s In this case "+reason(decision)+".", f.Cause, request.Action, request.Resources[0])
}

// reason is a sentence about an action and a resource.
func reason(decision Decision) string {
	explicit := decision.NoPermissionType == ExplicitDeny
	switch {
	case decision.Stage == SessionStage && explicit:
		return "the policy of this session denies %s on %s: assume the role with another policy"
	case decision.Stage == SessionStage:
		return "the policy of this session does not allow %s on %s: assume the role with one that does"
	case decision.Stage == AssumeRoleStage && explicit:
		return "the trust policy of the role denies you %s on %s"
	case decision.Stage == AssumeRoleStage:
		return "the trust policy of the role does not allow you %s on %s: ask for one that names you"
	case explicit:
		return "an attached policy denies %s on %s"
	}
	return "no attached policy allows %s on %s: ask for one that does"
}
