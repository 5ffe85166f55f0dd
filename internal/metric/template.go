package metric

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
)

// maxQuery bounds what a template may grow to; the longest queries that people
// write have some thousand bytes, and servers refuse URLs beyond that.
const maxQuery = 64 << 10

// maxWork bounds what filling in may take: the bytes of template that are run
// over, loops counted as often as they go round, and those of the texts that
// functions make. It is some milliseconds.
const maxWork = 1 << 20

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

// textFunctions are those of Go's language that make a text of what they are
// given, in so much room for all of their texts together: a few lines of them
// would otherwise make one that fills the memory.
func textFunctions(left int) template.FuncMap {
	within := func(make func(...any) string) any {
		return func(args ...any) (string, error) {
			if left -= roomFor(args); left < 0 {
				return "", errTooMuch
			}
			return make(args...), nil
		}
	}
	return template.FuncMap{
		"print": within(fmt.Sprint), "println": within(fmt.Sprintln),
		"html": within(template.HTMLEscaper), "js": within(template.JSEscaper), "urlquery": within(template.URLQueryEscaper),
		"printf": func(format string, args ...any) (string, error) {
			// Each verb may write all that is given, as wide as any number in
			// the format says; * takes its width from where nobody looks.
			width := 0
			for _, digits := range strings.FieldsFunc(format, func(c rune) bool { return c < '0' || c > '9' }) {
				n, err := strconv.Atoi(digits)
				width = max(width, n)
				if err != nil || width > maxWork {
					return "", errTooMuch
				}
			}
			verbs := 1 + strings.Count(format, "%")
			if left -= verbs * (roomFor(args) + width + len(format)/verbs); left < 0 || strings.Contains(format, "*") {
				return "", errTooMuch
			}
			return fmt.Sprintf(format, args...), nil
		},
	}
}

// roomFor is how long a text of the values may become, escaped.
func roomFor(args []any) int {
	const escaped = 6 // \u003C
	bytes := 0
	for _, a := range args {
		bytes += escaped * len(fmt.Sprint(a))
	}
	return bytes
}

// Render fills in the placeholders of a query: {{ target }} and the like, and
// {{ variables.x }}. It is Go's template language, without what could run on
// for long: templates within it, loops over anything but the variables, and
// more than maxWork.
func Render(query string, v Vars) (string, error) {
	t, err := template.New("query").Option("missingkey=error").Funcs(textFunctions(maxWork)).Funcs(v.functions()).Parse(query)
	if err != nil {
		return "", explain(err, v)
	}
	if t.Tree != nil {
		work, err := workOf(t.Root, len(v.Variables))
		if err == nil && work > maxWork {
			err = errTooMuch
		}
		if err != nil {
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
	case errors.Is(err, errTooMuch):
		return fmt.Errorf("query: %w", errTooMuch)
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

// workOf is at most how many bytes of template are run over, with so many
// variables. It refuses what a query does not need and a server could be
// stopped with: a template that calls others, and loops over numbers.
func workOf(n parse.Node, variables int) (int, error) {
	of := func(round int, nodes ...*parse.ListNode) (work int, err error) {
		for _, list := range nodes {
			if list == nil {
				continue
			}
			for _, child := range list.Nodes {
				w, err := workOf(child, variables)
				if err != nil {
					return 0, err
				}
				work = min(work+w, maxWork+1) // no overflow
			}
		}
		return min(round*(work+1), maxWork+1), nil
	}
	switch n := n.(type) {
	case *parse.ListNode:
		return of(1, n)
	case *parse.TemplateNode:
		return 0, errors.New("{{ template }} and {{ block }} are not for queries: write the query in one piece")
	case *parse.RangeNode:
		if len(n.Pipe.Cmds) != 1 || n.Pipe.Cmds[0].String() != "variables" {
			return 0, errors.New("{{ range }} is for variables alone")
		}
		return of(max(1, variables), n.List, n.ElseList)
	case *parse.IfNode:
		work, err := of(1, n.List, n.ElseList)
		return work + len(n.Pipe.String()), err
	case *parse.WithNode:
		work, err := of(1, n.List, n.ElseList)
		return work + len(n.Pipe.String()), err
	case *parse.ActionNode:
		return len(n.String()), nil
	}
	return 1, nil // text that is written, of which there cannot be much
}

var errTooLong = fmt.Errorf("longer than %d bytes when filled in: shorten it", maxQuery)

var errTooMuch = errors.New("filling it in takes too much: remove loops within loops, and the functions that make long texts")

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
