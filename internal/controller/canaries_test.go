package controller

import (
	"path/filepath"
	"strings"
	"testing"

	flaggerv1 "github.com/fluxcd/flagger/pkg/apis/flagger/v1beta1"
	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"serin.dev/serin/internal/kube"
	"serin.dev/serin/internal/translate/flagger"
)

// asWritten are fields that a Canary's author writes for both: what is wrong with
// them the Release says, in its own words.
var asWritten = []string{
	"metadata.name: ", "spec.target.name: ", "spec.service.", "spec.match[", "spec.webhooks[", "spec.sessionAffinity.cookieName: ", "spec.judge.checks[",
	"spec.host: ", // of what is made for the Service: its name
}

// FuzzRelease: whatever a Canary says, where its translation finds no error,
// nothing of the translation's own making is refused.
func FuzzRelease(f *testing.F) {
	files, err := filepath.Glob("../translate/flagger/testdata/release/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &flaggerv1.Canary{}
		if yaml.Unmarshal(data, c) != nil {
			return
		}
		spec, findings := flagger.Release(c)
		for _, finding := range findings {
			if finding.Severity == flagger.Error {
				return
			}
		}
		refused := Check(kube.CanaryRelease(c, spec))
		if refused == nil {
			return
		}
		for line := range strings.Lines(refused.Error()) {
			known := false
			for _, field := range asWritten {
				known = known || strings.HasPrefix(line, field)
			}
			if !known {
				t.Errorf("the Release of a Canary without an error is refused: %s", line)
			}
		}
	})
}
