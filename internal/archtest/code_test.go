package archtest

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The longest that a reader takes in at once. A file or function that is
// rightly longer says so: "//archtest:long <reason>" in the file, or in the
// function's doc comment.
const (
	maxFileLines = 800
	maxFuncLines = 100
)

var longMark = regexp.MustCompile(`(?m)^//archtest:long \S+`)

// own returns the sources that people wrote.
func own(t *testing.T) (*tree, []*goFile) {
	tr := load(t)
	return tr, slices.DeleteFunc(slices.Clone(tr.files), func(f *goFile) bool { return f.generated })
}

func TestEveryPackageHasExactlyOneDoc(t *testing.T) {
	packages := load(t).packages()
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		var docs []string
		for _, f := range packages[dir] {
			if f.ast.Doc == nil || f.test() && !onlyTests(packages[dir]) {
				continue
			}
			docs = append(docs, f.path)
			checkPackageDoc(t, f)
		}
		if len(docs) != 1 {
			t.Errorf("package %s has %d package comments %v, want one: what it is for, what it must never do, where to read next", dir, len(docs), docs)
		}
	}
}

func onlyTests(files []*goFile) bool {
	return !slices.ContainsFunc(files, func(f *goFile) bool { return !f.test() })
}

func checkPackageDoc(t *testing.T, f *goFile) {
	text := f.ast.Doc.Text()
	name := strings.TrimSuffix(f.ast.Name.Name, "_test")
	if name != "main" && !strings.HasPrefix(text, "Package "+name+" ") {
		t.Errorf(`%s: the package comment must begin with "Package %s …"`, f.path, name)
	}
	if !f.generated && len(text) < 120 {
		t.Errorf("%s: the package comment only repeats the name: say what the package is for and what it must never do", f.path)
	}
}

func TestExportedNamesStateTheirContract(t *testing.T) {
	tr, files := own(t)
	for _, f := range files {
		if f.test() || f.tool || f.ast.Name.Name == "main" {
			continue
		}
		for _, decl := range f.ast.Decls {
			for _, name := range undocumented(decl) {
				t.Errorf("%s: %s has no doc comment: say its contract (units, ranges, who owns what, what nil means)", tr.at(name.Pos()), name.Name)
			}
		}
	}
}

// conventional are methods whose contract is that of the interface they fulfil.
var conventional = map[string]bool{
	"Error": true, "Unwrap": true, "Is": true, "As": true, "String": true,
	"MarshalJSON": true, "UnmarshalJSON": true, "MarshalText": true, "UnmarshalText": true,
	"ServeHTTP": true, "Read": true, "Write": true, "Close": true, "Len": true, "Less": true, "Swap": true,
}

// undocumented returns the exported names of a declaration that lack a comment.
// One comment on a group of constants or variables speaks for all of them.
func undocumented(decl ast.Decl) []*ast.Ident {
	var names []*ast.Ident
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && receiverExported(d) && !conventional[d.Name.Name] {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if d.Doc == nil && s.Doc == nil && s.Name.IsExported() {
					names = append(names, s.Name)
				}
			case *ast.ValueSpec:
				if d.Doc == nil && s.Doc == nil && s.Comment == nil && s.Names[0].IsExported() {
					names = append(names, s.Names[0])
				}
			}
		}
	}
	return names
}

func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

func TestDocCommentsLinkToWhatExists(t *testing.T) {
	tr := load(t)
	packages := tr.packages()
	named := regexp.MustCompile(`(?m)(?:^|[\s(])((?:internal|cmd|api|test|docs)/[a-zA-Z0-9_/.-]*[a-zA-Z0-9_])`)
	for _, f := range tr.files {
		if f.ast.Doc == nil || f.generated {
			continue
		}
		for _, m := range named.FindAllStringSubmatch(f.ast.Doc.Text(), -1) {
			if p := m[1]; packages[p] == nil && !tr.exists(p) {
				t.Errorf("%s: the package comment names %s, which does not exist", f.path, p)
			}
		}
	}
}

