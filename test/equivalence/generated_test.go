package equivalence

import (
	"crypto/tls"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
)

var (
	seeds     = flag.Int("seeds", 120, "how many random snapshots are made")
	firstSeed = flag.Uint64("first-seed", 1, "the seed of the first random snapshot")
	perSeed   = flag.Int("calls", 20, "how many random calls are made under each")
	streamed  = flag.Int("connections", 6, "how many random connections are made under each")
)

// features of random snapshots. Not among them: hosts that are known by name
// alone, which nobody here can resolve.
func features() meshtest.Features {
	f := meshtest.All()
	f.Compares = false // an Envoy does not
	f.Externals = false
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
	pool.give(snapshot)
	s.certify(t, snapshot)
	tame(r, snapshot)
	s.settle(t, snapshot)
	s.fleet.forgetVisits()
	for range *perSeed {
		g := guessCall(r, snapshot)
		if g == nil {
			continue
		}
		if r.IntN(10) < 7 {
			g.client = s.pki.client
		}
		kinds[s.try(t, g)]++
		if t.Failed() {
			t.Fatalf("%s\nby %v\n%s", g, g.outcome.Route, snapshot)
		}
	}
	if !limited(snapshot) {
		for range *streamed {
			s.connect(t, r, snapshot, kinds)
		}
	}
}

// guessCall makes a random call; nil for one that nobody here carries.
func guessCall(r *rand.Rand, s *mesh.Snapshot) *guess {
	g := &guess{call: meshtest.Call(r, s), snapshot: s}
	c := &g.call
	if c.Gateway == 0 {
		c.Namespace, c.Labels = caller.Workload.Namespace, caller.Labels
	}
	c.Scheme = "http"
	if c.Gateway != 0 && endsTLS(s, c.Gateway) {
		c.Scheme, c.SNI = "https", c.Host
		if r.IntN(4) == 0 {
			c.SNI = []string{"www.example.org", "any.test", "secure.example.org"}[r.IntN(3)]
		}
	}
	g.http2 = r.IntN(3) == 0
	if g.http2 && r.IntN(3) == 0 {
		g.grpc, c.Method = true, http.MethodPost
		c.Headers["content-type"], c.Headers["te"] = "application/grpc", "trailers"
	}
	g.outcome = s.Resolve(*c)
	if c.Gateway != 0 {
		at := s.ResolveStream(mesh.Connection{Gateway: c.Gateway, SNI: c.SNI})
		if at.Stream != nil || !slices.Contains(gatewayPorts, c.Gateway) || carriesBytes(s, c.Gateway) {
			return nil
		}
		g.unserved = c.SNI != "" && at.TLS == nil
	}
	if g.outcome.Outside {
		return nil
	}
	return g
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

// guess is a call and what the snapshot says of it.
type guess struct {
	call     mesh.Call
	outcome  mesh.Outcome
	snapshot *mesh.Snapshot
	http2    bool // of the caller
	grpc     bool
	client   *tls.Certificate // that the caller has
	unserved bool             // nobody ends the TLS of that name
}

// try makes the call on both planes and compares. It returns in a word what
// became of it.
func (s *suite) try(t *testing.T, g *guess) string {
	q := g.request()
	ours, envoys := s.call(t, q, 0)
	if envoys == nil {
		return "not compared"
	}
	for i, o := range []*outcome{ours, envoys} {
		if copies := g.copies(); copies > 0 && len(o.Visits) > 0 {
			o.Visits = s.fleet.visits(o.id, 1+copies, patience)
		}
		o.split()
		if err := g.check(o); err != nil {
			t.Errorf("%s: %v", s.parties[i].name(), err)
		}
	}
	if d := g.outcome.Route; g.grpc && d != nil && d.Direct != nil && (d.Direct.Status == 204 || d.Direct.Status == 304) {
		delete(ours.Header, "grpc-message") // docs/reference/envoy.md, own words
	}
	level(ours, envoys)
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
	q := &call{listener: outboundListener, method: c.Method, http2: g.http2, client: g.client, url: &url.URL{Scheme: "http", Host: c.Authority, Path: c.Path}}
	if c.Gateway != 0 {
		q.listener = gatewayListener(c.Gateway)
		if c.Scheme == "https" {
			q.sni, q.url.Scheme = c.SNI, c.Scheme
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
	case g.unserved && o.Status != 0:
		return fmt.Errorf("answered %d, and nobody ends the TLS of %s", o.Status, g.call.SNI)
	case o.Status == 0 && g.call.Scheme == "https" && (g.unserved || g.client == nil):
		return nil // or wants a certificate
	case g.outcome.Misdirected && o.Status == http.StatusMisdirectedRequest:
		return nil
	case g.grpc && len(o.Visits) == 0:
		return nil // what is wrong is said in another way
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
		failing = failing || len(w.Endpoints) == 0 || g.uncertain(w.Destination)
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

// copies is how many mirrors get a copy of a call that is carried.
func (g *guess) copies() int {
	n := 0
	if r := g.outcome.Route; r != nil {
		for i := range r.Mirrors {
			if r.Mirrors[i].Share > 0 {
				n++
			}
		}
	}
	return n
}

// uncertain reports whether calls to a destination with endpoints may reach
// none.
func (g *guess) uncertain(d mesh.Destination) bool {
	return g.distributed(d) || isDistrusted(g.policy(d))
}

// distributed reports whether places take their shares of the calls to a
// destination, so that endpoints elsewhere get none.
func (g *guess) distributed(d mesh.Destination) bool {
	p := g.policy(d)
	return p != nil && p.Locality != nil && len(p.Locality.Distribute) > 0
}

func (g *guess) policy(d mesh.Destination) *mesh.Policy { return policyOf(g.snapshot, d, g.call.Port) }

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
	if o.Status == 0 {
		lines = []string{"no answer"} // a caller without TLS may hear of it early or late
	}
	lines = append(lines, o.copied...)
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

func (g *guess) String() string {
	c := &g.call
	at := outboundListener
	if c.Gateway != 0 {
		at = gatewayListener(c.Gateway)
	}
	return fmt.Sprintf("%s %s %s%s query %v headers %v sni %q http2 %t certificate %t", at, c.Method, c.Authority, c.Path, c.Query, c.Headers,
		c.SNI, g.http2, g.client != nil)
}
