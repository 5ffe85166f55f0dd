package equivalence

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
)

var (
	seeds     = flag.Int("seeds", 120, "how many random snapshots are made")
	firstSeed = flag.Uint64("first-seed", 1, "the seed of the first random snapshot")
	perSeed   = flag.Int("calls", 20, "how many random calls are made under each")
)

// features of random snapshots. Not among them: hosts that are known by name
// alone, which nobody here can resolve.
func features() meshtest.Features {
	f := meshtest.All()
	f.Externals, f.Streams = false, false
	return f
}

// generated compares the planes with each other, and with what mesh.Resolve
// says, under random snapshots.
func (s *suite) generated(t *testing.T) {
	s.newFleet(t)
	pool := &endpoints{fleet: s.fleet}
	kinds := map[string]int{}
	for seed := *firstSeed; seed < *firstSeed+uint64(*seeds); seed++ {
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) { s.random(t, seed, pool, kinds) })
	}
	t.Logf("what became of the calls: %v", kinds)
}

// random compares the planes under one random snapshot.
func (s *suite) random(t *testing.T, seed uint64, pool *endpoints, kinds map[string]int) {
	r := rand.New(rand.NewPCG(seed, 7))
	snapshot := meshtest.Snapshot(r, features())
	tame(r, snapshot)
	pool.give(snapshot)
	s.settle(t, snapshot)
	s.fleet.forgetVisits()
	for range *perSeed {
		c := meshtest.Call(r, snapshot)
		if c.Gateway == 0 {
			c.Namespace, c.Labels = caller.Workload.Namespace, caller.Labels
		}
		c.Scheme = "http"
		if c.Gateway != 0 && endsTLS(snapshot, c.Gateway) {
			c.Scheme = "https"
		}
		o := snapshot.Resolve(c)
		if o.Outside || c.Gateway != 0 && !slices.Contains(gatewayPorts, c.Gateway) {
			continue
		}
		g := &guess{call: c, outcome: o, snapshot: snapshot}
		kinds[s.try(t, g)]++
		if t.Failed() {
			t.Fatalf("%s\nby %v\n%s", show(&c), o.Route, snapshot)
		}
	}
}

// endpoints are used again by every random snapshot.
type endpoints struct {
	fleet     *fleet
	addresses []string
}

// give gives every endpoint of the snapshot an address at which one is, which
// is named "endpoint-N" in the snapshot's order.
func (e *endpoints) give(s *mesh.Snapshot) {
	n := 0
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		for i := range s.Services[name].Endpoints {
			if n == len(e.addresses) {
				e.addresses = append(e.addresses, e.fleet.start(fmt.Sprintf("endpoint-%d", n)))
			}
			s.Services[name].Endpoints[i].Dial = e.addresses[n]
			n++
		}
	}
}

// tame takes from a random snapshot what would make a test wait or its outcome
// a matter of chance: shares are all or nothing, and times short or endless. The
// shares themselves are tested in stories.
func tame(r *rand.Rand, s *mesh.Snapshot) {
	single := r.IntN(10) < 7
	for i := range s.Hosts {
		tameRoutes(r, s.Hosts[i].Routes, single)
	}
	for i := range s.Gateways {
		for j := range s.Gateways[i].VirtualHosts {
			tameRoutes(r, s.Gateways[i].VirtualHosts[j].Routes, single)
		}
	}
	for _, svc := range s.Services {
		for _, p := range svc.Policies {
			p.Health, p.TLS, p.Warmup = nil, nil, nil
			p.Pool.ConnectTimeout, p.Pool.IdleTimeout, p.Pool.MaxConnectionAge = 0, 0, 0
			p.Pool.MaxPending = 0
		}
	}
}