func TestSourcesAreFormatted(t *testing.T) {
	_, files := own(t)
	for _, f := range files {
		want, err := format.Source(f.src)
		if err != nil {
			t.Errorf("%s: %v", f.path, err)
		} else if !bytes.Equal(f.src, want) {
			t.Errorf("%s: not formatted: run `gofmt -w %s`", f.path, f.path)
		}
	}
}

func TestNothingGrowsTooLong(t *testing.T) {
	tr, files := own(t)
	for _, f := range files {
		if n := bytes.Count(f.src, []byte("\n")); n > maxFileLines && !longMark.Match(f.src) {
			t.Errorf("%s: %d lines, want at most %d: split it by what it speaks of, or say why not: //archtest:long <reason>", f.path, n, maxFileLines)
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := tr.fset.Position(fn.End()).Line - tr.fset.Position(fn.Pos()).Line + 1
			if n > maxFuncLines && !marked(fn.Doc) {
				t.Errorf("%s: func %s has %d lines, want at most %d: name its parts, or say why not in its doc comment: //archtest:long <reason>", tr.at(fn.Pos()), fn.Name.Name, n, maxFuncLines)
			}
		}
	}
}

func marked(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return longMark.MatchString(c.Text) })
}

func TestPackageNamesSayWhatTheyGive(t *testing.T) {
	empty := regexp.MustCompile(`^(utils?|common|helpers?|misc|base|shared|lib|types|interfaces)$`)
	_, files := own(t)
	for _, f := range files {
		if empty.MatchString(f.ast.Name.Name) {
			t.Errorf("%s: package %s says nothing: name it for what it gives", f.path, f.ast.Name.Name)
		}
	}
}

func TestNothingHappensBehindTheReadersBack(t *testing.T) {
	tr, files := own(t)
	for _, f := range files {
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: no init: what runs is called from main, in the order it runs", tr.at(fn.Pos()))
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if selects(n.Fun, "context", "TODO") {
					t.Errorf("%s: no context.TODO: take a context from the caller, who knows when to stop", tr.at(n.Pos()))
				}
			case *ast.AssignStmt:
				if discardsError(n) {
					t.Errorf("%s: no `_ = err`: return the error, log it, or do not name it", tr.at(n.Pos()))
				}
			case *ast.ImportSpec:
				if n.Name != nil && n.Name.Name == "." {
					t.Errorf("%s: no dot imports: a reader must see where a name comes from", tr.at(n.Pos()))
				}
			}
			return true
		})
	}
}

func selects(e ast.Expr, pkg, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg
}

func discardsError(a *ast.AssignStmt) bool {
	if a.Tok != token.ASSIGN || len(a.Lhs) != 1 || len(a.Rhs) != 1 {
		return false
	}
	to, ok1 := a.Lhs[0].(*ast.Ident)
	from, ok2 := a.Rhs[0].(*ast.Ident)
	return ok1 && ok2 && to.Name == "_" && from.Name == "err"
}

// A test that sleeps on the wall clock is slow where it holds and breaks where
// the machine is slower. In a synctest bubble time is fake and sleeping free.
func TestTestsDoNotSleep(t *testing.T) {
	tr, files := own(t)
	for _, f := range files {
		if !f.test() {
			continue
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil || inBubble(fn) {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && selects(call.Fun, "time", "Sleep") {
					t.Errorf("%s: no time.Sleep in a test: wait for the event itself, or run in testing/synctest", tr.at(call.Pos()))
				}
				return true
			})
		}
	}
}

func inBubble(fn *ast.FuncDecl) bool {
	found := false
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if e, ok := n.(ast.Expr); ok && selects(e, "synctest", "Test") {
			found = true
		}
		return !found
	})
	return found
}

func TestCommentsPromiseNothing(t *testing.T) {
	later := regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	tr, files := own(t)
	for _, f := range files {
		for _, group := range f.ast.Comments {
			if word := later.FindString(group.Text()); word != "" && f.dir() != "internal/archtest" {
				t.Errorf("%s: %s in a comment: do it or drop it", tr.at(group.Pos()), word)
			}
		}
	}
}
