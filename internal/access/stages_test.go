package access_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
)

const group = "rg-search"

// fixed are the same attachments for everybody.
type fixed access.Attachments

func (f fixed) PoliciesOf(context.Context, access.Caller) (access.Attachments, error) {
	return access.Attachments(f), nil
}

func attached(name string, documents ...string) (policies []access.AttachedPolicy) {
	for _, text := range documents {
		policies = append(policies, access.AttachedPolicy{Name: name, Type: "Custom", VersionID: text, Document: text})
	}
	return policies
}

func session(policy string) access.Caller {
	return access.Caller{
		Identity: access.Session, AccountID: account, RoleID: "300000000000000001", RoleName: "ops", SessionName: "ann@laptop",
		SessionPolicy: policy, PolicyEpoch: 1,
	}
}

var (
	allowAll  = document(statement("Allow", "*", "*"))
	denyAll   = document(statement("Deny", "*", "*"))
	allowRAM  = document(statement("Allow", "ram:*", "*"))
	describe  = access.Request{Action: "gpdb:DescribeModelService", Resources: instance("gp-a")}
	inGroup   = access.Request{Action: describe.Action, Resources: describe.Resources, ResourceGroupID: group}
	elsewhere = access.Request{Action: describe.Action, Resources: describe.Resources, ResourceGroupID: "rg-other"}
)

func TestTheStagesAreAskedInTheirOrder(t *testing.T) {
	t.Parallel()
	const no, explicit, implicit = "", access.ExplicitDeny, access.ImplicitDeny
	for _, c := range []struct {
		name                    string
		session, account, group string // documents; "": none
		request                 access.Request
		stage                   access.Stage
		denied                  string
	}{
		{"the account allows", "", allowAll, "", describe, access.AccountStage, no},
		{"the account allows, the group denies", "", allowAll, denyAll, inGroup, access.AccountStage, no},
		{"the account denies, the group allows", "", denyAll, allowAll, inGroup, access.AccountStage, explicit},
		{"the account says nothing, the group allows", "", allowRAM, allowAll, inGroup, access.ResourceGroupStage, no},
		{"the account says nothing, the group denies", "", allowRAM, denyAll, inGroup, access.ResourceGroupStage, explicit},
		{"neither says anything", "", allowRAM, allowRAM, inGroup, access.ResourceGroupStage, implicit},
		{"it is in another group", "", allowRAM, allowAll, elsewhere, access.AccountStage, implicit},
		{"it is in no group", "", "", allowAll, describe, access.AccountStage, implicit},
		{"nothing is attached", "", "", "", inGroup, access.AccountStage, implicit},
		{"the session allows, the role does not", allowAll, allowRAM, "", describe, access.AccountStage, implicit},
		{"the session allows, the role denies", allowAll, denyAll, allowAll, inGroup, access.AccountStage, explicit},
		{"the session and the group allow", allowAll, "", allowAll, inGroup, access.ResourceGroupStage, no},
		{"the session denies", denyAll, allowAll, allowAll, inGroup, access.SessionStage, explicit},
		{"the session does not allow", allowRAM, allowAll, allowAll, inGroup, access.SessionStage, implicit},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			policies := fixed{ResourceGroups: map[string][]access.AttachedPolicy{}}
			if c.account != "" {
				policies.Account = attached("account", c.account)
			}
			if c.group != "" {
				policies.ResourceGroups[group] = attached("group", c.group)
			}
			caller := ann(1)
			if c.session != "" {
				caller = session(c.session)
			}
			decision, err := newAuthorizer(t, policies).Authorize(t.Context(), caller, c.request)
			require.NoError(t, err)
			require.Equal(t, c.stage, decision.Stage)
			require.Equal(t, c.denied, decision.NoPermissionType)
			require.Equal(t, c.denied == no, decision.Allowed)
		})
	}
}

func TestASessionThatCannotBeReadMayDoNothing(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a := access.NewAuthorizer(fixed{Account: attached("p", allowAll)}, newBox(t), slog.New(slog.NewJSONHandler(&log, nil)))
	for _, policy := range []string{"{}", allowAll + strings.Repeat(" ", 1024)} {
		decision, err := a.Authorize(t.Context(), session(policy), describe)
		require.NoError(t, err)
		require.Equal(t, access.ExplicitDeny, decision.NoPermissionType)
		require.Equal(t, access.SessionStage, decision.Stage)
	}
	require.Contains(t, log.String(), "role/ops/ann@laptop")
	decision, err := a.Authorize(t.Context(), session(""), describe)
	require.NoError(t, err)
	require.True(t, decision.Allowed, "a session without a policy may what its role may")
}

