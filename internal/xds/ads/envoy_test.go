package ads_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/mesh/meshtest"
	"serin.dev/serin/internal/xds"
	"serin.dev/serin/internal/xds/ads"
	"serin.dev/serin/internal/xds/xdstest"
	"serin.dev/serin/test/ports"
)

func TestEnvoyTakesEverySnapshot(t *testing.T) {
	server := xdstest.Serve(t, nil)
	sidecar := xds.Node{
		ID: "sidecar", Place: mesh.Place{Region: "eu", Zone: "west", Subzone: "a"},
		Caller:    mesh.Caller{Workload: mesh.Workload{Namespace: "shop", Name: "web"}, Labels: mesh.Labels{"app": "web"}},
		Outbound:  ports.Reserve(t),
		Inbounds:  []xds.Inbound{{Address: ports.Reserve(t), Application: "127.0.0.1:9"}},
		Upstreams: []xds.Upstream{{Address: ports.Reserve(t), Service: "db.data", Port: 5432}, {Address: ports.Reserve(t), Service: "cart", Port: 80}},
	}
	gateway := xds.Node{ID: "gateway", Gateways: []xds.GatewayListener{
		{Port: 80, Address: ports.Reserve(t)}, {Port: 443, Address: ports.Reserve(t)}, {Port: 8080, Address: ports.Reserve(t)},
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

// TestEnvoyTakesEveryRegexThatIsValid draws regular expressions up to the size
// that snapshots may have. One that Envoy refused would cost it all routes.
func TestEnvoyTakesEveryRegexThatIsValid(t *testing.T) {
	server := xdstest.Serve(t, nil)
	gateway := xds.Node{ID: "gateway", Gateways: []xds.GatewayListener{{Port: 80, Address: ports.Reserve(t)}}}
	xdstest.Start(t, gateway, server.Address, xds.BootstrapOptions{})
	vh := mesh.VirtualHost{Hosts: []string{"*"}}
	add := func(value string) bool {
		if _, err := mesh.CompileRegex(value); err != nil {
			return false
		}
		vh.Routes = append(vh.Routes, mesh.Route{
			Matches: []mesh.Match{{URI: mesh.StringMatch{Kind: mesh.Regex, Value: value}}}, Direct: &mesh.DirectAnswer{Status: 204},
		})
		return true
	}
	r := rand.New(rand.NewPCG(1, 5))
	for range 1000 {
		add(randomRegex(r, 4))
	}
	large := 0
	for n := 0; n <= 30; n += 3 {
		// What is largest for RE2, measured by our bound: loops around nothing.
		for _, part := range []string{`(a|\b)*`, `[aceg]`, `x`} {
			if !add("(" + strings.Repeat(part, n) + "){1000}") {
				large++
			}
		}
	}
	if len(vh.Routes) < 800 || large == 0 {
		t.Fatalf("%d of the expressions are valid, %d too large: too few to say anything", len(vh.Routes), large)
	}
	server.Set(&mesh.Snapshot{Version: 1, Gateways: []mesh.Gateway{{Name: "default/g", Port: 80, VirtualHosts: []mesh.VirtualHost{vh}}}})
	p := server.Await(t, gateway.ID, func(p ads.ProxyStatus) bool { return p.Version == 1 || p.Refused != nil })
	if p.Refused != nil {
		t.Errorf("refused: %s", p.Refused.Reason)
	}
}

func randomRegex(r *rand.Rand, depth int) string {
	parts := []string{"a", "k", "/", ".", "é", "日", `\d`, `\PL`, `\p{Greek}`, "[a-cx]", "[^é-ü]", "[[:^alpha:]]", `\x41`, `\Qa.*\E`, "^", "$", `\b`, "()", `\t`, "(?i:straße)"}
	if depth == 0 {
		return parts[r.IntN(len(parts))]
	}
	below := func() string { return randomRegex(r, depth-1) }
	switch r.IntN(6) {
	case 0:
		return below() + below()
	case 1:
		return "(" + below() + "|" + below() + ")"
	case 2:
		return "(?:" + below() + ")" + []string{"*", "+", "?", "*?", "+?"}[r.IntN(5)]
	case 3:
		return fmt.Sprintf("(?P<n%d>%s){%d,%d}", r.Uint32(), below(), r.IntN(3), 3+r.IntN(5))
	case 4:
		return "(?s)" + below() + "(?U)" + below()
	default:
		return below() + below() + below()
	}
}
