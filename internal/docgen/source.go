package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// source is what a package says of its API.
type source struct {
	group   string // from +groupName
	version string // the package's name
	types   map[string]*structType
	order   []string // of the types, as written
}

// structType is one struct.
type structType struct {
	name    string
	text    string // the comment without markers
	markers markers
	fields  []field
}

// field is one field with its JSON name.
type field struct {
	name     string
	typ      ast.Expr
	text     string
	markers  markers
	optional bool
}

// markers are the lines of a comment that begin with "+", without it.
type markers []string

// values returns what stands behind "name=" or "name:" of each such marker.
func (m markers) values(name string) []string {
	var values []string
	for _, line := range m {
		if rest, ok := strings.CutPrefix(line, name); ok && rest != "" && (rest[0] == '=' || rest[0] == ':') {
			values = append(values, rest[1:])
		}
	}
	return values
}

// value returns the first of values, or "".
func (m markers) value(name string) string {
	if v := m.values(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (m markers) has(line string) bool { return slices.Contains(m, line) }

// arguments splits a marker's value such as `name="Age",type=date` at its
// commas outside of quotes, and unquotes.
func arguments(value string) (map[string]string, error) {
	args := map[string]string{}
	for value != "" {
		key, rest, ok := strings.Cut(value, "=")
		if !ok {
			return nil, fmt.Errorf("marker argument %q has no value", value)
		}
		raw, err := strconv.QuotedPrefix(rest)
		if err != nil {
			raw, _, _ = strings.Cut(rest, ",")
			args[key] = raw
		} else if args[key], err = strconv.Unquote(raw); err != nil {
			return nil, fmt.Errorf("marker argument %s=%s: %w", key, raw, err)
		}
		value = strings.TrimPrefix(rest[len(raw):], ",")
	}
	return args, nil
}

// kinds returns the types that are objects of their own; lists are not.
func (s *source) kinds() []*structType {
	var kinds []*structType
	for _, name := range s.order {
		t := s.types[name]
		if t.markers.has("kubebuilder:object:root=true") && !strings.HasSuffix(name, "List") {
			kinds = append(kinds, t)
		}
	}
	return kinds
}

// file is the name of the kind's page.
func (t *structType) file() string { return strings.ToLower(t.name) + ".md" }

func parseFolder(folder string) (*source, error) {
	names, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return nil, err
	}
	s := &source{types: map[string]*structType{}}
	fset := token.NewFileSet()
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		s.version = file.Name.Name
		if _, m := split(file.Doc); m.value("groupName") != "" {
			s.group = m.value("groupName")
		}
		for _, decl := range file.Decls {
			if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.TYPE {
				s.addTypes(gen)
			}
		}
	}
	if s.group == "" {
		return nil, fmt.Errorf("no +groupName in the package comment of %s", folder)
	}
	return s, nil
}

func (s *source) addTypes(gen *ast.GenDecl) {
	for _, spec := range gen.Specs {
		spec := spec.(*ast.TypeSpec)
		st, ok := spec.Type.(*ast.StructType)
		if !ok {
			continue
		}
		doc := spec.Doc
		if doc == nil {
			doc = gen.Doc
		}
		t := &structType{name: spec.Name.Name}
		t.text, t.markers = split(doc)
		for _, f := range st.Fields.List {
			if f, ok := readField(f); ok {
				t.fields = append(t.fields, f)
			}
		}
		s.types[t.name] = t
		s.order = append(s.order, t.name)
	}
}

// readField returns false for what is not in the JSON form under a name of
// its own: embedded types and fields tagged "-".
func readField(f *ast.Field) (field, bool) {
	if f.Tag == nil {
		return field{}, false
	}
	raw, err := strconv.Unquote(f.Tag.Value)
	if err != nil {
		return field{}, false
	}
	name, options, _ := strings.Cut(reflect.StructTag(raw).Get("json"), ",")
	if name == "" || name == "-" {
		return field{}, false
	}
	out := field{name: name, typ: f.Type}
	out.text, out.markers = split(f.Doc)
	out.optional = out.markers.has("optional") || strings.Contains(options, "omitempty")
	return out, true
}

// split separates what a comment says to people from its markers.
func split(doc *ast.CommentGroup) (string, markers) {
	if doc == nil {
		return "", nil
	}
	var said []string
	var marked markers
	for _, c := range doc.List {
		line := strings.TrimSpace(strings.TrimPrefix(c.Text, "//"))
		if m, ok := strings.CutPrefix(line, "+"); ok {
			marked = append(marked, m)
		} else {
			said = append(said, line)
		}
	}
	return strings.TrimSpace(strings.Join(said, "\n")), marked
}
