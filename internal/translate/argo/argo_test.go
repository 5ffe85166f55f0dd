package argo

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"serin.dev/serin/test/story"
)

// Each archive holds what people have for Argo Rollouts ("argo.yaml"), and
// records what is made of it.
func TestConvert(t *testing.T) {
	story.EachArchive(t, "testdata/*.txtar", func(t *testing.T, told *txtar.Archive) {
		out, notes, err := Convert(told.Files[0].Data)
		if err != nil {
			out = []byte("error: " + err.Error() + "\n")
		}
		for _, n := range notes { // what is told must be in the file, too
			if !bytes.Contains(out, []byte("# - "+n.String())) {
				t.Errorf("no comment says %s", n)
			}
		}
		told.Files = append(told.Files[:1:1], txtar.File{Name: "serin.yaml", Data: out})
	})
}

func TestConditions(t *testing.T) {
	for _, c := range []struct{ kind, text, want string }{
		{"success", "result[0] >= 0.95", "[0.95, )"},
		{"success", "result <= 5", "( , 5]"},
		{"success", "result[0] > 0.95", "(0.95, )"},
		{"success", "0.95 < result[0]", "(0.95, )"},
		{"success", "result[0] >= 0.9 && result[0] <= 1", "[0.9, 1]"},
		{"success", "result == 1", "[1, 1]"},
		{"success", "asFloat(result) < 5e-1", "( , 5e-1)"},
		{"success", "default(result, 0) < 0.05", "( , 0.05)"},
		{"success", "len(result) == 0 || result[0] >= 0.95", "[0.95, )"},
		{"success", "isNaN(result[0]) || result[0] >= 0.95", "[0.95, )"},
		{"success", "!isNaN(result) && (result <= 5)", "( , 5]"},
		{"success", "result[0] >= 0.9 || result[0] <= 0.1", "none"},
		{"success", "isNaN(result) || result >= 9 || result <= 1", "none"},
		{"success", "result >= 1 && result >= 2", "none"},
		{"success", `result == "OK"`, "none"},
		{"success", "result.ok", "none"},
		{"success", "isNaN(result)", "none"},
		{"success", "", "none"},
		{"failure", "result[0] < 0.95", "[0.95, )"},
		{"failure", "result[0] >= 5", "( , 5)"},
		{"failure", "result < 1 || result >= 5", "[1, 5)"},
		{"failure", "result < 1 && result > 5", "none"},
		{"failure", "result == 0", "none"},
	} {
		var notes []Note
		m := &node{value: map[string]any{c.kind + "Condition": c.text}, read: map[string]bool{}, below: map[string]*node{}, notes: &notes}
		join := map[string]string{"success": "&&", "failure": "||"}[c.kind]
		b, parsed := parse(c.text, join)
		if c.kind == "failure" {
			b = b.inverted()
		}
		low, high, ok := (&analyses{}).bounds(m)
		got := "none"
		if ok && parsed {
			got = fmt.Sprintf("%s%s,%s%s", map[bool]string{true: "(", false: "["}[b.openLow || low == ""], low, " "+high, map[bool]string{true: ")", false: "]"}[b.openHigh || high == ""])
			got = strings.Replace(got, "(,", "( ,", 1)
		}
		if got != c.want {
			t.Errorf("%s %q is %s, want %s", c.kind, c.text, got, c.want)
		}
		if open := len(notes) > 0; open != (got == "none" || b.openLow || b.openHigh || b.noData) {
			t.Errorf("%s %q: notes %v", c.kind, c.text, notes)
		}
	}
}

// Whatever comes in: an error, or objects with all notes as comments.
func FuzzConvert(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		story, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(story.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		out, notes, err := Convert(data)
		if err != nil {
			return
		}
		if comments := bytes.Count(out, []byte("\n# - ")); comments < len(notes) {
			t.Errorf("%d notes, and %d comments\n%s", len(notes), comments, out)
		}
	})
}
