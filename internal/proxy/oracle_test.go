package proxy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
	"serin.dev/serin/internal/proxy/wire"
)

// FuzzDecide compares the table with mesh.Resolve, which reads the same
// snapshot from top to bottom.
func FuzzDecide(f *testing.F) {
	for seed := range uint64(16) {
		f.Add(seed)
	}
	f.Fuzz(compareWithOracle)
}

func TestDecisionsAreThoseOfThePlainReading(t *testing.T) {
	for seed := range uint64(400) {
		compareWithOracle(t, seed)
	}
}

func compareWithOracle(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	s := meshtest.Snapshot(r, meshtest.All())
	compareTable(t, seed, r, s, compiled(t, s))
}

// TestDecisionsAfterSwapsAreThoseOfThePlainReading applies one snapshot after the
// other, each with parts of the last and of another one: what goes on from the
// last must be as if it had been made for the new one.
func TestDecisionsAfterSwapsAreThoseOfThePlainReading(t *testing.T) {
	kept := 0
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 2))
		p := New(Config{})
		last := meshtest.Snapshot(r, meshtest.All())
		last.Version = 1
		for version := mesh.SnapshotVersion(2); version < 12; version++ {
			before := p.table.Load()
			next := meshtest.Mix(r, last, meshtest.Snapshot(r, meshtest.All()))
			next.Version = version
			if err := p.Apply(next); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			table := p.table.Load()
			compareTable(t, seed, r, next, table)
			for key, routes := range table.routes {
				if was := before.routes[key]; was != nil && was[0] == routes[0] {
					kept++
				}
			}
			last = next
		}
	}
	if kept < 1000 {
		t.Errorf("routes of %d virtual hosts went on: too few to try it", kept)
	}
}

// compareTable makes random calls.
func compareTable(t *testing.T, seed uint64, r *rand.Rand, s *mesh.Snapshot, table *table) {
	t.Helper()
	for range 30 {
		q := meshtest.Call(r, s)
		about := about{seed, q, s}
		c := callLike(t, &q)
		found := table.inMesh(q.Namespace, c.host)
		if q.Gateway != 0 {
			found = table.atGateway(q.Gateway, c.host)
		}
		compareDecisions(t, about, found, c, s.Resolve(q))
	}
	for range 10 {
		q := meshtest.Connection(r, s)
		compareStreams(t, about{seed, q, s}, table, &q, s.ResolveStream(q))
	}
}

// about says what a failure is about; only then is it worth writing.
type about struct {
	seed     uint64
	call     any
	snapshot *mesh.Snapshot
}

func (a about) String() string { return fmt.Sprintf("seed %d: %+v\n%s", a.seed, a.call, a.snapshot) }

// callLike makes the call that the engine would make of a request.
func callLike(t *testing.T, q *mesh.Call) *call {
	t.Helper()
	host, _, ok := parseAuthority(q.Host)
	if !ok {
		t.Fatalf("host %q", q.Host)
	}
	head := &wire.Head{Method: q.Method, Authority: q.Authority, Path: q.Path}
	for _, name := range slices.Sorted(maps.Keys(q.Headers)) {
		head.Add(name, q.Headers[name])
	}
	c := &call{head: head, host: host, port: q.Port, path: q.Path, scheme: q.Scheme, now: time.Now()}
	if len(q.Query) > 0 {
		var pairs []string
		for _, name := range slices.Sorted(maps.Keys(q.Query)) {
			pairs = append(pairs, name+"="+q.Query[name], name+"=later")
		}
		c.query = strings.Join(pairs, "&")
		head.Path += "?" + c.query
	}
	if q.Namespace != "" {
		c.caller = &mesh.Caller{Workload: mesh.Workload{Namespace: q.Namespace}, Labels: q.Labels}
	}
	return c
}

