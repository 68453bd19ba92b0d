package access

import (
	"fmt"

	"github.com/engineshed/engineshed/internal/access/ram"
)

// RequireTrust returns nil if the trust policy of a role lets the caller do what request says: sts:AssumeRole on the
// role. It returns a *DeniedError if not, and an error if the document cannot be read. Root, too, must be trusted. The
// caller's own permission is another question: ask both.
func (a *Authorizer) RequireTrust(caller Caller, trustPolicy string, request Request) error {
	if err := caller.check(); err != nil {
		return fmt.Errorf("ask the trust policy: %w", err)
	}
	trust, err := ram.ParseTrust(trustPolicy)
	if err != nil {
		return fmt.Errorf("a stored trust policy cannot be read: %s", err.Error())
	}
	q := newQuestion(caller, request)
	effect, place := trust.Decide(caller.ARN(), q.context)
	decision := Decision{NoPermissionType: ImplicitDeny, Stage: AssumeRoleStage}
	switch effect {
	case ram.Allow:
		return nil
	case ram.Deny:
		decision.NoPermissionType, decision.Statement = ExplicitDeny, fmt.Sprintf("Statement[%d]", place)
	}
	return a.denied(q, decision)
}
