// Package meshtest makes random snapshots, and calls that their routes cover,
// for tests of whatever obeys, converts or compares snapshots.
//
// What it makes is valid and the same for the same source of randomness. It
// must never be imported by the product, and never leave out a noun: a test
// holds that every field of every noun is set by some seed.
//
// Read next: internal/mesh, whose nouns these are.
package meshtest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"serin.dev/serin/internal/mesh"
)

// Features say what a random snapshot may have beyond services, hosts, matches
// and splits. The zero value has none of them.
type Features struct {
	Gateways  bool // listeners for traffic from outside
	TLS       bool // certificates, and who uses them
	Streams   bool // routes and ports of connections that are not HTTP
	Sources   bool // conditions on who calls
	Policies  bool // balancers, hashes, pools, outliers, budgets, warm-up, health checks
	Places    bool // places, priorities and locality rules
	Access    bool // who may call
	Answers   bool // redirects and direct answers
	Edits     bool // rewrites and header edits
	CORS      bool
	Faults    bool
	Limits    bool // rate limits
	Mirrors   bool
	Compares  bool // the answers of mirrors, too
	Retries   bool // and timeouts
	Affinity  bool // the same share for the same user
	Externals bool // services that are known by name only
	Broken    bool // destinations that do not exist
}

// All has every feature.
func All() Features {
	return Features{
		Gateways: true, TLS: true, Streams: true, Sources: true, Policies: true, Places: true, Access: true, Answers: true, Edits: true,
		CORS: true, Faults: true, Limits: true, Mirrors: true, Compares: true, Retries: true, Affinity: true, Externals: true, Broken: true,
	}
}

// Snapshot makes a valid snapshot of two to six services.
func Snapshot(r *rand.Rand, f Features) *mesh.Snapshot {
	m := &maker{Rand: r, Features: f, s: &mesh.Snapshot{
		Version:  mesh.SnapshotVersion(1 + r.Uint64N(1<<40)),
		Services: map[mesh.ServiceName]*mesh.Service{},
		Origins:  map[mesh.Origin]int64{},
	}}
	if f.TLS {
		m.s.Certificates = certificates(r)
	}
	names := []mesh.ServiceName{"reviews.default", "ratings.default", "web.shop", "cart.shop", "db.data"}
	for _, name := range names[:2+r.IntN(len(names)-1)] {
		m.addService(name)
	}
	if f.Externals {
		m.addService("api.example.org")
	}
	m.addHosts()
	if f.Gateways {
		m.addGateways()
	}
	return m.s
}

type maker struct {
	*rand.Rand
	Features
	s     *mesh.Snapshot
	names []mesh.ServiceName // in the order in which they were made
}

// percent is true so often.
func (m *maker) percent(p int) bool { return m.IntN(100) < p }

func pick[T any](m *maker, of ...T) T { return of[m.IntN(len(of))] }

// some picks between least and most different ones, in their order.
func some[T any](m *maker, least, most int, of ...T) []T {
	n := min(least+m.IntN(most-least+1), len(of))
	if n == 0 {
		return nil
	}
	at := m.Perm(len(of))[:n]
	slices.Sort(at)
	out := make([]T, n)
	for i := range out {
		out[i] = of[at[i]]
	}
	return out
}

func (m *maker) duration() time.Duration {
	return pick(m, time.Millisecond, 50*time.Millisecond, 1500*time.Millisecond, 10*time.Second, time.Hour)
}

func (m *maker) share() mesh.Share {
	return pick(m, 0, 1, 1_000, 333_333, 500_000, mesh.Everything-1, mesh.Everything)
}

func (m *maker) origin(kind string) mesh.Origin {
	o := mesh.Origin{Kind: kind, Namespace: pick(m, "default", "shop"), Name: fmt.Sprintf("object-%d", m.IntN(5))}
	m.s.Origins[o] = 1 + m.Int64N(9)
	return o
}

func (m *maker) addService(name mesh.ServiceName) {
	m.names = append(m.names, name)
	svc := &mesh.Service{Name: name, Ports: []mesh.Port{{Number: 80, Name: "http"}}}
	m.s.Services[name] = svc
	if m.percent(50) {
		svc.Ports = append(svc.Ports, mesh.Port{Number: 9080, Protocol: pick(m, mesh.HTTP, mesh.HTTP2, mesh.GRPC)})
	}
	if m.Streams && m.percent(50) {
		svc.Ports = append(svc.Ports, mesh.Port{Number: 5432, Name: "tcp-db", Protocol: mesh.TCP})
	}
	if m.Streams && m.percent(50) {
		svc.Ports = append(svc.Ports, mesh.Port{Number: 443, Name: "https", Protocol: mesh.HTTPS})
	}
	svc.Subsets = map[string]mesh.Labels{"v1": {"version": "v1"}, "v2": {"version": "v2"}, "blue": {"color": "blue", "version": "v2"}}
	if m.Externals && name == "api.example.org" {
		for _, p := range svc.Ports {
			svc.Endpoints = append(svc.Endpoints, mesh.Endpoint{Port: p.Number, Dial: fmt.Sprintf("%s:%d", name, p.Number)})
		}
	} else {
		for i := range m.IntN(5) {
			m.addEndpoint(svc, i)
		}
	}
	if m.Policies {
		m.addPolicies(svc)
	}
	if m.Access && m.percent(50) {
		svc.Access = append(svc.Access, m.access())
	}
}

