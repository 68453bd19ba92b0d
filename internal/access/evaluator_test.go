package access_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/access"
)

// The evaluator of these tests is written from RAM's rules and shares no code with the authorizer.

type plainStatement struct {
	Effect    string
	Action    []string `json:",omitempty"`
	NotAction []string `json:",omitempty"`
	Resource  []string
}

// evaluate says what a set of statements decides: a deny that matches, else an allow that matches, else no.
func evaluate(statements []plainStatement, request access.Request) (allowed bool, noPermissionType string) {
	for _, s := range statements {
		if s.Effect == "Deny" && s.matches(request) {
			return false, "ExplicitDeny"
		}
	}
	for _, s := range statements {
		if s.Effect == "Allow" && s.matches(request) {
			return true, ""
		}
	}
	return false, "ImplicitDeny"
}

func (s plainStatement) matches(request access.Request) bool {
	action := false
	for _, pattern := range append(s.Action, s.NotAction...) {
		action = action || wildcard(strings.ToUpper(pattern), strings.ToUpper(request.Action))
	}
	if len(s.NotAction) > 0 {
		action = !action
	}
	resource := false
	for _, pattern := range s.Resource {
		for _, spelling := range request.Resources {
			resource = resource || wildcard(pattern, spelling)
		}
	}
	return action && resource
}

// wildcard fills a table: fits[j] says whether the pattern so far fits the first j bytes of s.
func wildcard(pattern, s string) bool {
	fits := make([]bool, len(s)+1)
	fits[0] = true
	for i := range len(pattern) {
		next := make([]bool, len(s)+1)
		next[0] = fits[0] && pattern[i] == '*'
		for j := 1; j <= len(s); j++ {
			if pattern[i] == '*' {
				next[j] = next[j-1] || fits[j]
			} else {
				next[j] = fits[j-1] && (pattern[i] == '?' || pattern[i] == s[j-1])
			}
		}
		fits = next
	}
	return fits[len(s)]
}

var (
	actionPatterns = []string{
		"*", "gpdb:*", "GPDB:describe*", "gpdb:*Model*", "gpdb:CreateModelService", "gpdb:Delete?odelService", "*:List*", "ram:*", "gpdb:?*",
	}
	actions           = []string{"gpdb:CreateModelService", "gpdb:DeleteModelService", "gpdb:DescribeModelService", "gpdb:ListAINodePools", "ram:ListUsers"}
	regions           = []string{"", "*", "cn-hangzhou", "cn-*", "*bei*"}
	accounts          = []string{"*", account, "1000000000000002"}
	instances         = []string{"*", "gp-a", "gp-?", "gp-aa", "g*a", "GP-A"}
	requestedResource = [][]string{instance("gp-a"), instance("gp-b"), instance("gp-aa"), {"*"}}
)

func drawPatterns(t *rapid.T, one *rapid.Generator[string], label string) []string {
	return rapid.SliceOfN(one, 1, 3).Draw(t, label)
}

func drawStatement(t *rapid.T) plainStatement {
	s := plainStatement{Effect: rapid.SampledFrom([]string{"Allow", "Allow", "Deny"}).Draw(t, "effect")}
	patterns := drawPatterns(t, rapid.SampledFrom(actionPatterns), "actions")
	if rapid.IntRange(0, 3).Draw(t, "not") == 0 {
		s.NotAction = patterns
	} else {
		s.Action = patterns
	}
	s.Resource = drawPatterns(t, rapid.Custom(func(t *rapid.T) string {
		if rapid.IntRange(0, 5).Draw(t, "all") == 0 {
			return "*"
		}
		return "acs:" + rapid.SampledFrom([]string{"gpdb", "*", "ram"}).Draw(t, "product") + ":" + rapid.SampledFrom(regions).Draw(t, "region") +
			":" + rapid.SampledFrom(accounts).Draw(t, "account") + ":dbinstance/" + rapid.SampledFrom(instances).Draw(t, "instance")
	}), "resources")
	return s
}

func TestDecisionsAgreeWithTheNaiveEvaluator(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var documents []string
		var all []plainStatement
		for range rapid.IntRange(0, 4).Draw(t, "policies") {
			statements := rapid.SliceOfN(rapid.Custom(drawStatement), 1, 4).Draw(t, "statements")
			text, err := json.Marshal(map[string]any{"Version": "1", "Statement": statements})
			require.NoError(t, err)
			documents = append(documents, string(text))
			all = append(all, statements...)
		}
		var policies attachments
		policies.attach(documents...)
		a := access.NewAuthorizer(&policies, nil, nil)
		for _, action := range actions {
			for _, resources := range requestedResource {
				request := access.Request{Action: action, Resources: resources}
				decision, err := a.Authorize(t.Context(), ann(1), request)
				require.NoError(t, err)
				allowed, noPermissionType := evaluate(all, request)
				require.Equal(t, allowed, decision.Allowed, "%+v: %v", request, documents)
				require.Equal(t, noPermissionType, decision.NoPermissionType)
			}
		}
	})
}
