package xds

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
)

// read returns one resource of a node.
func read[M proto.Message](t *testing.T, r Resources, of Type, name string, m M) M {
	t.Helper()
	if err := unpack(r.ByType[of][name].Body, m); err != nil {
		t.Fatalf("%s %s: %v", of, name, err)
	}
	return m
}

func TestPlacesBecomePrioritiesAndWeights(t *testing.T) {
	endpoint := func(i byte, region, zone, subzone string, priority uint32) mesh.Endpoint {
		return mesh.Endpoint{
			Port: 80, Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, i}), 80),
			Place: mesh.Place{Region: region, Zone: zone, Subzone: subzone}, Priority: priority,
		}
	}
	endpoints := []mesh.Endpoint{
		endpoint(1, "us", "a", "", 0), endpoint(2, "eu", "a", "1", 0), endpoint(3, "eu", "a", "2", 0), endpoint(4, "eu", "b", "", 0),
		endpoint(5, "ap", "a", "", 0), endpoint(6, "eu", "a", "1", 5),
	}
	here := mesh.Place{Region: "eu", Zone: "a", Subzone: "1"}
	for _, tt := range []struct {
		name     string
		here     mesh.Place
		locality *mesh.Locality
		want     string // priority:address*weight
	}{
		{"no rule", here, nil, "0:5 0:2 0:3 0:4 0:1 1:6"},
		{"no place", mesh.Place{}, &mesh.Locality{Failover: true}, "0:5 0:2 0:3 0:4 0:1 1:6"},
		{"failover", here, &mesh.Locality{Failover: true}, "0:2 1:3 2:4 3:5 3:1 4:6"},
		{"failover to a region", here, &mesh.Locality{Failover: true, FailoverTo: map[string]string{"eu": "us"}}, "0:2 1:3 2:4 3:1 4:5 5:6"},
		{
			"distribution", here,
			&mesh.Locality{Distribute: []mesh.Distribution{{From: "us/*", To: map[string]uint32{"us/*": 1}}, {From: "eu/a/*", To: map[string]uint32{"eu/*": 60, "eu/b/*": 20, "us/*": 20}}}},
			"0:2*400000 0:3*200000 0:4*200000 0:1*200000 1:6*400000",
		},
		{"distribution of others", here, &mesh.Locality{Distribute: []mesh.Distribution{{From: "us/*", To: map[string]uint32{"us/*": 1}}}}, "0:5 0:2 0:3 0:4 0:1 1:6"},
	} {
		s := &mesh.Snapshot{Version: 1, Services: map[mesh.ServiceName]*mesh.Service{"a.b": {
			Name: "a.b", Ports: []mesh.Port{{Number: 80}}, Endpoints: endpoints,
			Policies: map[mesh.PolicyScope]*mesh.Policy{{}: {Locality: tt.locality}},
		}}}
		r, err := Encode(s, Node{ID: "x", Outbound: "127.0.0.1:1", Place: tt.here})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, group := range read(t, r, Endpoints, "a.b:80", &endpointv3.ClusterLoadAssignment{}).GetEndpoints() {
			for _, lb := range group.GetLbEndpoints() {
				address := lb.GetEndpoint().GetAddress().GetSocketAddress().GetAddress()
				one := fmt.Sprintf("%d:%s", group.GetPriority(), strings.TrimPrefix(address, "127.0.0."))
				if w := group.GetLoadBalancingWeight(); w != nil {
					one += fmt.Sprintf("*%d", w.GetValue())
				}
				got = append(got, one)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s = %s, want %s", tt.name, strings.Join(got, " "), tt.want)
		}
	}
}

// virtualHostOf finds the virtual host as Envoy does: by the exact authority,
// the longest prefix before a "*", else the last one. (There are no suffixes.)
func virtualHostOf(c *routev3.RouteConfiguration, authority string) *routev3.VirtualHost {
	authority = strings.ToLower(authority)
	var found *routev3.VirtualHost
	longest := -1
	for _, vh := range c.GetVirtualHosts() {
		for _, d := range vh.GetDomains() {
			prefix, wild := strings.CutSuffix(d, "*")
			switch {
			case !wild && d == authority:
				return vh
			case wild && strings.HasPrefix(authority, prefix) && len(prefix) > longest:
				found, longest = vh, len(prefix)
			}
		}
	}
	return found
}

