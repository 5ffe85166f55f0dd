package ads_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/xds"
	"serin.dev/serin/internal/xds/ads"
	"serin.dev/serin/internal/xds/xdstest"
	"serin.dev/serin/test/ports"
)

func sidecar(id string) xds.Node {
	return xds.Node{ID: id, Kind: xds.Serin, Outbound: "127.0.0.1:0", Caller: mesh.Caller{Workload: mesh.Workload{Namespace: "default", Name: id}}}
}

// runClient runs a client until the test ends, or the result is called.
func runClient(t *testing.T, server string, n xds.Node, apply func(*mesh.Snapshot) error) (stop func()) {
	conn, err := ads.Dial(server)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- (&ads.Client{Server: server, Node: n, Apply: apply}).Run(ctx, conn) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ended, conn.Close()); err != nil {
			t.Errorf("client: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func accept(*mesh.Snapshot) error { return nil }

// large is a snapshot of more bytes than fit between two processes.
func large(version mesh.SnapshotVersion) *mesh.Snapshot {
	s := &mesh.Snapshot{Version: version, Services: map[mesh.ServiceName]*mesh.Service{}}
	for i := range 1000 {
		svc := &mesh.Service{Name: mesh.ServiceName(fmt.Sprintf("s%d.default", i)), Ports: []mesh.Port{{Number: 80, Name: fmt.Sprint(version)}}}
		for j := range 10 {
			svc.Endpoints = append(svc.Endpoints, mesh.Endpoint{Port: 80, Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(i / 250), byte(i % 250), byte(j)}), 80)})
		}
		s.Services[svc.Name] = svc
	}
	return s
}

func TestAProxyThatDoesNotReadHoldsUpNobody(t *testing.T) {
	server := xdstest.Serve(t, nil)
	conn, err := ads.Dial(server.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	stuck, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := sidecar("stuck")
	if err := stuck.Send(&discoveryv3.DeltaDiscoveryRequest{Node: n.Message(), TypeUrl: xds.Clusters.URL()}); err != nil {
		t.Fatal(err)
	}
	server.Await(t, "stuck", func(p ads.ProxyStatus) bool { return p.Connected })
	runClient(t, server.Address, sidecar("swift"), accept)
	for version := range mesh.SnapshotVersion(3) {
		server.Apply(t, large(version+1), "swift")
	}
	if p := server.Await(t, "stuck", func(ads.ProxyStatus) bool { return true }); p.Version != 0 || !p.Connected {
		t.Errorf("the one that does not read: %+v", p)
	}
}

func TestWhatAProxyRefusesIsTold(t *testing.T) {
	server := xdstest.Serve(t, nil)
	var got []mesh.SnapshotVersion
	runClient(t, server.Address, sidecar("picky"), func(s *mesh.Snapshot) error {
		got = append(got, s.Version)
		if len(s.Services) > 0 {
			return errors.New("no services, please")
		}
		return nil
	})
	server.Apply(t, &mesh.Snapshot{Version: 1}, "picky")
	first := server.Await(t, "picky", func(p ads.ProxyStatus) bool { return p.Version == 1 })
	server.Set(&mesh.Snapshot{Version: 2, Services: map[mesh.ServiceName]*mesh.Service{"a.default": {Name: "a.default"}}})
	p := server.Await(t, "picky", func(p ads.ProxyStatus) bool { return p.Refused != nil })
	if p.Version != 1 || p.At != first.At || *p.Refused != (ads.Refusal{Version: 2, Reason: "no services, please"}) {
		t.Errorf("after the refusal: %+v %+v", p, p.Refused)
	}
	server.Apply(t, &mesh.Snapshot{Version: 3}, "picky")
	if p := server.Await(t, "picky", func(p ads.ProxyStatus) bool { return p.Version == 3 }); p.Refused != nil {
		t.Errorf("a refusal is told of that is over: %+v", p.Refused)
	}
	if fmt.Sprint(got) != "[1 2 3]" {
		t.Errorf("was asked to apply %v, want each snapshot once", got)
	}
}

func TestAProxyKeepsWhatItHasAndComesBack(t *testing.T) {
	serve := func(s *ads.Server, l net.Listener) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(ctx, l) }()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("server: %v", err)
			}
		}
	}
	applied := make(chan mesh.SnapshotVersion, 10)
	address := ports.Reserve(t)
	first := ads.New(ads.Config{})
	first.Set(large(1))
	stop := serve(first, ports.Listen(t, address))
	runClient(t, address, sidecar("faithful"), func(s *mesh.Snapshot) error {
		applied <- s.Version
		return nil
	})
	if v := <-applied; v != 1 {
		t.Fatalf("applied %d first", v)
	}
	stop()
	// The new server counts on from what it finds in the API.
	second := ads.New(ads.Config{})
	s := large(1)
	s.Version = 7
	second.Set(s)
	defer serve(second, ports.Listen(t, address))()
	if v := <-applied; v != 7 {
		t.Errorf("applied %d from the second server, want 7", v)
	}
}

