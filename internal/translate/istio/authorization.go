package istio

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	security "istio.io/api/security/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"

	"serin.dev/serin/internal/mesh"
)

// rootNamespace is where policies hold for the services of all namespaces.
const rootNamespace = "istio-system"

// authorization is an AuthorizationPolicy translated.
type authorization struct {
	origin    mesh.Origin
	namespace string // of the services it holds for; "" = of all
	selector  mesh.Labels
	rules     []mesh.Access
}

// nobody is a source that covers no caller.
var nobody = mesh.Source{Not: true}

// authorizationPolicy translates who may call. What cannot be said never lets
// in more callers: a rule that allows loses the part that asks for it, and a rule
// that denies loses the condition alone.
func (t *translator) authorizationPolicy(o *securityv1.AuthorizationPolicy, r *report) authorization {
	out := authorization{origin: r.origin, namespace: o.Namespace, selector: o.Spec.GetSelector().GetMatchLabels()}
	if o.Namespace == rootNamespace {
		out.namespace = ""
	}
	if _, refused := t.in.Refused[o]; refused {
		out.rules = []mesh.Access{{Origin: r.origin, Deny: true}}
		return out
	}
	p := policyReport{report: r, deny: o.Spec.Action == security.AuthorizationPolicy_DENY}
	r.untranslated("spec", o.Spec.ProtoReflect(), authorizationPolicyFields(), func(string) string { return p.consequence() })
	switch o.Spec.Action {
	case security.AuthorizationPolicy_ALLOW, security.AuthorizationPolicy_DENY:
	case security.AuthorizationPolicy_AUDIT:
		r.warnf("spec.action", "AUDIT is not supported yet: it has no effect")
		return out
	default:
		r.warnf("spec.action", "%s is not supported yet: all callers are refused", o.Spec.Action)
		out.rules = []mesh.Access{{Origin: r.origin, Deny: true}}
		return out
	}
	for i, rule := range o.Spec.Rules {
		here := at("spec.rules[%d]", i)
		out.rules = append(out.rules, p.rule(rule, here)...)
	}
	if len(out.rules) == 0 && !p.deny {
		out.rules = []mesh.Access{{Origin: r.origin, Sources: []mesh.Source{nobody}}} // allows nothing
	}
	return out
}

// policyReport translates the rules of one policy.
type policyReport struct {
	*report
	deny bool
}

// consequence says what becomes of what cannot be said.
func (p *policyReport) consequence() string {
	if p.deny {
		return "the condition is left out, so that no more is let in"
	}
	return "what asks for it is not allowed"
}

func (p *policyReport) unsaid(path string) {
	p.warnf(path, "not supported yet: %s", p.consequence())
}

// rule translates one rule; none where nothing of it allows anything.
func (p *policyReport) rule(rule *security.Rule, path string) []mesh.Access {
	out := mesh.Access{Origin: p.origin, Deny: p.deny}
	for i, from := range rule.GetFrom() {
		sources, ok := p.source(from.GetSource(), at("%s.from[%d].source", path, i))
		if !ok && p.deny {
			sources = []mesh.Source{{}} // everybody
		}
		out.Sources = append(out.Sources, sources...)
	}
	if len(rule.GetFrom()) > 0 && len(out.Sources) == 0 {
		return nil
	}
	base, ok := p.conditions(rule.GetWhen(), path, &out)
	if !ok {
		return nil
	}
	for i, to := range rule.GetTo() {
		m, ok := p.operation(to.GetOperation(), base, at("%s.to[%d].operation", path, i))
		if ok {
			out.Matches = append(out.Matches, m...)
		}
	}
	switch {
	case len(rule.GetTo()) > 0 && len(out.Matches) == 0:
		return nil
	case len(rule.GetTo()) == 0 && !base.Always():
		out.Matches = []mesh.Match{base}
	}
	if slices.ContainsFunc(out.Matches, func(m mesh.Match) bool { return m.Always() }) {
		out.Matches = nil
	}
	return []mesh.Access{out}
}

// source translates who calls: any of the sources. ok is false where it says
// what sources cannot.
func (p *policyReport) source(s *security.Source, path string) (out []mesh.Source, ok bool) {
	known := &security.Source{Namespaces: s.GetNamespaces(), NotNamespaces: s.GetNotNamespaces()}
	if len(s.GetNamespaces())+len(s.GetNotNamespaces()) == 0 || !proto.Equal(s, known) {
		p.unsaid(path)
		return nil, false
	}
	if strings.Contains(strings.Join(slices.Concat(s.Namespaces, s.NotNamespaces), ""), "*") ||
		len(s.NotNamespaces) > 1 || len(s.NotNamespaces) > 0 && len(s.Namespaces) > 0 {
		p.unsaid(path)
		return nil, false
	}
	for _, ns := range s.Namespaces {
		out = append(out, mesh.Source{Namespace: ns})
	}
	for _, ns := range s.NotNamespaces {
		out = append(out, mesh.Source{Namespace: ns, Not: true})
	}
	return out, true
}

