package xds

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	"serin.dev/serin/internal/mesh"
)

// View returns the part of a snapshot that a node sees, in one fixed form. It
// decides all calls that can arrive at the node as the snapshot does:
//
//   - A gateway sees its ports and the services to which they lead. A sidecar
//     sees all services and no gateway.
//   - Certificates are those that the rest refers to: a private key goes
//     nowhere else.
//   - Conditions on the caller are decided, since the caller is known; what
//     cannot hold is left out.
//   - Of several ways to say the same, one is left: a policy for each port and
//     subset, no value where it equals the default, ports in order, and
//     endpoints in the order of port, priority and place.
//   - Origins are left out: who wants to know what a version was made from asks
//     the one who made it.
//
// The snapshot is valid; it is not changed, and the view shares parts of it.
func View(s *mesh.Snapshot, n Node) *mesh.Snapshot { return viewWith(&memory{}, s, &n) }

func viewWith(m *memory, s *mesh.Snapshot, n *Node) *mesh.Snapshot {
	v := viewer{caller: n.Caller, memory: m}
	if n.Gateway() {
		v.caller = mesh.Caller{}
	}
	out := &mesh.Snapshot{Version: s.Version}
	if n.Gateway() {
		for i := range s.Gateways {
			if n.servesPort(s.Gateways[i].Port) {
				out.Gateways = append(out.Gateways, v.gateway(&s.Gateways[i]))
			}
		}
	} else {
		out.Hosts = v.hosts(s.Hosts)
	}
	led := ledTo(out.Gateways)
	for name, svc := range s.Services {
		if n.Gateway() && !led[name] {
			continue
		}
		if out.Services == nil {
			out.Services = make(map[mesh.ServiceName]*mesh.Service, len(s.Services))
		}
		out.Services[name] = v.service(svc)
	}
	for name := range references(out) {
		if c := s.Certificates[name]; c != nil && len(c.Chain)+len(c.Key)+len(c.CA) > 0 {
			if out.Certificates == nil {
				out.Certificates = map[string]*mesh.Certificate{}
			}
			out.Certificates[name] = c
		}
	}
	return out
}

// ledTo collects the services that routes and streams of the gateways name.
func ledTo(gateways []mesh.Gateway) map[mesh.ServiceName]bool {
	names := map[mesh.ServiceName]bool{}
	split := func(destinations []mesh.Destination) {
		for i := range destinations {
			names[destinations[i].Service] = true
		}
	}
	streams := func(list []mesh.Stream) {
		for i := range list {
			split(list[i].Split)
		}
	}
	for i := range gateways {
		g := &gateways[i]
		streams(g.Streams)
		for j := range g.VirtualHosts {
			vh := &g.VirtualHosts[j]
			streams(vh.Streams)
			for k := range vh.Routes {
				split(vh.Routes[k].Split)
				for _, m := range vh.Routes[k].Mirrors {
					names[m.Destination.Service] = true
				}
			}
		}
	}
	return names
}

// references collects the names of the certificates that a snapshot needs.
func references(s *mesh.Snapshot) map[string]bool {
	names := map[string]bool{}
	for _, svc := range s.Services {
		for _, p := range svc.Policies {
			if p.TLS != nil {
				names[p.TLS.CA], names[p.TLS.Certificate] = true, true
			}
		}
	}
	for i := range s.Gateways {
		for _, t := range s.Gateways[i].TLS {
			names[t.Certificate], names[t.ClientCA] = true, true
		}
	}
	return names
}

// viewer decides the conditions on one caller.
type viewer struct {
	caller mesh.Caller
	memory *memory
}

func (v *viewer) from(namespace string, labels mesh.Labels) bool {
	return (namespace == "" || namespace == v.caller.Workload.Namespace) && v.caller.Labels.Contains(labels)
}

func (v *viewer) gateway(g *mesh.Gateway) mesh.Gateway {
	out := *g
	out.TLS = nil
	for _, t := range g.TLS {
		t.Hosts = slices.Clip(t.Hosts)
		t.Optional = t.Optional && t.ClientCA != ""
		out.TLS = append(out.TLS, t)
	}
	out.VirtualHosts = v.hosts(g.VirtualHosts)
	out.Streams = v.streams(g.Streams)
	return out
}

func (v *viewer) hosts(hosts []mesh.VirtualHost) []mesh.VirtualHost {
	var out []mesh.VirtualHost
	for i := range hosts {
		id := idOf(&hosts[i])
		vh, known := v.memory.hosts.find(id)
		if !known {
			vh = v.host(hosts[i])
		}
		v.memory.hosts.keep(id, vh)
		out = append(out, vh)
	}
	return out
}

func (v *viewer) host(vh mesh.VirtualHost) mesh.VirtualHost {
	routes := vh.Routes
	vh.Routes = nil
	for i := range routes {
		if r, possible := v.route(&routes[i]); possible {
			vh.Routes = append(vh.Routes, r)
		}
	}
	vh.Streams = v.streams(vh.Streams)
	return vh
}

