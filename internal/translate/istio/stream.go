package istio

import (
	"maps"
	"math"
	"slices"

	networking "istio.io/api/networking/v1alpha3"
	istiov1 "istio.io/client-go/pkg/apis/networking/v1"

	"serin.dev/serin/internal/mesh"
)

// streamRoute is a route for connections whose matches hold at some gateways
// only.
type streamRoute struct {
	mesh.Stream
	matches []streamMatch // none = always
	sni     bool          // of tls: it takes TLS connections as they are
}

type streamMatch struct {
	mesh.StreamMatch
	gateways []string // none = all of the VirtualService
	never    bool     // it has a condition that is wrong or cannot be evaluated
}

func (t *translator) addStreamRoutes(o *istiov1.VirtualService, vs *virtualService, r *report) {
	for i, route := range o.Spec.Tls {
		path := at("spec.tls[%d]", i)
		out := streamRoute{sni: true}
		if len(route.GetMatch()) == 0 {
			r.errorf(path+".match", "is empty: name the sniHosts")
			continue
		}
		for j, m := range route.Match {
			out.matches = append(out.matches, t.sniMatch(m, at("%s.match[%d]", path, j), o.Namespace, vs, r))
		}
		t.addStreamRoute(out, route.GetRoute(), path, o.Namespace, vs, r)
	}
	for i, route := range o.Spec.Tcp {
		path := at("spec.tcp[%d]", i)
		var out streamRoute
		for j, m := range route.GetMatch() {
			here := at("%s.match[%d]", path, j)
			match := t.streamMatch(m, here, o.Namespace, vs, r)
			match.never = match.never || len(m.GetDestinationSubnets()) > 0 || m.GetSourceSubnet() != ""
			out.matches = append(out.matches, match)
		}
		t.addStreamRoute(out, route.GetRoute(), path, o.Namespace, vs, r)
	}
}

func (t *translator) addStreamRoute(out streamRoute, route []*networking.RouteDestination, path, namespace string, vs *virtualService, r *report) {
	out.Origin = vs.origin
	if len(route) == 0 {
		r.errorf(path+".route", "is empty: add a destination")
	}
	if split, ok := shares(t, route, path+".route", namespace, vs, r); ok {
		out.Split = split
	}
	vs.streams = append(vs.streams, out)
}

// l4Match are the conditions that TCP and TLS have in common.
type l4Match interface {
	GetPort() uint32
	GetSourceLabels() map[string]string
	GetSourceNamespace() string
	GetGateways() []string
}

func (t *translator) streamMatch(m l4Match, path, namespace string, vs *virtualService, r *report) streamMatch {
	out := streamMatch{StreamMatch: mesh.StreamMatch{
		Port: uint16(m.GetPort()), SourceLabels: maps.Clone(mesh.Labels(m.GetSourceLabels())), SourceNamespace: m.GetSourceNamespace(),
	}}
	if m.GetPort() > math.MaxUint16 {
		r.errorf(path+".port", "%d is not in 1..65535", m.GetPort())
		out.never = true
	}
	out.gateways = t.matchGateways(m.GetGateways(), path, namespace, vs, r)
	out.never = out.never || len(m.GetGateways()) > 0 && len(out.gateways) == 0
	return out
}

func (t *translator) sniMatch(m *networking.TLSMatchAttributes, path, namespace string, vs *virtualService, r *report) streamMatch {
	out := t.streamMatch(m, path, namespace, vs, r)
	if len(m.GetSniHosts()) == 0 {
		r.errorf(path+".sniHosts", "is empty: name the hosts that callers ask for")
	}
	for i, h := range m.GetSniHosts() {
		here := at("%s.sniHosts[%d]", path, i)
		host := mesh.CanonicalHost(h, "")
		if err := mesh.CheckHost(host); err != nil {
			r.errorf(here, "%q %v", h, err)
			continue
		}
		within := func(pattern string) bool {
			return mesh.HostMatches(pattern, host) || mesh.HostMatches(pattern, mesh.CanonicalHost(h, namespace))
		}
		if !slices.ContainsFunc(vs.hosts, within) {
			r.errorf(here, "%q is none of spec.hosts: add it there", h)
			continue
		}
		out.SNI = append(out.SNI, host)
	}
	out.never = out.never || len(out.SNI) == 0 || len(m.GetDestinationSubnets()) > 0
	return out
}

// streamsAt returns the streams that apply at a gateway or between services,
// by SNI or not. A stream of which no match applies is left out: without
// matches it would take all.
func (vs *virtualService) streamsAt(gateway string, sni bool) []mesh.Stream {
	var out []mesh.Stream
	for i := range vs.streams {
		sr := &vs.streams[i]
		if sr.sni != sni {
			continue
		}
		stream := sr.Stream
		for _, m := range sr.matches {
			if !m.never && (len(m.gateways) == 0 || slices.Contains(m.gateways, gateway)) {
				stream.Matches = append(stream.Matches, m.StreamMatch)
			}
		}
		if len(stream.Matches) > 0 || len(sr.matches) == 0 {
			out = append(out, stream)
		}
	}
	return out
}
