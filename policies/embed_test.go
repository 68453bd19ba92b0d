package policies_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/policies"
)

// Casbin's own matchers open another tenant's ARN (keyMatch) or read policy text as a regular expression.
func TestTheModelMatchesWithRamMatchAlone(t *testing.T) {
	t.Parallel()
	matchers := regexp.MustCompile(`(?m)^m = (.*)$`).FindAllStringSubmatch(policies.Model, -1)
	require.Equal(t, [][]string{{"m = ramMatch(r.request, p.statements)", "ramMatch(r.request, p.statements)"}}, matchers)
}
