package access

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/secret"
)

// AccessDeniedDetail goes with every denial to the client. The official clients break on a member that is not a string.
type AccessDeniedDetail struct {
	AuthAction               string
	AuthPrincipalType        string
	AuthPrincipalDisplayName string // the user's id
	AuthPrincipalOwnerID     string `json:"AuthPrincipalOwnerId"` // the account's id
	PolicyType               string
	NoPermissionType         string // ExplicitDeny or ImplicitDeny
	EncodedDiagnosticMessage string // which policy decided, sealed: it may say more than the caller may know
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
	ErrForbiddenRAM = fault.New(fault.Denied, "Forbidden.RAM", "User not authorized to operate on the specified resource, or this API doesn't support RAM.")
	ErrNoPermission = fault.New(fault.Denied, "NoPermission", "You are not authorized to do this action.")
)

func (a *Authorizer) denied(caller Caller, request Request, decision Decision) error {
	message, err := a.diagnostic(caller, request, decision)
	if err != nil {
		return err
	}
	return &DeniedError{
		AccessDeniedDetail: AccessDeniedDetail{
			AuthAction:               request.Action,
			AuthPrincipalType:        "SubUser",
			AuthPrincipalDisplayName: caller.UserID,
			AuthPrincipalOwnerID:     caller.AccountID,
			PolicyType:               "AccountLevelIdentityBasedPolicy",
			NoPermissionType:         decision.NoPermissionType,
			EncodedDiagnosticMessage: message,
		},
		fault: faultOf(request, decision),
	}
}

func faultOf(request Request, decision Decision) *fault.Fault {
	f := ErrNoPermission
	if strings.HasPrefix(request.Action, "gpdb:") {
		f = ErrForbiddenRAM
	}
	reason := "no attached policy allows %s on %s: ask for one that does"
	if decision.NoPermissionType == ExplicitDeny {
		reason = "an attached policy denies %s on %s"
	}
	return f.Withf("%s In this case "+reason+".", f.Message, request.Action, request.Resources[0])
}

// diagnostic seals what an administrator needs to find the cause. Its members are named as
// DecodeDiagnosticMessage names them.
func (a *Authorizer) diagnostic(caller Caller, request Request, decision Decision) (string, error) {
	text, err := json.Marshal(map[string]any{
		"ExplicitDeny": decision.NoPermissionType == ExplicitDeny,
		"AuthAction":   request.Action,
		"AuthResource": request.Resources[0],
		"AuthPrincipal": map[string]string{
			"AuthPrincipalType":        "SubUser",
			"AuthPrincipalOwnerId":     caller.AccountID,
			"AuthPrincipalDisplayName": caller.UserID,
		},
		"NoPermissionPolicyType": "AccountLevelIdentityBasedPolicy",
		"PolicyName":             decision.PolicyName,
		"PolicyType":             decision.PolicyType,
		"Statement":              decision.Statement,
	})
	if err != nil {
		return "", fmt.Errorf("write the diagnostic message: %w", err)
	}
	sealed, err := a.box.Seal("diagnostic", secret.New(string(text)))
	if err != nil {
		return "", fmt.Errorf("seal the diagnostic message: %w", err)
	}
	return base64.StdEncoding.EncodeToString(sealed), nil
}