// TestAuthoritiesFindTheirHosts compares the virtual hosts of an outbound
// listener with what a host and a port mean in the snapshot.
func TestAuthoritiesFindTheirHosts(t *testing.T) {
	for seed := range uint64(60) {
		s := meshtest.Snapshot(random(seed), meshtest.All())
		for _, h := range []string{"*.shop", "*.example.net", "2001:db8::1"} {
			s.Hosts = slices.DeleteFunc(s.Hosts, func(vh mesh.VirtualHost) bool { return slices.Contains(vh.Hosts, h) })
			s.Hosts = append(s.Hosts, mesh.VirtualHost{Hosts: []string{h}, Routes: []mesh.Route{{Name: h, Direct: &mesh.DirectAnswer{Status: 200}}}})
		}
		n := nodes(Envoy)[0]
		r, err := Encode(s, n)
		if err != nil {
			t.Fatal(err)
		}
		config := read(t, r, Routes, "outbound", &routev3.RouteConfiguration{})
		for _, host := range []string{
			"web", "web.shop", "WEB.shop.svc", "web.shop.svc.cluster.local", "cart", "reviews.default", "reviews", "db.data.svc", "db.data.svc.x",
			"a.shop", "a", "a.b.shop", "x.example.net", "example.net", "api.example.org", "elsewhere.test", "[2001:db8::1]", "127.0.0.1",
		} {
			for _, port := range []uint16{80, 0, 443, 9080, 5432, 81} {
				authority := fmt.Sprintf("%s:%d", host, port)
				c := mesh.Call{Namespace: "shop", Labels: mesh.Labels{"app": "web"}, Host: strings.Trim(host, "[]"), Port: port, Method: "GET", Path: "/nowhere/else"}
				if port == 0 {
					authority, c.Port = host, 80
				}
				c.Authority = authority
				if diff := cmp.Diff(meaning(s.Resolve(c)), found(t, config, authority)); diff != "" {
					t.Errorf("seed %d: %s (-snapshot +envoy):\n%s", seed, authority, diff)
				}
			}
		}
	}
}

// meaning is the service or the outside.
func meaning(o mesh.Outcome) string {
	switch {
	case o.Outside:
		return "outside"
	case o.Route == nil && len(o.Ways) == 0:
		return "404 of " + string(o.Service)
	case o.Service != "":
		return string(o.Service)
	}
	return "routed"
}

// found is what the first of Envoy's routes that takes the request says. Of the
// conditions, it looks at the authority; no route of the test has others that a
// request for /nowhere/else by GET fulfils, except those on all requests.
func found(t *testing.T, c *routev3.RouteConfiguration, authority string) string {
	t.Helper()
	for _, r := range virtualHostOf(c, authority).GetRoutes() {
		if !takes(r.GetMatch(), authority) {
			continue
		}
		if r.GetRoute().GetCluster() == outsideCluster {
			return "outside"
		}
		record := fieldsOf(r.GetMetadata()).fields(metadataRecord)
		service := record.text("service")
		switch {
		case record.text("flag") != "" && len(record.fields("origin")) == 0:
			return "404 of " + service
		case service != "":
			return service
		}
		return "routed"
	}
	return "nothing"
}

func takes(m *routev3.RouteMatch, authority string) bool {
	if m.GetConnectMatcher() != nil || len(m.GetQueryParameters()) > 0 {
		return false
	}
	path := "/nowhere/else"
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		if !strings.HasPrefix(path, p.Prefix) {
			return false
		}
	case *routev3.RouteMatch_Path, *routev3.RouteMatch_PathSeparatedPrefix:
		return false
	case *routev3.RouteMatch_SafeRegex:
		if !regexp.MustCompile(`^(?:` + p.SafeRegex.GetRegex() + `)$`).MatchString(path) {
			return false
		}
	}
	values := map[string]string{":authority": authority, ":method": "GET", ":scheme": "http"}
	for _, h := range m.GetHeaders() {
		c, err := decodeHeader(h)
		value, present := values[h.GetName()]
		if err != nil || !c.Holds(value, present) {
			return false
		}
	}
	return true
}

