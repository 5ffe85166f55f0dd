package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write what is generated to testdata")

func TestEveryMarkerIsSaidInWords(t *testing.T) {
	got, err := pages("testdata")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/widget.md"
	if *rewrite {
		if err := os.WriteFile(golden, got["widget.md"], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got["widget.md"])); diff != "" || len(got) != 1 {
		t.Errorf("%d pages, want 1; %s (-want +got):\n%s", len(got), golden, diff)
	}
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
