// Lint is the analyzers of `make lint` as one `go vet` tool: staticcheck's
// default checks, unused code, exhaustive switches over our own types, and two
// of the Go team's analyzers that vet leaves out.
//
// Generated files are not reported on: their fault is their generator's. Where
// a finding is wrong, the line above says so in staticcheck's own words,
// //lint:ignore CHECK reason.
//
// Being a vet tool, it works package by package on compiled imports and its
// results live in Go's build cache: a second run looks at changed packages
// alone. Checks on the shape of the project (imports, package docs, sizes)
// are Go tests, see internal/archtest.
//
//	go vet -vettool=.tools/bin/lint ./...
package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"slices"
	"strings"

	"github.com/nishanths/exhaustive/passes/exhaustive"
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/nilness"
	"golang.org/x/tools/go/analysis/passes/unusedwrite"
	"golang.org/x/tools/go/analysis/unitchecker"
	"honnef.co/go/tools/analysis/lint"
	"honnef.co/go/tools/simple"
	"honnef.co/go/tools/staticcheck"
	"honnef.co/go/tools/stylecheck"
	"honnef.co/go/tools/unused"
)

func main() {
	// Only our own enumerations: a switch over reflect.Kind or a type of
	// Kubernetes' that names every value would say less, not more.
	if err := exhaustive.Analyzer.Flags.Set("typeonly", `^serin\.dev/`); err != nil {
		fmt.Fprintln(os.Stderr, "lint:", err)
		os.Exit(1)
	}
	checks := []*analysis.Analyzer{exhaustive.Analyzer, nilness.Analyzer, unusedwrite.Analyzer, unusedCode}
	for _, group := range [][]*lint.Analyzer{simple.Analyzers, staticcheck.Analyzers, stylecheck.Analyzers} {
		for _, a := range group {
			if !a.Doc.NonDefault {
				checks = append(checks, a.Analyzer)
			}
		}
	}
	for _, a := range checks {
		silence(a, except[a.Name])
	}
	unitchecker.Main(checks...)
}

// except holds, by check, the prefix of packages that it does not apply to.
var except = map[string]string{
	// Deprecated names: a translation accepts what users still write.
	"SA1019": "serin.dev/serin/internal/translate/",
}

// silence keeps an analyzer from reporting where it must not.
func silence(a *analysis.Analyzer, except string) {
	run := a.Run
	a.Run = func(pass *analysis.Pass) (any, error) {
		quiet := *pass
		silent := silentLines(pass, a.Name)
		quiet.Report = func(d analysis.Diagnostic) {
			if except != "" && strings.HasPrefix(pass.Pkg.Path(), except) {
				return
			}
			at := pass.Fset.Position(d.Pos)
			if !silent[line{at.Filename, 0}] && !silent[line{at.Filename, at.Line}] {
				pass.Report(d)
			}
		}
		return run(&quiet)
	}
}

// line is a line of a file; 0 stands for all of them.
type line struct {
	file string
	n    int
}

// silentLines finds the generated files, and the lines below a directive that
// names the check.
func silentLines(pass *analysis.Pass, check string) map[line]bool {
	silent := map[line]bool{}
	for _, f := range pass.Files {
		if ast.IsGenerated(f) {
			silent[line{pass.Fset.Position(f.FileStart).Filename, 0}] = true
			continue
		}
		for _, group := range f.Comments {
			for _, c := range group.List {
				args, ok := strings.CutPrefix(c.Text, "//lint:ignore ")
				if words := strings.Fields(args); ok && len(words) > 1 && slices.Contains(strings.Split(words[0], ","), check) {
					at := pass.Fset.Position(c.End())
					silent[line{at.Filename, at.Line + 1}] = true
				}
			}
		}
	}
	return silent
}

// unusedCode reports what staticcheck's U1000 finds, which by itself only
// returns it. Each compilation stands alone here, so what only tests use is
// reported too: it belongs in a _test.go file.
var unusedCode = &analysis.Analyzer{
	Name:     "unusedcode",
	Doc:      "report unused constants, variables, functions, fields and types",
	Requires: []*analysis.Analyzer{unused.Analyzer.Analyzer},
	Run:      reportUnused,
}

func reportUnused(pass *analysis.Pass) (any, error) {
	files := map[string]*token.File{}
	for _, f := range pass.Files {
		file := pass.Fset.File(f.FileStart)
		files[file.Name()] = file
	}
	for _, o := range pass.ResultOf[unused.Analyzer.Analyzer].(unused.Result).Unused {
		if file := files[o.Position.Filename]; file != nil && o.Kind != "type param" {
			pass.Reportf(file.Pos(o.Position.Offset), "%s %s is unused", o.Kind, o.Name)
		}
	}
	return nil, nil
}