func (v *viewer) streams(streams []mesh.Stream) []mesh.Stream {
	var out []mesh.Stream
	for _, s := range streams {
		matches := s.Matches
		s.Matches = nil
		for _, m := range matches {
			if v.from(m.SourceNamespace, m.SourceLabels) {
				s.Matches = append(s.Matches, mesh.StreamMatch{Port: m.Port, SNI: full(m.SNI)})
			}
		}
		if len(matches) > 0 && s.Matches == nil {
			continue
		}
		if len(s.Matches) == 1 && s.Matches[0].Port == 0 && s.Matches[0].SNI == nil {
			s.Matches = nil
		}
		s.Split = canonicalSplit(s.Split)
		for i := range s.Split {
			s.Split[i].Headers = nil
		}
		out = append(out, s)
	}
	return out
}

func (v *viewer) service(svc *mesh.Service) *mesh.Service {
	seen, known := v.memory.services.find(svc)
	if !known {
		seen = v.look(svc)
	}
	v.memory.services.keep(svc, seen)
	return seen
}

func (v *viewer) look(svc *mesh.Service) *mesh.Service {
	out := &mesh.Service{Name: svc.Name, Ports: full(slices.Clone(svc.Ports))}
	for name, labels := range svc.Subsets {
		if len(svc.Ports) == 0 {
			break // nothing can be called
		}
		if out.Subsets == nil {
			out.Subsets = map[string]mesh.Labels{}
		}
		out.Subsets[name] = full2(labels)
	}
	slices.SortFunc(out.Ports, func(a, b mesh.Port) int { return cmp.Compare(a.Number, b.Number) })
	out.Endpoints = full(slices.Clone(svc.Endpoints))
	for i := range out.Endpoints {
		e := &out.Endpoints[i]
		e.Labels = full2(e.Labels)
		if e.Weight == 1 {
			e.Weight = 0
		}
		if e.Dial == e.Address.String() {
			e.Dial = ""
		}
	}
	slices.SortStableFunc(out.Endpoints, func(a, b mesh.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Priority, b.Priority), comparePlaces(a.Place, b.Place))
	})
	for _, port := range out.Ports {
		for _, subset := range subsetsOf(out) {
			setPolicy(out, port, subset, svc.Policy(port.Number, subset))
		}
	}
	out.Access = v.access(svc.Access)
	return out
}

// subsetsOf lists the subsets of a service in order, "" first.
func subsetsOf(svc *mesh.Service) []string {
	return append([]string{""}, slices.Sorted(maps.Keys(svc.Subsets))...)
}

func comparePlaces(a, b mesh.Place) int {
	return cmp.Or(strings.Compare(a.Region, b.Region), strings.Compare(a.Zone, b.Zone), strings.Compare(a.Subzone, b.Subzone))
}

// access leaves what is to be asked of a request once the caller is known.
func (v *viewer) access(rules []mesh.Access) []mesh.Access {
	var out []mesh.Access
	restricted, allowed := false, false
	for _, rule := range rules {
		restricted = restricted || !rule.Deny
		if len(rule.Sources) > 0 && !slices.ContainsFunc(rule.Sources, v.isSource) {
			continue
		}
		rule.Sources = nil
		matches := rule.Matches
		rule.Matches = v.matches(matches)
		if len(matches) > 0 && rule.Matches == nil {
			continue // no match can hold
		}
		if len(rule.Matches) == 1 && reflect.ValueOf(rule.Matches[0]).IsZero() {
			rule.Matches = nil
		}
		allowed = allowed || !rule.Deny
		out = append(out, rule)
	}
	if restricted && !allowed {
		// None of the rules that let somebody in is for this caller.
		return []mesh.Access{{Deny: true}}
	}
	// Those that refuse come first: they win over those that let in.
	slices.SortStableFunc(out, func(a, b mesh.Access) int {
		switch {
		case a.Deny == b.Deny:
			return 0
		case a.Deny:
			return -1
		default:
			return 1
		}
	})
	return out
}

func (v *viewer) isSource(s mesh.Source) bool {
	is := (s.Namespace == "" || s.Namespace == v.caller.Workload.Namespace) &&
		(s.Service == "" || s.Service == v.caller.Workload.Name)
	return is != s.Not
}

// matches returns those that can hold; nil when all calls match, or none can.
func (v *viewer) matches(matches []mesh.Match) []mesh.Match {
	var out []mesh.Match
	for i := range matches {
		m := &matches[i]
		if !v.from(m.SourceNamespace, m.SourceLabels) {
			continue
		}
		out = append(out, canonicalMatch(m))
	}
	return out
}

// full returns nil for what is empty.
func full[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

// full2 is full for maps.
func full2[M ~map[K]V, K comparable, V any](m M) M {
	if len(m) == 0 {
		return nil
	}
	return m
}
