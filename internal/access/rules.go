package access

import (
	"context"
	"errors"
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

// ruleSet decides at one stage for one principal. It holds that principal's rules only: Casbin looks at every row it
// has. It never changes, and Casbin's Enforce on an enforcer that does not change is safe for concurrent use.
type ruleSet struct {
	stage    Stage
	rules    []rule
	rows     []row
	tagged   []*ram.Statement // those that ask for tags of the resource
	enforcer *casbin.Enforcer
}

// row is what Casbin sees: the rules of one policy that have the same effect. A row costs Casbin ten times what it costs
// to match a statement.
type row struct {
	effect ram.Effect
	rules  []int // places in ruleSet.rules
}

func rowsOf(rules []rule) []row {
	type key struct {
		policy AttachedPolicy
		effect ram.Effect
	}
	var rows []row
	places := map[key]int{}
	for i, r := range rules {
		k := key{r.policy, r.statement.Effect}
		place, ok := places[k]
		if !ok {
			place = len(rows)
			places[k], rows = place, append(rows, row{effect: k.effect})
		}
		rows[place].rules = append(rows[place].rules, i)
	}
	return rows
}

func newRuleSet(stage Stage, rules []rule) (*ruleSet, error) {
	m, err := model.NewModelFromString(policies.Model)
	if err != nil {
		return nil, fmt.Errorf("read the Casbin model: %w", err)
	}
	set := &ruleSet{stage: stage, rules: rules, rows: rowsOf(rules)}
	for _, r := range rules {
		if r.statement.AsksTags() {
			set.tagged = append(set.tagged, r.statement)
		}
	}
	lines := make([][]string, len(set.rows))
	for i, row := range set.rows {
		lines[i] = []string{strconv.Itoa(i), casbinEffect[row.effect]}
	}
	if err := m.AddPolicies("p", "p", lines); err != nil {
		return nil, fmt.Errorf("hand the rules to Casbin: %w", err)
	}
	if set.enforcer, err = casbin.NewEnforcer(m); err != nil {
		return nil, fmt.Errorf("start Casbin: %w", err)
	}
	set.enforcer.AddFunction("ramMatch", set.match)
	return set, nil
}

var casbinEffect = map[ram.Effect]string{ram.Allow: "allow", ram.Deny: "deny"}

// decide also returns the place of the rule that decided, -1 for none.
func (s *ruleSet) decide(request ram.Request) (Decision, int, error) {
	allowed, line, err := s.enforcer.EnforceEx(request)
	if err != nil {
		return Decision{}, -1, fmt.Errorf("ask Casbin: %w", err)
	}
	if len(line) == 0 {
		return Decision{NoPermissionType: ImplicitDeny, Stage: s.stage}, -1, nil
	}
	place, err := s.matching(line[0], request)
	if err != nil || place < 0 {
		return Decision{}, -1, errors.Join(err, errors.New("casbin decided by a row that does not match"))
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

// match is ramMatch(request, row) of the model. With no rows at all Casbin calls it once with row "".
func (s *ruleSet) match(args ...any) (any, error) {
	request, isRequest := args[0].(ram.Request)
	name, isRow := args[1].(string)
	if !isRequest || !isRow {
		return nil, fmt.Errorf("ramMatch was called with (%T, %T)", args[0], args[1])
	}
	if len(s.rows) == 0 {
		return false, nil
	}
	place, err := s.matching(name, request)
	return place >= 0, err
}

// matching returns the place of the first rule of a row that is about the request, -1 for none.
func (s *ruleSet) matching(name string, request ram.Request) (place int, err error) {
	i, err := strconv.Atoi(name)
	if err != nil || i < 0 || i >= len(s.rows) {
		return -1, fmt.Errorf("casbin named the row %q of %d", name, len(s.rows))
	}
	for _, place := range s.rows[i].rules {
		if s.rules[place].statement.Matches(request) {
			return place, nil
		}
	}
	return -1, nil
}
