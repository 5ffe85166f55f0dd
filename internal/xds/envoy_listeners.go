package xds

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"serin.dev/serin/internal/mesh"
	"serin.dev/serin/internal/telemetry"
)

// inspectTimeout is how long a listener that looks for TLS waits for the first
// bytes: a caller who speaks TLS sends them at once.
const inspectTimeout = 2 * time.Second

// sidecar makes the listeners of a sidecar.
func (e *envoy) sidecar() error {
	caller := &e.node.Caller.Workload
	if e.node.Outbound != "" {
		if err := e.outside(); err != nil {
			return err
		}
		t := e.table("outbound", e.view.Hosts, true)
		if err := t.between(caller.Namespace); err != nil {
			return err
		}
		if err := t.finish(); err != nil {
			return err
		}
		chain, err := e.httpChain(&manager{reporter: telemetry.SourceSide, routes: "outbound", outside: true})
		if err != nil {
			return err
		}
		if err := e.listener("outbound", e.node.Outbound, nil, chain); err != nil {
			return err
		}
	}
	for _, u := range e.node.Upstreams {
		if err := e.upstream(u); err != nil {
			return fmt.Errorf("upstream %s: %w", u.Address, err)
		}
	}
	for _, in := range e.node.Inbounds {
		if err := e.inbound(in); err != nil {
			return fmt.Errorf("inbound %s: %w", in.Address, err)
		}
	}
	return nil
}

// listener adds a listener. Without a chain for all, connections that no other
// chain takes are closed.
func (e *envoy) listener(name, address string, chains []*listenerv3.FilterChain, all *listenerv3.FilterChain) error {
	at, err := socket(address)
	if err != nil {
		return err
	}
	l := &listenerv3.Listener{Name: name, Address: at, FilterChains: chains, DefaultFilterChain: all}
	if len(chains) > 0 {
		packed, err := pack(&tlsinspectorv3.TlsInspector{})
		if err != nil {
			return err
		}
		l.ListenerFilters = []*listenerv3.ListenerFilter{{
			Name: "envoy.filters.listener.tls_inspector", ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: packed},
		}}
		// Who sends nothing for so long speaks a protocol in which the server
		// begins: it goes on without TLS.
		l.ListenerFiltersTimeout = durationpb.New(inspectTimeout)
		l.ContinueOnListenerFiltersTimeout = true
	}
	return e.out.Set(Listeners, name, l)
}

// upstream makes the listener that stands for one port of a service.
func (e *envoy) upstream(u Upstream) error {
	name := "upstream:" + u.Address
	t := e.table(name, e.view.Hosts, true)
	h := t.find(mesh.CanonicalHost(u.Service, e.node.Caller.Workload.Namespace))
	known := h.service != nil
	port, open := mesh.Port{}, !known && h.routed
	if known {
		port, open = h.service.Port(u.Port)
	}
	if open && (port.Protocol == mesh.TCP || port.Protocol == mesh.HTTPS) {
		chains, all, err := e.streamChains(&h, u.Port, telemetry.SourceSide)
		if err != nil {
			return err
		}
		return e.listener(name, u.Address, chains, all)
	}
	var err error
	if open {
		err = t.only(&h, u.Port)
	} else {
		vh := t.virtualHost("closed", []string{"*"})
		vh.Routes = []*routev3.Route{noRoute(&h)}
		err = t.add(vh)
	}
	if err == nil {
		err = t.finish()
	}
	if err != nil {
		return err
	}
	chain, err := e.httpChain(&manager{reporter: telemetry.SourceSide, routes: name})
	if err != nil {
		return err
	}
	return e.listener(name, u.Address, nil, chain)
}

// inbound makes the listener in front of the node's application.
func (e *envoy) inbound(in Inbound) error {
	if err := e.application(in); err != nil {
		return err
	}
	name := inboundPrefix + in.Address
	if p := e.inboundProtocol(in); p == mesh.TCP || p == mesh.HTTPS {
		to := &mesh.Stream{Split: []mesh.Destination{{Weight: 1}}, Service: e.node.Service}
		chain, err := e.streamChain(to, func(mesh.Destination) string { return name }, telemetry.DestinationSide)
		if err != nil {
			return err
		}
		return e.listener(name, in.Address, nil, chain)
	}
	f, record := fields{}, fields{}
	record.setText("service", string(e.node.Service))
	f.setFields(metadataRecord, record)
	routes := &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{{
		Name: name, Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match: encodeMatch(&mesh.Match{}),
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: name}, Timeout: durationpb.New(0),
			}},
			Metadata: f.metadata(),
		}},
	}}}
	chain, err := e.httpChain(&manager{reporter: telemetry.DestinationSide, inline: routes})
	if err != nil {
		return err
	}
	return e.listener(name, in.Address, nil, chain)
}

