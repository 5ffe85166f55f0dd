package istio

import (
	"slices"
	"strings"

	istiov1 "istio.io/client-go/pkg/apis/networking/v1"

	"serin.dev/serin/internal/mesh"
)

// betweenServices is Istio's name for all proxies that are no gateway.
const betweenServices = "mesh"

// virtualService is a VirtualService translated, before it is put together
// with others.
type virtualService struct {
	origin   mesh.Origin
	hosts    []string // canonical
	gateways []string // betweenServices, "namespace/name"
	routes   []httpRoute
	streams  []streamRoute // of tls, then of tcp
	// delegates: others may delegate to it, since it has no hosts of its own.
	delegates bool
	compares  bool // see AnnotationCompare
}

// httpRoute is a route whose matches hold at some gateways only.
type httpRoute struct {
	mesh.Route
	matches []httpMatch // none = always
	// redirectPort is set for a redirect to the port that was called.
	redirectPort bool
	// delegate is the object that has the routes, as "namespace/name"; "" =
	// this is one.
	delegate string
}

// surroundings are the objects that a VirtualService refers to. With nil, as
// when it is applied, references are not looked at.
type surroundings struct {
	services map[mesh.ServiceName]*mesh.Service
	gateways []string
}

func (t *translator) virtualService(o *istiov1.VirtualService, r *report) virtualService {
	vs := virtualService{origin: r.origin}
	r.untranslated("spec", o.Spec.ProtoReflect(), virtualServiceFields(), func(field string) string {
		switch field {
		case "destinationSubnets", "sourceSubnet":
			return "this match never holds"
		case "exponentialDelay", "http2Error":
			return "no fault is injected"
		}
		return ""
	})
	vs.delegates = len(o.Spec.Hosts)+len(o.Spec.Gateways)+len(o.Spec.Tcp)+len(o.Spec.Tls) == 0
	if len(o.Spec.Hosts) == 0 && !vs.delegates {
		r.errorf("spec.hosts", "is empty: name the hosts to route, such as the Service's name")
	}
	for i, h := range o.Spec.Hosts {
		host := mesh.CanonicalHost(h, o.Namespace)
		if err := mesh.CheckHost(host); err != nil {
			r.errorf(at("spec.hosts[%d]", i), "%q %v", h, err)
			continue
		}
		if slices.Contains(vs.hosts, host) {
			r.errorf(at("spec.hosts[%d]", i), "%q is listed twice: remove one", h)
			continue
		}
		vs.hosts = append(vs.hosts, host)
	}
	vs.compares = o.Annotations[AnnotationCompare] == "true"
	vs.gateways = t.gatewayNames(o.Spec.Gateways, "spec.gateways", o.Namespace, r)
	if len(o.Spec.Gateways) == 0 && !vs.delegates {
		vs.gateways = []string{betweenServices}
	}
	if slices.Contains(vs.hosts, "*") && slices.Contains(vs.gateways, betweenServices) {
		r.warnf("spec.hosts", `"*" holds at gateways only: between services it would take the calls to every host, `+
			`and Istio refuses it; list the hosts, or remove %q from spec.gateways`, betweenServices)
	}
	if len(o.Spec.Http)+len(o.Spec.Tcp)+len(o.Spec.Tls) == 0 {
		r.errorf("spec.http", "is empty: add a route with a destination")
	}
	limit := rateLimit(o.Annotations, r)
	always := -1
	for i, h := range o.Spec.Http {
		path := at("spec.http[%d]", i)
		if h == nil {
			r.errorf(path, "is empty: add a route with a destination")
			continue
		}
		if always >= 0 {
			r.warnf(path, "is never reached: spec.http[%d] has no match and takes every request; move that to the end", always)
		}
		if len(h.Match) == 0 && always < 0 {
			always = i
		}
		vs.routes = append(vs.routes, t.httpRoute(h, path, o.Namespace, limit, &vs, r))
	}
	t.addStreamRoutes(o, &vs, r)
	t.nameService(&vs)
	return vs
}

// gatewayNames brings references to Gateways into the form "namespace/name".
func (t *translator) gatewayNames(refs []string, path, namespace string, r *report) []string {
	var out []string
	for i, ref := range refs {
		name := ref
		if ref != betweenServices && !strings.Contains(ref, "/") {
			name = namespace + "/" + ref
		}
		switch {
		case ref == "" || strings.Count(name, "/") > 1:
			r.errorf(at("%s[%d]", path, i), "%q is no reference to a Gateway: write name, namespace/name or %s", ref, betweenServices)
			continue
		case ref != betweenServices && t.surroundings != nil && !slices.Contains(t.surroundings.gateways, name):
			r.errorf(at("%s[%d]", path, i), "unknown Gateway %q%s; known: %s", ref,
				didYouMean(ref, name, t.surroundings.gateways), listed(t.surroundings.gateways))
		}
		out = append(out, name)
	}
	return out
}

// nameService says for each route which service it stands for at a host that
// does not say so itself.
func (t *translator) nameService(vs *virtualService) {
	if t.surroundings == nil {
		return
	}
	var own mesh.ServiceName
	for _, h := range vs.hosts {
		if t.surroundings.services[mesh.ServiceName(h)] != nil {
			own = mesh.ServiceName(h)
			break
		}
	}
	for i := range vs.routes {
		vs.routes[i].Service = own
	}
	for i := range vs.streams {
		vs.streams[i].Service = own
	}
}

// at returns the routes that apply at a listener: a gateway with its port, or
// between services with port 0. A route of which no match applies is left out:
// without matches it would take all.
func (vs *virtualService) at(gateway string, port uint16) []mesh.Route {
	var out []mesh.Route
	for i := range vs.routes {
		hr := &vs.routes[i]
		route := hr.Route
		for _, m := range hr.matches {
			if !m.never && (len(m.gateways) == 0 || slices.Contains(m.gateways, gateway)) {
				route.Matches = append(route.Matches, m.Match)
			}
		}
		if len(route.Matches) == 0 && len(hr.matches) > 0 {
			continue
		}
		replacePrefixes(&route)
		if hr.redirectPort {
			to := *route.Redirect
			if route.Redirect, to.Port = &to, port; to.Validate() != nil {
				route.Redirect = nil // without the port it leads nowhere else
			}
		}
		out = append(out, route)
	}
	return out
}

// replacePrefixes gives a route that replaces the prefix of the path a prefix
// to replace: for Istio a request without a condition on the path was found by
// the prefix "/".
func replacePrefixes(route *mesh.Route) {
	if (route.Rewrite == nil || route.Rewrite.Path == nil) && (route.Redirect == nil || route.Redirect.Prefix == nil) {
		return
	}
	if len(route.Matches) == 0 {
		route.Matches = []mesh.Match{{}}
	}
	for i := range route.Matches {
		if route.Matches[i].URI.Kind == mesh.Any {
			route.Matches[i].URI = mesh.StringMatch{Kind: mesh.Prefix, Value: "/"}
		}
	}
}
