package meshtest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"serin.dev/serin/internal/mesh"
)

// Call makes a call to a host of the snapshot, now and then to one that it does
// not have, with parts that the matches of random snapshots look at.
func Call(r *rand.Rand, s *mesh.Snapshot) mesh.Call {
	m := &maker{Rand: r}
	c := mesh.Call{
		Namespace: pick(m, "default", "shop"),
		Labels:    mesh.Labels{"app": pick(m, "web", "reviews", "other")},
		Scheme:    pick(m, "http", "http", "https"),
		Method:    pick(m, "GET", "GET", "POST", "DELETE"),
		Path:      pick(m, "/", "/api", "/api/v1", "/api/v1/items", "/apiary", "/static/a.png", "/a/b", "/Api"),
		Query:     map[string]string{},
		Headers:   map[string]string{},
	}
	var hosts []string
	if len(s.Gateways) > 0 && m.percent(40) {
		g := s.Gateways[m.IntN(len(s.Gateways))]
		c.Gateway, c.Namespace, c.Labels = g.Port, "", nil
		for _, vh := range g.VirtualHosts {
			hosts = append(hosts, vh.Hosts...)
		}
	} else {
		for _, name := range slices.Sorted(maps.Keys(s.Services)) {
			hosts = append(hosts, string(name))
		}
		for _, vh := range s.Hosts {
			hosts = append(hosts, vh.Hosts...)
		}
	}
	hosts = append(hosts, "unknown.test")
	c.Host = strings.Replace(pick(m, hosts...), "*", "any", 1)
	c.Port = pick[uint16](m, 80, 80, 80, 9080)
	if c.Gateway != 0 {
		c.Port = c.Gateway
	}
	c.Authority = c.Host
	if c.Port != 80 && c.Port != 443 {
		c.Authority = fmt.Sprintf("%s:%d", c.Host, c.Port)
	}
	if m.percent(40) {
		c.Query[pick(m, "q", "version")] = pick(m, "", "2", "22", "x")
	}
	for _, name := range some(m, 0, 2, headerNames()...) {
		c.Headers[name] = pick(m, "", "jason", "Jason", "jack", "jackson", "mary")
	}
	return c
}

// Connection makes a connection to a port of the snapshot that is not HTTP,
// if it has one, else to any.
func Connection(r *rand.Rand, s *mesh.Snapshot) mesh.Connection {
	m := &maker{Rand: r}
	c := mesh.Connection{
		Namespace: pick(m, "default", "shop"),
		Labels:    mesh.Labels{"app": pick(m, "web", "reviews")},
		Host:      "unknown.test", Port: 5432,
		SNI: pick(m, "", "www.example.org", "raw.example.org", "a.raw.example.org", "a.test", "other.test"),
	}
	var all []mesh.Connection
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		for _, p := range s.Services[name].Ports {
			if p.Protocol == mesh.TCP || p.Protocol == mesh.HTTPS {
				to := c
				to.Host, to.Port = string(name), p.Number
				all = append(all, to)
			}
		}
	}
	for _, g := range s.Gateways {
		if len(g.TLS)+len(g.Streams) > 0 {
			to := c
			to.Namespace, to.Labels, to.Host, to.Gateway, to.Port = "", nil, "", g.Port, g.Port
			all = append(all, to)
		}
	}
	return pick(m, append(all, c)...)
}
