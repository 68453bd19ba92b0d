package openapi_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

// errorPage is what users read about a code that they were answered.
const errorPage = "../docs/errors.md"

// statuses are those of internal/api by the kind of a fault.
var statuses = map[string]string{
	"0": "500", "Invalid": "400", "Denied": "403", "NotFound": "404", "MethodNotAllowed": "405", "Conflict": "409",
	"TooLarge": "413", "UnsupportedMedia": "415", "Throttled": "429", "Unavailable": "503",
}

// declaration is a call of fault.New.
type declaration struct {
	place, name               string // the folder, and the variable of its package; "": it is not one
	kind, code, cause, advice string
}

// sources is what the program's files say of faults.
type sources struct {
	declared []declaration
	uses     map[string]int // of a name in a folder ("internal/api errRegion"), or behind a package's name ("fault.ErrInvalid")
	strays   []string       // where a fault comes from that no declaration stands behind
}

// readSources reads the files of a tree that are no tests. What it cannot follow is a stray.
func readSources(t *testing.T, root string) *sources {
	t.Helper()
	s := &sources{uses: map[string]int{}}
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err == nil {
			s.readFile(path, file)
		}
		return err
	}))
	return s
}

func (s *sources) readFile(path string, file *ast.File) {
	folder, names := filepath.Dir(path), map[ast.Node]string{}
	for _, top := range file.Decls {
		if vars, ok := top.(*ast.GenDecl); ok && vars.Tok == token.VAR {
			for _, spec := range vars.Specs {
				for i, value := range spec.(*ast.ValueSpec).Values {
					names[value] = spec.(*ast.ValueSpec).Names[i].Name
				}
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if isFault(file, n.Fun, "New") {
				s.declare(path, folder, names[n], n)
			}
		case *ast.CompositeLit:
			if isFault(file, n.Type, "Fault") && path != "../internal/fault/fault.go" {
				s.strays = append(s.strays, path+": a fault that is not made by fault.New")
			}
		case *ast.AssignStmt:
			s.assign(path, file, n)
		case *ast.SelectorExpr:
			if of, ok := n.X.(*ast.Ident); ok {
				s.uses[of.Name+"."+n.Sel.Name]++
			}
		case *ast.Ident:
			s.uses[folder+" "+n.Name]++
		}
		return true
	})
}

// isFault reports whether an expression is this name of package fault.
func isFault(file *ast.File, expression ast.Expr, name string) bool {
	switch e := expression.(type) {
	case *ast.Ident:
		return file.Name.Name == "fault" && e.Name == name
	case *ast.SelectorExpr:
		of, ok := e.X.(*ast.Ident)
		return ok && of.Name == "fault" && e.Sel.Name == name
	}
	return false
}

// codesOfDocuments is the one place where a code is put together: of an x-code and what the schema refused.
const codesOfDocuments = "../internal/api/validate.go"

func (s *sources) assign(path string, file *ast.File, assigned *ast.AssignStmt) {
	importsFault := slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return strings.HasSuffix(i.Path.Value, `internal/fault"`) })
	for _, left := range assigned.Lhs {
		member, ok := left.(*ast.SelectorExpr)
		if ok && member.Sel.Name == "Code" && importsFault && path != codesOfDocuments && !strings.HasSuffix(exprText(member.X), "entry") {
			s.strays = append(s.strays, path+": a code that is set, where fault.New declares one")
		}
	}
}

func exprText(e ast.Expr) string {
	if name, ok := e.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}

func (s *sources) declare(path, folder, name string, call *ast.CallExpr) {
	if name == "" || len(call.Args) != 4 {
		s.strays = append(s.strays, path+": fault.New is not the value of a variable of the package")
		return
	}
	d := declaration{place: strings.TrimPrefix(folder, "../"), name: name}
	switch kind := call.Args[0].(type) {
	case *ast.SelectorExpr:
		d.kind = kind.Sel.Name
	case *ast.Ident:
		d.kind = kind.Name
	case *ast.BasicLit:
		d.kind = kind.Value
	}
	for i, to := range []*string{&d.code, &d.cause, &d.advice} {
		*to = literal(call.Args[i+1])
	}
	s.declared = append(s.declared, d)
}

