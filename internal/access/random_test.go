package access_test

import (
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/access/ram"
)

// What random policies are made of: few enough words that they meet, in the spellings that matter.
var (
	someActions = []string{
		"*", "gpdb:*", "GPDB:describe*", "gpdb:*Model*", "gpdb:CreateModelService", "gpdb:Delete?odelService", "*:List*", "ram:*", "gpdb:?*", "gpdb:*?*",
	}
	askedActions = []string{
		"gpdb:CreateModelService", "gpdb:DeleteModelService", "gpdb:DescribeModelService", "gpdb:ListAINodePools", "ram:ListUsers", "GPDB:listmodelservices",
	}
	someInstances  = []string{"*", "gp-a", "gp-?", "gp-aa", "g*a", "GP-A", "gp-é", "gp-*-*"}
	askedResources = [][]string{instance("gp-a"), instance("gp-b"), instance("gp-aa"), instance("gp-é"), {"*"}}
	someGroups     = []string{"", "rg-1", "rg-2", "rg-3"}

	texts = []string{
		"search", "Search", "s*", "?earch", "", "éa", "ÉA", "*", "s*r*h", "[s]", "true", "2026-*", "203.0.113.?", "acs:ram::*:user/ann",
		"acs:ram::" + account + ":role/OPS/ann@laptop",
	}
	numbers = []string{"0", "-0", "1", "1.0", "1.5", "-1.5", "10", "010", "9007199254740993", "9007199254740992", "0.1", "0.10000000000000000001"}
	dates   = []string{
		"2026-01-31T08:00:00Z", "2026-01-31T16:00:00+08:00", "2026-01-31T08:00:01Z", "2025-12-31T23:59:59Z", "2026-02-01T00:00:00-05:30",
		"2026-01-31T08:00Z", "2026-01-31T13:30+05:30", "2026-01-31T08:00:00.5Z", "2026-01-31T08:00:00.500000001Z",
	}
	bools     = []string{"true", "false"}
	addresses = []string{"203.0.113.7", "203.0.113.200", "10.0.0.1", "2001:db8::1", "2001:db9::1", "::ffff:203.0.113.7"}
	blocks    = []string{
		"203.0.113.7", "203.0.113.0/25", "203.0.113.77/24", "10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "2001:db8::1", "::/0", "203.0.113.7/32",
		"::ffff:203.0.113.7", "::ffff:203.0.113.0/121",
	}
	ownKeys = []string{"acs:ResourceTag/k", "ACS:resourcetag/k", "acs:ResourceTag/K", "acs:RequestTag/k", "apig:GatewayId", "apig:gatewayid"}
)

// conditionKind is what one kind of operators compares: the values, and the common keys that have such ones. Texts are
// compared with all of them.
type conditionKind struct{ operators, values, keys []string }

var conditionKinds = []conditionKind{
	{
		[]string{"StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike"},
		texts,
		[]string{
			"acs:PrincipalARN", "acs:PrincipalArn", "acs:SourceVpc", "acs:PrincipalRDId", "acs:PrincipalRDPath", "acs:Service",
			"acs:CurrentTime", "acs:SecureTransport", "acs:SourceIp", "acs:MFAPresent",
		},
	},
	{
		[]string{"NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals"},
		numbers, nil,
	},
	{
		[]string{"DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals"},
		dates,
		[]string{"acs:CurrentTime", "ACS:currenttime"},
	},
	{[]string{"Bool"}, bools, []string{"acs:SecureTransport", "acs:MFAPresent"}},
	{[]string{"IpAddress", "NotIpAddress"}, blocks, []string{"acs:SourceIp", "acs:sourceIP"}},
}

// random draws what the test needs. All of it follows from the seed.
type random struct{ *rand.Rand }

func pick[T any](r random, from []T) T { return from[r.IntN(len(from))] }

func (r random) oneIn(n int) bool { return r.IntN(n) == 0 }

// some is a string or an array of one to three.
func (r random) some(draw func() string) any {
	if r.oneIn(2) {
		return draw()
	}
	all := make([]string, 1+r.IntN(3))
	for i := range all {
		all[i] = draw()
	}
	return all
}

