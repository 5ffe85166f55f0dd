package mesh_test

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
)

func anySnapshot(seed uint64) *mesh.Snapshot {
	return meshtest.Snapshot(rand.New(rand.NewPCG(seed, 1)), meshtest.All())
}

// TestSharingChangesNothing: what is shared says the same, and whatever is alike
// is shared.
func TestSharingChangesNothing(t *testing.T) {
	for seed := range uint64(100) {
		before, again, other := anySnapshot(seed), anySnapshot(seed), anySnapshot(seed+1000)
		if s := other.Sharing(before); !reflect.DeepEqual(s, other) {
			t.Fatalf("seed %d: shared\n%s\nwant\n%s", seed, s, other)
		}
		s := again.Sharing(before)
		if !reflect.DeepEqual(s, again) {
			t.Fatalf("seed %d: shared\n%s\nwant\n%s", seed, s, again)
		}
		if !maps.Equal(s.Services, before.Services) || !maps.Equal(s.Certificates, before.Certificates) || !slices.EqualFunc(s.Hosts, before.Hosts, isOne) {
			t.Fatalf("seed %d: not all of what is alike is shared", seed)
		}
		for i, g := range s.Gateways {
			if !slices.EqualFunc(g.VirtualHosts, before.Gateways[i].VirtualHosts, isOne) {
				t.Fatalf("seed %d: not all hosts of gateway %s are shared", seed, g.Name)
			}
		}
		if slices.EqualFunc(again.Hosts, before.Hosts, isOne) {
			t.Fatalf("seed %d: hosts were one before", seed)
		}
	}
}

func isOne(a, b mesh.VirtualHost) bool { return a.Is(&b) }

// TestSharingSeesEachField gives a service and an endpoint one field of another,
// and looks whether they are still taken for what they were.
func TestSharingSeesEachField(t *testing.T) {
	endpoint := mesh.Endpoint{
		Port: 81, Address: netip.MustParseAddrPort("127.0.0.2:80"), Dial: "127.0.0.1:8081", Labels: mesh.Labels{"version": "v2"},
		Workload: mesh.Workload{Name: "music"}, Place: mesh.Place{Region: "eu"}, Weight: 2, Priority: 1,
	}
	other := mesh.Service{
		Name: "movies.default", Ports: []mesh.Port{{Number: 81}}, Subsets: map[string]mesh.Labels{"v1": {"version": "v2"}},
		Endpoints: []mesh.Endpoint{endpoint, endpoint},
		Policies:  map[mesh.PolicyScope]*mesh.Policy{{}: {Balancer: mesh.Maglev}}, Access: []mesh.Access{{Deny: true}},
	}
	before := valid()
	try := func(from any, to func(*mesh.Service) any) {
		theirs := reflect.ValueOf(from).Elem()
		for i := range theirs.NumField() {
			next := valid()
			reflect.ValueOf(to(service(next))).Elem().Field(i).Set(theirs.Field(i))
			field := theirs.Type().Field(i).Name
			if theirs.Field(i).IsZero() {
				t.Errorf("%s.%s is not tried", theirs.Type(), field)
			}
			if s := next.Sharing(before); service(s) == service(before) || !reflect.DeepEqual(s, next) {
				t.Errorf("another %s.%s is not seen", theirs.Type(), field)
			}
		}
	}
	try(&other, func(s *mesh.Service) any { return s })
	try(&endpoint, func(s *mesh.Service) any { return &s.Endpoints[0] })
	if s := valid().Sharing(before); service(s) != service(before) {
		t.Error("without a change, the service is another one")
	}
}

func TestSharingWithNothing(t *testing.T) {
	s := valid()
	var none *mesh.Snapshot
	if s.Sharing(nil) != s || none.Sharing(s) != nil {
		t.Error("there is nothing to share")
	}
	if broken := (&mesh.Snapshot{Services: map[mesh.ServiceName]*mesh.Service{"music.default": nil}, Hosts: make([]mesh.VirtualHost, 1)}); !reflect.DeepEqual(broken.Sharing(s), broken) {
		t.Error("a broken snapshot became another one")
	}
}
