package proxy

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"serin.dev/serin/internal/mesh"
)

// compiled makes the table of a snapshot.
func compiled(t testing.TB, s *mesh.Snapshot) *table {
	t.Helper()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	p := New(Config{})
	if err := p.Apply(s); err != nil {
		t.Fatal(err)
	}
	return p.table.Load()
}

// TestSplitsFollowTheirWeights: over a seeded run, each destination gets its
// share within 5 standard deviations, and a weight of zero gets nothing.
func TestSplitsFollowTheirWeights(t *testing.T) {
	const requests = 200_000
	for _, weights := range [][]uint32{{90, 10}, {99, 1}, {50, 50}, {100, 0}, {0, 100}, {1, 2, 3, 4}, {33, 33, 34}, {4_000_000_000, 4_000_000_000}} {
		addresses := make([]string, len(weights))
		var sum float64
		for i, w := range weights {
			addresses[i] = fmt.Sprintf("127.0.0.1:%d", i+1)
			sum += float64(w)
		}
		table := compiled(t, snapshot(1, service("music.default", addresses...), weighted("music.default", weights...)))
		var d draws
		d.state.Store(7)
		got := map[string]int{}
		found := table.inMesh("default", "music")
		for range requests {
			dec := found.decide(&call{port: 80}, &d)
			if !dec.several {
				t.Fatalf("split %v: a choice among several destinations is not marked", weights)
			}
			got[dec.backend.subset]++
		}
		for i, w := range weights {
			share := float64(w) / sum
			want := requests * share
			tolerance := 5 * math.Sqrt(want*(1-share))
			if n := float64(got[fmt.Sprintf("v%d", i+1)]); math.Abs(n-want) > tolerance {
				t.Errorf("split %v: v%d got %.0f of %d; want %.0f ± %.0f", weights, i+1, n, requests, want, tolerance)
			}
		}
	}
}

// TestDrawsAreUniform: below(n) is unbiased also where 2^64 is no multiple of
// n. With n = 3·2^62, four draws fall on three numbers, so that without
// rejection every third number would come up half of the time.
func TestDrawsAreUniform(t *testing.T) {
	const n, total = 3 << 62, 30_000
	var d draws
	thirds := 0
	for range total {
		if d.below(n)%3 == 0 {
			thirds++
		}
	}
	if want := total / 3.0; math.Abs(float64(thirds)-want) > 5*math.Sqrt(want*2/3) {
		t.Errorf("below(3·2^62) was a multiple of 3 %d times of %d; want %.0f", thirds, total, want)
	}
}

func TestBalancers(t *testing.T) {
	ups := func() []*upstream { return []*upstream{{}, {}, {}, {}} }
	count := func(g *group, n int) []int {
		var d draws
		got := make([]int, len(g.upstreams))
		for range n {
			got[slices.Index(g.upstreams, g.pick(&d))]++
		}
		return got
	}
	t.Run("round robin takes turns", func(t *testing.T) {
		if got := count(&group{upstreams: ups(), balancer: mesh.RoundRobin}, 400); !slices.Equal(got, []int{100, 100, 100, 100}) {
			t.Errorf("400 picks = %v", got)
		}
	})
	for name, b := range map[string]mesh.Balancer{"random": mesh.Random, "least request among equals": mesh.LeastRequest} {
		t.Run(name+" is uniform", func(t *testing.T) {
			for i, n := range count(&group{upstreams: ups(), balancer: b}, 40_000) {
				if math.Abs(float64(n)-10_000) > 5*math.Sqrt(10_000*0.75) {
					t.Errorf("endpoint %d got %d of 40000; want 10000 ± 433", i, n)
				}
			}
		})
	}
	t.Run("least request spares the busy one", func(t *testing.T) {
		g := &group{upstreams: ups()}
		g.upstreams[2].active.Store(5)
		got := count(g, 30_000)
		// It would have to be drawn twice, which cannot be.
		if got[2] != 0 {
			t.Errorf("the busy endpoint got %d of 30000, want 0: %v", got[2], got)
		}
	})
	t.Run("no endpoint", func(t *testing.T) {
		if u := (&group{}).pick(new(draws)); u != nil {
			t.Errorf("pick = %v, want nil", u)
		}
	})
}

