package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRefusalsNameFileAndLine(t *testing.T) {
	dir := t.TempDir()
	manifests := map[string]string{
		"a.yaml": `# comment
kind: Service
metadata: {name: web}
---
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - match:
    - headers:
        agent: {regex: "("}
    route:
    - destination: {host: web}
      weight: 0
`,
		"b.yml":       "kind: Gateway\nmetadata:\n  name: twice\n---\nkind: Gateway\nmetadata:\n  name: twice\n",
		"c.json":      `{"kind": "Release", "metadata": {"name": "r"}}`,
		"broken.yaml": "kind: [\n",
	}
	for name, text := range manifests {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := placesOf([]string{dir, filepath.Join(dir, "missing")})
	f := func(message, want string) {
		t.Helper()
		if got := strings.ReplaceAll(p.mark(message), dir+string(filepath.Separator), ""); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	f(`The VirtualService "web" is invalid: spec.http[0].route: the weights sum up to 0`, `a.yaml:13: The VirtualService "web" is invalid: spec.http[0].route: the weights sum up to 0`)
	f(`The VirtualService "web" is invalid: spec.http[0].match[0].headers[agent].regex: no`, `a.yaml:12: The VirtualService "web" is invalid: spec.http[0].match[0].headers[agent].regex: no`)
	f("The VirtualService \"web\" is invalid: \n* spec.hosts: a\n* spec.tls: b\nelse", "The VirtualService \"web\" is invalid: \na.yaml:8: * spec.hosts: a\na.yaml:7: * spec.tls: b\nelse")
	f(`Error from server (Invalid): error when creating "x": Release.serin.dev "r" is invalid: spec.target.name: Required value`,
		`c.json:1: Error from server (Invalid): error when creating "x": Release.serin.dev "r" is invalid: spec.target.name: Required value`)
	f(`The Gateway "twice" is invalid: spec: a`, `The Gateway "twice" is invalid: spec: a`)
	f(`The Service "other" is invalid: spec: a`, `The Service "other" is invalid: spec: a`)
	f("anything", "anything")
}
