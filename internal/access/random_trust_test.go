package access_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
)

// trustPrincipals are what trust policies name, near misses of the callers among them.
var trustPrincipals = map[string][]string{
	"RAM": {
		"acs:ram::" + account + ":root", "acs:ram::1000000000000002:root", "acs:ram::" + account + ":user/ann", "acs:ram::" + account + ":user/Ann",
		"acs:ram::" + account + ":user/an", "acs:ram::1000000000000002:user/ann", "acs:ram::" + account + ":role/ops", "acs:ram::" + account + ":role/op",
		"acs:ram::" + account + ":role/ops/ann@laptop", "acs:ram::" + account + ":role/ops/ann", "acs:ram::" + account + ":user/root",
	},
	"Service":   {"ecs.aliyuncs.com"},
	"Federated": {"acs:ram::" + account + ":saml-provider/idp"},
}

func (r random) trust(t *testing.T) string {
	t.Helper()
	statements := make([]map[string]any, 1+r.IntN(3))
	for i := range statements {
		principals := map[string]any{}
		for range 1 + r.IntN(2) {
			kind := pick(r, []string{"RAM", "RAM", "RAM", "RAM", "Service", "Federated"})
			principals[kind] = r.some(func() string { return pick(r, trustPrincipals[kind]) })
		}
		statements[i] = map[string]any{
			"Effect": pick(r, []string{"Allow", "Allow", "Deny"}), "Action": pick(r, []string{"sts:AssumeRole", "STS:assumerole"}), "Principal": principals,
		}
		if r.oneIn(3) {
			statements[i]["Condition"] = r.conditions()
		}
	}
	text, err := json.Marshal(map[string]any{"Version": "1", "Statement": statements})
	require.NoError(t, err)
	return string(text)
}

// trusts says what a trust policy says of a caller: the account's root stands for all of the account, a role for its sessions.
func (w naiveWorld) trusts(document, arn string) string {
	result := "ImplicitDeny"
	for _, statement := range naiveStatements(document) {
		named := false
		for _, name := range list(statement["Principal"].(map[string]any)["RAM"]) {
			parts, asks := strings.Split(name, ":"), strings.Split(arn, ":")
			same := parts[3] == asks[3]
			named = named || same && (parts[4] == "root" || parts[4] == asks[4] || strings.HasPrefix(parts[4], "role/") && strings.HasPrefix(asks[4], parts[4]+"/"))
		}
		if !named || !w.meets(statement) {
			continue
		}
		if statement["Effect"] == "Deny" {
			return "ExplicitDeny"
		}
		result = "Allow"
	}
	return result
}

func TestTrustAgreesWithTheNaiveEvaluator(t *testing.T) {
	t.Parallel()
	from := seed(t)
	t.Logf("POLICY_SEED=%d", from)
	r := random{rand.New(rand.NewPCG(from, 1))}
	a, seen := newAuthorizer(t, fixed{}), map[string]int{}
	for range 10_000 {
		caller := pick(r, []access.Caller{ann(1), session("")})
		caller, request, world := r.request(caller, naiveWorld{})
		for key := range world.says { // nobody looks at the role's tags
			if strings.HasPrefix(key, "acs:ResourceTag/") {
				delete(world.says, key)
			}
		}
		document := r.trust(t)
		want, got := world.trusts(document, caller.ARN()), "Allow"
		if err := a.RequireTrust(caller, document, request); err != nil {
			denied, ok := errors.AsType[*access.DeniedError](err)
			require.True(t, ok, "%v", err)
			got = denied.NoPermissionType
		}
		require.Equal(t, want, got, "POLICY_SEED=%d: %s may not or may assume the role of %s, with %v", from, caller.ARN(), document, world.says)
		seen[want]++
	}
	for _, outcome := range []string{"Allow", access.ExplicitDeny, access.ImplicitDeny} {
		require.Greater(t, seen[outcome], 500, "%v", seen)
	}
}
