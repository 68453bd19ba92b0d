package modelapi

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheDocumentShowsTheDefaultRoutes keeps docs/model-apis.md true; UPDATE_DOCS=1 writes the tables anew.
func TestTheDocumentShowsTheDefaultRoutes(t *testing.T) {
	t.Parallel()
	const path, mark = "../../docs/model-apis.md", "<!-- default routes -->\n"
	document, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(document), mark)
	require.True(t, found, "the document lacks %q", mark)
	_, after, _ := strings.Cut(rest, "`/v1/responses` is an extension")
	want := before + mark + renderDefaultRoutes() + "\n`/v1/responses` is an extension" + after
	if os.Getenv("UPDATE_DOCS") != "" {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
	}
	require.Equal(t, want, string(document), "run UPDATE_DOCS=1 go test ./internal/modelapi -run Document")
}

func renderDefaultRoutes() string {
	var b strings.Builder
	for _, g := range defaultGroups {
		fmt.Fprintf(&b, "\n### %s, %s\n\n| name | path | methods | what it does |\n|---|---|---|---|\n", g.category, g.protocol)
		for _, r := range g.routes {
			path := r.Path
			if r.PathType == "Prefix" {
				path += "…"
			}
			fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", r.Name, path, strings.Join(r.Methods, " "), r.Description)
		}
	}
	return b.String()
}
