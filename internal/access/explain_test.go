package access_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
)

func TestAnExplanationNamesWhatDecidedAndWhatDidNotMatch(t *testing.T) {
	t.Parallel()
	policies := fixed{
		Account: append(
			attached("mine", document(
				statement("Allow", "gpdb:Create*", "*"),
				statement("Allow", "gpdb:*", instance("gp-b")[1]),
				`{"Sid":"office","Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"acs:SourceIp":["10.0.0.0/8"]},
					"StringEquals":{"acs:ResourceTag/team":"search","acs:SourceVpc":"vpc-1"}}}`)),
			attached("ours", allowAll, allowAll)...),
		ResourceGroups: map[string][]access.AttachedPolicy{group: attached("group", denyAll)},
	}
	request := describe
	request.Look = func(context.Context) (access.Facts, error) {
		return access.Facts{ResourceGroupID: group, Tags: map[string]string{"team": "search"}}, nil
	}
	e, err := newAuthorizer(t, policies).Explain(t.Context(), ann(1), request)
	require.NoError(t, err)
	require.Equal(t, access.Explanation{
		Principal: "acs:ram::" + account + ":user/ann", Action: request.Action, Resources: request.Resources, ResourceGroupID: group,
		Conditions: []access.AuthCondition{
			{ConditionKey: "acs:CurrentTime", ConditionValues: []string{"2026-01-31T08:00:00Z"}},
			{ConditionKey: "acs:MFAPresent", ConditionValues: []string{"false"}},
			{ConditionKey: "acs:PrincipalARN", ConditionValues: []string{"acs:ram::" + account + ":user/ann"}},
			{ConditionKey: "acs:ResourceTag/team", ConditionValues: []string{"search"}},
			{ConditionKey: "acs:SecureTransport", ConditionValues: []string{"false"}},
			{ConditionKey: "acs:SourceIp", ConditionValues: []string{"203.0.113.7"}},
		},
		Allowed: true, DecidedBy: access.AccountStage,
		Stages: []access.ExplainedStage{
			{Stage: access.AccountStage, Result: "Allow", Statements: []access.ExplainedStatement{
				{PolicyName: "mine", PolicyType: "Custom", Statement: "Statement[0]", Effect: "Allow", ResourceMatches: true},
				{PolicyName: "mine", PolicyType: "Custom", Statement: "Statement[1]", Effect: "Allow", ActionMatches: true},
				{
					PolicyName: "mine", PolicyType: "Custom", Statement: "Statement[2]", Sid: "office", Effect: "Allow",
					ActionMatches: true, ResourceMatches: true, Conditions: []access.ExplainedCondition{
						{Operator: "IpAddress", Key: "acs:SourceIp", Values: []string{"10.0.0.0/8"}, Present: true, Value: "203.0.113.7"},
						{Operator: "StringEquals", Key: "acs:ResourceTag/team", Values: []string{"search"}, Present: true, Value: "search", Holds: true},
						{Operator: "StringEquals", Key: "acs:SourceVpc", Values: []string{"vpc-1"}},
					},
				},
				{
					PolicyName: "ours", PolicyType: "Custom", Statement: "Statement[0]", Effect: "Allow",
					ActionMatches: true, ResourceMatches: true, Matches: true, Decides: true,
				},
				{
					PolicyName: "ours", PolicyType: "Custom", Statement: "Statement[0]", Effect: "Allow",
					ActionMatches: true, ResourceMatches: true, Matches: true,
				},
			}},
			{Stage: access.ResourceGroupStage, Result: access.NotAsked, Statements: []access.ExplainedStatement{
				{
					PolicyName: "group", PolicyType: "Custom", Statement: "Statement[0]", Effect: "Deny",
					ActionMatches: true, ResourceMatches: true, Matches: true,
				},
			}},
		},
	}, e)
}

func TestAnExplanationFollowsTheStages(t *testing.T) {
	t.Parallel()
	policies := fixed{
		Account:        attached("account", allowRAM),
		ResourceGroups: map[string][]access.AttachedPolicy{group: attached("group", allowAll)},
	}
	for policy, want := range map[string]struct {
		decided access.Stage
		results []string
	}{
		"":       {access.ResourceGroupStage, []string{access.ImplicitDeny, "Allow"}},
		allowAll: {access.ResourceGroupStage, []string{"Allow", access.ImplicitDeny, "Allow"}},
		allowRAM: {access.SessionStage, []string{access.ImplicitDeny, access.NotAsked, access.NotAsked}},
		denyAll:  {access.SessionStage, []string{access.ExplicitDeny, access.NotAsked, access.NotAsked}},
	} {
		e, err := newAuthorizer(t, policies).Explain(t.Context(), session(policy), inGroup)
		require.NoError(t, err)
		require.Equal(t, want.decided, e.DecidedBy)
		var results []string
		for _, stage := range e.Stages {
			results = append(results, stage.Result)
		}
		require.Equal(t, want.results, results)
	}
}

func TestRootIsExplainedWithoutStatements(t *testing.T) {
	t.Parallel()
	a := newAuthorizer(t, fixed{Account: attached("p", denyAll)})
	e, err := a.Explain(t.Context(), access.Caller{Identity: access.Root, AccountID: account}, describe)
	require.NoError(t, err)
	require.True(t, e.Allowed)
	require.Empty(t, e.Stages)
	_, err = a.Explain(t.Context(), access.Caller{}, describe)
	require.Error(t, err)
}
