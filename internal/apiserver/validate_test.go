package apiserver

import (
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/yaml"
)

// TestValidation reads objects and what is said about them from
// testdata/validate. After an object, named by its story, comes a file "errors"
// with the recorded answer, none for a good object; a file "old" before it is
// the object as stored, which makes it an update.
func TestValidation(t *testing.T) {
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(scheme).UniversalDeserializer()
	table := map[string]resource{}
	for _, r := range resources() {
		table[r.kind] = r
	}
	read := func(t *testing.T, data []byte) (runtime.Object, resource) {
		t.Helper()
		json, err := yaml.YAMLToJSON(data)
		if err != nil {
			t.Fatal(err)
		}
		obj, gvk, err := decoder.Decode(json, nil, nil)
		if err != nil {
			t.Fatalf("%v in:\n%s", err, data)
		}
		scheme.Default(obj)
		return obj, table[gvk.Kind]
	}
	paths, err := filepath.Glob("testdata/validate/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no stories (%v)", err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var old runtime.Object
		for i := 0; i < len(archive.Files); i++ {
			file := archive.Files[i]
			if file.Name == "old" {
				old, _ = read(t, file.Data)
				continue
			}
			t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar")+"/"+file.Name, func(t *testing.T) {
				obj, r := read(t, file.Data)
				var lines []string
				for _, e := range r.validate(obj, old) {
					lines = append(lines, e.Error())
				}
				sort.Strings(lines) // probes and such are checked in no order
				got := strings.Join(lines, "\n")
				if got != "" {
					got += "\n"
				}
				recorded := i+1 < len(archive.Files) && archive.Files[i+1].Name == "errors"
				want := ""
				if recorded {
					want = string(archive.Files[i+1].Data)
				}
				if *rewrite && got != want {
					if !recorded {
						archive.Files = append(archive.Files[:i+1], append([]txtar.File{{Name: "errors"}}, archive.Files[i+1:]...)...)
					}
					archive.Files[i+1].Data = []byte(got)
					return
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("errors (-want +got):\n%s", diff)
				}
			})
			if i+1 < len(archive.Files) && archive.Files[i+1].Name == "errors" {
				i++
			}
			old = nil
		}
		if *rewrite {
			if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