func (r random) statement() map[string]any {
	s := map[string]any{"Effect": pick(r, []string{"Allow", "Allow", "Allow", "Deny"})}
	if r.oneIn(5) {
		s["Sid"] = pick(r, texts)
	}
	actions := r.some(func() string { return pick(r, someActions) })
	if r.oneIn(4) {
		s["NotAction"] = actions
	} else {
		s["Action"] = actions
	}
	s["Resource"] = r.some(func() string {
		if r.oneIn(3) {
			return "*"
		}
		return "acs:" + pick(r, []string{"gpdb", "*", "ram", "g?db"}) + ":" + pick(r, []string{"", "*", "cn-hangzhou", "cn-*", "*bei*"}) +
			":" + pick(r, []string{"*", account, "1000000000000002"}) + ":dbinstance/" + pick(r, someInstances)
	})
	if r.oneIn(2) {
		s["Condition"] = r.conditions()
	}
	return s
}

func (r random) conditions() map[string]any {
	conditions := map[string]any{}
	for range 1 + r.IntN(2) {
		operator, keys := r.condition()
		conditions[operator] = keys
	}
	return conditions
}

func (r random) condition() (string, map[string]any) {
	kind, keys := pick(r, conditionKinds), map[string]any{}
	for range 1 + r.IntN(2) {
		key := pick(r, ownKeys)
		if len(kind.keys) > 0 && r.oneIn(2) {
			key = pick(r, kind.keys)
		}
		keys[key] = r.some(func() string { return pick(r, kind.values) })
	}
	return pick(r, kind.operators), keys
}

func (r random) documents(t *testing.T, most int) (all []string) {
	for range r.IntN(most + 1) {
		all = append(all, r.document(t, 3))
	}
	return all
}

func (r random) document(t *testing.T, most int) string {
	statements := make([]map[string]any, 1+r.IntN(most))
	for i := range statements {
		statements[i] = r.statement()
	}
	var all any = statements
	if len(statements) == 1 && r.oneIn(2) {
		all = statements[0]
	}
	text, err := json.Marshal(map[string]any{"Version": "1", "Statement": all})
	require.NoError(t, err)
	return string(text)
}

// principal draws attachments and a caller who has them, in both of their forms.
func (r random) principal(t *testing.T) (fixed, access.Caller, naiveWorld) {
	w := naiveWorld{account: r.documents(t, 3), groups: map[string][]string{}}
	policies := fixed{Account: attached("account", w.account...), ResourceGroups: map[string][]access.AttachedPolicy{}}
	for _, group := range []string{"rg-1", "rg-2"} {
		if r.oneIn(2) {
			w.groups[group] = r.documents(t, 2)
			policies.ResourceGroups[group] = attached(group, w.groups[group]...)
		}
	}
	caller := ann(1)
	if r.oneIn(3) {
		if w.sessionPolicy = r.document(t, 2); r.oneIn(4) || len([]rune(w.sessionPolicy)) > 1024 {
			w.sessionPolicy = ""
		}
		caller = session(w.sessionPolicy)
	}
	return policies, caller, w
}

// request draws what the caller asks for. Some of it is only found out by looking at the resource.
func (r random) request(caller access.Caller, w naiveWorld) (access.Caller, access.Request, naiveWorld) {
	w.action, w.resources, w.group = pick(r, askedActions), pick(r, askedResources), pick(r, someGroups)
	when, _ := naiveDate(pick(r, dates))
	caller.Time, caller.Secure, caller.SourceIP = when, r.oneIn(2), netip.Addr{}
	w.says = map[string]string{
		"acs:CurrentTime": when.UTC().Format(time.RFC3339), "acs:SecureTransport": strconv.FormatBool(caller.Secure), "acs:MFAPresent": "false",
		"acs:PrincipalARN": "acs:ram::" + account + ":user/ann",
	}
	if caller.Identity == access.Session {
		w.says["acs:PrincipalARN"] = "acs:ram::" + account + ":role/ops/ann@laptop"
	}
	if !r.oneIn(5) {
		text := pick(r, addresses)
		caller.SourceIP, w.says["acs:SourceIp"] = netip.MustParseAddr(text), strings.TrimPrefix(text, "::ffff:")
	}
	values := pick(r, [][]string{texts, numbers, dates, bools, addresses})
	said, facts := map[string]string{}, access.Facts{ResourceGroupID: w.group, Tags: map[string]string{}}
	for _, key := range []string{"acs:RequestTag/k", "apig:GatewayId"} {
		if !r.oneIn(3) {
			said[key] = pick(r, values)
		}
	}
	maps.Copy(w.says, said)
	for _, key := range []string{"k", "K"} {
		if !r.oneIn(3) {
			facts.Tags[key] = pick(r, values)
			w.says["acs:ResourceTag/"+key] = facts.Tags[key]
		}
	}
	request := access.Request{Action: w.action, Resources: w.resources, Context: said}
	request.Look = func(context.Context) (access.Facts, error) { return facts, nil }
	return caller, request, w
}

