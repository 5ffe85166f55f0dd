package istio

import (
	"maps"
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
// the VirtualServices that are bound to it.
func (t *translator) addGateways(gateways []gateway, all []virtualService) {
	for _, g := range gateways {
		for _, port := range slices.Sorted(maps.Keys(g.ports)) {
			byHost := map[string][]*virtualService{}
			for i := range all {
				vs := &all[i]
				if !slices.Contains(vs.gateways, g.name) {
					continue
				}
				for _, host := range g.hostsOf(vs, port) {
					byHost[host] = append(byHost[host], vs)
				}
			}
			t.out.Snapshot.Gateways = append(t.out.Snapshot.Gateways, mesh.Gateway{
				Name: g.name, Port: port, VirtualHosts: mergeHosts(byHost, g.name, port),
			})
		}
	}
	slices.SortStableFunc(t.out.Snapshot.Gateways, func(a, b mesh.Gateway) int { return strings.Compare(a.Name, b.Name) })
}

// mergeHosts makes one virtual host of all hosts with the same VirtualServices.
func mergeHosts(byHost map[string][]*virtualService, gateway string, port uint16) []mesh.VirtualHost {
	var out []mesh.VirtualHost
	made := map[string]int{} // by the names of the VirtualServices
	for _, host := range slices.Sorted(maps.Keys(byHost)) {
		key := ""
		for _, vs := range byHost[host] {
			key += vs.origin.Namespace + "/" + vs.origin.Name + " "
		}
		i, ok := made[key]
		if !ok {
			i = len(out)
			made[key] = i
			out = append(out, mesh.VirtualHost{Routes: mergeRoutes(byHost[host], gateway, port)})
		}
		out[i].Hosts = append(out[i].Hosts, host)
	}
	return out
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
