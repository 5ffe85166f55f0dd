package metric

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// maxQuery bounds what a template may grow to; the longest queries that people
// write have some thousand bytes, and servers refuse URLs beyond that.
const maxQuery = 64 << 10

// Vars are what the placeholders of a query stand for; those of Flagger, and
// Stable and Canary.
type Vars struct {
	Name      string // of the Release or the Canary
	Namespace string
	Target    string // the Deployment that is released
	Service   string // that its users call
	Ingress   string
	Route     string
	Interval  string // such as 1m, as the check has it
	Stable    string // the Deployment that serves users
	Canary    string // the Deployment of the new version
	Variables map[string]string
}

func (v Vars) functions() template.FuncMap {
	text := func(s string) any { return func() string { return s } }
	return template.FuncMap{
		"name": text(v.Name), "namespace": text(v.Namespace), "target": text(v.Target), "service": text(v.Service),
		"ingress": text(v.Ingress), "route": text(v.Route), "interval": text(v.Interval),
		"stable": text(v.Stable), "canary": text(v.Canary),
		"variables": func() map[string]string { return v.Variables },
	}
}

// Render fills in the placeholders of a query: {{ target }} and the like, and
// {{ variables.x }}. It is Go's template language, without what could run on
// for long: templates within it, and loops over anything but the variables.
func Render(query string, v Vars) (string, error) {
	t, err := template.New("query").Option("missingkey=error").Funcs(v.functions()).Parse(query)
	if err != nil {
		return "", explain(err, v)
	}
	if t.Tree != nil {
		if err := bounded(t.Root); err != nil {
			return "", fmt.Errorf("query: %w", err)
		}
	}
	out := limited{left: maxQuery}
	if err := t.Execute(&out, nil); err != nil {
		return "", explain(err, v)
	}
	return out.String(), nil
}

// explain adds what there is to what is missing.
func explain(err error, v Vars) error {
	text := strings.Replace(strings.TrimPrefix(err.Error(), "template: "), `executing "query" at `, "", 1)
	switch {
	case errors.Is(err, errTooLong):
		return fmt.Errorf("query: %w", errTooLong)
	case strings.Contains(text, "not defined"):
		return fmt.Errorf("%s: there are %s", text, strings.Join(slices.Sorted(maps.Keys(v.functions())), ", "))
	case strings.Contains(text, "map has no entry"):
		known := "none is given"
		if len(v.Variables) > 0 {
			known = "given are " + strings.Join(slices.Sorted(maps.Keys(v.Variables)), ", ")
		}
		return fmt.Errorf("%s: give the variable its value; %s", text, known)
	default:
		return errors.New(text)
	}
}

// bounded refuses what a query does not need and a server could be stopped
// with: a template that calls others, and loops over numbers.
func bounded(n parse.Node) error {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		for _, child := range n.Nodes {
			if err := bounded(child); err != nil {
				return err
			}
		}
	case *parse.TemplateNode:
		return errors.New("{{ template }} and {{ block }} are not for queries: write the query in one piece")
	case *parse.RangeNode:
		if len(n.Pipe.Cmds) != 1 || n.Pipe.Cmds[0].String() != "variables" {
			return errors.New("{{ range }} is for variables alone")
		}
		return errors.Join(bounded(n.List), bounded(n.ElseList))
	case *parse.IfNode:
		return errors.Join(bounded(n.List), bounded(n.ElseList))
	case *parse.WithNode:
		return errors.Join(bounded(n.List), bounded(n.ElseList))
	}
	return nil
}

var errTooLong = fmt.Errorf("longer than %d bytes when filled in: shorten it", maxQuery)

// limited takes only so many bytes.
type limited struct {
	strings.Builder
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errTooLong
	}
	return l.Builder.Write(p)
}