func tameRoutes(r *rand.Rand, routes []mesh.Route, single bool) {
	whole := func(share mesh.Share) mesh.Share {
		if share > mesh.Everything/2 {
			return mesh.Everything
		}
		return 0
	}
	for i := range routes {
		route := &routes[i]
		if single && len(route.Split) > 1 {
			route.Split = route.Split[:1]
			route.Split[0].Weight, route.Affinity = 1, nil
		}
		for j := range route.Affinity {
			k := &route.Affinity[j]
			k.Make, k.TTL, k.Path = false, 0, "" // of a difference that docs/reference/envoy.md tells of
		}
		keepKeys(route.Headers)
		for j := range route.Split {
			keepKeys(route.Split[j].Headers)
		}
		if f := route.Fault; f != nil {
			if f.Delay != nil {
				f.Delay.Share, f.Delay.Time = whole(f.Delay.Share), time.Millisecond
			}
			if f.Abort != nil {
				f.Abort.Share = whole(f.Abort.Share)
			}
		}
		if route.RateLimit != nil {
			// No two are the same, or the bucket of the last snapshot would stay.
			route.RateLimit.Burst, route.RateLimit.Per = 1+r.Uint32N(3), time.Hour+time.Duration(r.IntN(1<<30))
		}
		for j := range route.Mirrors {
			route.Mirrors[j].Share = 0
		}
		if route.Timeout > 0 {
			route.Timeout = time.Minute
		}
		if route.IdleTimeout > 0 {
			route.IdleTimeout = time.Minute
		}
		if route.Retry != nil {
			route.Retry.PerTryTimeout = 0
			route.Retry.Base, route.Retry.Max = time.Millisecond, time.Millisecond
		}
	}
}

// keepKeys takes back edits of the header that hashes look at, of another
// difference that is told of there.
func keepKeys(e *mesh.HeaderEdits) {
	if e == nil {
		return
	}
	is := func(h mesh.Header) bool { return h.Name == "end-user" }
	e.Request.Remove = slices.DeleteFunc(slices.Clone(e.Request.Remove), func(name string) bool { return name == "end-user" })
	e.Request.Set = slices.DeleteFunc(slices.Clone(e.Request.Set), is)
	e.Request.Add = slices.DeleteFunc(slices.Clone(e.Request.Add), is)
}

// guess is a call and what the snapshot says of it.
type guess struct {
	call     mesh.Call
	outcome  mesh.Outcome
	snapshot *mesh.Snapshot
}

// try makes the call on both planes and compares. It returns in a word what
// became of it.
func (s *suite) try(t *testing.T, g *guess) string {
	q := g.request()
	ours, envoys := s.call(t, q, 0)
	if envoys == nil {
		return "not compared"
	}
	level(ours, envoys)
	for i, o := range []*outcome{ours, envoys} {
		if err := g.check(o); err != nil {
			t.Errorf("%s: %v", s.parties[i].name(), err)
		}
	}
	a, b := g.comparable(ours), g.comparable(envoys)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("the planes differ (-ours +Envoy):\n%s", diff)
	}
	return kindOf(ours)
}

func kindOf(o *outcome) string {
	switch {
	case o.Status == 0:
		return o.Err
	case len(o.Visits) > 0:
		return "carried"
	}
	return fmt.Sprint(o.Status)
}

// request is the call in bytes.
func (g *guess) request() *call {
	c := &g.call
	q := &call{listener: outboundListener, method: c.Method, url: &url.URL{Scheme: "http", Host: c.Authority, Path: c.Path}}
	if c.Gateway != 0 {
		q.listener = gatewayListener(c.Gateway)
		if c.Scheme == "https" {
			q.sni, q.url.Scheme = c.Host, c.Scheme
		}
	}
	values := url.Values{}
	for name, value := range c.Query {
		values.Set(name, value)
	}
	q.url.RawQuery = values.Encode()
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		q.header = append(q.header, name+": "+c.Headers[name])
	}
	return q
}

func endsTLS(s *mesh.Snapshot, port uint16) bool {
	return slices.ContainsFunc(s.Gateways, func(of mesh.Gateway) bool { return of.Port == port && len(of.TLS) > 0 })
}

// check compares an outcome with what mesh.Resolve says.
func (g *guess) check(o *outcome) error {
	r := g.outcome.Route
	switch {
	case o.Status == 0 && g.call.Scheme == "https":
		return nil // nobody ends the TLS of that name, or wants a certificate
	case o.Status == http.StatusMovedPermanently && g.requiresTLS():
		return nil
	case r != nil && r.RateLimit != nil && o.Status == http.StatusTooManyRequests,
		r != nil && r.Fault != nil && r.Fault.Abort != nil && r.Fault.Abort.Share > 0 && len(o.Visits) == 0,
		o.Status == http.StatusForbidden && g.restricted():
		return nil // before the route does anything else
	}
	want := http.StatusNotFound
	switch {
	case r != nil && r.Redirect != nil:
		want = r.Redirect.Code
	case r != nil && r.Direct != nil:
		want = r.Direct.Status
	case len(g.outcome.Ways) > 0:
		return g.checkWay(o)
	}
	if o.Status != want || len(o.Visits) > 0 {
		return fmt.Errorf("answered %d after %d visits, want %d after none", o.Status, len(o.Visits), want)
	}
	return nil
}