func TestADenialOfASessionCarriesItsDetail(t *testing.T) {
	t.Parallel()
	a := newAuthorizer(t, fixed{Account: attached("p", allowAll)})
	err := a.Require(t.Context(), session(denyAll), describe)
	var denied *access.DeniedError
	require.ErrorAs(t, err, &denied)
	require.ErrorContains(t, err, "the policy of this session denies gpdb:DescribeModelService on ")
	diagnostic, err := a.OpenDiagnostic(account, denied.EncodedDiagnosticMessage)
	require.NoError(t, err)
	require.Equal(t, []string{"SessionPolicy", "Session", "Statement[0]"}, []string{diagnostic.PolicyName, diagnostic.PolicyType, diagnostic.Statement})
	require.Equal(t, access.AuthPrincipal{
		AuthPrincipalType: "AssumedRoleUser", AuthPrincipalDisplayName: "ops:ann@laptop", AuthPrincipalOwnerID: account,
	}, diagnostic.AuthPrincipal)

	denied.EncodedDiagnosticMessage = "sealed"
	text, err := json.Marshal(denied.AccessDeniedDetail)
	require.NoError(t, err)
	require.JSONEq(t, `{"AuthAction":"gpdb:DescribeModelService","AuthPrincipalType":"AssumedRoleUser","AuthPrincipalDisplayName":"ops:ann@laptop",
		"AuthPrincipalOwnerId":"`+account+`","PolicyType":"SessionPolicy","NoPermissionType":"ExplicitDeny","EncodedDiagnosticMessage":"sealed"}`, string(text))
}

func TestADiagnosticMessageOpensInItsAccountOnly(t *testing.T) {
	t.Parallel()
	a := newAuthorizer(t, fixed{})
	var denied *access.DeniedError
	require.ErrorAs(t, a.Require(t.Context(), ann(1), describe), &denied)
	message := denied.EncodedDiagnosticMessage
	_, err := a.OpenDiagnostic(account, message)
	require.NoError(t, err)
	for _, c := range []struct{ account, message string }{
		{"1000000000000002", message}, {account, message[:len(message)-4]}, {account, "?"}, {account, ""}, {account, "AAAA" + message[4:]},
	} {
		_, err := a.OpenDiagnostic(c.account, c.message)
		require.ErrorIs(t, err, access.ErrDiagnostic)
	}
	_, err = newAuthorizer(t, fixed{}).OpenDiagnostic(account, message)
	require.ErrorIs(t, err, access.ErrDiagnostic, "another installation's message")
}

func TestTheResourceIsLookedAtOnlyWhenAPolicyDependsOnIt(t *testing.T) {
	t.Parallel()
	tagged := document(`{"Effect":"Allow","Action":"gpdb:*","Resource":"*","Condition":{"StringEquals":{"acs:ResourceTag/team":"search"}}}`)
	taggedRAM := document(`{"Effect":"Allow","Action":"ram:*","Resource":"*","Condition":{"StringEquals":{"acs:ResourceTag/team":"search"}}}`)
	inGroup := func(document string) fixed {
		return fixed{ResourceGroups: map[string][]access.AttachedPolicy{group: attached("group", document)}}
	}
	for _, c := range []struct {
		name     string
		policies fixed
		session  string
		looks    int
		allowed  bool
	}{
		{"nothing asks", fixed{Account: attached("p", allowAll)}, "", 0, true},
		{"a condition asks", fixed{Account: attached("p", tagged)}, "", 1, true},
		{"a condition of another action asks", fixed{Account: attached("p", allowAll, taggedRAM)}, "", 0, true},
		{"a group asks", inGroup(allowAll), "", 1, true},
		{"a group and its condition ask", inGroup(tagged), "", 1, true},
		{"the session asks", fixed{Account: attached("p", allowAll)}, tagged, 1, true},
		{"session and role ask", fixed{Account: attached("p", tagged)}, tagged, 1, true},
		{"the account decides before the group", fixed{Account: attached("p", denyAll), ResourceGroups: inGroup(allowAll).ResourceGroups}, "", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			looks := 0
			request := describe
			request.Look = func(context.Context) (access.Facts, error) {
				looks++
				return access.Facts{ResourceGroupID: group, Tags: map[string]string{"team": "search"}}, nil
			}
			decision, err := newAuthorizer(t, c.policies).Authorize(t.Context(), session(c.session), request)
			require.NoError(t, err)
			require.Equal(t, c.allowed, decision.Allowed)
			require.Equal(t, c.looks, looks)

			away := errors.New("the database is away")
			request.Look = func(context.Context) (access.Facts, error) { return access.Facts{}, away }
			_, err = newAuthorizer(t, c.policies).Authorize(t.Context(), session(c.session), request)
			if c.looks > 0 {
				require.ErrorIs(t, err, away, "without what it depends on there is no decision")
			} else {
				require.NoError(t, err)
			}
		})
	}
}

