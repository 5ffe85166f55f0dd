package record

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "export the documents of the present format in testdata anew")

// TestAnExportedDocumentStaysReadable though a later Serin exports another one
// of the same lines: testdata has documents of each format, KIND-FORMAT.json.
func TestAnExportedDocumentStaysReadable(t *testing.T) {
	if *rewrite {
		exportBoth(t)
	}
	paths, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	present := 0
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Parse(data)
		if err != nil {
			t.Errorf("%s: %v\nIf Export tells something else now, raise documentFormat, and run this test with -rewrite.", path, err)
			continue
		}
		if _, err := Export(r); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		is, _ := filepath.Match(fmt.Sprintf("testdata/*-%d.json", documentFormat), path) // the pattern is well-formed
		if r.Uncompared == is {
			t.Errorf("%s: not compared with its lines: %v", path, r.Uncompared)
		}
		if !is {
			continue
		}
		present++
		changed := bytes.Replace(data, []byte(`"gaps"`), []byte(`"losses"`), 1) // a field that has another name by now
		if _, err := Parse(changed); err == nil || bytes.Equal(changed, data) {
			t.Errorf("%s: another field in a document of the present format: %v", path, err)
		}
		if r, err := parseBy(changed, documentFormat+1); err != nil || !r.Uncompared {
			t.Errorf("%s: to a Serin that exports other documents: %v", path, err)
		}
	}
	if present != 2 {
		t.Errorf("testdata has %d documents of format %d, want one of each kind: run this test with -rewrite", present, documentFormat)
	}
}

// exportBoth makes documents of short runs that are not over.
func exportBoth(t *testing.T) {
	t.Helper()
	w := newWorld(t, t.TempDir())
	w.rate, w.fails["v2"] = 20, 1
	w.deploy("v2")
	w.until(func() bool { return w.state.Run.Outcome != "" })
	x := newExperimentWorld(t, t.TempDir())
	x.rate, x.plan.Duration = 4, 2*time.Second
	x.until(func() bool { return x.state.Outcome != "" })
	for _, r := range []*Record{w.record(1), x.record(1)} {
		doc := exported(t, r)
		plant(t, toJSON(t, doc)+"\n", "testdata", fmt.Sprintf("%s-%d.json", r.Kind(), documentFormat))
	}
}
