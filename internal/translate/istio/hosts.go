package istio

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"serin.dev/serin/internal/mesh"
)

// addRoutesBetweenServices gives each host to the oldest VirtualService that
// names it.
func (t *translator) addRoutesBetweenServices(all []virtualService) {
	owner := map[string]mesh.Origin{}
	for i := range all {
		vs := &all[i]
		if !slices.Contains(vs.gateways, betweenServices) {
			continue
		}
		var own []string
		for _, host := range vs.hosts {
			if host == "*" {
				continue
			}
			if first, taken := owner[host]; taken {
				r := report{origin: vs.origin}
				r.warnf("spec.hosts", "host %s is routed by the older %s between services: put the routes there", host, first)
				t.out.Findings = append(t.out.Findings, r.findings...)
				continue
			}
			owner[host] = vs.origin
			own = append(own, host)
		}
		slices.Sort(own)
		t.out.Snapshot.Hosts = append(t.out.Snapshot.Hosts, t.virtualHosts(vs, own)...)
	}
	sortHosts(t.out.Snapshot.Hosts)
}

// virtualHosts makes what routes calls between services to some hosts of a
// VirtualService. Without http routes each host's requests go where they would
// without the object: only its connections are routed.
func (t *translator) virtualHosts(vs *virtualService, hosts []string) []mesh.VirtualHost {
	streams := append(vs.streamsAt(betweenServices, true), vs.streamsAt(betweenServices, false)...)
	if len(vs.routes) > 0 && len(hosts) > 0 {
		return []mesh.VirtualHost{{Hosts: hosts, Routes: vs.at(betweenServices, 0), Streams: streams}}
	}
	var out []mesh.VirtualHost
	for _, host := range hosts {
		vh := mesh.VirtualHost{Hosts: []string{host}, Streams: streams}
		if name := mesh.ServiceName(host); t.out.Snapshot.Services[name] != nil {
			vh.Routes = []mesh.Route{{Origin: vs.origin, Service: name, Split: []mesh.Destination{{Service: name}}}}
		}
		out = append(out, vh)
	}
	return out
}

func sortHosts(hosts []mesh.VirtualHost) {
	slices.SortFunc(hosts, func(a, b mesh.VirtualHost) int { return strings.Compare(a.Hosts[0], b.Hosts[0]) })
}

// addGateways makes a listener of each Gateway and port, with the routes of
// the VirtualServices that are bound to it. Of Gateways that want one port for
// different protocols, the oldest gets it.
func (t *translator) addGateways(gateways []gateway, all []virtualService) {
	first := map[uint16]*gateway{}
	for i := range gateways {
		g := &gateways[i]
		for _, port := range slices.Sorted(maps.Keys(g.ports)) {
			p := g.ports[port]
			if other := first[port]; other == nil {
				first[port] = g
			} else if speaks := other.ports[port].wire; speaks != p.wire {
				r := report{origin: g.origin}
				r.warnf(p.path, "port %d speaks %s for %s: it is not opened for %s; use another port", port, speaks, other.origin, p.wire)
				t.out.Findings = append(t.out.Findings, r.findings...)
				continue
			}
			out := mesh.Gateway{
				Name: g.name, Port: port, TLS: p.tls,
				VirtualHosts: p.virtualHosts(all, g.name, port),
				Streams:      p.streams(all, g.name),
			}
			if p.wire == overTLS && len(out.TLS)+len(out.Streams) == 0 {
				continue // without what it is for, the port would be a plain one
			}
			t.out.Snapshot.Gateways = append(t.out.Snapshot.Gateways, out)
		}
	}
	slices.SortStableFunc(t.out.Snapshot.Gateways, func(a, b mesh.Gateway) int { return strings.Compare(a.Name, b.Name) })
}

// hostKey tells hosts apart that cannot be one virtual host.
type hostKey struct {
	services   string // names of the VirtualServices
	requireTLS bool
}

