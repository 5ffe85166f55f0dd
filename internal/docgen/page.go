package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"strings"
)

// page writes the reference of one kind: its head, then every struct it is
// made of, each once, in the order in which a reader meets them.
func page(s *source, kind *structType) ([]byte, error) {
	w := &writer{source: s, places: map[string][]string{}}
	w.printf("<!-- Generated from the Go types by internal/docgen. Change the comments there. -->\n\n")
	w.printf("# %s\n\n%s\n\n", kind.name, escape(kind.text))
	if err := w.head(kind); err != nil {
		return nil, err
	}
	w.collect(kind, "")
	for _, name := range w.order {
		if err := w.section(s.types[name]); err != nil {
			return nil, err
		}
	}
	return w.out.Bytes(), nil
}

// writer collects one page.
type writer struct {
	source *source
	out    bytes.Buffer
	order  []string            // structs, as first met
	places map[string][]string // by struct: the paths at which it appears
}

func (w *writer) printf(format string, args ...any) { fmt.Fprintf(&w.out, format, args...) }

// head says how the kind is written and what kubectl shows of it.
func (w *writer) head(kind *structType) error {
	w.printf("```yaml\napiVersion: %s/%s\nkind: %s\n```\n", w.source.group, w.source.version, kind.name)
	names, err := arguments(kind.markers.value("kubebuilder:resource"))
	if err != nil {
		return err
	}
	if short := names["shortName"]; short != "" {
		w.printf("\nShort name for kubectl: `%s`.\n", short)
	}
	var shown, wide []string
	for _, column := range kind.markers.values("kubebuilder:printcolumn") {
		args, err := arguments(column)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%s (`%s`)", args["name"], strings.TrimPrefix(args["JSONPath"], "."))
		if p := args["priority"]; p == "" || p == "0" {
			shown = append(shown, text)
		} else {
			wide = append(wide, text)
		}
	}
	if len(shown) > 0 {
		w.printf("\n`kubectl get` shows: %s.", strings.Join(shown, ", "))
		if len(wide) > 0 {
			w.printf(" With `-o wide` also: %s.", strings.Join(wide, ", "))
		}
		w.printf("\n")
	}
	return nil
}

// collect walks the fields depth first and notes each struct's places.
func (w *writer) collect(t *structType, path string) {
	if path != "" {
		if len(w.places[t.name]) == 0 {
			w.order = append(w.order, t.name)
		}
		w.places[t.name] = append(w.places[t.name], path)
	}
	for _, f := range t.fields {
		name, many := element(f.typ)
		inner := w.source.types[name]
		if inner == nil {
			continue
		}
		at := strings.TrimPrefix(path+"."+f.name, ".")
		if many {
			at += "[]"
		}
		w.collect(inner, at)
	}
}

// element returns the name of the struct that a field holds, and whether it
// holds many.
func element(typ ast.Expr) (name string, many bool) {
	switch t := typ.(type) {
	case *ast.Ident:
		return t.Name, false
	case *ast.StarExpr:
		return element(t.X)
	case *ast.ArrayType:
		name, _ = element(t.Elt)
		return name, true
	}
	return "", false
}

func (w *writer) section(t *structType) error {
	places := w.places[t.name]
	w.printf("\n## %s\n\n", t.name)
	w.printf("At `%s`. %s\n\n", strings.Join(places, "`, `"), oneLine(t.text))
	w.printf("| field | type | meaning |\n|---|---|---|\n")
	for _, f := range t.fields {
		typ, err := w.typeText(f.typ)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", t.name, f.name, err)
		}
		limits, err := limits(f)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", t.name, f.name, err)
		}
		meaning := []string{oneLine(f.text)}
		if !f.optional && !strings.HasPrefix(places[0], "status") { // nobody writes the status
			meaning = append(meaning, "Required.")
		}
		text := strings.TrimSpace(strings.Join(append(meaning, limits...), " "))
		w.printf("| `%s` | %s | %s |\n", f.name, typ, strings.ReplaceAll(text, "|", `\|`))
	}
	return nil
}

// plain says what types of other packages are in JSON.
var plain = map[string]string{
	"string": "string", "bool": "boolean", "int32": "integer", "int64": "integer",
	"metav1.Duration":      "duration, such as `10s`",
	"metav1.Time":          "time, RFC 3339",
	"metav1.MicroTime":     "time, RFC 3339 with microseconds",
	"metav1.Condition":     "Kubernetes condition",
	"metav1.ObjectMeta":    "object metadata",
	"intstr.IntOrString":   "integer or string",
	"runtime.RawExtension": "object",
}

func (w *writer) typeText(typ ast.Expr) (string, error) {
	switch t := typ.(type) {
	case *ast.Ident:
		if w.source.types[t.Name] != nil {
			return fmt.Sprintf("[%s](#%s)", t.Name, strings.ToLower(t.Name)), nil
		}
		return plainText(t.Name)
	case *ast.SelectorExpr:
		return plainText(fmt.Sprintf("%s.%s", t.X, t.Sel))
	case *ast.StarExpr:
		return w.typeText(t.X)
	case *ast.ArrayType:
		elem, err := w.typeText(t.Elt)
		return "list of " + elem, err
	case *ast.MapType:
		value, err := w.typeText(t.Value)
		return "map to " + value, err
	}
	return "", fmt.Errorf("docgen has no words for a field of type %T", typ)
}

func plainText(name string) (string, error) {
	if text, ok := plain[name]; ok {
		return text, nil
	}
	return "", fmt.Errorf("docgen has no words for type %s: add it to the table in page.go", name)
}

// limits says in sentences what the markers demand of a value.
func limits(f field) ([]string, error) {
	var said []string
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	v := func(name string) string { return f.markers.value("kubebuilder:validation:" + name) }
	if d := f.markers.value("kubebuilder:default"); d != "" && d != "{}" {
		say("Default: `%s`.", strings.NewReplacer("{", "[", "}", "]").Replace(strings.Trim(d, `"`)))
	}
	if e := v("Enum"); e != "" {
		say("One of `%s`.", strings.ReplaceAll(e, ";", "`, `"))
	}
	sayRange(say, "", v("Minimum"), v("Maximum"))
	sayRange(say, "Each: ", v("items:Minimum"), v("items:Maximum"))
	sayRange(say, "Items: ", v("MinItems"), v("MaxItems"))
	if n := v("MinLength"); n == "1" {
		say("Not empty.")
	}
	if p := v("Pattern"); p != "" {
		say("Matches `%s`.", strings.Trim(p, "`\""))
	}
	for _, rule := range f.markers.values("kubebuilder:validation:XValidation") {
		args, err := arguments(rule)
		if err != nil {
			return nil, err
		}
		say("Rule: %s.", args["message"])
	}
	return said, nil
}

func sayRange(say func(string, ...any), of, low, high string) {
	switch {
	case low != "" && high != "":
		say("%s%s to %s.", of, low, high)
	case low != "":
		say("%s%s or more.", of, low)
	case high != "":
		say("%s%s or less.", of, high)
	}
}

// escape keeps a "<name>" in a comment from being read as HTML.
func escape(text string) string { return strings.ReplaceAll(text, "<", `\<`) }

// oneLine joins the lines of a comment; what was a paragraph stays one.
func oneLine(text string) string {
	paragraphs := strings.Split(escape(text), "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = strings.Join(strings.Fields(p), " ")
	}
	return strings.Join(paragraphs, "<br><br>")
}
