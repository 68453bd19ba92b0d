package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/engineshed/engineshed/internal/secret"
)

// The reasons of a denial, as AccessDeniedDetail spells them.
const (
	ExplicitDeny = "ExplicitDeny" // a statement denies it
	ImplicitDeny = "ImplicitDeny" // no statement allows it
)

// Stage is the kind of policies that decided, as AccessDeniedDetail spells it in PolicyType.
type Stage string

// The stages, in the order in which they are asked.
const (
	SessionStage       Stage = "SessionPolicy"                         // what AssumeRole was called with
	AccountStage       Stage = "AccountLevelIdentityBasedPolicy"       // attached for the whole account
	ResourceGroupStage Stage = "ResourceGroupLevelIdentityBasedPolicy" // attached for the resource's group
	AssumeRoleStage    Stage = "AssumeRolePolicy"                      // the trust policy of a role: AssumeRole asks it
)

// Decision is the answer to a Request.
type Decision struct {
	Allowed          bool
	NoPermissionType string // ExplicitDeny or ImplicitDeny; "" when allowed
	Stage            Stage  // that decided; "" for root
	// What decided: the policy and the place of the statement in it. Empty for root and for an ImplicitDeny.
	PolicyName, PolicyType, Statement string
}

// AttachedPolicy is a policy that applies to a principal.
type AttachedPolicy struct {
	Name      string
	Type      string // System or Custom
	VersionID string // names the document: another document has another id
	Document  string // RAM JSON
}

// Attachments are all policies of one principal, those of its groups among them.
type Attachments struct {
	Account        []AttachedPolicy            // in force in the whole account
	ResourceGroups map[string][]AttachedPolicy // in force for what a resource group contains, by its id
}

// Policies knows the policies attached to the principals of an account.
type Policies interface {
	// PoliciesOf returns what is attached to the caller: a user with its groups, or the role of a session. Root is not
	// asked for.
	PoliciesOf(ctx context.Context, caller Caller) (Attachments, error)
}

// Authorizer decides by the caller's own policies. It is safe for concurrent use.
type Authorizer struct {
	policies   Policies
	box        *secret.Box
	log        *slog.Logger
	documents  *lru[string, *compiled] // of policies, by version
	principals *lru[principal, *ruleSets]
	sessions   *lru[string, *ruleSet] // of session policies, by their text
}

// How much stays compiled. A statement takes about 650 bytes in a principal's rules.
const (
	keptDocuments  = 16 << 20 // bytes of their text
	keptStatements = 80_000   // of principals; each counts as one more
	keptSessions   = 4 << 20  // bytes of their policies
)

type principal struct{ accountID, userID, roleID string }

// NewAuthorizer returns an Authorizer that seals the diagnostic messages of its denials in box.
func NewAuthorizer(policies Policies, box *secret.Box, log *slog.Logger) *Authorizer {
	return &Authorizer{
		policies:   policies,
		box:        box,
		log:        log,
		documents:  newLRU[string, *compiled](keptDocuments),
		principals: newLRU[principal, *ruleSets](keptStatements),
		sessions:   newLRU[string, *ruleSet](keptSessions),
	}
}

// Authorize decides whether caller may do what request says. The error says that there is no decision, not that
// the decision is no.
func (a *Authorizer) Authorize(ctx context.Context, caller Caller, request Request) (Decision, error) {
	decision, _, err := a.authorize(ctx, caller, request)
	return decision, err
}

// authorize also returns what was known when the decision fell.
func (a *Authorizer) authorize(ctx context.Context, caller Caller, request Request) (Decision, *question, error) {
	if err := errors.Join(caller.check(), request.check()); err != nil {
		return Decision{}, nil, fmt.Errorf("authorize: %w", err)
	}
	q := newQuestion(caller, request)
	if caller.IsRoot() {
		return Decision{Allowed: true}, q, nil
	}
	decision, err := a.evaluate(ctx, q)
	if err != nil {
		return Decision{}, nil, fmt.Errorf("authorize %s for %s: %w", request.Action, caller.ARN(), err)
	}
	return decision, q, nil
}

// Require returns nil if caller may do what request says, and a *DeniedError if not.
func (a *Authorizer) Require(ctx context.Context, caller Caller, request Request) error {
	decision, q, err := a.authorize(ctx, caller, request)
	if err != nil {
		return err
	}
	if decision.Allowed {
		return nil
	}
	return a.denied(q, decision)
}
