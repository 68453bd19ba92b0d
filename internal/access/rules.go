package access

import (
	"context"
	"fmt"
	"strconv"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"

	"github.com/engineshed/engineshed/internal/access/ram"
	"github.com/engineshed/engineshed/policies"
)

// compiled is a policy document, parsed. It never changes.
type compiled struct {
	document   string
	statements []ram.Statement
}

// rule is one statement of an attached policy.
type rule struct {
	policy    AttachedPolicy
	place     string // in the document
	statement *ram.Statement
}

// denyAll stands for a document that cannot be read. Leaving the document out would leave out its denials.
var denyAll = []ram.Statement{{Effect: ram.Deny, Actions: []string{"*"}, Resources: []string{"*"}}}

func (a *Authorizer) compile(ctx context.Context, attached []AttachedPolicy) []rule {
	var rules []rule
	for _, policy := range attached {
		rules = append(rules, rulesOf(policy, a.statementsOf(ctx, policy))...)
	}
	return rules
}

func rulesOf(policy AttachedPolicy, statements []ram.Statement) []rule {
	rules := make([]rule, len(statements))
	for i := range statements {
		rules[i] = rule{policy, "Statement[" + strconv.Itoa(i) + "]", &statements[i]}
	}
	return rules
}

func (a *Authorizer) statementsOf(ctx context.Context, policy AttachedPolicy) []ram.Statement {
	if known, ok := a.documents.get(policy.VersionID); ok && known.document == policy.Document {
		return known.statements
	}
	parsed, err := ram.Parse(policy.Document)
	if err != nil {
		a.log.ErrorContext(ctx, "a stored policy document cannot be read: it denies everything to whom it is attached",
			"policy", policy.Name, "version", policy.VersionID, "error", err)
		parsed.Statements = denyAll
	}
	a.documents.put(policy.VersionID, &compiled{policy.Document, parsed.Statements}, len(policy.Document))
	return parsed.Statements
}

// ruleSet decides at one stage for one principal. It holds that principal's rules only: Casbin looks at every rule it
// has. It never changes, and Casbin's Enforce on an enforcer that does not change is safe for concurrent use.
type ruleSet struct {
	stage    Stage
	rules    []rule
	enforcer *casbin.Enforcer
}

func newRuleSet(stage Stage, rules []rule) (*ruleSet, error) {
	m, err := model.NewModelFromString(policies.Model)
	if err != nil {
		return nil, fmt.Errorf("read the Casbin model: %w", err)
	}
	rows := make([][]string, len(rules))
	for i, rule := range rules {
		rows[i] = []string{strconv.Itoa(i), casbinEffect[rule.statement.Effect]}
	}
	if err := m.AddPolicies("p", "p", rows); err != nil {
		return nil, fmt.Errorf("hand the rules to Casbin: %w", err)
	}
	enforcer, err := casbin.NewEnforcer(m)
	if err != nil {
		return nil, fmt.Errorf("start Casbin: %w", err)
	}
	set := &ruleSet{stage: stage, rules: rules, enforcer: enforcer}
	enforcer.AddFunction("ramMatch", set.match)
	return set, nil
}

var casbinEffect = map[ram.Effect]string{ram.Allow: "allow", ram.Deny: "deny"}

// decide also returns the place of the rule that decided, -1 for none.
func (s *ruleSet) decide(request ram.Request) (Decision, int, error) {
	allowed, row, err := s.enforcer.EnforceEx(request)
	if err != nil {
		return Decision{}, -1, fmt.Errorf("ask Casbin: %w", err)
	}
	if len(row) == 0 {
		return Decision{NoPermissionType: ImplicitDeny, Stage: s.stage}, -1, nil
	}
	place, err := s.place(row[0])
	if err != nil {
		return Decision{}, -1, err
	}
	decisive := &s.rules[place]
	decision := Decision{
		Allowed:    allowed,
		Stage:      s.stage,
		PolicyName: decisive.policy.Name,
		PolicyType: decisive.policy.Type,
		Statement:  decisive.place,
	}
	if !allowed {
		decision.NoPermissionType = ExplicitDeny
	}
	return decision, place, nil
}

// match is ramMatch(request, statement) of the model. With no rules at all Casbin calls it once with statement "".
func (s *ruleSet) match(args ...any) (any, error) {
	request, isRequest := args[0].(ram.Request)
	row, isRow := args[1].(string)
	if !isRequest || !isRow {
		return nil, fmt.Errorf("ramMatch was called with (%T, %T)", args[0], args[1])
	}
	if len(s.rules) == 0 {
		return false, nil
	}
	place, err := s.place(row)
	if err != nil {
		return nil, err
	}
	return s.rules[place].statement.Matches(request), nil
}

// place reads what Casbin calls a rule.
func (s *ruleSet) place(row string) (int, error) {
	i, err := strconv.Atoi(row)
	if err != nil || i < 0 || i >= len(s.rules) {
		return -1, fmt.Errorf("casbin named the rule %q of %d", row, len(s.rules))
	}
	return i, nil
}
