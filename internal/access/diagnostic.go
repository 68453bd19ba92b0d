package access

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/engineshed/engineshed/internal/access/ram"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/secret"
)

// Diagnostic is what an administrator needs to find the cause of a denial. Its members are named as
// DecodeDiagnosticMessage names them; the last three are ours.
type Diagnostic struct {
	ExplicitDeny           bool
	NoPermissionPolicyType Stage
	AuthAction             string
	AuthResource           string
	AuthPrincipal          AuthPrincipal
	AuthConditions         []AuthCondition // what the request said, by key
	PolicyName             string          // of the policy that denies; "" when none allows
	PolicyType             string          // System, Custom or Session
	Statement              string          // the place in the policy, such as Statement[2]
}

// AuthCondition is what a request said about a condition key.
type AuthCondition struct {
	ConditionKey    string
	ConditionValues []string
}

// ErrDiagnostic refuses a message that OpenDiagnostic cannot open.
var ErrDiagnostic = fault.New(fault.Invalid, "InvalidParameter.EncodedDiagnosticMessage",
	"The parameter EncodedDiagnosticMessage is not of a denial in this account.",
	"Give the text of an AccessDeniedDetail of your account as it is.")

const diagnosticPurpose = "diagnostic"

func newDiagnostic(q *question, decision Decision) Diagnostic {
	return Diagnostic{
		ExplicitDeny:           decision.NoPermissionType == ExplicitDeny,
		NoPermissionPolicyType: decision.Stage,
		AuthAction:             q.request.Action,
		AuthResource:           q.request.Resources[0],
		AuthPrincipal:          authPrincipal(q.caller),
		PolicyName:             decision.PolicyName,
		PolicyType:             decision.PolicyType,
		Statement:              decision.Statement,
		AuthConditions:         authConditions(q.context),
	}
}

func authConditions(context ram.Context) (conditions []AuthCondition) {
	for key, value := range context.All() {
		conditions = append(conditions, AuthCondition{key, []string{value}})
	}
	return conditions
}

func (a *Authorizer) seal(d Diagnostic) (string, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("write the diagnostic message: %w", err)
	}
	sealed, err := a.box.Seal(diagnosticPurpose, secret.New(string(text)))
	if err != nil {
		return "", fmt.Errorf("seal the diagnostic message: %w", err)
	}
	return base64.StdEncoding.EncodeToString(sealed), nil
}

// OpenDiagnostic opens the EncodedDiagnosticMessage of a denial in the account. A message of another account, like one
// that is none, is ErrDiagnostic.
func (a *Authorizer) OpenDiagnostic(accountID, message string) (Diagnostic, error) {
	sealed, err := base64.StdEncoding.DecodeString(message)
	if err != nil {
		return Diagnostic{}, ErrDiagnostic
	}
	text, err := a.box.Open(diagnosticPurpose, sealed)
	if err != nil {
		return Diagnostic{}, ErrDiagnostic
	}
	var d Diagnostic
	if err := json.Unmarshal([]byte(text.Reveal()), &d); err != nil {
		return Diagnostic{}, fmt.Errorf("read a diagnostic message that was sealed here: %w", err)
	}
	if d.AuthPrincipal.AuthPrincipalOwnerID != accountID {
		return Diagnostic{}, ErrDiagnostic
	}
	return d, nil
}
