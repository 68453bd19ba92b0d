package arch

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// planted are edges that must be found, by the rule that finds them.
var planted = map[string][]edge{
	"generated code stays in the api": {
		{"internal/modelservice", "internal/oapi/gpdb", false},
		{"cmd/engineshed", "internal/oapi/common", true},
		{"internal/apiary", "internal/oapi/gpdb", false},
	},
	"OpenAPI stays in the api":   {{"internal/instance", "github.com/getkin/kin-openapi/openapi3", false}},
	"HTTP stays at the edges":    {{"internal/modelservice", "net/http", false}, {"internal/access/ram", "net/http", false}},
	"Casbin stays in access":     {{"internal/iam", "github.com/casbin/casbin/v2", false}, {"internal/access/ram", "github.com/casbin/casbin/v2/model", true}},
	"River stays where jobs are": {{"internal/api/gpdb", "github.com/riverqueue/river/rivertype", false}, {"internal/gateway", "github.com/riverqueue/river", false}},
	"drivers stop at node":       {{"internal/modelservice", "internal/node/process", false}, {"internal/modelservice", "internal/node/kubernetes", true}},
	"the SDK stands alone":       {{"sdk", "internal/fault", false}, {"sdk", "internal/secret", true}},
	"test code stays in tests":   {{"internal/fault", "github.com/stretchr/testify/require", false}, {"internal/up", "internal/postgres/pgtest", false}},
	"nothing but its command uses the gateway": {
		{"internal/controlplane", "internal/gateway/config", false},
		{"cmd/engineshed", "internal/gateway", true},
	},
	"the matcher knows what is published and nothing else": {{"internal/route", "internal/fault", false}, {"internal/route", "internal/gateway/config", false}},
	"the gateway shares what is published with the control plane, how a request is matched to it, and no other behaviour": {
		{"internal/gateway/config", "internal/modelservice", false},
		{"internal/gateway", "internal/fault", false},
		{"internal/gateway", "internal/iam", true},
		{"internal/gateway", "internal/postgres/pgtest", false},
		{"cmd/gateway", "internal/controlplane", false},
	},
	"servers do not call themselves through the SDK":        {{"internal/controlplane", "sdk", false}, {"internal/up", "sdk/gpdb", false}},
	"the stand-in engine shares no code with what it tests": {{"cmd/vllm-sim", "internal/node/vllm", false}},
	"arrows point down": {
		{"internal/postgres", "internal/modelservice", false},
		{"internal/instance", "internal/modelservice", false},
		{"internal/secret", "cmd/engineshed", false},
		{"internal/newcomer", "internal/fault", false}, // it has no place in the order yet
	},
}

func TestPlantedImportsAreFound(t *testing.T) {
	t.Parallel()
	for _, r := range rules {
		require.NotEmpty(t, planted[r.name], "plant an import that breaks the rule %q", r.name)
		require.NotEmpty(t, r.reason)
		for _, e := range planted[r.name] {
			require.True(t, r.breaks(e), "%s: %+v", r.name, e)
		}
	}
	require.Len(t, planted, len(rules))
}

func TestOrdinaryImportsAreNoViolation(t *testing.T) {
	t.Parallel()
	for _, e := range []edge{
		{"internal/api/gpdb", "internal/oapi/gpdb", false},
		{"internal/oapi/gpdb", "internal/oapi/common", false},
		{"internal/modelservice", "internal/instance", false},
		{"internal/modelservice", "internal/node/vllm", false},
		{"internal/modelservice", "internal/postgres/pgtest", true},
		{"internal/postgres/pgtest", "testing", false},
		{"internal/gateway", "internal/snapshot", false},
		{"internal/gateway/config", "internal/route", false},
		{"internal/modelapi", "internal/route", false},
		{"internal/gateway", "internal/postgres", false},
		{"internal/gateway", "internal/postgres/pgtest", true},
		{"internal/access", "github.com/casbin/casbin/v2/model", false},
		{"internal/fault", "errors", false},
		{"cmd/engineshed", "sdk/gpdb", false},
		{"cmd/vllm-sim", "net/http", false},
		{"e2e", "internal/postgres/pgtest", true},
	} {
		require.Empty(t, broken(e), "%+v", e)
	}
}

func TestEmptyNamesAreFound(t *testing.T) {
	t.Parallel()
	require.True(t, namesNothing("internal/util"))
	require.True(t, namesNothing("internal/api/models"))
	require.True(t, namesNothing("internal/common"))
	require.True(t, namesNothing("helpers"))
	require.False(t, namesNothing("internal/oapi/common"))
	require.False(t, namesNothing("internal/modelservice"))
}

func TestSkippedTestsAreFound(t *testing.T) {
	t.Parallel()
	found, err := skips("planted_test.go", `package p
		func TestA(t *testing.T) { t.Skip("no database") }
		func TestB(t *testing.T) { if testing.Short() { t.SkipNow() } }
		func TestC(t *testing.T) { skip := fs.SkipDir; _ = skip }`)
	require.NoError(t, err)
	require.Equal(t, []string{"planted_test.go:2:30: Skip", "planted_test.go:3:33: Short", "planted_test.go:3:51: SkipNow"}, found)
}
