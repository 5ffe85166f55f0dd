package equivalence

import (
	"context"
	"net"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/internal/xds"
	"serin.dev/serin/internal/xds/ads"
	"serin.dev/serin/internal/xds/xdstest"
	"serin.dev/serin/test/ports"
)

// envoy is two real ones, a sidecar and a gateway, fed by the server that feeds
// them in production.
type envoy struct {
	listeners map[string]string
	records   *recorder
	server    *ads.Server
	changed   chan struct{} // gets a value when the server has heard of a proxy
	nodes     []*xdstest.Envoy
}

var envoyNodes = []string{"sidecar", "gateway"}

func startEnvoy(t testing.TB, p *pki, application string) *envoy {
	e := &envoy{listeners: map[string]string{}, records: newRecorder(), changed: make(chan struct{}, 1)}
	e.server = ads.New(ads.Config{Recorder: e.records, OnChange: func() {
		select {
		case e.changed <- struct{}{}:
		default:
		}
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server of snapshots: %v", err)
		}
	})
	listen := func(name string) string {
		e.listeners[name] = ports.Reserve(t)
		return e.listeners[name]
	}
	sidecar := xds.Node{ID: envoyNodes[0], Place: place, Caller: caller, Service: appService, Outbound: listen(outboundListener), SystemCA: p.file(t)}
	for _, u := range upstreams {
		sidecar.Upstreams = append(sidecar.Upstreams, xds.Upstream{Address: listen(upstreamListener(u)), Service: string(u.service), Port: u.port})
	}
	for _, port := range inboundPorts {
		sidecar.Inbounds = append(sidecar.Inbounds, xds.Inbound{Address: listen(inboundListener(port)), Application: application})
	}
	gateway := xds.Node{ID: envoyNodes[1], Place: place, SystemCA: sidecar.SystemCA}
	for _, port := range gatewayPorts {
		gateway.Gateways = append(gateway.Gateways, xds.GatewayListener{Port: port, Address: listen(gatewayListener(port))})
	}
	for _, node := range []xds.Node{sidecar, gateway} {
		e.nodes = append(e.nodes, xdstest.Start(t, node, l.Addr().String(), xds.BootstrapOptions{}))
	}
	return e
}

func (e *envoy) name() string { return "envoy" }

func (e *envoy) apply(t testing.TB, s *mesh.Snapshot) {
	e.server.Set(s)
	late := time.After(patience)
	for {
		applied := 0
		for _, p := range e.server.Proxies() {
			switch {
			case p.Version == s.Version:
				applied++
			case p.Refused != nil && p.Refused.Version == s.Version:
				t.Errorf("envoy %s refused the snapshot: %s", p.Node.ID, p.Refused.Reason)
				return
			}
		}
		if applied == len(envoyNodes) {
			return
		}
		select {
		case <-e.changed:
		case <-late:
			t.Errorf("envoy never acknowledged snapshot %d: %+v", s.Version, e.server.Proxies())
			return
		}
	}
}

func (e *envoy) address(listener string) string { return e.listeners[listener] }

func (e *envoy) record(id string) (telemetry.Request, bool) { return e.records.take(id, recordTime) }
