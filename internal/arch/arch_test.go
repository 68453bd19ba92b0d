package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the repository, from here.
const root = "../.."

func TestImportsKeepTheRules(t *testing.T) {
	t.Parallel()
	edges := imports(t)
	require.Greater(t, len(edges), 200, "go list saw the repository")
	for _, e := range edges {
		for _, r := range broken(e) {
			t.Errorf("%s imports %s\n\trule: %s\n\tbecause %s", e.from, e.to, r.name, r.reason)
		}
	}
}

func TestFoldersAreNamedByWhatTheyHold(t *testing.T) {
	t.Parallel()
	walk(t, func(path string, entry fs.DirEntry) {
		if entry.IsDir() && namesNothing(path) {
			t.Errorf("%s: name the folder by what it holds; everything and nothing is a %s", path, entry.Name())
		}
	})
}

func TestNoTestIsSkipped(t *testing.T) {
	t.Parallel()
	walk(t, func(path string, entry fs.DirEntry) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		found, err := skips(filepath.Join(root, path), nil)
		require.NoError(t, err)
		for _, place := range found {
			t.Errorf("%s: a skipped test looks green; fail, and say what is missing and how to get it", place)
		}
	})
}

// broken returns the rules that e breaks.
func broken(e edge) []rule {
	return slices.DeleteFunc(slices.Clone(rules), func(r rule) bool { return !r.breaks(e) })
}

// imports returns every import of both modules of the repository.
func imports(t *testing.T) []edge {
	t.Helper()
	return append(importsOf(t, root), importsOf(t, filepath.Join(root, "e2e"))...)
}

func importsOf(t *testing.T, module string) []edge {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	list.Dir = module
	var complaints bytes.Buffer
	list.Stderr = &complaints
	out, err := list.Output()
	require.NoError(t, err, "go list in %s: %s", module, complaints.String())
	var edges []edge
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		err := decoder.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return edges
		}
		require.NoError(t, err)
		for _, to := range pkg.Imports {
			edges = append(edges, edge{short(pkg.ImportPath), short(to), false})
		}
		for _, to := range slices.Concat(pkg.TestImports, pkg.XTestImports) {
			edges = append(edges, edge{short(pkg.ImportPath), short(to), true})
		}
	}
}

// short names a package of ours by its folder.
func short(importPath string) string {
	return strings.TrimPrefix(importPath, "github.com/engineshed/engineshed/")
}

// walk visits the repository's own folders and files, by paths from the root.
func walk(t *testing.T, visit func(path string, entry fs.DirEntry)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, err = filepath.Rel(root, path)
		if entry.IsDir() && (path == "bin" || path != "." && strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		visit(filepath.ToSlash(path), entry)
		return err
	}))
}

// skips returns where a Go file calls Skip, Skipf, SkipNow or testing.Short. source is as parser.ParseFile takes it.
func skips(file string, source any) ([]string, error) {
	positions := token.NewFileSet()
	parsed, err := parser.ParseFile(positions, file, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		call, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		on, _ := call.X.(*ast.Ident)
		if slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, call.Sel.Name) || on != nil && on.Name == "testing" && call.Sel.Name == "Short" {
			found = append(found, fmt.Sprintf("%s: %s", positions.Position(call.Pos()), call.Sel.Name))
		}
		return true
	})
	return found, nil
}
