package xdstest

import (
	"context"
	"net"
	"testing"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
	"serin.dev/serin/internal/xds"
	"serin.dev/serin/internal/xds/ads"
)

// patience is how long a proxy may take over a snapshot.
const patience = time.Minute

// Server is a running server of snapshots.
type Server struct {
	*ads.Server
	Address string // host:port
	changed chan struct{}
}

// Serve runs a server until the test ends. The recorder may be nil.
func Serve(t testing.TB, recorder telemetry.Recorder) *Server {
	t.Helper()
	s := &Server{changed: make(chan struct{}, 1)}
	s.Server = ads.New(ads.Config{Recorder: recorder, OnChange: func() {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return s
}

// Await waits until the status of a proxy is what the test wants. One test at
// a time may wait.
func (s *Server) Await(t testing.TB, id string, want func(ads.ProxyStatus) bool) ads.ProxyStatus {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	var last ads.ProxyStatus
	for {
		for _, p := range s.Proxies() {
			if p.Node.ID == id {
				if last = p; want(p) {
					return p
				}
			}
		}
		select {
		case <-s.changed:
		case <-late.C:
			t.Fatalf("proxy %s never did; last: %+v", id, last)
		}
	}
}

// Apply gives all proxies a snapshot and waits until those with the ids have
// it. The test fails when one refuses it.
func (s *Server) Apply(t testing.TB, snapshot *mesh.Snapshot, ids ...string) {
	t.Helper()
	s.Set(snapshot)
	for _, id := range ids {
		p := s.Await(t, id, func(p ads.ProxyStatus) bool {
			return p.Version >= snapshot.Version || p.Refused != nil && p.Refused.Version == snapshot.Version
		})
		if p.Version < snapshot.Version {
			t.Fatalf("proxy %s refused snapshot %d: %s", id, p.Refused.Version, p.Refused.Reason)
		}
	}
}

// AwaitListeners waits until all addresses of a node accept connections. An
// Envoy opens them after it has its first snapshot, and tells nobody.
func (e *Envoy) AwaitListeners(t testing.TB, n xds.Node) {
	t.Helper()
	addresses := []string{}
	if n.Outbound != "" {
		addresses = append(addresses, n.Outbound)
	}
	for _, g := range n.Gateways {
		addresses = append(addresses, g.Address)
	}
	for _, in := range n.Inbounds {
		addresses = append(addresses, in.Address)
	}
	for _, u := range n.Upstreams {
		addresses = append(addresses, u.Address)
	}
	for _, address := range addresses {
		e.await(t, "listens on "+address, func() bool {
			conn, err := net.Dial("tcp", address)
			return err == nil && conn.Close() == nil
		})
	}
}
