package xds

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
)

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// nodes that see different parts of a snapshot.
func nodes(kind Kind) []Node {
	return []Node{
		{
			ID: "sidecar", Kind: kind, Outbound: "127.0.0.1:15001", Place: mesh.Place{Region: "eu", Zone: "west", Subzone: "a"},
			Caller: mesh.Caller{Workload: mesh.Workload{Namespace: "shop", Name: "web"}, Labels: mesh.Labels{"app": "web"}},
		},
		{ID: "gateway", Kind: kind, Gateways: []GatewayListener{{80, "127.0.0.1:8080"}, {443, "127.0.0.1:8443"}, {8080, "127.0.0.1:8081"}}},
		{ID: "one port", Kind: kind, Gateways: []GatewayListener{{443, "127.0.0.1:8443"}}},
	}
}

var exactly = cmpopts.EquateComparable(netip.AddrPort{})

func TestNothingIsLostOnTheWay(t *testing.T) {
	for seed := range uint64(120) {
		s := meshtest.Snapshot(random(seed), meshtest.All())
		for _, n := range nodes(Serin) {
			r, err := Encode(s, n)
			if err != nil {
				t.Fatalf("seed %d: %s: %v", seed, n.ID, err)
			}
			got, err := Decode(r)
			if err != nil {
				t.Fatalf("seed %d: %s: %v", seed, n.ID, err)
			}
			if diff := cmp.Diff(View(s, n), got, exactly); diff != "" {
				t.Fatalf("seed %d: %s: Decode(Encode(s)) is not its view of s (-view +decoded):\n%s", seed, n.ID, diff)
			}
			if err := got.Validate(); err != nil {
				t.Fatalf("seed %d: %s: %v", seed, n.ID, err)
			}
		}
	}
}

func TestViewDecidesAsTheSnapshotDoes(t *testing.T) {
	for seed := range uint64(120) {
		r := random(seed)
		s := meshtest.Snapshot(r, meshtest.All())
		for range 20 {
			c := meshtest.Call(r, s)
			view := View(s, seenFrom(c.Gateway, c.Namespace, c.Labels))
			if diff := cmp.Diff(decision(s.Resolve(c)), decision(view.Resolve(c)), exactly); diff != "" {
				t.Fatalf("seed %d: %+v: the view decides otherwise (-snapshot +view):\n%s", seed, c, diff)
			}
			conn := meshtest.Connection(r, s)
			view = View(s, seenFrom(conn.Gateway, conn.Namespace, conn.Labels))
			if diff := cmp.Diff(streamDecision(s.ResolveStream(conn)), streamDecision(view.ResolveStream(conn)), exactly); diff != "" {
				t.Fatalf("seed %d: %+v: the view decides otherwise (-snapshot +view):\n%s", seed, conn, diff)
			}
		}
	}
}

func seenFrom(gateway uint16, namespace string, labels mesh.Labels) Node {
	if gateway != 0 {
		return Node{Gateways: []GatewayListener{{Port: gateway}}}
	}
	return Node{Caller: mesh.Caller{Workload: mesh.Workload{Namespace: namespace}, Labels: labels}}
}

// decision is what a caller could tell of an outcome.
func decision(o mesh.Outcome) any {
	var route any
	if o.Route != nil {
		route = []any{o.Route.Name, o.Route.Origin, o.Route.Redirect, o.Route.Direct, len(o.Route.Affinity)}
	}
	return []any{o.Outside, o.Service, route, ways(o.Ways)}
}

func streamDecision(o mesh.StreamOutcome) any {
	var stream, tls any
	if o.Stream != nil {
		stream = []any{o.Stream.Name, o.Stream.Origin}
	}
	if o.TLS != nil {
		tls = []any{o.TLS.Hosts, o.TLS.Certificate}
	}
	return []any{o.Outside, o.Service, stream, tls, ways(o.Ways)}
}

func ways(all []mesh.Way) any {
	out := []any{}
	for _, w := range all {
		d := w.Destination
		d.Headers = nil
		if len(all) == 1 {
			d.Weight = 0
		}
		pods := map[string]mesh.Workload{}
		for _, e := range w.Endpoints {
			pods[e.DialAddress()] = e.Workload
		}
		out = append(out, []any{d, w.Unknown, pods})
	}
	return out
}

func TestEncodeMakesTheSameBytes(t *testing.T) {
	for seed := range uint64(50) {
		s := meshtest.Snapshot(random(seed), meshtest.All())
		later := *s
		later.Version++
		for _, kind := range []Kind{Envoy, Serin} {
			for _, n := range nodes(kind) {
				a, errA := Encode(s, n)
				b, errB := Encode(&later, n)
				if errA != nil || errB != nil {
					t.Fatalf("seed %d: %s: %v, %v", seed, n.ID, errA, errB)
				}
				if diff := cmp.Diff(versions(a), versions(b)); diff != "" {
					t.Fatalf("seed %d: %s: resources differ though nothing changed:\n%s", seed, n.ID, diff)
				}
			}
		}
	}
}

// TestAnEncoderMakesWhatEncodeMakes gives encoders one snapshot after the other,
// each with parts of the last.
func TestAnEncoderMakesWhatEncodeMakes(t *testing.T) {
	for _, kind := range []Kind{Envoy, Serin} {
		for _, n := range nodes(kind) {
			for seed := range uint64(8) {
				r, e := random(seed), NewEncoder(n)
				last := meshtest.Snapshot(r, meshtest.All())
				for range 8 {
					last = meshtest.Mix(r, last, meshtest.Snapshot(r, meshtest.All()))
					last.Version++
					got, errGot := e.Encode(last)
					want, errWant := Encode(last, n)
					if errGot != nil || errWant != nil {
						t.Fatalf("seed %d: %s: %v, %v", seed, n.ID, errGot, errWant)
					}
					if diff := cmp.Diff(versions(want), versions(got)); diff != "" {
						t.Fatalf("seed %d: %s: the encoder makes something else (-Encode +Encoder):\n%s", seed, n.ID, diff)
					}
					if diff := cmp.Diff(want.Routings, got.Routings); diff != "" {
						t.Fatalf("seed %d: %s: routings (-Encode +Encoder):\n%s", seed, n.ID, diff)
					}
				}
			}
		}
	}
}

func versions(r Resources) map[string]string {
	out := map[string]string{}
	for _, t := range Types() {
		for name, one := range r.ByType[t] {
			out[t.String()+" "+name] = one.Version
		}
	}
	return out
}
