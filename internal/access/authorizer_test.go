package access_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/secret"
)

const account, user = "1000000000000001", "200000000000000001"

// attachments are the policies of each user, and how often they were read.
type attachments struct {
	mu     sync.Mutex
	byUser map[string][]access.AttachedPolicy
	reads  atomic.Int64
	err    error
}

func (a *attachments) PoliciesOf(_ context.Context, caller access.Caller) (access.Attachments, error) {
	a.reads.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	return access.Attachments{Account: a.byUser[caller.AccountID+"/"+caller.UserID]}, a.err
}

// attach gives the user these policies and no others.
func (a *attachments) attach(documents ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byUser == nil {
		a.byUser = map[string][]access.AttachedPolicy{}
	}
	var attached []access.AttachedPolicy
	for i, document := range documents {
		attached = append(attached, access.AttachedPolicy{
			Name: fmt.Sprintf("policy-%d", i), Type: "Custom", VersionID: document, Document: document,
		})
	}
	a.byUser[account+"/"+user] = attached
}

func newAuthorizer(t testing.TB, policies access.Policies) *access.Authorizer {
	t.Helper()
	return access.NewAuthorizer(policies, newBox(t), slog.New(slog.DiscardHandler))
}

func newBox(t testing.TB) *secret.Box {
	t.Helper()
	box, err := secret.NewBox()
	require.NoError(t, err)
	return box
}

func authorizerFor(t testing.TB, documents ...string) *access.Authorizer {
	t.Helper()
	var policies attachments
	policies.attach(documents...)
	return newAuthorizer(t, &policies)
}

func document(statements ...string) string {
	return `{"Version":"1","Statement":[` + strings.Join(statements, ",") + `]}`
}

func statement(effect, action, resource string) string {
	return fmt.Sprintf(`{"Effect":%q,"Action":%q,"Resource":%q}`, effect, action, resource)
}

func ann(epoch int64) access.Caller {
	return access.Caller{
		Identity: access.User, AccountID: account, UserID: user, UserName: "ann", PolicyEpoch: epoch,
		SourceIP: netip.MustParseAddr("203.0.113.7"), Time: time.Date(2026, 1, 31, 16, 0, 0, 0, time.FixedZone("", 8*3600)),
	}
}

func instance(id string) []string {
	return []string{"acs:gpdb:cn-hangzhou:" + account + ":dbinstance/" + id, "acs:gpdb::" + account + ":dbinstance/" + id}
}

func TestAPolicyForOneInstanceAllowsThatInstanceOnly(t *testing.T) {
	t.Parallel()
	for _, resource := range []string{instance("gp-a")[0], instance("gp-a")[1]} {
		a := authorizerFor(t, document(statement("Allow", "gpdb:*", resource)))
		decision, err := a.Authorize(t.Context(), ann(1), access.Request{Action: "gpdb:CreateModelService", Resources: instance("gp-a")})
		require.NoError(t, err)
		require.Equal(t, access.Decision{Allowed: true, Stage: access.AccountStage, PolicyName: "policy-0", PolicyType: "Custom", Statement: "Statement[0]"}, decision)

		for _, other := range [][]string{instance("gp-b"), {"*"}} {
			decision, err = a.Authorize(t.Context(), ann(1), access.Request{Action: "gpdb:CreateModelService", Resources: other})
			require.NoError(t, err)
			require.Equal(t, access.Decision{NoPermissionType: access.ImplicitDeny, Stage: access.AccountStage}, decision)
		}
	}
}

func TestAnExplicitDenyWins(t *testing.T) {
	t.Parallel()
	allow, deny := document(statement("Allow", "*", "*")), document(statement("Allow", "ram:*", "*"), statement("Deny", "gpdb:Delete*", instance("gp-a")[1]))
	for _, documents := range [][]string{{allow, deny}, {deny, allow}} {
		a := authorizerFor(t, documents...)
		decision, err := a.Authorize(t.Context(), ann(1), access.Request{Action: "gpdb:DeleteModelService", Resources: instance("gp-a")})
		require.NoError(t, err)
		require.False(t, decision.Allowed)
		require.Equal(t, access.ExplicitDeny, decision.NoPermissionType)
		require.Equal(t, "Statement[1]", decision.Statement)
		require.NoError(t, a.Require(t.Context(), ann(1), access.Request{Action: "gpdb:DeleteModelService", Resources: instance("gp-b")}))
	}
}

func TestWithoutPoliciesNothingIsAllowed(t *testing.T) {
	t.Parallel()
	decision, err := authorizerFor(t).Authorize(t.Context(), ann(1), access.Request{Action: "gpdb:ListSupportModels", Resources: []string{"*"}})
	require.NoError(t, err)
	require.Equal(t, access.Decision{NoPermissionType: access.ImplicitDeny, Stage: access.AccountStage}, decision)
}