// inboundProtocol is what is spoken on an inbound address, by the endpoint of
// the node's service that has it.
func (e *envoy) inboundProtocol(in Inbound) mesh.Protocol {
	address, err := netip.ParseAddrPort(in.Address)
	svc := e.view.Services[e.node.Service]
	if err != nil || svc == nil {
		return mesh.HTTP
	}
	for i := range svc.Endpoints {
		if svc.Endpoints[i].Address == address {
			port, _ := svc.Port(svc.Endpoints[i].Port)
			return port.Protocol
		}
	}
	return mesh.HTTP
}

// gateways makes the listeners of a gateway.
func (e *envoy) gateways() error {
	for _, g := range e.node.Gateways {
		if err := e.gateway(g); err != nil {
			return fmt.Errorf("gateway port %d: %w", g.Port, err)
		}
	}
	return nil
}

// gateway makes one listener of all gateways with a port.
func (e *envoy) gateway(g GatewayListener) error {
	name := fmt.Sprintf("gateway:%d", g.Port)
	var servers []mesh.ServerTLS
	h := hostRoutes{}
	var hosts []mesh.VirtualHost
	for i := range e.view.Gateways {
		if of := &e.view.Gateways[i]; of.Port == g.Port {
			servers = append(servers, of.TLS...)
			hosts = append(hosts, of.VirtualHosts...)
			h.streams = append(h.streams, of.Streams...)
		}
	}
	chains, all, err := e.streamChains(&h, g.Port, telemetry.GatewaySide)
	if err != nil {
		return err
	}
	taken := map[string]bool{}
	for _, c := range chains {
		for _, pattern := range c.GetFilterChainMatch().GetServerNames() {
			taken[pattern] = true
		}
		if len(c.GetFilterChainMatch().GetServerNames()) == 0 {
			taken["*"] = true
		}
	}
	for i := range servers {
		own := namesLeft(&servers[i], taken)
		if len(own) == 0 {
			continue
		}
		routes := ""
		if all == nil {
			routes = name + " " + own[0]
			t := e.table(routes, hosts, false)
			if err := cmp.Or(t.edgeOf(g.Port, servers, i), t.finish()); err != nil {
				return err
			}
		}
		chain, err := e.serverChain(&servers[i], own, routes, all)
		if err != nil {
			return err
		}
		chains = append(chains, chain)
	}
	if all == nil && len(servers) == 0 {
		t := e.table(name, hosts, false)
		if err := cmp.Or(t.edge(g.Port), t.finish()); err != nil {
			return err
		}
		if all, err = e.httpChain(&manager{reporter: telemetry.GatewaySide, routes: name}); err != nil {
			return err
		}
	}
	return e.listener(name, g.Address, chains, all)
}

