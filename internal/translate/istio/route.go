package istio

import (
	"maps"
	"math"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"serin.dev/serin/internal/mesh"
)

// httpRoute translates one rule. With a mistake in what it does to requests it
// answers 404: there is no telling what was meant. A destination that does not
// exist is no such mistake, and answers 503 for its share.
func (t *translator) httpRoute(h *networking.HTTPRoute, path, namespace string, limit *mesh.RateLimit, vs *virtualService, r *report) httpRoute {
	known := httpRoute{Route: mesh.Route{Name: h.Name, Origin: vs.origin}}
	for i, m := range h.Match {
		known.matches = append(known.matches, t.httpMatch(m, at("%s.match[%d]", path, i), namespace, vs, r))
	}
	out, before := known, len(r.findings)
	out.Redirect, out.redirectPort = redirect(h.Redirect, path+".redirect", r)
	out.Direct = directAnswer(h.DirectResponse, path+".directResponse", r)
	out.Rewrite = rewrite(h.Rewrite, path+".rewrite", r)
	out.Headers = headers(h.Headers, path+".headers", r)
	out.CORS = cors(h.CorsPolicy, path+".corsPolicy", r)
	out.Fault = fault(h.Fault, path+".fault", r)
	out.RateLimit = limit
	out.Retry = retry(h.Retries, path+".retries", r)
	out.Timeout = duration(h.Timeout, 0, path+".timeout", r)
	actions := checkActions(h, path, r)
	sound := len(Errors(r.findings[before:])) == 0
	split, ok := t.split(h.Route, path+".route", namespace, vs, r)
	sound = sound && ok
	out.Mirrors, ok = t.mirrors(h, path, namespace, vs, r)
	if !sound || !ok {
		return known
	}
	if h.Delegate != nil {
		out.delegate = delegateName(h.Delegate, path, namespace, r)
		return out
	}
	if actions {
		out.Affinity, out.Rewrite, out.Mirrors, out.Retry, out.Timeout = nil, nil, nil, nil, 0
		if out.redirectPort && slices.Contains(vs.gateways, betweenServices) {
			r.warnf(path+".redirect.derivePort", "FROM_REQUEST_PORT has an effect at gateways only")
		}
		return out
	}
	out.Split, out.Affinity = split, t.affinity(split)
	return out
}

// checkActions reports whether the rule answers by itself, and what cannot be
// together.
func checkActions(h *networking.HTTPRoute, path string, r *report) bool {
	answers := h.Redirect != nil || h.DirectResponse != nil || h.Delegate != nil
	switch {
	case answers && len(h.Route) > 0:
		r.errorf(path, "has a route and a redirect, directResponse or delegate: keep one")
	case h.Redirect != nil && h.DirectResponse != nil:
		r.errorf(path, "has a redirect and a directResponse: keep one")
	case !answers && len(h.Route) == 0:
		r.errorf(path+".route", "is empty: add a destination")
	case answers && h.Delegate == nil && h.Rewrite != nil:
		r.errorf(path+".rewrite", "changes what a destination sees, and the rule has none: remove it")
	}
	return answers
}

// AnnotationCompare with the value "true" on a VirtualService has the answers
// to mirrored copies compared with those that users get (see mesh.Mirror).
const AnnotationCompare = "serin.dev/compare-mirrored"

