// Package story is the frame of tests that are told as data: a file of testdata
// holds what happens and, recorded, what comes of it. The test plays the file,
// and what it gives must be the file again. With the flag -rewrite of go test
// it becomes the file; read what changed before it is committed.
//
// The package must never know what a story is about. It is here for tests, and
// nothing else may import it.
package story

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var rewrite = flag.Bool("rewrite", false, "record what the stories of testdata give now as what they should give")

// Rewriting reports whether the test was asked to record, for tests that
// compare in their own way.
func Rewriting() bool { return *rewrite }

// Each plays the files that match the pattern, each in a subtest with the name
// of the file. play returns the whole text of the story as it goes now. There
// must be a file.
func Each(t *testing.T, pattern string, play func(t *testing.T, told string) string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories in %s: %v", pattern, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(strings.TrimSuffix(name, filepath.Ext(name)), func(t *testing.T) {
			told, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, file, string(told), play(t, string(told)))
		})
	}
}

// EachArchive is Each for stories that are txtar archives, in which play
// changes what is recorded.
func EachArchive(t *testing.T, pattern string, play func(t *testing.T, told *txtar.Archive)) {
	t.Helper()
	Each(t, pattern, func(t *testing.T, told string) string {
		archive := txtar.Parse([]byte(told))
		play(t, archive)
		return string(txtar.Format(archive))
	})
}

// File compares a text with what one file holds.
func File(t *testing.T, file, got string) {
	t.Helper()
	told, err := os.ReadFile(file)
	if err != nil && !(*rewrite && os.IsNotExist(err)) {
		t.Fatal(err)
	}
	compare(t, file, string(told), got)
}

func compare(t *testing.T, file, told, got string) {
	t.Helper()
	diff := cmp.Diff(told, got)
	switch {
	case diff == "":
	case !*rewrite:
		t.Errorf("%s (-recorded +now; -rewrite records):\n%s", file, diff)
	case t.Failed():
		t.Logf("%s is not recorded, as the story failed", file)
	default:
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Section is the text of an archive's file; "" = there is none.
func Section(archive *txtar.Archive, name string) string {
	for _, f := range archive.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// SetSection replaces the text of an archive's file, or adds the file unless
// its text is empty.
func SetSection(archive *txtar.Archive, name, text string) {
	for i := range archive.Files {
		if archive.Files[i].Name == name {
			archive.Files[i].Data = []byte(text)
			return
		}
	}
	if text != "" {
		archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(text)})
	}
}

// Rule stands between what is told and what comes of it.
const Rule = "----\n"

// Commands plays a story of blocks, with an empty line between two:
//
//	# why this matters
//	command args
//	----
//	what happened
//
// do gets the words of each command and writes what happens.
func Commands(told string, do func(out *strings.Builder, words []string)) string {
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(told), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		head, _, _ := strings.Cut(block+"\n", Rule)
		out.WriteString(head)
		var happened strings.Builder
		commands := false
		for line := range strings.Lines(head) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			commands = true
			do(&happened, strings.Fields(line))
		}
		if commands {
			out.WriteString(Rule + happened.String())
		}
	}
	return out.String()
}
