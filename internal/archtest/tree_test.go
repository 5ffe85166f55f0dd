package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	module = "serin.dev/serin"
	root   = "../.."
)

// goFile is one Go source of the project.
type goFile struct {
	path      string // from the root, with slashes
	src       []byte
	ast       *ast.File
	generated bool
	tool      bool // belongs to one of the modules below tools/
}

// dir is the folder, "." for the root.
func (f *goFile) dir() string { return path.Dir(f.path) }

// test reports whether only tests see the file.
func (f *goFile) test() bool { return strings.HasSuffix(f.path, "_test.go") }

// imports returns the imported paths.
func (f *goFile) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic("archtest: the parser accepted " + spec.Path.Value)
		}
		paths = append(paths, p)
	}
	return paths
}

// tree is the project's text, read once per run.
type tree struct {
	fset  *token.FileSet
	files []*goFile         // every Go source, by path
	texts map[string][]byte // every other text, by path
}

// at returns "path:line" of a place in a Go source.
func (t *tree) at(pos token.Pos) string {
	p := t.fset.Position(pos)
	return p.Filename + ":" + strconv.Itoa(p.Line)
}

// packages groups the sources, generated ones included, by folder.
func (t *tree) packages() map[string][]*goFile {
	m := map[string][]*goFile{}
	for _, f := range t.files {
		m[f.dir()] = append(m[f.dir()], f)
	}
	return m
}

var loadOnce = sync.OnceValues(readTree)

func load(t *testing.T) *tree {
	t.Helper()
	tr, err := loadOnce()
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// notOurs are folders that git ignores or that hold what others wrote.
var notOurs = map[string]bool{".git": true, ".tools": true, "bin": true, "bench/out": true, "node_modules": true}

func readTree() (*tree, error) {
	t := &tree{fset: token.NewFileSet(), texts: map[string][]byte{}}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if notOurs[rel] {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if !strings.HasSuffix(rel, ".go") || strings.Contains("/"+rel, "/testdata/") {
			t.texts[rel] = src
			return nil
		}
		file, err := parser.ParseFile(t.fset, rel, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		t.files = append(t.files, &goFile{
			path:      rel,
			src:       src,
			ast:       file,
			generated: ast.IsGenerated(file),
			tool:      strings.HasPrefix(rel, "tools/"),
		})
		return nil
	})
	return t, err
}
