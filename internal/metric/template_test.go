package metric

import (
	"errors"
	"strings"
	"testing"
)

func TestRender(t *testing.T) {
	v := Vars{
		Name: "music", Namespace: "shop", Target: "music-app", Service: "music-svc", Ingress: "front", Route: "main",
		Interval: "1m", Stable: "music-app-stable", Canary: "music-app",
		Variables: map[string]string{"direction": "inbound", "code": "5.."},
	}
	for _, story := range []struct{ query, want string }{
		{`sum(rate(errors{ns="{{ namespace }}",app=~"{{ target }}",dir="{{ variables.direction }}"}[{{ interval }}]))`,
			`sum(rate(errors{ns="shop",app=~"music-app",dir="inbound"}[1m]))`},
		{"{{name}} {{service}} {{ingress}} {{route}} {{stable}} {{canary}}", "music music-svc front main music-app-stable music-app"},
		{"{{ range $k, $v := variables }}{{ $k }}={{ $v }};{{ end }}", "code=5..;direction=inbound;"},
		{`{{ if eq interval "1m" }}short{{ else }}long{{ end }}`, "short"},
		{"", ""},
		{"{{ targt }}", `query:1: function "targt" not defined: there are canary, ingress, interval, name, namespace, route, service, stable, target, variables`},
		{"a\n{{ variables.dir }}", `query:2:3: <variables>: map has no entry for key "dir": give the variable its value; given are code, direction`},
		{"{{ target", "query:1: unclosed action"},
		{"{{ range 1000000000 }}{{ end }}", "query: {{ range }} is for variables alone"},
		{"{{ if true }}{{ range $i := len target }}{{ end }}{{ end }}", "query: {{ range }} is for variables alone"},
		{`{{ define "a" }}{{ end }}{{ template "a" }}`, "query: {{ template }} and {{ block }} are not for queries: write the query in one piece"},
		{`{{ range variables }}{{ range variables }}{{ . | printf "%6q" | urlquery }}{{ end }}{{ end }} {{ print 1 "," 2 }}`,
			"+%225..%22%22inbound%22+%225..%22%22inbound%22 1,2"},
		{strings.Repeat("{{ range variables }}", 30) + strings.Repeat("{{ end }}", 30), errTooMuch.Error()},
		{"{{ range variables }}{{ range variables }}{{ if eq . `" + strings.Repeat("x", 300_000) + "` }}{{ end }}{{ end }}{{ end }}", errTooMuch.Error()},
		{"{{ $a := target }}" + strings.Repeat("{{ $a = print $a $a }}", 50), errTooMuch.Error()},
		{"{{ $a := target }}" + strings.Repeat("{{ $a = js (js (printf `%s%[1]s` $a)) }}", 50), errTooMuch.Error()},
		{`{{ printf "` + strings.Repeat("%999999d", 3000) + `" }}`, errTooMuch.Error()},
		{`{{ printf "%99999999999999999999d" 1 }}`, errTooMuch.Error()},
		{`{{ printf "%*d" 1000000 1 }}`, errTooMuch.Error()},
		{strings.Repeat("x", maxQuery+1), "query: longer than 65536 bytes when filled in: shorten it"},
	} {
		got, err := Render(story.query, v)
		if err != nil {
			got = err.Error()
		}
		if got != story.want && got != "query: "+story.want {
			t.Errorf("Render(%.80q)\n got %s\nwant %s", story.query, got, story.want)
		}
	}
	if _, err := Render("{{ variables.x }}", Vars{}); err == nil || !strings.Contains(err.Error(), "none is given") {
		t.Errorf("a variable of none: %v", err)
	}
}

func FuzzRender(f *testing.F) {
	f.Add(`{{ target }}{{ variables.x }}`, "v")
	f.Add(`{{ range $k, $v := variables }}{{ printf "%99999d" 1 }}{{ end }}`, "v")
	f.Add(`{{ if target }}{{ else with name }}{{ end }}`, "")
	f.Add(`{{ define "x" }}{{ template "x" }}{{ end }}`, "")
	f.Fuzz(func(t *testing.T, query, value string) {
		got, err := Render(query, Vars{Target: value, Variables: map[string]string{"x": value}})
		if len(got) > maxQuery {
			t.Errorf("%d bytes", len(got))
		}
		if err != nil && (got != "" || errors.Unwrap(err) == nil && err.Error() == "") {
			t.Errorf("%q with error %v", got, err)
		}
		if !strings.Contains(query, "{{") && err == nil && got != query {
			t.Errorf("%q became %q", query, got)
		}
	})
}