// namesLeft takes the hosts of a server that no other has taken.
func namesLeft(t *mesh.ServerTLS, taken map[string]bool) []string {
	var hosts []string
	for _, h := range t.Hosts {
		if !taken[h] {
			taken[h] = true
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// serverChain makes the chain of a server that ends TLS for some hosts. bytes is
// the chain of a stream that takes what is not TLS: it takes what was, too.
func (e *envoy) serverChain(t *mesh.ServerTLS, hosts []string, routes string, bytes *listenerv3.FilterChain) (*listenerv3.FilterChain, error) {
	var chain *listenerv3.FilterChain
	if bytes != nil {
		chain = &listenerv3.FilterChain{Filters: bytes.GetFilters(), Metadata: bytes.GetMetadata()}
	} else {
		var err error
		if chain, err = e.httpChain(&manager{reporter: telemetry.GatewaySide, routes: routes, https: true}); err != nil {
			return nil, err
		}
	}
	chain.FilterChainMatch = forNames(hosts)
	var err error
	chain.TransportSocket, err = encodeServerTLS(t)
	return chain, err
}

// forNames matches TLS connections that ask for one of the patterns.
func forNames(patterns []string) *listenerv3.FilterChainMatch {
	m := &listenerv3.FilterChainMatch{TransportProtocol: "tls"}
	if !slices.Contains(patterns, "*") {
		m.ServerNames = patterns
	}
	return m
}

// streamRecord is what the access log says of a stream.
func streamRecord(to *mesh.Stream) fields {
	f := fields{}
	f.setText("service", string(to.Service))
	f.setFields("origin", encodeOrigin(to.Origin))
	f.setTrue("split", len(to.Split) > 1)
	return f
}

// streamFor returns the stream for connections to the host's port that ask for
// no name; nil when there is none.
func streamFor(h *hostRoutes, port uint16) *mesh.Stream {
	if h.service != nil {
		if _, open := h.service.Port(port); !open {
			return nil
		}
	}
	c := &mesh.Connection{Port: port}
	for i := range h.streams {
		s := &h.streams[i]
		holds := len(s.Matches) == 0
		for j := range s.Matches {
			_, ok := s.Matches[j].Holds(c)
			holds = holds || ok
		}
		if holds {
			return named(h, s)
		}
	}
	if h.service == nil {
		return nil
	}
	return &mesh.Stream{Service: h.service.Name, Split: []mesh.Destination{{Service: h.service.Name, Port: port, Weight: 1}}}
}

// named gives a stream the service that its host stands for.
func named(h *hostRoutes, s *mesh.Stream) *mesh.Stream {
	if h.service == nil || h.service.Name == s.Service {
		return s
	}
	out := *s
	out.Service = h.service.Name
	return &out
}

// streamChains makes a chain of each stream for the names that it takes, and
// one for connections that ask for none.
func (e *envoy) streamChains(h *hostRoutes, port uint16, by telemetry.Reporter) (chains []*listenerv3.FilterChain, all *listenerv3.FilterChain, err error) {
	taken := map[string]bool{}
	for i := range h.streams {
		s := named(h, &h.streams[i])
		own := map[string]bool{}
		for _, m := range s.Matches {
			for _, pattern := range m.SNI {
				if (m.Port == 0 || m.Port == port) && !taken[pattern] {
					taken[pattern], own[pattern] = true, true
				}
			}
		}
		if len(own) == 0 {
			continue
		}
		// "*" is said in another way than other patterns.
		patterns := slices.Sorted(maps.Keys(own))
		groups := [][]string{patterns}
		if own["*"] && len(own) > 1 {
			groups = [][]string{{"*"}, slices.DeleteFunc(patterns, func(p string) bool { return p == "*" })}
		}
		for _, names := range groups {
			chain, err := e.streamChain(s, e.name(port), by)
			if err != nil {
				return nil, nil, err
			}
			chain.FilterChainMatch = forNames(names)
			chains = append(chains, chain)
		}
	}
	if to := streamFor(h, port); to != nil {
		all, err = e.streamChain(to, e.name(port), by)
	}
	return chains, all, err
}

// streamChain makes the chain of one stream. Without filters, a connection is
// closed.
func (e *envoy) streamChain(to *mesh.Stream, name clusterNamer, by telemetry.Reporter) (*listenerv3.FilterChain, error) {
	chain := &listenerv3.FilterChain{}
	if len(to.Split) == 0 || !e.admitsStreams(to.Split) {
		return chain, nil
	}
	proxy := streamForEnvoy(to.Split, name)
	var err error
	if proxy.AccessLog, err = streamLog(by, to); err != nil {
		return nil, err
	}
	filter, err := packFilter(filterTCPProxy, proxy)
	if err != nil {
		return nil, err
	}
	chain.Filters = []*listenerv3.Filter{filter}
	return chain, nil
}

// httpChain makes the chain of what carries requests.
func (e *envoy) httpChain(m *manager) (*listenerv3.FilterChain, error) {
	h, err := m.encode()
	if err != nil {
		return nil, err
	}
	filter, err := packFilter("envoy.filters.network.http_connection_manager", h)
	if err != nil {
		return nil, err
	}
	return &listenerv3.FilterChain{Filters: []*listenerv3.Filter{filter}}, nil
}