// virtualHosts makes one virtual host of all hosts with the same
// VirtualServices.
func (p *gatewayPort) virtualHosts(all []virtualService, gateway string, port uint16) []mesh.VirtualHost {
	byHost := map[string][]*virtualService{}
	redirected := map[string]bool{}
	for _, sh := range p.http {
		if sh.redirect { // also without a VirtualService
			byHost[sh.host], redirected[sh.host] = nil, true
		}
	}
	for i := range all {
		vs := &all[i]
		if !slices.Contains(vs.gateways, gateway) {
			continue
		}
		hosts, redirect := hostsOf(p.http, vs)
		for _, host := range hosts {
			byHost[host] = append(byHost[host], vs)
			redirected[host] = redirected[host] || redirect[host]
		}
	}
	for host, services := range byHost {
		slices.SortStableFunc(services, func(a, b *virtualService) int { return cmp.Compare(b.precision(host), a.precision(host)) })
	}
	var out []mesh.VirtualHost
	made := map[hostKey]int{}
	for _, host := range slices.Sorted(maps.Keys(byHost)) {
		key := hostKey{requireTLS: redirected[host]}
		for _, vs := range byHost[host] {
			key.services += vs.origin.Namespace + "/" + vs.origin.Name + " "
		}
		i, ok := made[key]
		if !ok {
			i = len(out)
			made[key] = i
			out = append(out, mesh.VirtualHost{Routes: mergeRoutes(byHost[host], gateway, port), RequireTLS: redirected[host]})
		}
		out[i].Hosts = append(out[i].Hosts, host)
	}
	return out
}

// precision says how precisely a VirtualService names a host that it covers:
// by the length of its pattern, and most precisely by the host itself. Where a
// gateway serves one host of a wildcard, both the object for the wildcard and
// that for the host are its; Istio leaves their order open, and everywhere else
// the more specific host wins.
func (vs *virtualService) precision(host string) int {
	best := 0
	for _, pattern := range vs.hosts {
		switch {
		case pattern == host:
			return math.MaxInt
		case mesh.HostMatches(pattern, host):
			best = max(best, len(pattern))
		}
	}
	return best
}

// streams collects the streams of VirtualServices whose hosts the port serves:
// by SNI for what is passed through, else all.
func (p *gatewayPort) streams(all []virtualService, gateway string) []mesh.Stream {
	var out []mesh.Stream
	for i := range all {
		vs := &all[i]
		if !slices.Contains(vs.gateways, gateway) {
			continue
		}
		if hosts, _ := hostsOf(p.sni, vs); len(hosts) > 0 {
			for _, s := range vs.streamsAt(gateway, true) {
				if s = servedNames(s, hosts); len(s.Matches) > 0 {
					out = append(out, s)
				}
			}
		}
		if hosts, _ := hostsOf(p.tcp, vs); len(hosts) > 0 {
			out = append(out, vs.streamsAt(gateway, false)...)
		}
	}
	return out
}

// servedNames takes out of a stream's matches the names that a port does not
// serve.
func servedNames(s mesh.Stream, hosts []string) mesh.Stream {
	var matches []mesh.StreamMatch
	for _, m := range s.Matches {
		served := func(name string) bool {
			return slices.ContainsFunc(hosts, func(h string) bool { return mesh.HostMatches(h, name) })
		}
		m.SNI = slices.DeleteFunc(slices.Clone(m.SNI), func(name string) bool { return !served(name) })
		if len(m.SNI) > 0 {
			matches = append(matches, m)
		}
	}
	s.Matches = matches
	return s
}

// mergeRoutes puts the routes of several VirtualServices one after the other,
// those that take every request last, as Istio does: otherwise the default
// route of one would hide all routes of a younger one.
func mergeRoutes(services []*virtualService, gateway string, port uint16) []mesh.Route {
	var some, all []mesh.Route
	for _, vs := range services {
		for _, r := range vs.at(gateway, port) {
			if takesAll(&r) {
				all = append(all, r)
			} else {
				some = append(some, r)
			}
		}
	}
	return append(some, all...)
}

// takesAll reports whether no route after this one is ever reached.
func takesAll(r *mesh.Route) bool {
	for i := range r.Matches {
		m := r.Matches[i]
		if m.URI == (mesh.StringMatch{Kind: mesh.Prefix, Value: "/"}) {
			m.URI = mesh.StringMatch{}
		}
		if m.Always() {
			return true
		}
	}
	return len(r.Matches) == 0
}