// conditions translates "when": conditions on headers are those of every match.
func (p *policyReport) conditions(when []*security.Condition, path string, rule *mesh.Access) (base mesh.Match, ok bool) {
	base.Headers = map[string]mesh.StringMatch{}
	for i, c := range when {
		here := at("%s.when[%d]", path, i)
		name, isHeader := strings.CutPrefix(c.GetKey(), "request.headers[")
		name = strings.ToLower(strings.TrimSuffix(name, "]"))
		m, said := oneOf(c.GetValues(), c.GetNotValues())
		if _, twice := base.Headers[name]; twice || !isHeader || !said || name == "host" || mesh.CheckHeaderName(name) != nil {
			if p.unsaid(here); !p.deny {
				return base, false
			}
			continue
		}
		base.Headers[name] = m
	}
	if len(base.Headers) == 0 {
		base.Headers = nil
	}
	return base, true
}

// operation translates what is called: one match for each port.
func (p *policyReport) operation(o *security.Operation, base mesh.Match, path string) (out []mesh.Match, ok bool) {
	m, sound := base, proto.Size(o) > 0
	say := func(to *mesh.StringMatch, values, not []string, invertible bool) {
		if len(values)+len(not) == 0 {
			return
		}
		c, said := oneOf(values, not)
		switch {
		case !said || c.Invert && (!invertible || c.Kind == mesh.Present):
			sound = false
		case c.Kind != mesh.Present: // what every request has
			*to = c
		}
	}
	say(&m.Method, o.GetMethods(), o.GetNotMethods(), true)
	say(&m.URI, o.GetPaths(), o.GetNotPaths(), false)
	if say(&m.Host, o.GetHosts(), o.GetNotHosts(), true); m.Host.Kind != mesh.Any {
		m.Host.Kind, m.Host.Value = mesh.Regex, `(?i)(`+anyOf(slices.Concat(o.GetHosts(), o.GetNotHosts()))+`)(:[0-9]*)?`
	}
	if slices.ContainsFunc(o.GetPaths(), func(path string) bool { return strings.ContainsAny(path, "{}") }) || len(o.GetNotPorts()) > 0 {
		sound = false
	}
	if !sound {
		p.unsaid(path)
		return []mesh.Match{base}, p.deny
	}
	if len(o.GetPorts()) == 0 {
		return []mesh.Match{m}, true
	}
	for i, text := range o.GetPorts() {
		number, err := strconv.ParseUint(text, 10, 16)
		if err != nil || number == 0 {
			p.errorf(at("%s.ports[%d]", path, i), "%q is not in 1..65535", text)
			if !p.deny {
				continue
			}
			number = 0 // every port
		}
		m.Port = uint16(number)
		out = append(out, m)
	}
	return out, len(out) > 0
}

// oneOf makes one condition of values of which one must be, or none may be: "a"
// is itself, "a*" and "*a" what begins and ends so, and "*" anything.
func oneOf(values, not []string) (m mesh.StringMatch, ok bool) {
	if len(values) > 0 == (len(not) > 0) {
		return m, false
	}
	patterns := slices.Concat(values, not)
	if len(patterns) == 1 {
		m = oneValue(patterns[0])
	} else {
		m = mesh.StringMatch{Kind: mesh.Regex, Value: anyOf(patterns)}
	}
	m.Invert = len(not) > 0
	return m, true
}

// anyOf is a regular expression for any of several patterns.
func anyOf(patterns []string) string {
	var forms []string
	for _, pattern := range patterns {
		one := oneValue(pattern)
		text := regexp.QuoteMeta(one.Value)
		switch one.Kind {
		case mesh.Prefix, mesh.Present:
			text += ".*"
		case mesh.Suffix:
			text = ".*" + text
		case mesh.Any, mesh.Exact, mesh.Regex, mesh.Segments:
		}
		forms = append(forms, text)
	}
	return strings.Join(forms, "|")
}

func oneValue(pattern string) mesh.StringMatch {
	if pattern == "*" {
		return mesh.StringMatch{Kind: mesh.Present}
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return mesh.StringMatch{Kind: mesh.Prefix, Value: prefix}
	}
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return mesh.StringMatch{Kind: mesh.Suffix, Value: suffix}
	}
	return mesh.StringMatch{Kind: mesh.Exact, Value: pattern}
}

// addAuthorizations gives the services the rules of the policies that select
// their endpoints. Rules hold for a service as a whole: one whose endpoints a
// policy selects in part is restricted as a whole.
func (t *translator) addAuthorizations(policies []authorization) {
	for _, name := range slices.Sorted(maps.Keys(t.out.Snapshot.Services)) {
		svc := t.out.Snapshot.Services[name]
		namespace, _ := name.Split()
		for _, p := range policies {
			selected := 0
			for _, e := range svc.Endpoints {
				if e.Labels.Contains(p.selector) {
					selected++
				}
			}
			switch {
			case p.namespace != "" && p.namespace != namespace,
				len(p.selector) == 0 && !t.cluster[name],
				len(p.selector) > 0 && selected == 0:
				continue
			case selected < len(svc.Endpoints):
				r := report{origin: p.origin}
				r.warnf("spec.selector", "selects some endpoints of %s alone: the service is restricted as a whole", name)
				t.out.Findings = append(t.out.Findings, r.findings...)
			}
			svc.Access = append(svc.Access, p.rules...)
		}
	}
}
