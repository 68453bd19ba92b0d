package access

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/engineshed/engineshed/internal/access/ram"
)

// evaluate asks the stages in RAM's order: the session's own policy must allow it; what is attached for the whole account
// is final when it says anything; only then is what is attached for the resource's group asked.
func (a *Authorizer) evaluate(ctx context.Context, q *question) (Decision, error) {
	sets, err := a.ruleSetsOf(ctx, q.caller)
	if err != nil {
		return Decision{}, err
	}
	if q.caller.SessionPolicy != "" {
		session, err := a.sessionRules(ctx, q.caller)
		if err != nil {
			return Decision{}, err
		}
		if decision, err := session.ask(ctx, q); err != nil || !decision.Allowed {
			return decision, err
		}
	}
	decision, err := sets.account.ask(ctx, q)
	if err != nil || decision.NoPermissionType != ImplicitDeny {
		return decision, err
	}
	group, err := sets.groupOf(ctx, q)
	if err != nil || group == nil {
		return decision, err
	}
	return group.ask(ctx, q)
}

// ruleSets are all rules of a principal as of one policy epoch.
type ruleSets struct {
	epoch   int64
	account *ruleSet
	groups  map[string]func() (*ruleSet, error) // by resource group, each made when it is first asked for
}

// ruleSetsOf returns the caller's rules as of the caller's policy epoch. The policies are read after the epoch was, so
// they may be newer than it says, never older; the next epoch compiles them once more.
func (a *Authorizer) ruleSetsOf(ctx context.Context, caller Caller) (*ruleSets, error) {
	who := principal{caller.AccountID, caller.UserID, caller.RoleID}
	if sets, ok := a.principals.get(who); ok && sets.epoch == caller.PolicyEpoch {
		return sets, nil
	}
	attached, err := a.policies.PoliciesOf(ctx, caller)
	if err != nil {
		return nil, fmt.Errorf("read the policies: %w", err)
	}
	rules := a.compile(ctx, attached.Account)
	account, err := newRuleSet(AccountStage, rules)
	if err != nil {
		return nil, err
	}
	sets, weight := &ruleSets{caller.PolicyEpoch, account, map[string]func() (*ruleSet, error){}}, 1+len(rules)
	for group, attached := range attached.ResourceGroups {
		rules := a.compile(ctx, attached)
		sets.groups[group] = sync.OnceValues(func() (*ruleSet, error) { return newRuleSet(ResourceGroupStage, rules) })
		weight += 1 + len(rules)
	}
	a.principals.put(who, sets, weight)
	return sets, nil
}

// groupOf returns the rules for the resource's group, nil for none.
func (s *ruleSets) groupOf(ctx context.Context, q *question) (*ruleSet, error) {
	if len(s.groups) == 0 {
		return nil, nil
	}
	if q.group == "" {
		if err := q.look(ctx); err != nil {
			return nil, err
		}
	}
	rules, ok := s.groups[q.group]
	if q.group == "" || !ok {
		return nil, nil
	}
	return rules()
}

// sessionRules returns the rules of the policy that AssumeRole was called with.
func (a *Authorizer) sessionRules(ctx context.Context, caller Caller) (*ruleSet, error) {
	if known, ok := a.sessions.get(caller.SessionPolicy); ok {
		return known, nil
	}
	parsed, err := ram.ParseSession(caller.SessionPolicy)
	if err != nil {
		a.log.ErrorContext(ctx, "a session's policy cannot be read: it denies everything", "session", caller.ARN(), "error", err)
		parsed.Statements = denyAll
	}
	policy := AttachedPolicy{Name: "SessionPolicy", Type: "Session", Document: caller.SessionPolicy}
	rules, err := newRuleSet(SessionStage, rulesOf(policy, parsed.Statements))
	if err != nil {
		return nil, err
	}
	a.sessions.put(caller.SessionPolicy, rules, len(caller.SessionPolicy))
	return rules, nil
}

// ask finds out what the rules depend on, and lets them decide.
func (s *ruleSet) ask(ctx context.Context, q *question) (Decision, error) {
	if s.asksTags(q.ram()) {
		if err := q.look(ctx); err != nil {
			return Decision{}, err
		}
	}
	decision, _, err := s.decide(q.ram())
	return decision, err
}

// asksTags reports whether a rule about this action and resource depends on the tags of the resource.
func (s *ruleSet) asksTags(request ram.Request) bool {
	return slices.ContainsFunc(s.tagged, func(s *ram.Statement) bool { return s.MatchesAction(request) && s.MatchesResource(request) })
}
