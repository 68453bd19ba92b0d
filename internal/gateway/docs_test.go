package gateway

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const docs = "../../docs/"

var writing sync.Mutex // of the pages, by the tests of this package

// keep holds a table of a page against the code, or writes it anew when UPDATE_DOCS is set.
func keep(t *testing.T, page, table string, rows ...string) {
	t.Helper()
	writing.Lock()
	defer writing.Unlock()
	text, err := os.ReadFile(docs + page)
	require.NoError(t, err)
	start := "<!-- table: " + table + " -->\n"
	before, rest, found := strings.Cut(string(text), start)
	require.True(t, found, table)
	was, after, found := strings.Cut(rest, "\n<!-- end -->")
	require.True(t, found, table)
	now := strings.Join(rows, "\n")
	if os.Getenv("UPDATE_DOCS") == "" {
		require.Equal(t, now, was, "run UPDATE_DOCS=1 go test ./internal/gateway -run Document")
		return
	}
	require.NoError(t, os.WriteFile(docs+page, []byte(before+start+now+"\n<!-- end -->"+after), 0o600))
}

func listed(names []string) string { return "`" + strings.Join(names, "`, `") + "`" }

func TestTheDocumentListsTheHeadersThatPass(t *testing.T) {
	t.Parallel()
	besides := passed[:len(passed)-len(forwarded)]
	require.Equal(t, forwarded, passed[len(besides):])
	keep(t, "protocols.md", "request headers",
		"| passed to | headers |", "|---|---|",
		"| every service | "+listed(forwarded)+" |",
		"| services of Model APIs, besides | "+listed(besides)+" |",
		"| services of Model APIs, all that begin with | "+listed(passedPrefixes)+", but for "+listed(choosesAccount)+" |",
		"| with a WebSocket's handshake | "+listed(passedUpgrade)+" |")
	keep(t, "protocols.md", "answer headers",
		"| of | headers |", "|---|---|",
		"| model services that are called directly | all but "+listed(withheld)+" |",
		"| services of Model APIs | "+listed(answerNames)+" |",
		"| services of Model APIs, all that begin with | "+listed(answerPrefixes)+", but for "+listed(withheldFromConsumers)+" |",
		"| with a WebSocket's handshake | "+listed(answerUpgrade)+" |")
}

func TestTheDocumentListsTheErrors(t *testing.T) {
	t.Parallel()
	rows := []string{"| status | OpenAI: `code` | Anthropic: `type` | DashScope: `code` |", "|---|---|---|---|"}
	for _, r := range refusals(t) {
		rows = append(rows, fmt.Sprintf("| %d | `%s` | `%s` | `%s` |", r.status, r.code,
			named(anthropicTypes, r.status, "api_error"), named(dashScopeCodes, r.status, "InternalError")))
	}
	keep(t, "protocols.md", "refusals", rows...)
}

// refusals are those that stand in the source, each once, in the order of their statuses and codes.
func refusals(t *testing.T) (found []refusal) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if literal, ok := n.(*ast.CompositeLit); ok {
				if kind, ok := literal.Type.(*ast.Ident); ok && kind.Name == "refusal" && len(literal.Elts) > 1 { // one that is written
					found = append(found, readRefusal(t, literal))
				}
			}
			return true
		})
	}
	slices.SortFunc(found, func(a, b refusal) int { return cmp.Or(a.status-b.status, strings.Compare(a.code, b.code)) })
	return slices.CompactFunc(found, func(a, b refusal) bool { return a.status == b.status && a.code == b.code })
}

// statusNames are those of net/http that refusals are written with.
var statusNames = map[string]int{
	"StatusPermanentRedirect": http.StatusPermanentRedirect, "StatusBadRequest": http.StatusBadRequest,
	"StatusMethodNotAllowed": http.StatusMethodNotAllowed,
}

func readRefusal(t *testing.T, literal *ast.CompositeLit) (r refusal) {
	t.Helper()
	for _, element := range literal.Elts {
		pair := element.(*ast.KeyValueExpr)
		switch value := pair.Value.(type) {
		case *ast.BasicLit:
			if pair.Key.(*ast.Ident).Name == "status" {
				r.status, _ = strconv.Atoi(value.Value)
			}
			if pair.Key.(*ast.Ident).Name == "code" {
				r.code, _ = strconv.Unquote(value.Value)
			}
		case *ast.SelectorExpr:
			r.status = statusNames[value.Sel.Name]
		}
	}
	require.NotZero(t, r.status, "a status that this test does not know")
	require.NotEmpty(t, r.code)
	return r
}

func TestTheDocumentNamesTheMetrics(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(docs + "monitoring.md")
	require.NoError(t, err)
	declared := regexp.MustCompile(`NewDesc\("(\w+)"`)
	var names []string
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, match := range declared.FindAllStringSubmatch(string(source), -1) {
			names = append(names, match[1])
		}
		return err
	}))
	require.NotEmpty(t, names)
	for _, name := range names {
		require.Contains(t, string(page), "`"+name+"`", "docs/monitoring.md does not name the metric")
	}
}
