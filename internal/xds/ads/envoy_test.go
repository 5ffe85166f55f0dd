package ads

import (
	"context"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/internal/xds"
	"serin.dev/serin/internal/xds/xdstest"
)

// rig is a running server whose proxies a test waits for.
type rig struct {
	t       *testing.T
	server  *Server
	address string
	changed chan struct{}
}

func newRig(t *testing.T, recorder telemetry.Recorder) *rig {
	t.Helper()
	r := &rig{t: t, changed: make(chan struct{}, 1)}
	r.server = New(Config{Recorder: recorder, OnChange: func() {
		select {
		case r.changed <- struct{}{}:
		default:
		}
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return r
}

// await waits until a proxy's status is what the test wants.
func (r *rig) await(id string, want func(ProxyStatus) bool) ProxyStatus {
	r.t.Helper()
	late := time.After(30 * time.Second)
	var last ProxyStatus
	for {
		for _, p := range r.server.Proxies() {
			if p.Node.ID == id {
				if last = p; want(p) {
					return p
				}
			}
		}
		select {
		case <-r.changed:
		case <-late:
			r.t.Fatalf("proxy %s never did; last: %+v", id, last)
		}
	}
}

// apply sets a snapshot and waits until the proxy has it.
func (r *rig) apply(s *mesh.Snapshot, ids ...string) {
	r.t.Helper()
	r.server.Set(s)
	for _, id := range ids {
		p := r.await(id, func(p ProxyStatus) bool { return p.Version == s.Version || p.Refused != nil })
		if p.Refused != nil {
			r.t.Fatalf("proxy %s refused snapshot %d: %s", id, p.Refused.Version, p.Refused.Reason)
		}
	}
}

func TestEnvoyTakesEverySnapshot(t *testing.T) {
	r := newRig(t, nil)
	sidecar := xds.Node{
		ID: "sidecar", Place: mesh.Place{Region: "eu", Zone: "west", Subzone: "a"},
		Caller:    mesh.Caller{Workload: mesh.Workload{Namespace: "shop", Name: "web"}, Labels: mesh.Labels{"app": "web"}},
		Outbound:  xdstest.FreeAddress(t),
		Inbounds:  []xds.Inbound{{Address: xdstest.FreeAddress(t), Application: "127.0.0.1:9"}},
		Upstreams: []xds.Upstream{{Address: xdstest.FreeAddress(t), Service: "db.data", Port: 5432}, {Address: xdstest.FreeAddress(t), Service: "cart", Port: 80}},
	}
	gateway := xds.Node{ID: "gateway", Gateways: []xds.GatewayListener{
		{Port: 80, Address: xdstest.FreeAddress(t)}, {Port: 443, Address: xdstest.FreeAddress(t)}, {Port: 8080, Address: xdstest.FreeAddress(t)},
	}}
	xdstest.Start(t, sidecar, r.address, xds.BootstrapOptions{})
	xdstest.Start(t, gateway, r.address, xds.BootstrapOptions{StateOfTheWorld: true})
	for seed := range uint64(40) {
		s := meshtest.Snapshot(rand.New(rand.NewPCG(seed, 1)), meshtest.All())
		s.Version = mesh.SnapshotVersion(seed + 1)
		r.server.Set(s)
		start := time.Now()
		for _, id := range []string{"sidecar", "gateway"} {
			p := r.await(id, func(p ProxyStatus) bool {
				return p.Version == s.Version || p.Refused != nil && p.Refused.Version == s.Version
			})
			if p.Version != s.Version {
				t.Errorf("seed %d: %s refused: %s", seed, id, p.Refused.Reason)
			}
		}
		t.Logf("seed %d: %v", seed, time.Since(start))
	}
}