func TestTheRequestCannotSayWhatTheCallerIs(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"acs:SourceIp", "ACS:sourceip", "acs:SecureTransport", "acs:CurrentTime", "acs:PrincipalARN", "acs:MFAPresent"} {
		only := document(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"` + key + `":"forged"}}}`)
		request := describe
		request.Context = map[string]string{key: "forged"}
		for _, caller := range []access.Caller{ann(1), session("")} {
			require.ErrorIs(t, newAuthorizer(t, fixed{Account: attached("p", only)}).Require(t.Context(), caller, request), access.ErrForbiddenRAM, key)
		}
	}
}

func TestConditionsAreAskedAnewForEachRequest(t *testing.T) {
	t.Parallel()
	office := document(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"acs:SourceIp":"203.0.113.0/24"},
		"Bool":{"acs:SecureTransport":"true"},"DateLessThan":{"acs:CurrentTime":"2026-02-01T00:00:00Z"},
		"StringEquals":{"acs:RequestTag/team":"search"}}}`)
	a := newAuthorizer(t, fixed{Account: attached("p", office)})
	caller, request := ann(1), describe
	caller.Secure, request.Context = true, map[string]string{"acs:RequestTag/team": "search"}
	for range 2 {
		require.NoError(t, a.Require(t.Context(), caller, request))
		for _, change := range []func(*access.Caller, *access.Request){
			func(c *access.Caller, _ *access.Request) { c.SourceIP = netip.MustParseAddr("203.0.114.7") },
			func(c *access.Caller, _ *access.Request) { c.Secure = false },
			func(c *access.Caller, _ *access.Request) { c.Time = c.Time.AddDate(0, 0, 1) },
			func(_ *access.Caller, r *access.Request) { r.Context = nil },
		} {
			c, r := caller, request
			change(&c, &r)
			require.ErrorIs(t, a.Require(t.Context(), c, r), access.ErrForbiddenRAM)
		}
	}
	caller.Time = caller.Time.AddDate(-10, 0, 0)
	require.NoError(t, a.Require(t.Context(), caller, request))
}

func TestTheTrustPolicyOfARoleDecidesWhoMayAssumeIt(t *testing.T) {
	t.Parallel()
	a := newAuthorizer(t, fixed{})
	assume := access.Request{
		Action: "sts:AssumeRole", Resources: []string{"acs:ram::" + account + ":role/ops"}, Context: map[string]string{"sts:ExternalId": "x"},
	}
	trusts := func(effect, principal string) string {
		return `{"Version":"1","Statement":[{"Effect":"` + effect + `","Action":"sts:AssumeRole","Principal":{"RAM":"acs:ram::` + account + `:` + principal + `"},
			"Condition":{"StringEquals":{"sts:ExternalId":"x"}}}]}`
	}
	require.NoError(t, a.RequireTrust(ann(1), trusts("Allow", "user/ann"), assume))
	require.NoError(t, a.RequireTrust(ann(1), trusts("Allow", "root"), assume))
	require.NoError(t, a.RequireTrust(session(""), trusts("Allow", "role/ops"), assume))

	root := access.Caller{Identity: access.Root, AccountID: account}
	other := assume
	other.Context = nil
	for _, c := range []struct {
		caller  access.Caller
		trust   string
		request access.Request
		denied  string
	}{
		{ann(1), trusts("Deny", "user/ann"), assume, access.ExplicitDeny},
		{ann(1), trusts("Allow", "user/bob"), assume, access.ImplicitDeny},
		{ann(1), trusts("Allow", "user/ann"), other, access.ImplicitDeny},
		{root, trusts("Allow", "user/ann"), assume, access.ImplicitDeny},
	} {
		err := a.RequireTrust(c.caller, c.trust, c.request)
		var denied *access.DeniedError
		require.ErrorAs(t, err, &denied)
		require.ErrorIs(t, err, access.ErrNoPermission)
		require.Equal(t, access.AssumeRoleStage, denied.PolicyType)
		require.Equal(t, c.denied, denied.NoPermissionType)
	}
	require.Error(t, a.RequireTrust(access.Caller{AccountID: account}, trusts("Allow", "root"), assume))
	err := a.RequireTrust(ann(1), "{}", assume)
	var denied *access.DeniedError
	require.Error(t, err)
	require.NotErrorAs(t, err, &denied)
}
