package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// metricFile has templates and a Secret as people write them. ADDRESS is that
// of the counterpart.
const metricFile = `
# how many requests fail
apiVersion: flagger.app/v1beta1
kind: MetricTemplate
metadata: {name: errors}
spec:
  provider: {type: prometheus, address: ADDRESS, secretRef: {name: prom}}
  query: |
    errors{app="{{ target }}",
      ns="{{ namespace }}"}[{{ interval }}]
---
apiVersion: v1
kind: Secret
metadata: {name: prom}
stringData: {token: secret-token}
---
apiVersion: flagger.app/v1beta1
kind: MetricTemplate
metadata: {name: limit, namespace: shop}
spec:
  provider: {type: prometheus, address: ADDRESS}
  query: "{{ variables.what }}"
`

func TestMetricTestFromAFile(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		result := ""
		switch query := r.FormValue("query"); {
		case strings.HasPrefix(query, "errors") && r.Header.Get("Authorization") != "Bearer secret-token":
			w.WriteHeader(http.StatusUnauthorized)
		case query == "errors{app=\"music\",\n  ns=\"default\"}[1m]":
			result = `{"value":[1,"0.5"]}`
		case query == "inf":
			result = `{"value":[1,"-Inf"]}`
		}
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[`+result+`]}}`)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "metrics.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(metricFile, "ADDRESS", server.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	shown := func(verdictAndMore ...string) string {
		return strings.Join(append([]string{
			"template   default/errors",
			"provider   prometheus at ADDRESS",
			`query      errors{app="music",`,
			`             ns="default"}[1m]`,
		}, verdictAndMore...), "\n") + "\n"
	}
	for _, story := range []struct {
		name, args, out, errOut string
		code                    int
	}{
		{"in range", "errors --target music --max 1", shown("value      0.5", "range      at most 1", "verdict    pass"), "", 0},
		{"out of range", "errors --target music --min 1 --max 2", shown("value      0.5", "range      1 to 2", "verdict    fail: the value is not 1 to 2"), "", 1},
		{"a bound of 0 is a bound", "errors --target music --max 0", shown("value      0.5", "range      at most 0", "verdict    fail: the value is not at most 0"), "", 1},
		{"no range", "errors --target music", shown("value      0.5", "range      any", "verdict    pass: any value does without --min and --max"), "", 0},
		{"no value", "limit --var what=up --max 1",
			"template   shop/limit\nprovider   prometheus at ADDRESS\nquery      up\nrange      at most 1\nverdict    cannot tell: prometheus at ADDRESS: no values\n", "", 2},
		{"no variable", "limit",
			"template   shop/limit\nrange      any\nverdict    cannot tell: query:1:3: <variables>: map has no entry for key \"what\": give the variable its value; none is given\n", "", 2},
		{"infinite, as JSON", "limit --var what=inf --min 0 -o json",
			"{\n  \"template\": \"shop/limit\",\n  \"provider\": \"prometheus at ADDRESS\",\n  \"query\": \"inf\",\n  \"value\": \"-Inf\",\n  \"range\": \"at least 0\",\n  \"verdict\": \"fail\",\n  \"reason\": \"the value is not at least 0\"\n}\n", "", 1},
		{"all of the file", "--target music --var what=up --max 1",
			shown("value      0.5", "range      at most 1", "verdict    pass") +
				"\ntemplate   shop/limit\nprovider   prometheus at ADDRESS\nquery      up\nrange      at most 1\nverdict    cannot tell: prometheus at ADDRESS: no values\n", "", 2},
		{"fail is worse than cannot tell", "--target music --var what=up --max 0.1 -o json", "", "", 1},
		{"another name", "nope", "", "error: FILE has no MetricTemplate nope\n", 2},
		{"a variable without a name", "limit --var =x", "", "error: --var \"=x\": want NAME=VALUE\n", 2},
	} {
		t.Run(story.name, func(t *testing.T) {
			code, out, errOut := serin(t, append([]string{"metric", "test", "-f", file}, strings.Fields(story.args)...)...)
			out = strings.ReplaceAll(out, server.URL, "ADDRESS")
			errOut = strings.ReplaceAll(errOut, file, "FILE")
			if code != story.code || story.out != "" && out != story.out || errOut != story.errOut {
				t.Errorf("exit code %d, want %d\n%s%s\nwant\n%s%s", code, story.code, out, errOut, story.out, story.errOut)
			}
			if strings.HasSuffix(story.args, "json") && story.out == "" {
				for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
					var r metricResult
					if err := d.Decode(&r); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

func TestMetricTestOfWhatIsNotThere(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("KUBECONFIG", "")
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, story := range []struct{ args, errOut string }{
		{"", "error: name a MetricTemplate, or a file with -f (see 'serin metric test --help')\n"},
		{"-f " + filepath.Join(dir, "none.yaml"), "error: open DIR/none.yaml: no such file or directory\n"},
		{"-f " + write("pod.yaml", "kind: Pod\n"), "error: DIR/pod.yaml has no MetricTemplate\n"},
		{"-f " + write("bad.yaml", "kind: [\n"), "error: DIR/bad.yaml: error converting YAML to JSON: yaml: line 1: did not find expected node content\n"},
		{"-f " + write("secret.yaml", "kind: Secret\ndata: {token: '%'}\n"), "error: DIR/secret.yaml: Secret: values below data are base64, those below stringData are plain\n"},
		{"-f " + write("lost.yaml", "kind: MetricTemplate\nmetadata: {name: a}\nspec: {provider: {type: web, secretRef: {name: s}}}\n"),
			"error: MetricTemplate a: Secret s is not in DIR/lost.yaml, and the API does not have it: no Serin API at https://127.0.0.1:7443: start it with 'serin up'\n"},
		{"a", "error: no Serin API at https://127.0.0.1:7443: start it with 'serin up'\n"},
		{"a b", "error: accepts at most 1 arg(s), received 2 (see 'serin metric test --help')\n"},
	} {
		code, out, errOut := serin(t, append([]string{"metric", "test"}, strings.Fields(story.args)...)...)
		if errOut = strings.ReplaceAll(errOut, dir, "DIR"); code != 2 || out != "" || errOut != story.errOut {
			t.Errorf("%s: exit code %d, %s\n got %s\nwant %s", story.args, code, out, errOut, story.errOut)
		}
	}
}
