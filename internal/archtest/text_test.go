package archtest

import (
	"bytes"
	"go/ast"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// exists reports whether path names a file or folder of the project.
func (t *tree) exists(name string) bool {
	for p := range t.texts {
		if p == name || strings.HasPrefix(p, name+"/") {
			return true
		}
	}
	return slices.ContainsFunc(t.files, func(f *goFile) bool {
		return f.path == name || strings.HasPrefix(f.path, name+"/")
	})
}

// foreign is what has no business in the project's text, with the reason. The
// words are broken up so that this file does not contain them.
var foreign = []struct {
	pattern *regexp.Regexp
	why     string
}{
	{regexp.MustCompile(`(^|[^.\w-])/(work|root|Users)` + `/`), "a path of somebody's machine: it exists nowhere else"},
	{regexp.MustCompile(`proxy\.` + `golang|go` + `proxy\.|GO` + `PROXY=`), "where modules come from is the reader's choice: leave it to the environment"},
	{regexp.MustCompile(`(?i)\b(issue|seed) #?` + `[0-9]+\b`), "the product speaks for itself: say what holds, not where it was asked for"},
	{regexp.MustCompile(`\bDESIGN` + `\.md\b`), "ARCHITECTURE.md is the page that holds decisions"},
}

func TestTextSpeaksOfTheProductAlone(t *testing.T) {
	tr := load(t)
	check := func(name string, text []byte) {
		for number, line := range bytes.Split(text, []byte("\n")) {
			for _, f := range foreign {
				if found := f.pattern.Find(line); found != nil {
					t.Errorf("%s:%d: %q: %s", name, number+1, found, f.why)
				}
			}
		}
	}
	for _, f := range tr.files {
		if !f.generated {
			check(f.path, f.src)
		}
	}
	for name, text := range tr.texts {
		if utf8.Valid(text) && path.Base(name) != "go.sum" {
			check(name, text)
		}
	}
}

func TestTextFilesAreTidy(t *testing.T) {
	tr := load(t)
	for _, name := range slices.Sorted(maps.Keys(tr.texts)) {
		text := tr.texts[name]
		switch path.Ext(name) {
		case ".md", ".yaml", ".yml", ".mk", ".sh", ".mod":
		default:
			continue
		}
		if bytes.Contains(text, []byte("\r")) {
			t.Errorf("%s: carriage returns: save it with Unix line ends", name)
		}
		if len(text) > 0 && text[len(text)-1] != '\n' {
			t.Errorf("%s: the last line has no end", name)
		}
		for number, line := range bytes.Split(text, []byte("\n")) {
			if bytes.HasSuffix(line, []byte(" ")) {
				t.Errorf("%s:%d: space at the end of the line", name, number+1)
			}
		}
	}
}

var (
	fence  = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	inline = regexp.MustCompile("`[^`\n]*`")
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	head   = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

func TestLinksInDocumentsResolve(t *testing.T) {
	tr := load(t)
	for name, text := range tr.texts {
		if path.Ext(name) != ".md" || strings.Contains(name, "testdata/") {
			continue
		}
		prose := inline.ReplaceAll(fence.ReplaceAll(text, nil), nil)
		for _, m := range link.FindAllSubmatch(prose, -1) {
			target := string(m[1])
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			file, anchor, _ := strings.Cut(target, "#")
			to := name
			if file != "" {
				to = path.Join(path.Dir(name), file)
			}
			if !tr.exists(to) {
				t.Errorf("%s: link to %s, which does not exist", name, target)
			} else if anchor != "" && path.Ext(to) == ".md" && !slices.Contains(anchors(tr.texts[to]), anchor) {
				t.Errorf("%s: link to %s, but %s has no such heading", name, target, to)
			}
		}
	}
}

var testName = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*)`")

// A page that says which test shows what it claims must not outlive the test.
func TestTestsThatDocumentsNameExist(t *testing.T) {
	tr := load(t)
	tests := map[string]bool{}
	for _, f := range tr.files {
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && f.test() && fn.Recv == nil {
				tests[fn.Name.Name] = true
			}
		}
	}
	for name, text := range tr.texts {
		if path.Ext(name) != ".md" {
			continue
		}
		for _, m := range testName.FindAllSubmatch(text, -1) {
			if !tests[string(m[1])] {
				t.Errorf("%s: %s is no test", name, m[1])
			}
		}
	}
}

// anchors returns the names under which a page's headings are linked.
func anchors(page []byte) []string {
	var names []string
	for _, m := range head.FindAllSubmatch(fence.ReplaceAll(page, nil), -1) {
		names = append(names, slug(string(m[1])))
	}
	return names
}

func slug(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, heading)
}

func TestEveryDocumentIsReachableFromTheReadme(t *testing.T) {
	tr := load(t)
	seen := map[string]bool{}
	var walk func(name string)
	walk = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		for _, m := range link.FindAllSubmatch(tr.texts[name], -1) {
			file, _, _ := strings.Cut(string(m[1]), "#")
			if to := path.Join(path.Dir(name), file); path.Ext(to) == ".md" && tr.texts[to] != nil {
				walk(to)
			}
		}
	}
	walk("README.md")
	for name := range tr.texts {
		if path.Ext(name) == ".md" && strings.HasPrefix(name, "docs/") && !seen[name] {
			t.Errorf("%s: no link leads here from README.md: nobody will find it", name)
		}
	}
}

func TestChangelogHasSomethingToSayAboutTheNextVersion(t *testing.T) {
	text := string(load(t).texts["CHANGELOG.md"])
	_, unreleased, found := strings.Cut(text, "\n## Unreleased\n")
	unreleased, _, _ = strings.Cut(unreleased, "\n## ")
	if !found || !strings.Contains(unreleased, "\n- ") {
		t.Error(`CHANGELOG.md: wants a section "## Unreleased" with what users will notice, one "- " line each`)
	}
}

// What every stranger looks for first.
func TestTheHouseIsComplete(t *testing.T) {
	tr := load(t)
	for _, name := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile", ".ci/run"} {
		if len(tr.texts[name]) == 0 {
			t.Errorf("%s is missing", name)
		}
	}
}
