package proxy

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/proxy/wire"
)

// routing is one request's way through the tables: host, route, share, edits,
// endpoint and the answer, with all the caller has to say.
type routing struct {
	table        *table
	call         *call
	head, answer wire.Head
	fields       []wire.Field
	draws        draws
}

// browser is what a browser's request carries behind a gateway.
var browser = []string{
	"user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101", "accept: text/html,*/*;q=0.8",
	"accept-encoding: gzip, deflate, br", "accept-language: de,en;q=0.5", "x-forwarded-proto: http",
	"x-request-id: 7cf0b8a2-8a3a-4f07-9f3f-0d0f1b5a3c52", "x-forwarded-for: 10.11.12.13", "end-user: jason", "cookie: user=4711",
}

func newRouting(tb testing.TB, s *mesh.Snapshot) *routing {
	r := &routing{table: compiled(tb, s), call: newCall("GET", "/api/v1/songs?id=7", browser...)}
	r.fields = r.call.head.Fields
	return r
}

func (r *routing) run(tb testing.TB, host string) {
	c := r.call
	r.head = wire.Head{Method: "GET", Authority: host, Path: "/api/v1/songs?id=7", Fields: append(r.head.Fields[:0], r.fields...)}
	c.head, c.host = &r.head, host
	found := r.table.inMesh("default", host)
	dec := found.decide(c, &r.draws)
	if dec.group == nil {
		tb.Fatalf("%s: %+v", host, dec)
	}
	m := dec.pick(c.now, &r.draws, nil)
	p, ok := dec.group.admitRequest()
	if m == nil || !ok {
		tb.Fatalf("%s: no endpoint", host)
	}
	dec.editRequest(c)
	m.done(outcome{status: 200, grpc: noGRPC}, c.now)
	p.release()
	r.answer.Reset()
	r.answer.Status = 200
	dec.editAnswer(&r.answer)
}

// plainRoute is a route to all endpoints of a service.
func plainRoute() *mesh.Snapshot {
	return snapshot(1, service("music.default", "127.0.0.1:1", "127.0.0.1:2"), mesh.VirtualHost{
		Hosts: []string{"music.default"}, Routes: []mesh.Route{{Split: []mesh.Destination{{Service: "music.default"}}}},
	})
}

// busyRoute is a header match, a 50/50 split and edits before a plain route,
// with all limits, an outlier policy and a budget.
func busyRoute() *mesh.Snapshot {
	s := plainRoute()
	edits := &mesh.HeaderEdits{
		Request: mesh.HeaderEdit{Remove: []string{"x-gone"}, Set: []mesh.Header{{Name: "x-version", Value: "2"}}, Add: []mesh.Header{{Name: "x-via", Value: "serin"}}},
		Answer:  mesh.HeaderEdit{Set: []mesh.Header{{Name: "x-served-by", Value: "serin"}}},
	}
	match := mesh.Match{
		URI:     mesh.StringMatch{Kind: mesh.Prefix, Value: "/api/"},
		Headers: map[string]mesh.StringMatch{"end-user": {Kind: mesh.Regex, Value: "ja.*n"}, "x-none": {Kind: mesh.Present, Invert: true}},
		Query:   map[string]mesh.StringMatch{"id": {Kind: mesh.Exact, Value: "7"}},
	}
	s.Hosts[0].Routes = append([]mesh.Route{{
		Matches: []mesh.Match{match}, Headers: edits, Rewrite: &mesh.Rewrite{Path: ptr("/"), Authority: "inner.test"},
		Affinity: []mesh.HashKey{{Source: mesh.HashCookie, Name: "user"}},
		CORS:     &mesh.CORS{Origins: []mesh.StringMatch{{Kind: mesh.Exact, Value: "*"}}},
		Fault:    &mesh.Fault{Abort: &mesh.Abort{Share: 0, Status: 500}},
		Split: []mesh.Destination{
			{Service: "music.default", Subset: "v1", Weight: 50},
			{Service: "music.default", Subset: "v2", Weight: 50, Headers: edits},
		},
	}}, s.Hosts[0].Routes...)
	s.Services["music.default"].Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {
		Outlier: &mesh.Outlier{Consecutive5xx: 5, MaxPercent: 50}, Budget: &mesh.RetryBudget{Percent: 200_000},
		Pool: mesh.Pool{MaxRequests: 1000},
	}}
	return s
}

// manyHosts has n virtual hosts with a route each, exact ones and wildcards.
func manyHosts(n int) *mesh.Snapshot {
	s := plainRoute()
	for i := range n {
		host := fmt.Sprintf("host-%d.default", i)
		if i%10 == 9 {
			host = fmt.Sprintf("*.zone-%d.example.org", i)
		}
		s.Hosts = append(s.Hosts, mesh.VirtualHost{Hosts: []string{host}, Routes: s.Hosts[0].Routes})
	}
	return s
}

// manyRoutes puts n routes that do not match before the plain one: what is
// asked of them is different, and close to what comes.
func manyRoutes(n int) *mesh.Snapshot {
	s := plainRoute()
	var routes []mesh.Route
	for i := range n {
		m := mesh.Match{URI: mesh.StringMatch{Kind: mesh.Prefix, Value: fmt.Sprintf("/api/v%d/", i+2)}}
		switch i % 4 {
		case 1:
			m.URI = mesh.StringMatch{Kind: mesh.Exact, Value: fmt.Sprintf("/api/v1/songs/%d", i)}
		case 2:
			m = mesh.Match{Headers: map[string]mesh.StringMatch{"end-user": {Kind: mesh.Exact, Value: fmt.Sprintf("jas%02d", i)}}}
		}
		routes = append(routes, mesh.Route{Matches: []mesh.Match{m}, Split: s.Hosts[0].Routes[0].Split})
	}
	s.Hosts[0].Routes = append(routes, s.Hosts[0].Routes...)
	return s
}