func TestRootIsAllowedWithoutPolicies(t *testing.T) {
	t.Parallel()
	policies := &attachments{err: errors.New("nobody asks")}
	decision, err := newAuthorizer(t, policies).Authorize(t.Context(), access.Caller{Identity: access.Root, AccountID: account}, access.Request{Action: "gpdb:X", Resources: []string{"*"}})
	require.NoError(t, err)
	require.True(t, decision.Allowed)
	require.Zero(t, policies.reads.Load())
}

func TestWithoutACallerOrARequestThereIsNoDecision(t *testing.T) {
	t.Parallel()
	a := authorizerFor(t, document(statement("Allow", "*", "*")))
	for _, c := range []struct {
		caller  access.Caller
		request access.Request
	}{
		{access.Caller{}, access.Request{Action: "gpdb:X", Resources: []string{"*"}}},
		{access.Caller{AccountID: account}, access.Request{Action: "gpdb:X", Resources: []string{"*"}}},
		{access.Caller{Identity: access.User, AccountID: account}, access.Request{Action: "gpdb:X", Resources: []string{"*"}}},
		{access.Caller{Identity: access.Root, AccountID: account, RoleID: "3"}, access.Request{Action: "gpdb:X", Resources: []string{"*"}}},
		{access.Caller{Identity: access.Session, AccountID: account, UserID: user}, access.Request{Action: "gpdb:X", Resources: []string{"*"}}},
		{access.Caller{Identity: access.User, AccountID: account, UserID: user, SessionPolicy: "{}"}, access.Request{Action: "gpdb:X", Resources: []string{"*"}}},
		{ann(1), access.Request{Resources: []string{"*"}}},
		{ann(1), access.Request{Action: "gpdb:X"}},
	} {
		decision, err := a.Authorize(t.Context(), c.caller, c.request)
		require.Error(t, err)
		require.False(t, decision.Allowed)
	}
}

func TestPoliciesThatCannotBeReadAllowNothing(t *testing.T) {
	t.Parallel()
	away := errors.New("the database is away")
	a := newAuthorizer(t, &attachments{err: away})
	require.ErrorIs(t, a.Require(t.Context(), ann(1), access.Request{Action: "gpdb:X", Resources: []string{"*"}}), away)
}

func TestADocumentThatNoLongerParsesDeniesEverything(t *testing.T) {
	t.Parallel()
	var policies attachments
	var log bytes.Buffer
	policies.attach(document(statement("Allow", "*", "*")), `{"Version":"1","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Unknown":{}}}]}`)
	a := access.NewAuthorizer(&policies, newBox(t), slog.New(slog.NewJSONHandler(&log, nil)))
	decision, err := a.Authorize(t.Context(), ann(1), access.Request{Action: "gpdb:ListSupportModels", Resources: []string{"*"}})
	require.NoError(t, err)
	require.Equal(t, access.ExplicitDeny, decision.NoPermissionType)
	require.Equal(t, "policy-1", decision.PolicyName)
	require.Contains(t, log.String(), "policy-1")
}

func TestADenialCarriesItsDetail(t *testing.T) {
	t.Parallel()
	var policies attachments
	policies.attach(document(statement("Deny", "gpdb:*", "*")))
	box := newBox(t)
	a := access.NewAuthorizer(&policies, box, slog.New(slog.DiscardHandler))
	err := a.Require(t.Context(), ann(1), access.Request{Action: "gpdb:CreateModelService", Resources: instance("gp-a")})

	var denied *access.DeniedError
	require.ErrorAs(t, err, &denied)
	require.ErrorIs(t, err, access.ErrForbiddenRAM)
	f, _ := fault.From(err)
	require.Equal(t, fault.Denied, f.Kind)
	require.Contains(t, f.Message, "gpdb:CreateModelService on "+instance("gp-a")[0])

	sealed, err := base64.StdEncoding.DecodeString(denied.EncodedDiagnosticMessage)
	require.NoError(t, err)
	text, err := box.Open("diagnostic", sealed)
	require.NoError(t, err)
	require.JSONEq(t, `{"ExplicitDeny":true,"NoPermissionPolicyType":"AccountLevelIdentityBasedPolicy",
		"AuthAction":"gpdb:CreateModelService","AuthResource":"`+instance("gp-a")[0]+`",
		"AuthPrincipal":{"AuthPrincipalType":"SubUser","AuthPrincipalDisplayName":"`+user+`","AuthPrincipalOwnerId":"`+account+`"},
		"AuthConditions":[{"ConditionKey":"acs:CurrentTime","ConditionValues":["2026-01-31T08:00:00Z"]},
			{"ConditionKey":"acs:MFAPresent","ConditionValues":["false"]},
			{"ConditionKey":"acs:PrincipalARN","ConditionValues":["acs:ram::`+account+`:user/ann"]},
			{"ConditionKey":"acs:SecureTransport","ConditionValues":["false"]},
			{"ConditionKey":"acs:SourceIp","ConditionValues":["203.0.113.7"]}],
		"PolicyName":"policy-0","PolicyType":"Custom","Statement":"Statement[0]"}`, text.Reveal())

	denied.EncodedDiagnosticMessage = "sealed"
	detail, err := json.Marshal(denied.AccessDeniedDetail)
	require.NoError(t, err)
	require.JSONEq(t, `{"AuthAction":"gpdb:CreateModelService","AuthPrincipalType":"SubUser","AuthPrincipalDisplayName":"`+user+`",
		"AuthPrincipalOwnerId":"`+account+`","PolicyType":"AccountLevelIdentityBasedPolicy","NoPermissionType":"ExplicitDeny",
		"EncodedDiagnosticMessage":"sealed"}`, string(detail))
}