// mirrors reports false when one of them names no destination.
func (t *translator) mirrors(h *networking.HTTPRoute, path, namespace string, vs *virtualService, r *report) ([]mesh.Mirror, bool) {
	var out []mesh.Mirror
	sound := true
	add := func(d *networking.Destination, share mesh.Share, path string) {
		dest, ok := t.destination(d, path, namespace, vs, r)
		sound = sound && ok
		if ok && share > 0 {
			out = append(out, mesh.Mirror{Destination: dest, Share: share, Compare: vs.compares})
		}
	}
	before := len(r.findings)
	all := mesh.Everything
	if h.MirrorPercent != nil {
		all = share(float64(h.MirrorPercent.Value), path+".mirrorPercent", r)
	}
	all = percentage(h.MirrorPercentage, all, path+".mirrorPercentage", r)
	if h.Mirror != nil && len(h.Mirrors) > 0 {
		r.errorf(path+".mirrors", "cannot be together with mirror: keep one")
	}
	sound = len(Errors(r.findings[before:])) == 0
	if h.Mirror != nil {
		add(h.Mirror, all, path+".mirror")
	}
	for i, m := range h.Mirrors {
		here := at("%s.mirrors[%d]", path, i)
		before := len(r.findings)
		part := percentage(m.GetPercentage(), mesh.Everything, here+".percentage", r)
		sound = sound && len(r.findings) == before
		add(m.GetDestination(), part, here+".destination")
	}
	return out, sound
}

// affinity returns the keys by which users stick to their share of a split:
// those by which all of its destinations hash. Istio draws the share of each
// request at random even then, so that a user is thrown between versions; a
// key that was asked for keeps the user's version as well as the endpoint.
func (t *translator) affinity(split []mesh.Destination) []mesh.HashKey {
	if t.surroundings == nil || len(split) < 2 {
		return nil
	}
	var keys []mesh.HashKey
	for _, d := range split {
		svc := t.surroundings.services[d.Service]
		if svc == nil {
			return nil
		}
		ports := []uint16{d.Port}
		if d.Port == 0 {
			ports = nil
			for _, p := range svc.Ports {
				ports = append(ports, p.Number)
			}
		}
		for _, port := range ports {
			hash := svc.Policy(port, d.Subset).Hash
			if keys == nil {
				keys = hash
			}
			if len(hash) == 0 || !slices.Equal(keys, hash) {
				return nil
			}
		}
	}
	return keys
}

// weighted is a destination with its share: of HTTP, TCP or TLS.
type weighted interface {
	GetDestination() *networking.Destination
	GetWeight() int32
}

// split translates the destinations of an HTTP route with their headers.
func (t *translator) split(route []*networking.HTTPRouteDestination, path, namespace string, vs *virtualService, r *report) ([]mesh.Destination, bool) {
	out, sound := shares(t, route, path, namespace, vs, r)
	for i, d := range route {
		before := len(r.findings)
		edits := headers(d.GetHeaders(), at("%s[%d].headers", path, i), r)
		if sound = sound && len(Errors(r.findings[before:])) == 0; sound {
			out[i].Headers = edits
		}
	}
	return out, sound
}

// shares translates the destinations of a route. It reports false for a mistake
// in the weights, or a destination that cannot be named: there is no telling
// which share was meant.
func shares[D weighted](t *translator, route []D, path, namespace string, vs *virtualService, r *report) ([]mesh.Destination, bool) {
	var out []mesh.Destination
	var sum int64
	sound := true
	seen := map[mesh.Destination]int{}
	for i, d := range route {
		here := at("%s[%d]", path, i)
		if d.GetWeight() < 0 {
			r.errorf(here+".weight", "%d is negative: write the share of the requests, 0 or more", d.GetWeight())
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
			r.warnf(here+".destination", "is the same as %s[%d]: it gets both shares", path, first)
		}
		seen[dest] = i
		dest.Weight = uint32(d.GetWeight())
		out = append(out, dest)
	}
	switch {
	case !sound:
	case sum > math.MaxUint32:
		r.errorf(path, "the weights sum up to %d, and to %d at most: only their ratio counts, so write smaller ones", sum, uint32(math.MaxUint32))
		sound = false
	case len(route) > 1 && sum == 0:
		r.errorf(path, "the weights sum up to 0: say which share each destination gets")
		sound = false
	case len(route) > 1 && sum != 100:
		r.warnf(path, "the weights sum up to %d: each is a share of that, and no percentage", sum)
	}
	return out, sound
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
