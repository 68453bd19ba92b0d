package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/engineshed/engineshed/internal/access/ram"
)

// Explanation says how a decision came about. Its members are what ExplainAuthorization answers with.
type Explanation struct {
	Principal        string // the caller's ARN
	Action           string
	Resources        []string
	ResourceGroupID  string          `json:"ResourceGroupId"` // "" for none
	Conditions       []AuthCondition // what the request says, by key
	Allowed          bool
	NoPermissionType string           // ExplicitDeny or ImplicitDeny; "" when allowed
	DecidedBy        Stage            // "" for root, who may do everything in the account
	Stages           []ExplainedStage // in the order in which they are asked; none for root
}

// ExplainedStage is a stage with every statement there is at it.
type ExplainedStage struct {
	Stage      Stage
	Result     string // Allow, ExplicitDeny, ImplicitDeny, or NotAsked when an earlier stage was final
	Statements []ExplainedStatement
}

// ExplainedStatement is a statement of a policy, and whether it is about the request.
type ExplainedStatement struct {
	PolicyName, PolicyType string
	Statement              string // the place in the policy, such as Statement[2]
	Sid                    string
	Effect                 ram.Effect
	ActionMatches          bool
	ResourceMatches        bool
	Conditions             []ExplainedCondition
	Matches                bool // action, resource and every condition
	Decides                bool // the decision is because of it
}

// ExplainedCondition is a condition, and what the request says about its key.
type ExplainedCondition struct {
	Operator, Key string
	Values        []string
	Present       bool   // the request says something
	Value         string // what it says
	Holds         bool
}

// NotAsked is the Result of a stage that an earlier one made superfluous.
const NotAsked = "NotAsked"

// Explain decides as Authorize does, and says what every statement of every policy of the caller had to do with it.
func (a *Authorizer) Explain(ctx context.Context, caller Caller, request Request) (Explanation, error) {
	if err := errors.Join(caller.check(), request.check()); err != nil {
		return Explanation{}, fmt.Errorf("explain: %w", err)
	}
	q := newQuestion(caller, request)
	if err := q.look(ctx); err != nil {
		return Explanation{}, err
	}
	e := Explanation{
		Principal: caller.ARN(), Action: request.Action, Resources: request.Resources, ResourceGroupID: q.group,
		Conditions: authConditions(q.context), Allowed: caller.IsRoot(),
	}
	if caller.IsRoot() {
		return e, nil
	}
	decision, err := a.evaluate(ctx, q)
	if err != nil {
		return Explanation{}, fmt.Errorf("explain %s for %s: %w", request.Action, caller.ARN(), err)
	}
	e.Allowed, e.NoPermissionType, e.DecidedBy = decision.Allowed, decision.NoPermissionType, decision.Stage
	e.Stages, err = a.explainStages(ctx, q, decision)
	return e, err
}

// explainStages goes through the stages as evaluate does, and on to those that it did not ask.
func (a *Authorizer) explainStages(ctx context.Context, q *question, decision Decision) ([]ExplainedStage, error) {
	var sets []*ruleSet
	if q.caller.SessionPolicy != "" {
		session, err := a.sessionRules(ctx, q.caller)
		if err != nil {
			return nil, err
		}
		sets = append(sets, session)
	}
	attached, err := a.ruleSetsOf(ctx, q.caller)
	if err != nil {
		return nil, err
	}
	group, err := attached.groupOf(ctx, q)
	if err != nil {
		return nil, err
	}
	if sets = append(sets, attached.account); group != nil {
		sets = append(sets, group)
	}
	var stages []ExplainedStage
	decided := false
	for _, set := range sets {
		stage, err := set.explain(q.ram(), decision)
		if err != nil {
			return nil, err
		}
		if decided {
			stage.Result = NotAsked
		}
		decided = decided || set.stage == decision.Stage
		stages = append(stages, stage)
	}
	return stages, nil
}

func (s *ruleSet) explain(request ram.Request, decision Decision) (ExplainedStage, error) {
	own, place, err := s.decide(request)
	if err != nil {
		return ExplainedStage{}, err
	}
	stage := ExplainedStage{Stage: s.stage, Result: own.NoPermissionType}
	if own.Allowed {
		stage.Result = string(ram.Allow)
	}
	for i := range s.rules {
		statement := s.rules[i].explain(request)
		statement.Decides = own == decision && i == place
		stage.Statements = append(stage.Statements, statement)
	}
	return stage, nil
}

func (r *rule) explain(request ram.Request) ExplainedStatement {
	e := ExplainedStatement{
		PolicyName: r.policy.Name, PolicyType: r.policy.Type, Statement: r.place, Sid: r.statement.Sid, Effect: r.statement.Effect,
		ActionMatches:   r.statement.MatchesAction(request),
		ResourceMatches: r.statement.MatchesResource(request),
		Matches:         r.statement.Matches(request),
	}
	for i := range r.statement.Conditions {
		c := &r.statement.Conditions[i]
		value, present := request.Context().Get(c.Key)
		e.Conditions = append(e.Conditions, ExplainedCondition{c.Operator, c.Key, c.Values, present, value, c.Holds(request.Context())})
	}
	return e
}
