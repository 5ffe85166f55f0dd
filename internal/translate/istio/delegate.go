package istio

import (
	"cmp"
	"maps"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"serin.dev/serin/internal/mesh"
)

// delegateName is the object whose routes a rule takes, as "namespace/name"; ""
// = it has its own.
func delegateName(d *networking.Delegate, path, namespace string, r *report) string {
	if d == nil {
		return ""
	}
	if d.Name == "" {
		r.errorf(path+".delegate.name", "is empty: name a VirtualService without hosts")
		return ""
	}
	return cmp.Or(d.Namespace, namespace) + "/" + d.Name
}

// delegate puts the routes of objects without hosts in the place of the rules
// that delegate to them. A rule whose delegate is not there answers 404.
func (t *translator) delegate(all []virtualService) {
	known := map[string]*virtualService{}
	for i := range all {
		if vs := &all[i]; vs.delegates {
			known[vs.origin.Namespace+"/"+vs.origin.Name] = vs
		}
	}
	used := map[*virtualService]bool{}
	for i := range all {
		vs := &all[i]
		if vs.delegates {
			continue
		}
		r := &report{origin: vs.origin}
		var routes []httpRoute
		for j := range vs.routes {
			root := &vs.routes[j]
			if root.delegate == "" {
				routes = append(routes, *root)
				continue
			}
			path := at("spec.http[%d].delegate", j)
			child := known[root.delegate]
			if child == nil {
				r.warnf(path, "there is no VirtualService %s without hosts: requests of this rule are answered with 404 until there is", root.delegate)
				routes = append(routes, unserved(root))
				continue
			}
			used[child] = true
			routes = append(routes, delegated(root, child, path, r)...)
		}
		vs.routes = routes
		t.out.Findings = append(t.out.Findings, r.findings...)
	}
	for i := range all {
		if vs := &all[i]; vs.delegates && !used[vs] {
			r := &report{origin: vs.origin}
			r.warnf("spec.hosts", "is empty, and no VirtualService delegates to this one: it has no effect; name the hosts to route, or delegate to it")
			t.out.Findings = append(t.out.Findings, r.findings...)
		}
	}
}

// unserved is a rule that answers 404.
func unserved(root *httpRoute) httpRoute {
	return httpRoute{Route: mesh.Route{Name: root.Name, Origin: root.Origin, Service: root.Service}, matches: root.matches}
}

// delegated are the routes of child for the requests of root. What root says
// beside its matches holds where child says nothing.
func delegated(root *httpRoute, child *virtualService, path string, r *report) []httpRoute {
	var out []httpRoute
	for i := range child.routes {
		own := &child.routes[i]
		if own.delegate != "" {
			r.warnf(path, "%s delegates in its turn, which has no effect: its rule %d is answered with 404", child.origin, i)
			none := unserved(own)
			own = &none
		}
		route := *own
		route.Service = root.Service
		route.matches = within(root.matches, own.matches)
		if len(own.matches) > 0 && len(root.matches) > 0 && allNever(route.matches) && !allNever(own.matches) {
			r.warnf(path, "rule %d of %s never holds: its matches are not within those of this one", i, child.origin)
		}
		route.CORS = cmp.Or(route.CORS, root.CORS)
		route.RateLimit = cmp.Or(route.RateLimit, root.RateLimit)
		route.Fault = cmp.Or(route.Fault, root.Fault)
		route.Headers = cmp.Or(route.Headers, root.Headers)
		if len(route.Split) > 0 {
			route.Rewrite = cmp.Or(route.Rewrite, root.Rewrite)
			route.Retry = cmp.Or(route.Retry, root.Retry)
			route.Timeout = cmp.Or(route.Timeout, root.Timeout)
			if len(route.Mirrors) == 0 {
				route.Mirrors = root.Mirrors
			}
		}
		out = append(out, route)
	}
	return out
}

func allNever(matches []httpMatch) bool {
	for _, m := range matches {
		if !m.never {
			return false
		}
	}
	return true
}

// within are the matches of requests that one of root and one of own match.
// None stands for all requests.
func within(root, own []httpMatch) []httpMatch {
	switch {
	case len(root) == 0:
		return own
	case len(own) == 0:
		return root
	}
	var out []httpMatch
	for _, a := range root {
		for _, b := range own {
			m := httpMatch{gateways: a.gateways}
			ok := !a.never && !b.never && narrowed(&m.Match, a.Match, b.Match)
			m.never = !ok
			out = append(out, m)
		}
	}
	return out
}

// narrowed puts the conditions of both into one match, those of b where both
// have one. As with Istio, b's have to be within a's; otherwise it reports
// false.
func narrowed(out *mesh.Match, a, b mesh.Match) bool {
	ok := true
	narrow := func(a, b mesh.StringMatch) mesh.StringMatch {
		c, within := narrower(a, b)
		ok = ok && within
		return c
	}
	each := func(a, b map[string]mesh.StringMatch) map[string]mesh.StringMatch {
		if len(a)+len(b) == 0 {
			return nil
		}
		both := maps.Clone(a)
		if both == nil {
			both = map[string]mesh.StringMatch{}
		}
		for name, c := range b {
			both[name] = narrow(both[name], c)
		}
		return both
	}
	out.URI, out.Scheme = narrow(a.URI, b.URI), narrow(a.Scheme, b.Scheme)
	out.Method, out.Host = narrow(a.Method, b.Method), narrow(a.Host, b.Host)
	out.Headers, out.Query = each(a.Headers, b.Headers), each(a.Query, b.Query)
	out.Port = cmp.Or(b.Port, a.Port)
	out.SourceNamespace = cmp.Or(b.SourceNamespace, a.SourceNamespace)
	ok = ok && (a.Port == 0 || out.Port == a.Port) && (a.SourceNamespace == "" || out.SourceNamespace == a.SourceNamespace)
	if len(a.SourceLabels)+len(b.SourceLabels) > 0 {
		out.SourceLabels = mesh.Labels{}
		maps.Copy(out.SourceLabels, a.SourceLabels)
		maps.Copy(out.SourceLabels, b.SourceLabels)
		for name, value := range a.SourceLabels {
			ok = ok && out.SourceLabels[name] == value
		}
	}
	return ok
}

// narrower is the condition that stands for both, and whether b is within a.
func narrower(a, b mesh.StringMatch) (mesh.StringMatch, bool) {
	switch {
	case b.Kind == mesh.Any:
		return a, true
	case a.Kind == mesh.Any, a == b:
		return b, true
	case a.Kind == mesh.Present && !a.Invert:
		return b, !b.Invert
	case a.Kind == mesh.Prefix && !a.Invert && !b.Invert && (b.Kind == mesh.Prefix || b.Kind == mesh.Exact):
		if a.IgnoreCase {
			return b, strings.HasPrefix(strings.ToLower(b.Value), strings.ToLower(a.Value))
		}
		return b, !b.IgnoreCase && strings.HasPrefix(b.Value, a.Value)
	}
	return b, false
}