func TestOfTwoProxiesWithOneIDTheNewerCounts(t *testing.T) {
	server := xdstest.Serve(t, nil)
	conn, err := ads.Dial(server.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	connect := func() discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient {
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := sidecar("twin")
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: n.Message(), TypeUrl: xds.Clusters.URL()}); err != nil {
			t.Fatal(err)
		}
		return stream
	}
	server.Set(&mesh.Snapshot{Version: 1})
	older := connect()
	if _, err := older.Recv(); err != nil {
		t.Fatal(err)
	}
	newer := connect()
	if _, err := newer.Recv(); err != nil {
		t.Errorf("the newer one was sent away: %v", err)
	}
	if _, err := older.Recv(); err == nil || !strings.Contains(err.Error(), "another proxy with the same id has connected") {
		t.Errorf("the older one heard %v", err)
	}
	if p := server.Proxies(); len(p) != 1 || !p[0].Connected {
		t.Errorf("proxies: %+v", p)
	}
}

func TestAProxyThatLeftIsStillTold(t *testing.T) {
	server := xdstest.Serve(t, nil)
	stop := runClient(t, server.Address, sidecar("gone"), accept)
	server.Apply(t, &mesh.Snapshot{Version: 1}, "gone")
	stop()
	p := server.Await(t, "gone", func(p ads.ProxyStatus) bool { return !p.Connected })
	if p.Version != 1 {
		t.Errorf("it routes by %d, want 1 as before", p.Version)
	}
}

func TestAProxyWithoutANameIsSentAway(t *testing.T) {
	server := xdstest.Serve(t, nil)
	conn, err := ads.Dial(server.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = (&ads.Client{Server: server.Address, Node: xds.Node{Kind: xds.Serin}, Apply: accept}).Run(t.Context(), conn)
	if err == nil || !strings.Contains(err.Error(), "node: has no id") {
		t.Errorf("Run = %v", err)
	}
}

// TestAnotherWeightSendsOneResource: what a proxy has already is not sent again.
func TestAnotherWeightSendsOneResource(t *testing.T) {
	server := xdstest.Serve(t, nil)
	version := mesh.SnapshotVersion(0)
	weighted := func(weight uint32) *mesh.Snapshot {
		version++
		s := large(1)
		s.Version = version
		for i := range 1000 {
			name := mesh.ServiceName(fmt.Sprintf("s%d.default", i))
			s.Hosts = append(s.Hosts, mesh.VirtualHost{Hosts: []string{string(name)}, Routes: []mesh.Route{{
				Split: []mesh.Destination{{Service: name, Weight: weight}, {Service: "s0.default", Weight: 1}},
			}}})
			weight = 1
		}
		return s
	}
	for _, kind := range []xds.Kind{xds.Envoy, xds.Serin} {
		n := sidecar(kind.String())
		n.Kind, n.Outbound = kind, "127.0.0.1:15001"
		sent := subscribe(t, server.Address, n)
		server.Apply(t, weighted(1), n.ID)
		if all := sent(); all < 2000 {
			t.Errorf("%s: the first snapshot is %d resources, want clusters and endpoints of 1,000 services", n.ID, all)
		}
		for weight := range uint32(3) {
			server.Apply(t, weighted(weight+2), n.ID)
			if again := sent(); again != 1 {
				t.Errorf("%s: another weight sends %d resources, want 1", n.ID, again)
			}
		}
	}
}

// subscribe connects a proxy that accepts all it is sent, and returns how many
// resources that were since it was asked last.
func subscribe(t *testing.T, server string, n xds.Node) (sent func() int64) {
	t.Helper()
	conn, err := ads.Dial(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range xds.Types() {
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: n.Message(), TypeUrl: of.URL()}); err != nil {
			t.Fatal(err)
		}
	}
	var count atomic.Int64
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			count.Add(int64(len(m.GetResources()) + len(m.GetRemovedResources())))
			if stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()}) != nil {
				return
			}
		}
	}()
	return func() int64 { return count.Swap(0) }
}