// pairs is how many pairs of policies and a request are tried: POLICY_PAIRS, 50,000 by default.
func pairs(t *testing.T) int {
	t.Helper()
	text := os.Getenv("POLICY_PAIRS")
	if text == "" {
		return 50_000
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// seed is POLICY_SEED, or another one each time.
func seed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("POLICY_SEED")
	if text == "" {
		return rand.Uint64()
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err)
	return n
}

func TestDecisionsAgreeWithTheNaiveEvaluator(t *testing.T) {
	t.Parallel()
	const requestsEach = 10
	want, from := pairs(t), seed(t)
	t.Logf("%d pairs, POLICY_SEED=%d", want, from)
	r := random{rand.New(rand.NewPCG(from, 0))}
	seen := map[naiveOutcome]int{}
	for tried := 0; tried < want; {
		policies, principal, documents := r.principal(t)
		a := newAuthorizer(t, policies)
		for range requestsEach {
			tried++
			caller, request, world := r.request(principal, documents)
			decision, err := a.Authorize(t.Context(), caller, request)
			require.NoError(t, err)
			outcome := naiveOutcome{decision.Allowed, decision.NoPermissionType, string(decision.Stage)}
			if outcome != world.decide() {
				t.Fatalf("pair %d, POLICY_SEED=%d: got %+v, want %+v for\n%+v", tried, from, outcome, world.decide(), world)
			}
			seen[outcome]++
			if tried%requestsEach == 0 {
				explained(t, a, caller, request, decision)
			}
		}
	}
	for _, stage := range []string{"SessionPolicy", "AccountLevelIdentityBasedPolicy", "ResourceGroupLevelIdentityBasedPolicy"} {
		for _, denial := range []string{"", access.ExplicitDeny, access.ImplicitDeny} {
			if stage != "SessionPolicy" || denial != "" { // a session policy that allows is not final
				share := float64(seen[naiveOutcome{denial == "", denial, stage}]) / float64(want)
				require.Greater(t, share, 0.001, "the pairs hardly reach %s %s: %v", stage, denial, seen)
			}
		}
	}
}

// explained checks that the explanation is that of the decision.
func explained(t *testing.T, a *access.Authorizer, caller access.Caller, request access.Request, decision access.Decision) {
	e, err := a.Explain(t.Context(), caller, request)
	require.NoError(t, err)
	require.Equal(t, []any{decision.Allowed, decision.NoPermissionType, decision.Stage}, []any{e.Allowed, e.NoPermissionType, e.DecidedBy})
	deciding := 0
	for _, stage := range e.Stages {
		for _, s := range stage.Statements {
			holding := !slices.ContainsFunc(s.Conditions, func(c access.ExplainedCondition) bool { return !c.Holds })
			require.Equal(t, s.Matches, s.ActionMatches && s.ResourceMatches && holding)
			if s.Decides {
				deciding++
				require.Equal(t, []any{decision.Stage, decision.PolicyName, decision.Statement}, []any{stage.Stage, s.PolicyName, s.Statement})
				require.True(t, s.Matches)
			}
		}
	}
	require.Equal(t, decision.NoPermissionType != access.ImplicitDeny, deciding == 1)
}

// A document that is refused names all there is: the random ones use each of them.
func TestRandomPoliciesUseEveryOperatorAndKey(t *testing.T) {
	t.Parallel()
	named := func(condition string) (names []string) {
		_, err := ram.Parse(document(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":` + condition + `}`))
		require.ErrorIs(t, err, ram.ErrMalformed)
		_, list, found := strings.Cut(err.Error(), "these are: ")
		require.True(t, found, err)
		return strings.Split(strings.NewReplacer(" and ", ", ", ".", "").Replace(list), ", ")
	}
	operators, keys, used := named(`{"Unknown":{}}`), named(`{"StringEquals":{"acs:Unknown":"x"}}`), map[string]bool{}
	require.Len(t, operators, 21)
	r := random{rand.New(rand.NewPCG(1, 2))}
	for range 5_000 {
		operator, keys := r.condition()
		used[operator] = true
		for key := range keys {
			used[sameKeyName(key)] = true
		}
	}
	for _, operator := range operators {
		require.Contains(t, used, operator)
	}
	for _, key := range keys {
		require.Contains(t, used, sameKeyName(key))
	}
}

// sameKeyName is equal for spellings of one key, whatever the tag.
func sameKeyName(key string) string {
	name, _, _ := strings.Cut(key, "/")
	return strings.ToLower(name)
}