// literal is the text of a literal, or of several that are joined; "" of anything else.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.BinaryExpr:
		if left, right := literal(e.X), literal(e.Y); left != "" && right != "" {
			return left + right
		}
	}
	return ""
}

// complaints are about declarations that are not whole, and about those that nothing answers.
func (s *sources) complaints() []string {
	all, status := slices.Clone(s.strays), map[string]string{}
	for _, d := range s.declared {
		complain := func(what string) { all = append(all, d.place+"."+d.name+" ("+d.code+"): "+what) }
		if statuses[d.kind] == "" {
			complain("its kind has no status")
		}
		if before := cmp.Or(status[d.code], statuses[d.kind]); before != statuses[d.kind] {
			complain("the code has another status, too: " + before)
		}
		status[d.code] = statuses[d.kind]
		if d.code == "" || !sentence.MatchString(d.cause) {
			complain("its code or cause is no literal, or the cause is no sentence")
		}
		if !sentence.MatchString(d.advice) || d.advice == d.cause {
			complain("its next step is no literal, or no sentence")
		}
		if s.uses["../"+d.place+" "+d.name]+s.uses[filepath.Base(d.place)+"."+d.name] < 2 { // one is the declaration
			complain("nothing answers it")
		}
	}
	return all
}

var sentence = regexp.MustCompile("^[A-Z`].*\\S\\.$")

func TestEveryErrorIsDeclaredWithItsCauseAndTheNextStep(t *testing.T) {
	t.Parallel()
	s := readSources(t, "../internal")
	require.Greater(t, len(s.declared), 100)
	require.Empty(t, s.complaints())
	for _, d := range s.declared {
		require.NotContains(t, d.cause+d.advice, "|", "it would break the table: %s", d.code)
	}
}

// What the test above must find, planted.
func TestAnErrorThatIsNotWholeIsFound(t *testing.T) {
	t.Parallel()
	const head = "package some\nimport \"example.org/internal/fault\"\nvar errIt = "
	const use, whole = "\nfunc f() error { return errIt }\n", `fault.New(fault.Denied, "Some.Code", "It is so.", "Do it.")`
	for name, source := range map[string]string{
		"no cause":                head + `fault.New(fault.Denied, "Some.Code", "", "Do it.")` + use,
		"no next step":            head + `fault.New(fault.Denied, "Some.Code", "It is so.", "")` + use,
		"a cause that is made":    head + `fault.New(fault.Denied, "Some.Code", "It is "+name+".", "Do it.")` + use,
		"no status":               head + `fault.New(fault.Sometimes, "Some.Code", "It is so.", "Do it.")` + use,
		"two statuses":            head + whole + use + `var errOther = fault.New(fault.Invalid, "Some.Code", "It is so.", "Do it."); var _ = errOther`,
		"not answered":            head + whole,
		"not a variable":          head + whole + use + "\nfunc g() error { return " + whole + " }",
		"a fault made by hand":    head + whole + use + "\nfunc g() error { return &fault.Fault{Code: \"Other.Code\"} }",
		"a code that is put over": head + whole + use + "\nfunc g(f *fault.Fault) { f.Code = \"Other.Code\" }",
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "some.go", source, 0)
		require.NoError(t, err, name)
		s := &sources{uses: map[string]int{}}
		s.readFile("../internal/some/some.go", file)
		require.NotEmpty(t, s.complaints(), name)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "some.go", head+whole+use, 0)
	require.NoError(t, err)
	s := &sources{uses: map[string]int{}}
	s.readFile("../internal/some/some.go", file)
	require.Empty(t, s.complaints())
}

// promises returns the products whose operations promise a code, and "" beside them where every operation of one does.
func promises(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	add := func(code any, of string) {
		if !slices.Contains(found[code.(string)], of) {
			found[code.(string)] = append(found[code.(string)], of)
		}
	}
	for _, document := range documents(t) {
		for _, code := range document.Extensions["x-common-errors"].([]any) {
			add(code, "")
		}
		for _, item := range document.Paths.Map() {
			for _, operation := range item.Operations() {
				for _, code := range operation.Extensions["x-errors"].([]any) {
					add(code, document.Extensions["x-product"].(string))
				}
			}
		}
	}
	return found
}

