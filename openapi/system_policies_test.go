package openapi_test

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access/ram"
	"github.com/engineshed/engineshed/policies"
)

// secretReads read and show a secret, so that a policy to look at things must not cover them.
var secretReads = []string{"apig:GetConsumer"}

// TestSystemPoliciesCoverExactlyWhatTheirNamesSay asks each about every action of the documents.
func TestSystemPoliciesCoverExactlyWhatTheirNamesSay(t *testing.T) {
	t.Parallel()
	levels := map[string]string{} // by action
	for _, operation := range operations(t) {
		xRAM := operation.Extensions["x-ram"].(map[string]any)
		levels[xRAM["action"].(string)] = xRAM["level"].(string)
		optional, _ := xRAM["optional"].([]any)
		for _, action := range optional {
			levels[action.(string)] = "secret"
		}
	}
	for _, action := range secretReads {
		require.Contains(t, levels, action)
		levels[action] = "secret"
	}
	reads := func(action string) bool { return levels[action] == "get" || levels[action] == "list" }
	of := func(products ...string) func(string) bool {
		return func(action string) bool {
			return slices.ContainsFunc(products, func(product string) bool { return strings.HasPrefix(action, product+":") })
		}
	}
	both := func(one, other func(string) bool) func(string) bool {
		return func(action string) bool { return one(action) && other(action) }
	}
	covers := map[string]func(action string) bool{
		"AdministratorAccess":       func(string) bool { return true },
		"ReadOnlyAccess":            reads,
		"AliyunGPDBFullAccess":      of("gpdb"),
		"AliyunGPDBReadOnlyAccess":  both(of("gpdb"), reads),
		"AliyunAPIGFullAccess":      of("apig"),
		"AliyunAPIGReadOnlyAccess":  both(of("apig"), reads),
		"AliyunRAMFullAccess":       of("ram", "ims"),
		"AliyunSTSAssumeRoleAccess": func(action string) bool { return action == "sts:AssumeRole" },
	}
	for _, action := range []string{"ram:CreateUser", "ims:CreateUser", "sts:AssumeRole"} {
		if levels[action] == "" {
			levels[action] = "update"
		}
	}
	names, err := fs.Glob(policies.System(), "*.json")
	require.NoError(t, err)
	require.Len(t, names, len(covers))
	for name, covered := range covers {
		text, err := fs.ReadFile(policies.System(), name+".json")
		require.NoError(t, err)
		parsed, err := ram.Parse(string(text))
		require.NoError(t, err, name)
		for action := range levels {
			allowed := slices.ContainsFunc(parsed.Statements, func(s ram.Statement) bool {
				require.Equal(t, ram.Allow, s.Effect, name)
				return s.Matches(ram.NewRequest(action, []string{"*"}, nil))
			})
			require.Equal(t, covered(action), allowed, "%s: %s, which is of level %s", name, action, levels[action])
		}
	}
}
