package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/test/story"
)

func TestEveryMarkerIsSaidInWords(t *testing.T) {
	got, err := pages("testdata")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 {
		t.Errorf("%d pages, want 1", len(got))
	}
	story.File(t, "testdata/widget.md", string(got["widget.md"]))
}

func TestReferenceIsCurrent(t *testing.T) {
	const folder = "../../docs/reference"
	want, err := pages("../../api/v1alpha1")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range want {
		have, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Errorf("%v: run `make generate`", err)
		} else if diff := cmp.Diff(string(have), string(text)); diff != "" {
			t.Errorf("docs/reference/%s is not what the types say: run `make generate` (-have +want):\n%s", name, diff)
		}
	}
}

func TestUnknownTypesAreRefused(t *testing.T) {
	for name, tc := range map[string]struct{ field, want string }{
		"foreign type": {"F foreign.Type `json:\"f\"`", "no words for type foreign.Type"},
		"function":     {"F func() `json:\"f\"`", "no words for a field of type *ast.FuncType"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			src := "// +groupName=example.org\npackage v1\n\n// +kubebuilder:object:root=true\ntype Kind struct {\n\tSpec Spec `json:\"spec\"`\n}\n\ntype Spec struct {\n\t" + tc.field + "\n}\n"
			if err := os.WriteFile(filepath.Join(dir, "kind.go"), []byte(src), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := pages(dir)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("pages = %v, want an error with %q", err, tc.want)
			}
		})
	}
}