// checkWay checks that a call took one of its ways.
func (g *guess) checkWay(o *outcome) error {
	var addresses []string
	failing := false
	for _, w := range g.outcome.Ways {
		failing = failing || len(w.Endpoints) == 0 || g.distributed(w.Destination)
		for i := range w.Endpoints {
			addresses = append(addresses, w.Endpoints[i].Dial)
		}
	}
	switch {
	case len(o.Visits) == 0 && failing && o.Status == http.StatusServiceUnavailable:
		return nil
	case len(o.Visits) != 1 || o.Status != http.StatusOK:
		return fmt.Errorf("answered %d after %d visits, want one of %v", o.Status, len(o.Visits), addresses)
	case !slices.Contains(addresses, o.Visits[0].Address):
		return fmt.Errorf("went to %s, want one of %v", o.Visits[0].Address, addresses)
	}
	return nil
}

// distributed reports whether places take their shares of the calls to a
// destination, so that endpoints elsewhere get none.
func (g *guess) distributed(d mesh.Destination) bool {
	p := g.policy(d)
	return p != nil && p.Locality != nil && len(p.Locality.Distribute) > 0
}

func (g *guess) policy(d mesh.Destination) *mesh.Policy {
	svc := g.snapshot.Services[d.Service]
	if svc == nil {
		return nil
	}
	port, _ := svc.TargetPort(d.Port, g.call.Port)
	return svc.Policy(port, d.Subset)
}

func (g *guess) requiresTLS() bool {
	return slices.ContainsFunc(g.snapshot.Gateways, func(of mesh.Gateway) bool {
		return slices.ContainsFunc(of.VirtualHosts, func(vh mesh.VirtualHost) bool { return vh.RequireTLS })
	})
}

func (g *guess) restricted() bool {
	for _, svc := range g.snapshot.Services {
		if len(svc.Access) > 0 {
			return true
		}
	}
	return false
}

// comparable is what both planes must agree on. Where a call has several ways,
// that is not which one was taken, and so not what only one of them edits.
func (g *guess) comparable(o *outcome) []string {
	ways := g.outcome.Ways
	drawn := slices.ContainsFunc(ways, func(w mesh.Way) bool { return len(w.Endpoints) > 1 && !g.hashed(w.Destination) })
	if len(ways) > 1 && (drawn || len(g.keys(g.outcome.Route.Affinity)) == 0) {
		return []string{"one of several ways"} // check saw that it is
	}
	lines := o.lines()
	if drawn {
		for i, line := range lines {
			for _, v := range o.Visits {
				line = strings.ReplaceAll(line, v.Endpoint, "(endpoint)")
			}
			lines[i] = line
		}
	}
	return lines
}

// hashed reports whether the endpoint is found by a hash of the call.
func (g *guess) hashed(d mesh.Destination) bool {
	p := g.policy(d)
	return p != nil && (p.Balancer == mesh.RingHash || p.Balancer == mesh.Maglev) && len(g.keys(p.Hash)) > 0
}

// keys are those that the call has.
func (g *guess) keys(keys []mesh.HashKey) []mesh.HashKey {
	return slices.DeleteFunc(slices.Clone(keys), func(k mesh.HashKey) bool {
		switch k.Source {
		case mesh.HashHeader:
			_, has := g.call.Headers[k.Name]
			return !has
		case mesh.HashQuery:
			_, has := g.call.Query[k.Name]
			return !has
		case mesh.HashSourceIP:
			return false
		case mesh.HashCookie:
			return true // no call has one, and what is made for it differs
		}
		return true
	})
}

func show(c *mesh.Call) string {
	at := outboundListener
	if c.Gateway != 0 {
		at = gatewayListener(c.Gateway)
	}
	return fmt.Sprintf("%s %s %s%s query %v headers %v", at, c.Method, c.Authority, c.Path, c.Query, c.Headers)
}
