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
		if len(own) > 0 {
			slices.Sort(own)
			t.out.Snapshot.Hosts = append(t.out.Snapshot.Hosts, mesh.VirtualHost{Hosts: own, Routes: vs.at(betweenServices)})
		}
	}
	sortHosts(t.out.Snapshot.Hosts)
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
				Name: g.name, Port: port, VirtualHosts: mergeHosts(byHost, g.name),
			})
		}
	}
	slices.SortStableFunc(t.out.Snapshot.Gateways, func(a, b mesh.Gateway) int { return strings.Compare(a.Name, b.Name) })
}

// mergeHosts makes one virtual host of all hosts with the same VirtualServices.
func mergeHosts(byHost map[string][]*virtualService, gateway string) []mesh.VirtualHost {
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
			out = append(out, mesh.VirtualHost{Routes: mergeRoutes(byHost[host], gateway)})
		}
		out[i].Hosts = append(out[i].Hosts, host)
	}
	return out
}

// mergeRoutes puts the routes of several VirtualServices one after the other,
// those that take every request last, as Istio does: otherwise the default
// route of one would hide all routes of a younger one.
func mergeRoutes(services []*virtualService, gateway string) []mesh.Route {
	var some, all []mesh.Route
	for _, vs := range services {
		for _, r := range vs.at(gateway) {
			if len(r.Matches) == 0 {
				all = append(all, r)
			} else {
				some = append(some, r)
			}
		}
	}
	return append(some, all...)
}
