package istio

import (
	"maps"
	"math"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
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
}

// httpRoute is a route whose matches hold at some gateways only.
type httpRoute struct {
	mesh.Route
	matches []httpMatch // none = always
}

type httpMatch struct {
	mesh.Match
	gateways []string // none = all of the VirtualService
	never    bool     // it has a condition that cannot be evaluated
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
		case "redirect", "directResponse", "delegate":
			return "requests of this route are answered with 404"
		case "scheme", "authority", "sourceLabels", "queryParams", "ignoreUriCase", "withoutHeaders", "sourceNamespace":
			return "this match never holds"
		}
		return ""
	})
	if len(o.Spec.Hosts) == 0 {
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
	vs.gateways = t.gatewayNames(o.Spec.Gateways, "spec.gateways", o.Namespace, r)
	if len(o.Spec.Gateways) == 0 {
		vs.gateways = []string{betweenServices}
	}
	if slices.Contains(vs.hosts, "*") && slices.Contains(vs.gateways, betweenServices) {
		r.warnf("spec.hosts", `"*" holds at gateways only: between services it would take the calls to every host, `+
			`and Istio refuses it; list the hosts, or remove %q from spec.gateways`, betweenServices)
	}
	if len(o.Spec.Http)+len(o.Spec.Tcp)+len(o.Spec.Tls) == 0 {
		r.errorf("spec.http", "is empty: add a route with a destination")
	}
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
		vs.routes = append(vs.routes, t.httpRoute(h, path, o.Namespace, &vs, r))
	}
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
}

func (t *translator) httpRoute(h *networking.HTTPRoute, path, namespace string, vs *virtualService, r *report) httpRoute {
	out := httpRoute{Route: mesh.Route{Name: h.Name, Origin: vs.origin}}
	for i, m := range h.Match {
		out.matches = append(out.matches, t.httpMatch(m, at("%s.match[%d]", path, i), namespace, vs, r))
	}
	elsewhere := h.Redirect != nil || h.DirectResponse != nil || h.Delegate != nil
	switch {
	case elsewhere && len(h.Route) > 0:
		r.errorf(path, "has a route and a redirect, directResponse or delegate: keep one")
	case elsewhere:
	case len(h.Route) == 0:
		r.errorf(at("%s.route", path), "is empty: add a destination")
	default:
		out.Split = t.split(h.Route, at("%s.route", path), namespace, vs, r)
	}
	return out
}

// split translates the destinations of a route. A mistake in the weights, or a
// destination that cannot be named, makes it empty: there is no telling which
// share was meant.
func (t *translator) split(route []*networking.HTTPRouteDestination, path, namespace string, vs *virtualService, r *report) []mesh.Destination {
	var out []mesh.Destination
	var sum int64
	sound := true
	seen := map[mesh.Destination]int{}
	for i, d := range route {
		here := at("%s[%d]", path, i)
		if d.GetWeight() < 0 {
			r.errorf(here+".weight", "%d is negative: weights are percentages from 0 to 100", d.GetWeight())
			sound = false
			continue
		}
		sum += int64(d.GetWeight())
		dest, ok := t.destination(d.GetDestination(), here+".destination", namespace, vs, r)
		if !ok {
			sound = false
			continue
		}
		if first, twice := seen[dest]; twice {
			r.errorf(here+".destination", "is the same as %s[%d]: make it one with the sum of the weights", path, first)
			sound = false
		}
		seen[dest] = i
		dest.Weight = uint32(d.GetWeight())
		out = append(out, dest)
	}
	if len(route) > 1 && sound && sum != 100 {
		r.errorf(path, "the weights sum up to %d: make it 100", sum)
		sound = false
	}
	if !sound {
		return nil
	}
	return out
}

// destination translates one destination, reporting false when it names none.
func (t *translator) destination(d *networking.Destination, path, namespace string, vs *virtualService, r *report) (mesh.Destination, bool) {
	if d.GetHost() == "" {
		r.errorf(path+".host", "is empty: name a Service or the host of a ServiceEntry")
		return mesh.Destination{}, false
	}
	host := mesh.CanonicalHost(d.Host, namespace)
	if err := mesh.CheckHost(host); err != nil || strings.Contains(host, "*") {
		r.errorf(path+".host", "%q is not the name of one service", d.Host)
		return mesh.Destination{}, false
	}
	port := d.GetPort().GetNumber()
	if port > math.MaxUint16 {
		r.errorf(path+".port.number", "%d is not in 1..65535", port)
		return mesh.Destination{}, false
	}
	dest := mesh.Destination{Service: mesh.ServiceName(host), Port: uint16(port), Subset: d.Subset}
	if t.surroundings != nil {
		t.checkDestination(dest, d.Host, path, vs, r)
	}
	return dest, true
}