// addEndpoint adds one pod behind all ports of the service.
func (m *maker) addEndpoint(svc *mesh.Service, i int) {
	version := pick(m, "v1", "v2", "v3")
	namespace, app := svc.Name.Split()
	e := mesh.Endpoint{
		Labels: mesh.Labels{"app": app, "version": version},
		Workload: mesh.Workload{
			Namespace: namespace, Name: app + "-" + version, Version: version,
			Revision: fmt.Sprintf("%08x", m.Uint32()), Pod: fmt.Sprintf("%s-%d", app, i),
		},
	}
	if m.percent(30) {
		e.Labels["color"] = "blue"
	}
	if m.percent(30) {
		e.Weight = 1 + m.Uint32N(100)
	}
	if m.Places {
		e.Place = pick(m, mesh.Place{}, mesh.Place{Region: "eu"}, mesh.Place{Region: "eu", Zone: "west", Subzone: "rack1"}, mesh.Place{Region: "us", Zone: "east"})
		e.Priority = uint32(min(i, m.IntN(2)))
	}
	ip := netip.AddrFrom4([4]byte{127, 1, byte(len(m.names)), byte(i + 1)})
	for _, p := range svc.Ports {
		e.Port, e.Address, e.Dial = p.Number, netip.AddrPortFrom(ip, p.Number), ""
		if m.percent(20) {
			e.Dial = fmt.Sprintf("127.0.0.1:%d", 20000+m.IntN(1000))
		}
		svc.Endpoints = append(svc.Endpoints, e)
	}
}

func (m *maker) access() mesh.Access {
	a := mesh.Access{Origin: m.origin("AuthorizationPolicy"), Deny: m.percent(50)}
	for range m.IntN(3) {
		a.Sources = append(a.Sources, pick(m,
			mesh.Source{Namespace: "shop"}, mesh.Source{Service: "cart"}, mesh.Source{Namespace: "default", Service: "web", Not: true}))
	}
	for range m.IntN(2) {
		a.Matches = append(a.Matches, m.match())
	}
	return a
}

// addHosts routes calls to some services, to a wildcard, and to a host that is
// no service.
func (m *maker) addHosts() {
	for _, name := range m.names {
		if m.percent(80) {
			m.s.Hosts = append(m.s.Hosts, mesh.VirtualHost{Hosts: []string{string(name)}, Routes: m.routes("", name), Streams: m.streams(name, m.s.Services[name].Ports)})
		}
	}
	if m.percent(50) {
		m.s.Hosts = append(m.s.Hosts, mesh.VirtualHost{Hosts: []string{"*.example.org", "example.org"}, Routes: m.routes("", "")})
	}
}

func (m *maker) addGateways() {
	g := mesh.Gateway{Name: "default/edge", Port: 80, VirtualHosts: m.gatewayHosts(80)}
	m.s.Gateways = append(m.s.Gateways, g)
	if m.percent(50) {
		m.s.Gateways = append(m.s.Gateways, mesh.Gateway{Name: "shop/edge", Port: 80, VirtualHosts: []mesh.VirtualHost{
			{Hosts: []string{"shop.example.org"}, Routes: m.routes("80", "")},
		}})
	}
	if m.TLS {
		g := mesh.Gateway{Name: "default/edge", Port: 443, TLS: m.serverTLS(), VirtualHosts: m.gatewayHosts(443)}
		if m.Streams {
			g.Streams = m.sniStreams()
		}
		m.s.Gateways = append(m.s.Gateways, g)
	}
	if m.Streams {
		m.s.Gateways = append(m.s.Gateways, mesh.Gateway{Name: "default/edge", Port: 5432, Streams: m.streams("", []mesh.Port{{Number: 5432, Protocol: mesh.TCP}})})
	}
}

func (m *maker) gatewayHosts(port uint16) []mesh.VirtualHost {
	out := []mesh.VirtualHost{{Hosts: []string{"www.example.org", "*.test"}, Routes: m.routes("edge", "")}}
	if port == 80 && m.TLS && m.percent(50) {
		out = append(out, mesh.VirtualHost{Hosts: []string{"secure.example.org"}, Routes: m.routes("edge", ""), RequireTLS: true})
	}
	if m.percent(50) {
		out = append(out, mesh.VirtualHost{Hosts: []string{"*"}, Routes: m.routes("edge", "")})
	}
	return out
}

func (m *maker) serverTLS() []mesh.ServerTLS {
	out := []mesh.ServerTLS{{Hosts: []string{"www.example.org"}, Certificate: "default/www"}, {Hosts: []string{"*.test"}, Certificate: "default/test"}}
	t := &out[m.IntN(2)]
	if m.percent(50) {
		t.ClientCA, t.Optional = "default/ca", m.percent(50)
	}
	t.Min = pick(m, mesh.TLSDefault, mesh.TLS10, mesh.TLS12, mesh.TLS13)
	t.Max = pick(m, mesh.TLSDefault, mesh.TLS13)
	return out
}
