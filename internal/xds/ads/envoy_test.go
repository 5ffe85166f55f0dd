package ads_test

import (
	"math/rand/v2"
	"testing"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
	"serin.dev/serin/internal/xds"
	"serin.dev/serin/internal/xds/ads"
	"serin.dev/serin/internal/xds/xdstest"
)

func TestEnvoyTakesEverySnapshot(t *testing.T) {
	server := xdstest.Serve(t, nil)
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
	xdstest.Start(t, sidecar, server.Address, xds.BootstrapOptions{})
	xdstest.Start(t, gateway, server.Address, xds.BootstrapOptions{StateOfTheWorld: true})
	for seed := range uint64(40) {
		s := meshtest.Snapshot(rand.New(rand.NewPCG(seed, 1)), meshtest.All())
		s.Version = mesh.SnapshotVersion(seed + 1)
		server.Set(s)
		for _, id := range []string{"sidecar", "gateway"} {
			p := server.Await(t, id, func(p ads.ProxyStatus) bool {
				return p.Version == s.Version || p.Refused != nil && p.Refused.Version == s.Version
			})
			if p.Version != s.Version {
				t.Errorf("seed %d: %s refused: %s", seed, id, p.Refused.Reason)
			}
		}
	}
}