// checkDestination looks up what a destination refers to.
func (t *translator) checkDestination(dest mesh.Destination, written, path string, vs *virtualService, r *report) {
	svc := t.surroundings.services[dest.Service]
	if svc == nil {
		r.errorf(path+".host", "unknown service %q%s: create it or correct the name",
			written, didYouMean(written, string(dest.Service), t.serviceNames()))
		return
	}
	if dest.Subset != "" {
		if _, ok := svc.Subsets[dest.Subset]; !ok {
			known := slices.Collect(maps.Keys(svc.Subsets))
			r.errorf(path+".subset", "service %s has no subset %q%s; known: %s: add it to a DestinationRule for the host",
				svc.Name, dest.Subset, didYouMean(dest.Subset, dest.Subset, known), listed(known))
		}
	}
	var ports []string
	for _, p := range svc.Ports {
		ports = append(ports, at("%d", p.Number))
	}
	if _, ok := svc.Port(dest.Port); dest.Port != 0 && !ok {
		r.errorf(path+".port.number", "service %s has no port %d; known: %s", svc.Name, dest.Port, listed(ports))
	}
	atGateway := slices.ContainsFunc(vs.gateways, func(g string) bool { return g != betweenServices })
	if dest.Port == 0 && len(svc.Ports) > 1 && atGateway {
		r.warnf(path+".port", "service %s has several ports (%s): say which one requests from a gateway go to", svc.Name, listed(ports))
	}
}

func (t *translator) httpMatch(m *networking.HTTPMatchRequest, path, namespace string, vs *virtualService, r *report) httpMatch {
	out := httpMatch{
		never: m.GetScheme() != nil || m.GetAuthority() != nil || len(m.GetSourceLabels()) > 0 ||
			len(m.GetQueryParams()) > 0 || m.GetIgnoreUriCase() || len(m.GetWithoutHeaders()) > 0 || m.GetSourceNamespace() != "",
	}
	if m == nil {
		return out // "- {}": no condition
	}
	var ok [2]bool
	out.URI, ok[0] = stringMatch(m.Uri, path+".uri", r)
	out.Method, ok[1] = stringMatch(m.Method, path+".method", r)
	out.never = out.never || !ok[0] || !ok[1]
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		here := at("%s.headers[%s]", path, name)
		key := strings.ToLower(name)
		if key != name {
			r.errorf(here, "is not in lower case: header names are matched as %q", key)
		}
		if key == ":authority" {
			key = "host"
		}
		if key == "" || strings.HasPrefix(key, ":") {
			r.errorf(here, "is no header: use uri and method for what is not one")
			out.never = true
			continue
		}
		cond := mesh.StringMatch{Kind: mesh.Present}
		if match := m.Headers[name]; match.GetMatchType() != nil {
			var ok bool
			if cond, ok = stringMatch(match, here, r); !ok {
				out.never = true
			}
		}
		if out.Headers == nil {
			out.Headers = map[string]mesh.StringMatch{}
		}
		out.Headers[key] = cond
	}
	if m.Port > math.MaxUint16 {
		r.errorf(path+".port", "%d is not in 1..65535", m.Port)
		out.never = true
	}
	out.Port = uint16(m.Port)
	out.gateways = t.gatewayNames(m.Gateways, path+".gateways", namespace, r)
	for i, g := range out.gateways {
		if !slices.Contains(vs.gateways, g) {
			r.errorf(at("%s.gateways[%d]", path, i), "%q is not in spec.gateways: add it there", g)
		}
	}
	out.never = out.never || len(m.Gateways) > 0 && len(out.gateways) == 0
	return out
}

// stringMatch translates a condition, reporting false when it can never hold
// because it is wrong.
func stringMatch(m *networking.StringMatch, path string, r *report) (mesh.StringMatch, bool) {
	if m == nil {
		return mesh.StringMatch{}, true
	}
	switch s := m.MatchType.(type) {
	case *networking.StringMatch_Exact:
		return mesh.StringMatch{Kind: mesh.Exact, Value: s.Exact}, true
	case *networking.StringMatch_Prefix:
		if s.Prefix == "" {
			r.errorf(path+".prefix", "is empty and matches everything: remove the condition")
			return mesh.StringMatch{}, true
		}
		return mesh.StringMatch{Kind: mesh.Prefix, Value: s.Prefix}, true
	case *networking.StringMatch_Regex:
		if _, err := mesh.CompileRegex(s.Regex); err != nil {
			r.errorf(path+".regex", "%v", err)
			return mesh.StringMatch{}, false
		}
		return mesh.StringMatch{Kind: mesh.Regex, Value: s.Regex}, true
	}
	r.errorf(path, "is empty: write exact, prefix or regex")
	return mesh.StringMatch{}, false
}

// at returns the routes that apply at a gateway, or between services. A route
// of which no match applies is left out: without matches it would take all.
func (vs *virtualService) at(gateway string) []mesh.Route {
	var out []mesh.Route
	for _, hr := range vs.routes {
		route := hr.Route
		for _, m := range hr.matches {
			if !m.never && (len(m.gateways) == 0 || slices.Contains(m.gateways, gateway)) {
				route.Matches = append(route.Matches, m.Match)
			}
		}
		if len(route.Matches) > 0 || len(hr.matches) == 0 {
			out = append(out, route)
		}
	}
	return out
}