func TestOtherProductsDenyWithNoPermission(t *testing.T) {
	t.Parallel()
	err := authorizerFor(t).Require(t.Context(), ann(1), access.Request{Action: "ram:CreateUser", Resources: []string{"*"}})
	require.ErrorIs(t, err, access.ErrNoPermission)
}

func TestANewEpochReadsThePoliciesAgain(t *testing.T) {
	t.Parallel()
	var policies attachments
	policies.attach(document(statement("Allow", "gpdb:*", "*")))
	a := newAuthorizer(t, &policies)
	request := access.Request{Action: "gpdb:ListSupportModels", Resources: []string{"*"}}
	for range 3 {
		require.NoError(t, a.Require(t.Context(), ann(1), request))
	}
	require.EqualValues(t, 1, policies.reads.Load())

	policies.attach()
	var denied *access.DeniedError
	require.ErrorAs(t, a.Require(t.Context(), ann(2), request), &denied)
	require.ErrorAs(t, a.Require(t.Context(), ann(1), request), &denied, "a call that was under way reads them again, too")
	require.ErrorAs(t, a.Require(t.Context(), ann(2), request), &denied)
}

func TestOneUsersPoliciesAreNotAnothers(t *testing.T) {
	t.Parallel()
	var policies attachments
	policies.attach(document(statement("Allow", "*", "*")))
	a := newAuthorizer(t, &policies)
	request := access.Request{Action: "gpdb:ListSupportModels", Resources: []string{"*"}}
	require.NoError(t, a.Require(t.Context(), ann(1), request))
	for _, other := range []access.Caller{
		{Identity: access.User, AccountID: account, UserID: "200000000000000002", PolicyEpoch: 1},
		{Identity: access.User, AccountID: "1000000000000002", UserID: user, PolicyEpoch: 1},
	} {
		require.ErrorIs(t, a.Require(t.Context(), other, request), access.ErrForbiddenRAM)
	}
}

func TestAVersionIDWithAnotherDocumentIsParsedAgain(t *testing.T) {
	t.Parallel()
	policies := &attachments{byUser: map[string][]access.AttachedPolicy{}}
	a := newAuthorizer(t, policies)
	request := access.Request{Action: "gpdb:ListSupportModels", Resources: []string{"*"}}
	for epoch, effect := range []string{"Allow", "Deny"} {
		policies.byUser[account+"/"+user] = []access.AttachedPolicy{{Name: "p", VersionID: "1", Document: document(statement(effect, "*", "*"))}}
		decision, err := a.Authorize(t.Context(), ann(int64(epoch)), request)
		require.NoError(t, err)
		require.Equal(t, effect == "Allow", decision.Allowed)
	}
}

func TestConcurrentDecisionsAgree(t *testing.T) {
	t.Parallel()
	var policies attachments
	policies.attach(document(statement("Allow", "gpdb:*", "*"), statement("Deny", "gpdb:Delete*", "*")))
	a := newAuthorizer(t, &policies)
	var workers sync.WaitGroup
	for worker := range 8 {
		workers.Go(func() {
			for i := range 200 {
				action, allowed := "gpdb:DeleteModelService", false
				if (worker+i)%2 == 0 {
					action, allowed = "gpdb:CreateModelService", true
				}
				decision, err := a.Authorize(t.Context(), ann(int64(i/50)), access.Request{Action: action, Resources: instance("gp-a")})
				if err != nil || decision.Allowed != allowed {
					t.Errorf("%s: %+v, %v", action, decision, err)
				}
			}
		})
	}
	workers.Wait()
}
