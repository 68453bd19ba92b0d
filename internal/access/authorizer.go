package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/engineshed/engineshed/internal/secret"
)

// Request is what a caller wants to do.
type Request struct {
	Action    string   // PRODUCT:OPERATION
	Resources []string // equivalent spellings of the resource's ARN, or "*"; the first is the one reported
	// ResourceGroupID is the group that contains the resource, "" when it has none or is not known.
	ResourceGroupID string
	// Context holds the values of condition keys, such as acs:ResourceTag/KEY. What follows from the caller and the
	// time (acs:SourceIp, acs:CurrentTime …) is added to it and cannot be set here.
	Context map[string]string
}

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
	documents  *lru[string, *compiled]
	principals *lru[principal, *ruleSet]
}

// How much stays compiled. A principal with twenty statements takes about 13 KiB.
const (
	keptDocuments  = 4096
	keptPrincipals = 4096
)

type principal struct{ accountID, userID, roleID string }

// NewAuthorizer returns an Authorizer that seals the diagnostic messages of its denials in box.
func NewAuthorizer(policies Policies, box *secret.Box, log *slog.Logger) *Authorizer {
	return &Authorizer{
		policies:   policies,
		box:        box,
		log:        log,
		documents:  newLRU[string, *compiled](keptDocuments),
		principals: newLRU[principal, *ruleSet](keptPrincipals),
	}
}

// Authorize decides whether caller may do what request says. The error says that there is no decision, not that
// the decision is no.
func (a *Authorizer) Authorize(ctx context.Context, caller Caller, request Request) (Decision, error) {
	if err := caller.check(); err != nil {
		return Decision{}, fmt.Errorf("authorize: %w", err)
	}
	switch {
	case request.Action == "" || len(request.Resources) == 0:
		return Decision{}, errors.New("authorize: the request names no action or no resource")
	case caller.IsRoot():
		return Decision{Allowed: true}, nil
	}
	rules, err := a.rulesOf(ctx, caller)
	if err != nil {
		return Decision{}, fmt.Errorf("authorize %s for %s: %w", request.Action, caller.ARN(), err)
	}
	return rules.decide(request)
}

// Require returns nil if caller may do what request says, and a *DeniedError if not.
func (a *Authorizer) Require(ctx context.Context, caller Caller, request Request) error {
	decision, err := a.Authorize(ctx, caller, request)
	if err != nil {
		return err
	}
	if decision.Allowed {
		return nil
	}
	return a.denied(caller, request, decision)
}

// rulesOf returns the caller's rules as of the caller's policy epoch. The policies are read after the epoch was, so
// they may be newer than it says, never older; the next epoch compiles them once more.
func (a *Authorizer) rulesOf(ctx context.Context, caller Caller) (*ruleSet, error) {
	who := principal{caller.AccountID, caller.UserID, caller.RoleID}
	if rules, ok := a.principals.get(who); ok && rules.epoch == caller.PolicyEpoch {
		return rules, nil
	}
	attached, err := a.policies.PoliciesOf(ctx, caller)
	if err != nil {
		return nil, fmt.Errorf("read the policies: %w", err)
	}
	rules, err := newRuleSet(caller.PolicyEpoch, a.compile(ctx, attached.Account))
	if err != nil {
		return nil, err
	}
	a.principals.put(who, rules)
	return rules, nil
}