// TestDecidingAllocatesNothing holds the request path's budget.
func TestDecidingAllocatesNothing(t *testing.T) {
	vh := weighted("music.default", 90, 10)
	vh.Routes = slices.Insert(vh.Routes, 0, mesh.Route{
		Matches: []mesh.Match{{
			URI:     mesh.StringMatch{Kind: mesh.Prefix, Value: "/api"},
			Method:  mesh.StringMatch{Kind: mesh.Exact, Value: "GET"},
			Headers: map[string]mesh.StringMatch{"end-user": {Kind: mesh.Regex, Value: "ja.*n"}, "x-none": {Kind: mesh.Present}},
		}},
		Split: []mesh.Destination{{Service: "music.default"}},
	})
	p := New(Config{})
	if err := p.Apply(snapshot(1, service("music.default", "127.0.0.1:1", "127.0.0.1:2"), vh)); err != nil {
		t.Fatal(err)
	}
	header := http.Header{"End-User": {"jason"}}
	var d draws
	for _, authority := range []string{"music:80", "music.default.svc.cluster.local", "music.default"} {
		allocs := testing.AllocsPerRun(1000, func() {
			host, port, _ := parseAuthority(authority)
			c := call{host: host, port: port, authority: authority, method: "GET", path: requestPath("/api/songs?x=1"), header: header}
			_, _, dec, u := p.acquire(&c, &d, func(t *table) *target { return t.inMesh("default", host) })
			if u == nil {
				t.Fatalf("%s: %s", authority, dec.flag)
			}
			p.release(u)
		})
		if allocs != 0 {
			t.Errorf("a decision for %s allocates %v times, want 0", authority, allocs)
		}
	}
}

// FuzzDecide compares the table with mesh.Resolve, which reads the same
// snapshot from top to bottom.
func FuzzDecide(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(seed)
	}
	f.Fuzz(compareWithOracle)
}

func TestDecisionsAreThoseOfThePlainReading(t *testing.T) {
	for seed := range uint64(500) {
		compareWithOracle(t, seed)
	}
}

func compareWithOracle(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	s := randomSnapshot(r)
	table := compiled(t, s)
	d := new(draws)
	for range 30 {
		q := randomCall(r)
		want := s.Resolve(q)
		host, _, ok := parseAuthority(q.Host)
		if !ok {
			t.Fatalf("host %q", q.Host)
		}
		header := http.Header{}
		for name, value := range q.Headers {
			header.Set(name, value)
		}
		c := call{host: host, port: q.Port, authority: q.Headers["host"], method: q.Method, path: q.Path, header: header}
		found := table.inMesh(q.Namespace, host)
		if q.Gateway != 0 {
			c.port = q.Gateway
			found = table.atGateway(q.Gateway, host)
		}
		if outside := found == nil && q.Gateway == 0; outside != want.Outside {
			t.Fatalf("seed %d: %+v: outside %t, want %t\n%s", seed, q, outside, want.Outside, s)
		}
		if found == nil {
			if len(want.Ways) > 0 {
				t.Fatalf("seed %d: %+v: no target, want %+v\n%s", seed, q, want, s)
			}
			continue
		}
		compareDecisions(t, fmt.Sprintf("seed %d: %+v\n%s", seed, q, s), found, &c, d, want)
	}
}

// compareDecisions draws often enough to see every share.
func compareDecisions(t *testing.T, about string, found *target, c *call, d *draws, want mesh.Outcome) {
	t.Helper()
	left := map[string]bool{}
	for _, share := range want.Ways {
		left[outcomeOf(share)] = true
	}
	wanted := maps.Clone(left)
	for i := 0; i < 2000 && (i == 0 || len(left) > 0); i++ {
		dec := found.decide(c, d)
		if len(want.Ways) == 0 {
			if dec.flag != flagNoRoute {
				t.Fatalf("%s\ndecided %+v, want no route", about, dec)
			}
			return
		}
		if dec.flag == flagNoRoute {
			t.Fatalf("%s\nno route, want %v", about, wanted)
		}
		got := fmt.Sprintf("%s/%s", dec.backend.service, dec.backend.subset)
		if dec.flag == flagNoCluster {
			got += " unknown"
		} else {
			for _, u := range dec.group.upstreams {
				got += " " + u.dial
			}
		}
		if !wanted[got] {
			t.Fatalf("%s\ndecided %q, want one of %v", about, got, wanted)
		}
		if want.Route != nil && (dec.origin != want.Route.Origin || dec.several != (len(want.Route.Split) > 1)) {
			t.Fatalf("%s\ndecided %+v, want route %+v", about, dec, want.Route)
		}
		if want.Service != "" && dec.service != want.Service {
			t.Fatalf("%s\nservice %s, want %s", about, dec.service, want.Service)
		}
		delete(left, got)
	}
	if len(left) > 0 {
		t.Fatalf("%s\nnever decided %v", about, left)
	}
}

func outcomeOf(s mesh.Way) string {
	out := fmt.Sprintf("%s/%s", s.Service, s.Subset)
	if s.Unknown {
		return out + " unknown"
	}
	for _, e := range s.Endpoints {
		out += " " + e.DialAddress()
	}
	return out
}

