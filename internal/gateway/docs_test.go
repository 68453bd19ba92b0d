package gateway

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
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

	"github.com/engineshed/engineshed/internal/gateway/downstream"
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

// errorHead is of the gateway's errors; each protocol has a name for them.
const errorHead = "| status | OpenAI: `code` | Anthropic: `type` | DashScope: `code` | cause | next step |"

func TestTheDocumentListsTheErrors(t *testing.T) {
	t.Parallel()
	found := refusals(t)
	var rows []string
	for _, r := range found {
		rows = append(rows, fmt.Sprintf("| %d | `%s` | `%s` | `%s` | %s | %s |", r.status, r.code,
			named(anthropicTypes, r.status, "api_error"), named(dashScopeCodes, r.status, "InternalError"), plain.Replace(r.cause), plain.Replace(r.next)))
	}
	keep(t, "errors.md", "gateway", append([]string{errorHead, "|---|---|---|---|---|---|"}, slices.Compact(rows)...)...)

	rows = []string{"| status | `code` | cause | next step |", "|---|---|---|---|"}
	for _, status := range slices.Sorted(maps.Keys(downstream.Refusals)) {
		r := downstream.Refusals[status]
		require.Regexp(t, sentence, r.Cause)
		require.Regexp(t, sentence, r.Next)
		rows = append(rows, fmt.Sprintf("| %d | `%s` | %s | %s |", status, r.Code, r.Cause, r.Next))
	}
	keep(t, "errors.md", "unreadable", rows...)

	for _, code := range decided(t) {
		require.True(t, slices.ContainsFunc(found, func(r refusal) bool { return r.code == code }),
			"the control plane explains a refusal that no gateway answers: %s", code)
	}
}

var plain = strings.NewReplacer("<", "&lt;") // a page would take it for markup

var sentence = regexp.MustCompile(`^[A-Z].*\S\.$`)

// sources are the files of a package that are no tests.
func sources(t *testing.T, pattern string) (found []*ast.File) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	for _, name := range files {
		if !strings.HasSuffix(name, "_test.go") {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			require.NoError(t, err)
			found = append(found, file)
		}
	}
	require.NotEmpty(t, found)
	return found
}

// refusals are those that stand in the source, in the order of their statuses and codes. Each is whole and in use.
func refusals(t *testing.T) (found []refusal) {
	t.Helper()
	named, uses := map[string]string{}, map[string]int{} // codes, and how often each variable is named
	for _, file := range sources(t, "*.go") {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, value := range n.Values {
					if made, ok := value.(*ast.UnaryExpr); ok && isRefusal(made.X) {
						named[n.Names[i].Name] = readRefusal(t, made.X.(*ast.CompositeLit)).code
					}
				}
			case *ast.CompositeLit:
				if isRefusal(n) {
					found = append(found, readRefusal(t, n))
				}
			case *ast.Ident:
				uses[n.Name]++
			}
			return true
		})
	}
	for name, code := range named {
		require.Greater(t, uses[name], 1, "nothing answers %s (%s)", name, code)
	}
	for _, r := range found {
		require.Regexp(t, sentence, r.cause, "the cause of %s", r.code)
		require.Regexp(t, sentence, r.next, "the next step of %s", r.code)
		require.NotContains(t, r.cause+r.next, "|", "it would break the table")
	}
	slices.SortFunc(found, func(a, b refusal) int {
		return cmp.Or(a.status-b.status, strings.Compare(a.code, b.code), strings.Compare(a.cause+a.next, b.cause+b.next))
	})
	return found
}

// isRefusal reports whether an expression is a refusal that is answered; two others stand for what a service says itself.
func isRefusal(expression ast.Expr) bool {
	literal, ok := expression.(*ast.CompositeLit)
	if !ok {
		return false
	}
	kind, ok := literal.Type.(*ast.Ident)
	return ok && kind.Name == "refusal" && len(literal.Elts) > 1
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
		switch pair.Key.(*ast.Ident).Name {
		case "status":
			if name, ok := pair.Value.(*ast.SelectorExpr); ok {
				r.status = statusNames[name.Sel.Name]
			} else {
				r.status, _ = strconv.Atoi(pair.Value.(*ast.BasicLit).Value)
			}
		case "code":
			r.code = text(pair.Value)
		case "cause":
			r.cause = text(pair.Value)
		case "next":
			r.next = text(pair.Value)
		}
	}
	require.NotZero(t, r.status, "a status that this test does not know")
	require.NotEmpty(t, r.code)
	return r
}

// text is what an expression says, with … for what is only known when it is answered.
func text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		said, _ := strconv.Unquote(e.Value)
		return said
	case *ast.BinaryExpr:
		return text(e.X) + text(e.Y)
	}
	return "…"
}

var snake = regexp.MustCompile(`^[a-z]+(_[a-z]+)+$`)

// decided are the codes with which the control plane explains what a gateway would do: all that is written in their way.
func decided(t *testing.T) (codes []string) {
	t.Helper()
	for _, file := range sources(t, "../modelapi/decision*.go") {
		ast.Inspect(file, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && snake.MatchString(text(literal)) {
				codes = append(codes, text(literal))
			}
			return true
		})
	}
	require.Contains(t, codes, "invalid_api_key")
	return codes
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
