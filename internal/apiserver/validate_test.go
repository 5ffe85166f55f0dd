package apiserver

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/test/story"
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
	story.EachArchive(t, "testdata/validate/*.txtar", func(t *testing.T, told *txtar.Archive) {
		var now []txtar.File
		var old runtime.Object
		for _, file := range told.Files {
			if file.Name == "errors" {
				continue
			}
			now = append(now, file)
			if file.Name == "old" {
				old, _ = read(t, file.Data)
				continue
			}
			t.Run(file.Name, func(t *testing.T) {
				obj, r := read(t, file.Data)
				var lines []string
				for _, e := range r.validate(obj, old) {
					lines = append(lines, e.Error()+"\n")
				}
				slices.Sort(lines) // probes and such are checked in no order
				if len(lines) > 0 {
					now = append(now, txtar.File{Name: "errors", Data: []byte(strings.Join(lines, ""))})
				}
			})
			old = nil
		}
		told.Files = now
	})
}