var ofSignature = regexp.MustCompile(`Signature|AccessKeyId|TimeStamp|SecurityToken`)

// group is the table that a code stands in.
func group(d declaration, promised []string) string {
	switch {
	case slices.Contains(promised, "") && ofSignature.MatchString(d.code):
		return "signature"
	case d.code == "NoPermission" || d.code == "Forbidden.RAM":
		return "access"
	case slices.Contains(promised, ""):
		return "request"
	case len(promised) > 1:
		return "several products"
	}
	return promised[0]
}

func row(code, status, cause, advice string) string {
	return fmt.Sprintf("| `%s` | %s | %s | %s |", code, status, cause, advice)
}

// Every code that is declared is promised by a document, every promised one is declared, and the page has them all.
func TestErrorCodesAreListedWithCauseAndNextStep(t *testing.T) {
	t.Parallel()
	promised, declared := promises(t), map[string]bool{}
	rows := map[string][]string{
		"signature": nil, "request": nil, "access": nil, "several products": nil,
		"gpdb": nil, "apig": nil, "ram": nil, "sts": nil, "resourcemanager": nil,
	}
	for _, document := range documents(t) {
		product := document.Extensions["x-product"].(string)
		rows[product] = append(rows[product], refusedValues(document)...)
	}
	for _, d := range readSources(t, "../internal").declared {
		declared[d.code] = true
		require.NotEmpty(t, promised[d.code], "no operation of the documents has %s in its x-errors", d.code)
		name := group(d, promised[d.code])
		require.Contains(t, rows, name, d.code)
		rows[name] = append(rows[name], row(d.code, statuses[d.kind], d.cause, d.advice))
	}
	require.Subset(t, slices.Collect(maps.Keys(declared)), slices.Collect(maps.Keys(promised)), "a document promises a code that nothing answers")
	require.Empty(t, rows["audit"], "the page says that audit has no codes of its own")
	delete(rows, "audit")
	for name, list := range rows {
		slices.SortFunc(list, func(a, b string) int {
			return strings.Compare(strings.ReplaceAll(a, "`", ""), strings.ReplaceAll(b, "`", ""))
		})
		keep(t, errorPage, name, append([]string{"| code | status | cause | next step |", "|---|---|---|---|"}, slices.Compact(list)...))
	}
}

// refusedValues are the codes that name their parameter, with what its schema takes.
func refusedValues(document *openapi3.T) (rows []string) {
	for _, item := range document.Paths.Map() {
		for _, operation := range item.Operations() {
			parts(operation, func(path string, schema *openapi3.Schema) {
				if code, ok := schema.Extensions["x-code"].(string); ok {
					rows = append(rows, refusedValue(code, path, schema)...)
				}
			})
		}
	}
	return rows
}

func refusedValue(code, name string, schema *openapi3.Schema) (rows []string) {
	if schema.MinLength > 0 || schema.MaxLength != nil {
		between := fmt.Sprintf("at least %d", schema.MinLength)
		if schema.MaxLength != nil {
			between = fmt.Sprintf("%d to %d", schema.MinLength, *schema.MaxLength)
		}
		rows = append(rows, row(code+".Length", "400", "The parameter "+name+" is too short or too long.", "Send "+between+" characters."))
	}
	if schema.Pattern != "" {
		takes, _ := schema.Extensions["x-message"].(string)
		rows = append(rows, row(code+".InvalidChars", "400", "The parameter "+name+" has a character, or a form, that it may not have.",
			"Send another: "+takes+"."))
	}
	if len(schema.Enum) > 0 {
		rows = append(rows, row(code, "400", "The parameter "+name+" has a value that it does not take.", "Send "+strings.ReplaceAll(strings.Trim(fmt.Sprint(schema.Enum), "[]"), " ", " or ")+"."))
	}
	return rows
}