func TestAGatewayGetsWhatItNeeds(t *testing.T) {
	s := &mesh.Snapshot{
		Version: 1,
		Services: map[mesh.ServiceName]*mesh.Service{
			"used.default":   {Name: "used.default", Ports: []mesh.Port{{Number: 80}}},
			"mirror.default": {Name: "mirror.default", Ports: []mesh.Port{{Number: 80}}},
			"other.default":  {Name: "other.default", Ports: []mesh.Port{{Number: 80}}},
		},
		Certificates: map[string]*mesh.Certificate{"a": {CA: []byte("a")}, "b": {CA: []byte("b")}},
		Gateways: []mesh.Gateway{
			{Name: "x/y", Port: 80, VirtualHosts: []mesh.VirtualHost{{Hosts: []string{"*"}, Routes: []mesh.Route{{
				Split:   []mesh.Destination{{Service: "used.default", Weight: 1}},
				Mirrors: []mesh.Mirror{{Destination: mesh.Destination{Service: "mirror.default"}, Share: 1}},
			}}}}},
			{Name: "x/z", Port: 81, TLS: []mesh.ServerTLS{{Hosts: []string{"*"}, Certificate: "a"}}},
		},
	}
	r, err := Encode(s, Node{ID: "gw", Gateways: []GatewayListener{{80, "127.0.0.1:1"}}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, of := range Types() {
		for _, name := range sortedKeys(r.ByType[of]) {
			got = append(got, of.String()+" "+name)
		}
	}
	want := []string{
		"clusters mirror.default:80", "clusters used.default:80", "endpoints mirror.default:80", "endpoints used.default:80",
		"listeners gateway:80", "routes gateway:80",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNamesAreResolvedByEnvoy(t *testing.T) {
	s := &mesh.Snapshot{Version: 1, Services: map[mesh.ServiceName]*mesh.Service{"api.example.org": {
		Name: "api.example.org", Ports: []mesh.Port{{Number: 443}}, Endpoints: []mesh.Endpoint{{Port: 443, Dial: "api.example.org:443"}},
	}}}
	r, err := Encode(s, nodes(Envoy)[0])
	if err != nil {
		t.Fatal(err)
	}
	c := read(t, r, Clusters, "api.example.org:443", &clusterv3.Cluster{})
	if c.GetType() != clusterv3.Cluster_STRICT_DNS || len(c.GetLoadAssignment().GetEndpoints()) != 1 || r.ByType[Endpoints] != nil {
		t.Errorf("cluster %v", c)
	}
}

// thousandServices have ten endpoints each; the first is called with a weight.
func thousandServices(version mesh.SnapshotVersion, weight uint32) *mesh.Snapshot {
	s := &mesh.Snapshot{Version: version, Services: map[mesh.ServiceName]*mesh.Service{}}
	for i := range 1000 {
		name := mesh.ServiceName(fmt.Sprintf("s%d.default", i))
		svc := &mesh.Service{Name: name, Ports: []mesh.Port{{Number: 80}}, Subsets: map[string]mesh.Labels{"v1": {"version": "v1"}}}
		for j := range 10 {
			svc.Endpoints = append(svc.Endpoints, mesh.Endpoint{
				Port: 80, Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i / 250), byte(i % 250), byte(j)}), 80),
				Labels: mesh.Labels{"version": "v1"}, Workload: mesh.Workload{Namespace: "default", Name: string(name), Version: "v1"},
			})
		}
		s.Services[name] = svc
		s.Hosts = append(s.Hosts, mesh.VirtualHost{Hosts: []string{string(name)}, Routes: []mesh.Route{{
			Split: []mesh.Destination{{Service: name, Subset: "v1", Weight: weight}, {Service: name, Weight: 10}},
		}}})
		weight = 90
	}
	return s
}

// TestAnotherWeightChangesOneResource: what a release does at each step must not
// send all of a large mesh again.
func TestAnotherWeightChangesOneResource(t *testing.T) {
	for _, kind := range []Kind{Envoy, Serin} {
		e := NewEncoder(nodes(kind)[0])
		before := thousandServices(1, 90)
		a, errA := e.Encode(before)
		b, errB := e.Encode(thousandServices(2, 80).Sharing(before))
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		var changed []string
		was := versions(a)
		for name, version := range versions(b) {
			if was[name] != version {
				changed = append(changed, name)
			}
		}
		if len(changed) != 1 || !strings.HasPrefix(changed[0], "routes ") || len(versions(b)) != len(was) {
			t.Errorf("%s: changed are %v, want one configuration of routes", kind, changed)
		}
	}
}

// BenchmarkEncode encodes all, and what another weight changes.
func BenchmarkEncode(b *testing.B) {
	for _, kind := range []Kind{Envoy, Serin} {
		b.Run(kind.String()+"/all", func(b *testing.B) {
			s := thousandServices(1, 90)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Encode(s, nodes(kind)[0]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(kind.String()+"/weight", func(b *testing.B) {
			e, s := NewEncoder(nodes(kind)[0]), thousandServices(1, 90)
			if _, err := e.Encode(s); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				s = thousandServices(s.Version+1, uint32(s.Version)).Sharing(s)
				b.StartTimer()
				if _, err := e.Encode(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