// compareDecisions draws often enough to see every share.
func compareDecisions(t *testing.T, about about, found *target, c *call, want mesh.Outcome) {
	t.Helper()
	if found == nil {
		if len(want.Ways) > 0 || want.Route != nil || want.Service != "" {
			t.Fatalf("%s\nno target, want %+v", about, want)
		}
		return
	}
	if want.Outside {
		t.Fatalf("%s\nis of the mesh, want outside", about)
	}
	var d draws
	wanted := waysOf(want.Ways)
	left := maps.Clone(wanted)
	maps.DeleteFunc(left, func(_ string, likely bool) bool { return !likely })
	for i := 0; i < 3000 && (i == 0 || len(left) > 0); i++ {
		dec := found.decide(c, &d)
		if strings.TrimPrefix(dec.flag, flagDelay) == "" && dec.reply == nil && dec.group == nil {
			t.Fatalf("%s\ndecided nothing", about)
		}
		if found.requireTLS && c.scheme == "http" && dec.flag != flagNoRoute {
			if dec.reply == nil || dec.reply.status != 301 {
				t.Fatalf("%s\ndecided %+v, want to send the caller to https", about, dec)
			}
			return
		}
		if want.Service != "" && dec.service != want.Service {
			t.Fatalf("%s\nservice %s, want %s", about, dec.service, want.Service)
		}
		if want.Route == nil {
			if dec.route != nil {
				t.Fatalf("%s\ntook route of %s, want none", about, dec.origin)
			}
		} else if dec.route == nil || dec.origin != want.Route.Origin {
			t.Fatalf("%s\ntook route of %v, want %v", about, dec.origin, want.Route.Origin)
		}
		if dec.reply != nil && (dec.flag != "" && dec.flag != flagDelay || dec.unedited) {
			return // made up by the route or by an access rule, which Resolve does not play
		}
		if dec.reply != nil && (want.Route == nil || !answers(dec.reply, want.Route)) {
			t.Fatalf("%s\nanswers %+v, want %+v", about, dec.reply, want.Route)
		}
		got := ""
		switch {
		case strings.HasSuffix(dec.flag, flagNoRoute) || dec.reply != nil:
			if len(wanted) > 0 {
				t.Fatalf("%s\ndecided %q, want one of %v", about, dec.flag, wanted)
			}
			return
		case dec.group == nil:
			got = fmt.Sprintf("%s/%s unknown", dec.backend.service, dec.backend.subset)
		default:
			got = wayOf(dec.group, dec.backend)
		}
		if _, ok := wanted[got]; !ok {
			t.Fatalf("%s\ndecided %q, want one of %v", about, got, wanted)
		}
		if want.Route != nil && dec.several != (len(want.Route.Split) > 1) {
			t.Fatalf("%s\nseveral = %t of %v", about, dec.several, want.Route.Split)
		}
		delete(left, got)
	}
	if len(left) > 0 && !hasAffinity(want.Route) {
		t.Fatalf("%s\nnever decided %v", about, left)
	}
}

func hasAffinity(r *mesh.Route) bool { return r != nil && len(r.Affinity) > 0 }

// answers reports whether a route makes the reply.
func answers(got *reply, r *mesh.Route) bool {
	switch {
	case r.Redirect != nil:
		to, err := url.Parse(got.fields[0].Value)
		return err == nil && got.status == r.Redirect.Code && to.IsAbs() && to.Host != "" &&
			(r.Redirect.Authority == "" || strings.HasPrefix(to.Host, r.Redirect.Authority))
	case r.Direct != nil:
		return got.status == r.Direct.Status && got.body == r.Direct.Body
	}
	return false
}

func wayOf(g *group, b *backend) string {
	got := fmt.Sprintf("%s/%s", b.service, b.subset)
	for _, m := range g.members {
		got += " " + m.dial
	}
	return got
}

// waysOf says for each possible way whether a few thousand draws must find it.
func waysOf(ways []mesh.Way) map[string]bool {
	out := map[string]bool{}
	var sum uint64
	for _, w := range ways {
		sum += uint64(w.Weight)
	}
	for _, w := range ways {
		text := fmt.Sprintf("%s/%s", w.Service, w.Subset)
		if w.Unknown {
			text += " unknown"
		}
		for _, e := range w.Endpoints {
			text += " " + e.DialAddress()
		}
		out[text] = out[text] || uint64(w.Weight)*100 >= sum
	}
	return out
}

func compareStreams(t *testing.T, about about, table *table, q *mesh.Connection, want mesh.StreamOutcome) {
	t.Helper()
	c := &connection{port: q.Port, sni: q.SNI}
	if q.Namespace != "" {
		c.caller = &mesh.Caller{Workload: mesh.Workload{Namespace: q.Namespace}, Labels: q.Labels}
	}
	var d draws
	var found *target
	if q.Gateway == 0 {
		if found = table.inMesh(q.Namespace, q.Host); found == nil || want.Outside {
			if found != nil && len(found.streams) > 0 || !want.Outside {
				t.Fatalf("%s\noutside is %t, want %t", about, found == nil, want.Outside)
			}
			return
		}
	}
	wanted := waysOf(want.Ways)
	left := maps.Clone(wanted)
	maps.DeleteFunc(left, func(_ string, likely bool) bool { return !likely })
	for i := 0; i < 3000 && (i == 0 || len(left) > 0); i++ {
		var dec decision
		if q.Gateway != 0 {
			var end *mesh.ServerTLS
			if dec, end = table.streamAtGateway(c, &d); end != want.TLS {
				t.Fatalf("%s\nends TLS with %v, want %v", about, end, want.TLS)
			}
		} else {
			dec = found.stream(c, &d)
		}
		switch {
		case dec.flag == flagDenied:
			return // Resolve does not look at who may
		case dec.flag == flagNoRoute:
			if len(wanted) > 0 {
				t.Fatalf("%s\nno route, want %v", about, wanted)
			}
			return
		}
		if want.Stream != nil && dec.origin != want.Stream.Origin || want.Service != "" && dec.service != want.Service {
			t.Fatalf("%s\ntook %s for %s, want %+v", about, dec.origin, dec.service, want)
		}
		got := fmt.Sprintf("%s/%s unknown", dec.backend.service, dec.backend.subset)
		if dec.group != nil {
			got = wayOf(dec.group, dec.backend)
		}
		if _, ok := wanted[got]; !ok {
			t.Fatalf("%s\ndecided %q, want one of %v", about, got, wanted)
		}
		delete(left, got)
	}
	if len(left) > 0 {
		t.Fatalf("%s\nnever decided %v", about, left)
	}
}
