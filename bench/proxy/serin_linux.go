package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/xds/ads"
)

// serinPath is $SERIN_BIN, or else the program beside this one, where make
// build puts it.
func serinPath() (string, error) {
	if path := os.Getenv("SERIN_BIN"); path != "" {
		return path, nil
	}
	self, err := os.Executable()
	return filepath.Join(filepath.Dir(self), "serin"), err
}

// feeder gives one proxy of ours what the plan means, as serin up would.
type feeder struct {
	*ads.Server
	address string
	version mesh.SnapshotVersion
	changed chan struct{}
	stop    func()
}

func (p *plan) startFeeder() (*feeder, error) {
	s, err := p.snapshot()
	if err != nil {
		return nil, err
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &feeder{address: l.Addr().String(), version: s.Version, changed: make(chan struct{}, 1)}
	f.Server = ads.New(ads.Config{OnChange: func() {
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}})
	f.Set(s)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Serve(ctx, l) }()
	f.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			fmt.Fprintf(os.Stderr, "feed serin: %v\n", err)
		}
	}
	return f, nil
}

// gatewayArgs have serin proxy open all doors and ask the feeder about them.
func (f *feeder) gatewayArgs(p *plan) []string {
	args := []string{"proxy", "--xds", f.address}
	for _, d := range p.Doors {
		args = append(args, "--gateway", fmt.Sprintf("%d=%s", d.Port, localhost(d.Port)))
	}
	return args
}

// applied waits until the proxy routes by the plan.
func (f *feeder) applied(g *group) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		for _, p := range f.Proxies() {
			switch {
			case p.Refused != nil:
				return fmt.Errorf("serin refused its routes: %s", p.Refused.Reason)
			case p.Version == f.version:
				return nil
			}
		}
		select {
		case <-f.changed:
		case <-g.end:
			return g.failure()
		case <-late.C:
			return errors.New("serin does not take its routes")
		}
	}
}

// snapshot is what the plan means, in the nouns of our control plane.
func (p *plan) snapshot() (*mesh.Snapshot, error) {
	s := &mesh.Snapshot{Version: 1, Services: map[mesh.ServiceName]*mesh.Service{}, Certificates: map[string]*mesh.Certificate{}}
	for _, u := range p.Upstreams {
		protocol := mesh.HTTP
		if u.HTTP2 {
			protocol = mesh.GRPC
		}
		name := mesh.Name("bench", u.Name)
		s.Services[name] = &mesh.Service{
			Name:  name,
			Ports: []mesh.Port{{Number: 80, Name: "main", Protocol: protocol}},
			Endpoints: []mesh.Endpoint{{
				Port:     80,
				Address:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(u.Port)),
				Workload: mesh.Workload{Namespace: "bench", Name: u.Name, Version: "v1", Pod: u.Name + "-0"},
			}},
		}
	}
	chain, err := os.ReadFile(p.Cert)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(p.Key)
	if err != nil {
		return nil, err
	}
	s.Certificates["bench/certificate"] = &mesh.Certificate{Chain: chain, Key: key}
	for _, d := range p.Doors {
		g := mesh.Gateway{Name: "bench/" + d.Name, Port: uint16(d.Port)}
		if d.TLS {
			g.TLS = []mesh.ServerTLS{{Hosts: []string{"*"}, Certificate: "bench/certificate", Min: mesh.TLS13}}
		}
		host := mesh.VirtualHost{Hosts: []string{p.Host}}
		if d.Upstream != "" {
			host.Routes = []mesh.Route{{Split: []mesh.Destination{{Service: mesh.Name("bench", d.Upstream), Weight: 1}}}}
		} else {
			for _, service := range p.Services {
				host.Routes = append(host.Routes, mesh.Route{
					Matches: []mesh.Match{{
						URI:     mesh.StringMatch{Kind: mesh.Prefix, Value: "/" + service + "/"},
						Headers: map[string]mesh.StringMatch{"x-release": {Kind: mesh.Exact, Value: "candidate"}},
					}},
					Split: []mesh.Destination{{Service: mesh.Name("bench", "a"), Weight: 50}, {Service: mesh.Name("bench", "b"), Weight: 50}},
				})
			}
		}
		g.VirtualHosts = []mesh.VirtualHost{host}
		s.Gateways = append(s.Gateways, g)
	}
	return s, nil
}