// TestRoutingAllocatesNothing holds the request path's budget.
func TestRoutingAllocatesNothing(t *testing.T) {
	hashed := plainRoute()
	hashed.Services["music.default"].Policies = map[mesh.PolicyScope]*mesh.Policy{{}: {
		Balancer: mesh.RingHash, Hash: []mesh.HashKey{{Source: mesh.HashHeader, Name: "none"}, {Source: mesh.HashSourceIP}},
	}}
	for name, s := range map[string]*mesh.Snapshot{
		"plain": plainRoute(), "busy": busyRoute(), "many hosts": manyHosts(100), "many routes": manyRoutes(100), "hashed": hashed,
	} {
		r := newRouting(t, s)
		r.run(t, "music") // makes what is made once
		if n := testing.AllocsPerRun(1000, func() { r.run(t, "music") }); n != 0 {
			t.Errorf("%s: %v allocations for each request, want 0", name, n)
		}
	}
}

// BenchmarkRouting is the routing of one request.
func BenchmarkRouting(b *testing.B) {
	run := func(name, host string, s *mesh.Snapshot) {
		b.Run(name, func(b *testing.B) {
			r := newRouting(b, s)
			b.ReportAllocs()
			for b.Loop() {
				r.run(b, host)
			}
		})
	}
	run("plain", "music", plainRoute())
	run("busy", "music", busyRoute())
	run("hosts=10", "host-7", manyHosts(10))
	run("hosts=10000", "host-7777", manyHosts(10_000))
	run("wildcards=10000", "x.zone-7779.example.org", manyHosts(10_000))
	run("routes=100", "music", manyRoutes(100))
	run("routes=1000", "music", manyRoutes(1000))
}

// manyServices has so many services with five endpoints of each of two versions,
// a split of the two in front of each, and the given weight of the second
// version of the first service. Labels are of objects that do not change, as with
// a controller; all else is made anew.
func manyServices(version mesh.SnapshotVersion, services int, weight uint32) *mesh.Snapshot {
	s := snapshot(version)
	for i := range services {
		svc := &mesh.Service{
			Name: mesh.ServiceName(fmt.Sprintf("service-%d.default", i)), Ports: []mesh.Port{{Number: 80}},
			Subsets: map[string]mesh.Labels{"v1": versionLabels[0], "v2": versionLabels[1]},
		}
		for j := range 10 {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1 + byte(i/250), byte(i % 250), byte(j + 1)}), 80)
			svc.Endpoints = append(svc.Endpoints, mesh.Endpoint{
				Port: 80, Address: at, Dial: at.String(), Labels: versionLabels[j%2],
				Workload: mesh.Workload{Namespace: "default", Name: "app", Version: versionLabels[j%2]["version"], Pod: fmt.Sprintf("app-%d-%d", i, j)},
			})
		}
		s.Services[svc.Name] = svc
		s.Hosts = append(s.Hosts, mesh.VirtualHost{Hosts: []string{string(svc.Name)}, Routes: []mesh.Route{{
			Split: []mesh.Destination{{Service: svc.Name, Subset: "v1", Weight: 90}, {Service: svc.Name, Subset: "v2", Weight: weight}},
		}}})
		weight = 10
	}
	return s
}

var versionLabels = [...]mesh.Labels{{"app": "app", "version": "v1"}, {"app": "app", "version": "v2"}}

// BenchmarkApply swaps snapshots of 1,000 services with 10 endpoints each: the
// first one; one in which all services have changed; and one with another weight,
// made anew as by a controller, or shared with the last one already.
func BenchmarkApply(b *testing.B) {
	run := func(name string, next func(last *mesh.Snapshot) *mesh.Snapshot) {
		b.Run(name, func(b *testing.B) {
			last := manyServices(1, 1000, 10)
			p := New(Config{})
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				s := next(last)
				if s.Version == 1 {
					p = New(Config{})
				} else if s.Version == 2 {
					if err := p.Apply(last); err != nil {
						b.Fatal(err)
					}
				}
				runtime.GC() // of what is not the product's
				b.StartTimer()
				if err := p.Apply(s); err != nil {
					b.Fatal(err)
				}
				last = s
			}
		})
	}
	weight := uint32(10)
	run("first", func(*mesh.Snapshot) *mesh.Snapshot { return manyServices(1, 1000, 10) })
	run("all", func(last *mesh.Snapshot) *mesh.Snapshot {
		s := manyServices(last.Version+1, 1000, 10)
		for _, svc := range s.Services {
			svc.Endpoints[0].Weight = uint32(s.Version)
		}
		return s
	})
	run("weight", func(last *mesh.Snapshot) *mesh.Snapshot {
		weight++
		return manyServices(last.Version+1, 1000, weight)
	})
	run("weight shared", func(last *mesh.Snapshot) *mesh.Snapshot {
		weight++
		return manyServices(last.Version+1, 1000, weight).Sharing(last)
	})
}
