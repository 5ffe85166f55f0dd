package equivalence

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
)

// certify gives a random snapshot's certificates new ones that callers and
// endpoints of tests trust.
func (s *suite) certify(t *testing.T, snapshot *mesh.Snapshot) {
	leaf := func(name string) *mesh.Certificate { return s.pki.leaf(t, name) }
	snapshot.Certificates = map[string]*mesh.Certificate{
		"default/ca": {CA: s.pki.pem}, "default/client": leaf("client.test"),
		"default/www": leaf("www.example.org"), "default/test": leaf("*.test"),
	}
}

// tame takes from a random snapshot what would make a test wait or its outcome
// a matter of chance: shares are all or nothing, and times short or endless. The
// shares themselves are tested in stories.
//
// A half of the snapshots keeps its limits of what is under way. The other half
// keeps its mirrors: copies are under way at any time.
func tame(r *rand.Rand, s *mesh.Snapshot) {
	single, limits := r.IntN(10) < 7, r.IntN(2) == 0
	for _, svc := range s.Services {
		for _, p := range svc.Policies {
			tamePolicy(p, limits)
		}
	}
	each := func(routes []mesh.Route) {
		for i := range routes {
			tameRoute(r, &routes[i], single)
			tameMirrors(s, &routes[i], limits)
		}
	}
	for i := range s.Hosts {
		each(s.Hosts[i].Routes)
	}
	for i := range s.Gateways {
		for j := range s.Gateways[i].VirtualHosts {
			routes := s.Gateways[i].VirtualHosts[j].Routes
			each(routes)
			for k := range routes {
				if len(s.Gateways[i].TLS) > 0 {
					routes[k].RateLimit = nil // of a difference that docs/reference/envoy.md tells of
				}
			}
		}
	}
}

func tamePolicy(p *mesh.Policy, limits bool) {
	p.Health, p.Warmup = nil, nil
	p.Pool.ConnectTimeout, p.Pool.IdleTimeout, p.Pool.MaxConnectionAge = 0, 0, 0
	p.Pool.MaxPending = 0
	if !limits {
		p.Pool.MaxConnections, p.Pool.MaxRequests = 0, 0
	}
	if p.TLS != nil {
		p.TLS.SNI = "inner.test" // what is asked for without one is a difference that docs/reference/envoy.md tells of
	}
}

// limited reports whether a snapshot has limits of what is under way.
func limited(s *mesh.Snapshot) bool {
	for _, svc := range s.Services {
		for _, p := range svc.Policies {
			if p.Pool.MaxConnections+p.Pool.MaxRequests > 0 {
				return true
			}
		}
	}
	return false
}

func whole(share mesh.Share) mesh.Share {
	if share > mesh.Everything/2 {
		return mesh.Everything
	}
	return 0
}

func tameRoute(r *rand.Rand, route *mesh.Route, single bool) {
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

// tameMirrors keeps the mirrors whose copies surely come.
func tameMirrors(s *mesh.Snapshot, route *mesh.Route, limits bool) {
	for j := range route.Mirrors {
		m := &route.Mirrors[j]
		m.Share = whole(m.Share)
		if limits || !reached(s, m.Destination) {
			m.Share = 0
		}
	}
}

// reached reports whether what is sent to a destination surely comes to one of
// its endpoints, from whichever port it was called.
func reached(s *mesh.Snapshot, d mesh.Destination) bool {
	svc := s.Services[d.Service]
	if svc == nil {
		return false
	}
	port, ok := svc.TargetPort(d.Port, 0)
	endpoints, known := svc.Select(port, d.Subset)
	p := policyOf(s, d, 0)
	return ok && known && len(endpoints) > 0 && !isDistrusted(p) && (p.Locality == nil || len(p.Locality.Distribute) == 0)
}

func policyOf(s *mesh.Snapshot, d mesh.Destination, called uint16) *mesh.Policy {
	svc := s.Services[d.Service]
	if svc == nil {
		return nil
	}
	port, _ := svc.TargetPort(d.Port, called)
	return svc.Policy(port, d.Subset)
}

// isDistrusted reports whether a policy wants other names of the endpoints than
// they have.
func isDistrusted(p *mesh.Policy) bool {
	return p != nil && p.TLS != nil && !p.TLS.Insecure && len(p.TLS.SubjectAlts) > 0 && !slices.Contains(p.TLS.SubjectAlts, "inner.test")
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