// words are few, so that random questions meet random answers.
var (
	testHosts  = []string{"a.default", "b.default", "c.other", "*.default", "*.example.org", "x.example.org", "*", "d.default"}
	testCalls  = []string{"a", "A.default", "a.default.svc.cluster.local", "b.default.svc", "c", "c.other.", "d", "x.example.org", "y.z.example.org", "example.org", "10.0.0.1", "e"}
	testPaths  = []string{"/", "/a", "/a/b", "/b"}
	testValues = []string{"", "x", "xy", "y"}
)

func one[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

func randomSnapshot(r *rand.Rand) *mesh.Snapshot {
	s := &mesh.Snapshot{Version: 1, Services: map[mesh.ServiceName]*mesh.Service{}}
	for i, name := range []mesh.ServiceName{"a.default", "b.default", "c.other"} {
		if r.IntN(4) == 0 {
			continue
		}
		svc := &mesh.Service{Name: name, Ports: []mesh.Port{{Number: 80}}, Subsets: map[string]mesh.Labels{"v1": {"v": "1"}, "v2": {"v": "2"}}}
		if r.IntN(2) == 0 {
			svc.Ports = append(svc.Ports, mesh.Port{Number: 81})
		}
		for j := range r.IntN(4) {
			svc.Endpoints = append(svc.Endpoints, mesh.Endpoint{
				Port: one(r, svc.Ports).Number, Dial: fmt.Sprintf("127.0.0.%d:%d", i+1, j+1), Labels: mesh.Labels{"v": fmt.Sprint(1 + r.IntN(2))},
			})
		}
		s.Services[name] = svc
	}
	s.Hosts = randomHosts(r)
	for i := range r.IntN(3) {
		s.Gateways = append(s.Gateways, mesh.Gateway{Name: fmt.Sprintf("default/%d", i), Port: 80, VirtualHosts: randomHosts(r)})
	}
	return s
}

func randomHosts(r *rand.Rand) []mesh.VirtualHost {
	var out []mesh.VirtualHost
	for i, n := range r.Perm(len(testHosts))[:r.IntN(5)] {
		vh := mesh.VirtualHost{Hosts: []string{testHosts[n]}}
		for j := range r.IntN(4) {
			vh.Routes = append(vh.Routes, randomRoute(r, fmt.Sprintf("%d-%d", i, j)))
		}
		out = append(out, vh)
	}
	return out
}

func randomRoute(r *rand.Rand, name string) mesh.Route {
	route := mesh.Route{Origin: mesh.Origin{Kind: "VirtualService", Name: name}}
	for range r.IntN(3) {
		m := mesh.Match{URI: randomCondition(r, testPaths), Port: one(r, []uint16{0, 0, 80, 81})}
		if r.IntN(2) == 0 {
			m.Headers = map[string]mesh.StringMatch{one(r, []string{"x-one", "x-two", "host"}): randomCondition(r, testValues)}
		}
		if r.IntN(3) == 0 {
			m.Method = mesh.StringMatch{Kind: mesh.Exact, Value: one(r, []string{"GET", "POST"})}
		}
		route.Matches = append(route.Matches, m)
	}
	for range r.IntN(4) {
		route.Split = append(route.Split, mesh.Destination{
			Service: one(r, []mesh.ServiceName{"a.default", "b.default", "c.other", "ghost.default"}),
			Port:    one(r, []uint16{0, 0, 80, 81, 82}),
			Subset:  one(r, []string{"", "v1", "v2", "v3"}),
			Weight:  one(r, []uint32{0, 10, 50, 100}),
		})
	}
	if len(route.Split) > 1 {
		route.Split[0].Weight = 50
	}
	return route
}

func randomCondition(r *rand.Rand, values []string) mesh.StringMatch {
	m := mesh.StringMatch{Kind: mesh.MatchKind(r.IntN(int(mesh.Present) + 1)), Value: one(r, values)}
	if m.Kind == mesh.Regex {
		m.Value = one(r, []string{"x.*", ".*y", "/a|/b", "x|xy", ""})
	}
	return m
}

func randomCall(r *rand.Rand) mesh.Call {
	c := mesh.Call{
		Namespace: one(r, []string{"default", "other", ""}), Host: one(r, testCalls), Port: one(r, []uint16{80, 80, 81, 82}),
		Method: one(r, []string{"GET", "POST"}), Path: one(r, testPaths), Headers: map[string]string{},
	}
	c.Headers["host"] = strings.ToLower(c.Host)
	if r.IntN(3) == 0 {
		c.Gateway = one(r, []uint16{80, 81})
	}
	for _, name := range []string{"x-one", "x-two"} {
		if r.IntN(2) == 0 {
			c.Headers[name] = one(r, testValues)
		}
	}
	return c
}
