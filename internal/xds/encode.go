package xds

import (
	"fmt"
	"maps"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"serin.dev/serin/internal/mesh"
)

// Encode makes what a node gets of a snapshot. It is a pure function: the same
// snapshot and node give the same bytes, and a resource of which nothing
// changed gives the same bytes under every version of the snapshot.
//
// The snapshot and the node are valid. An error is a fault of the snapshot that
// Validate does not see, such as a text that is not UTF-8.
func Encode(s *mesh.Snapshot, n Node) (Resources, error) { return NewEncoder(n).Encode(s) }

// Names of the layout for our own proxy.
const (
	nounsMesh    = "mesh"     // the routes between services
	nounsGateway = "gateway/" // a listener and its routes, by the gateway's port and name
)

// encodeNouns makes the layout for our own proxy: a cluster for each
// destination, the endpoints of each port, routes as they are.
func encodeNouns(out *Resources, view *mesh.Snapshot, n *Node, m *memory) error {
	for _, name := range sortedServices(view) {
		svc := view.Services[name]
		part, err := m.resources.of(svc, func() (*Resources, error) {
			part := &Resources{}
			return part, encodeService(part, svc)
		})
		if err == nil {
			err = out.include(part)
		}
		if err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
	}
	if err := encodeCertificates(out, view); err != nil {
		return err
	}
	if !n.Gateway() {
		return encodeHosts(out, nounsMesh, view.Hosts, m)
	}
	for i := range view.Gateways {
		g := &view.Gateways[i]
		name := fmt.Sprintf("%s%d/%s", nounsGateway, g.Port, g.Name)
		l, err := encodeGateway(g, i)
		if err != nil {
			return fmt.Errorf("gateway %s: %w", g.Name, err)
		}
		l.Name = name
		if err := out.Set(Listeners, name, l); err != nil {
			return err
		}
		if err := encodeHosts(out, name, g.VirtualHosts, m); err != nil {
			return fmt.Errorf("gateway %s: %w", g.Name, err)
		}
	}
	return nil
}

func sortedServices(s *mesh.Snapshot) []mesh.ServiceName {
	return slices.Sorted(maps.Keys(s.Services))
}

func encodeCertificates(out *Resources, view *mesh.Snapshot) error {
	for _, name := range sortedKeys(view.Certificates) {
		for _, secret := range encodeSecrets(name, view.Certificates[name]) {
			if err := out.Set(Secrets, secret.GetName(), secret); err != nil {
				return err
			}
		}
	}
	return nil
}

func encodeService(out *Resources, svc *mesh.Service) error {
	all := destinations(svc)
	if len(all) == 0 {
		// A service that cannot be called is known all the same: its host is
		// not outside of the mesh.
		all = []destination{{service: svc, policy: &mesh.Policy{}}}
	}
	for i := range all {
		d := &all[i]
		c, err := encodeCluster(d, DefaultSystemCA)
		if err != nil {
			return err
		}
		if i == 0 && len(svc.Access) > 0 {
			if c.Metadata, err = attach(c.Metadata, "access", encodeAccess(svc.Access)); err != nil {
				return err
			}
		}
		if err := out.Set(Clusters, c.GetName(), c); err != nil {
			return err
		}
		if d.subset != "" || d.port.Number == 0 {
			continue // a subset's endpoints are known by their labels
		}
		assignment, err := encodeEndpoints(d)
		if err != nil {
			return err
		}
		if err := out.Set(Endpoints, c.GetName(), assignment); err != nil {
			return err
		}
	}
	return nil
}

// nounHost is a virtual host and its place among the others, by which it is named.
type nounHost struct {
	id    hostID
	index int
}

// encodeHosts makes virtual hosts and routes one to one; a route with several
// matches becomes as many routes that say to which they belong.
func encodeHosts(out *Resources, name string, hosts []mesh.VirtualHost, m *memory) error {
	encoded := make([][]byte, len(hosts))
	for i := range hosts {
		vh := &hosts[i]
		var err error
		encoded[i], err = m.nouns.of(nounHost{idOf(vh), i}, func() ([]byte, error) { return encodeHost(vh, i) })
		if err != nil {
			return fmt.Errorf("host %s: %w", vh.Hosts[0], err)
		}
	}
	return out.setRoutes(&routev3.RouteConfiguration{Name: name, MostSpecificHeaderMutationsWins: true}, encoded)
}

func encodeHost(vh *mesh.VirtualHost, index int) ([]byte, error) {
	to := &routev3.VirtualHost{Name: fmt.Sprintf("%d", index), Domains: vh.Hosts}
	if vh.RequireTLS {
		to.RequireTls = routev3.VirtualHost_ALL
	}
	for i := range vh.Routes {
		routes, err := encodeNoun(&vh.Routes[i], i)
		if err != nil {
			return nil, fmt.Errorf("route %d: %w", i, err)
		}
		to.Routes = append(to.Routes, routes...)
	}
	if len(vh.Streams) > 0 {
		chains, err := encodeStreams(vh.Streams)
		if err != nil {
			return nil, err
		}
		if to.Metadata, err = attach(nil, "streams", &listenerv3.Listener{FilterChains: chains}); err != nil {
			return nil, err
		}
	}
	return marshal(to)
}

func encodeNoun(r *mesh.Route, index int) ([]*routev3.Route, error) {
	var out []*routev3.Route
	for _, m := range orAny(r.Matches) {
		to, err := encodeRoute(r, &m, mesh.Destination.String)
		if err != nil {
			return nil, err
		}
		to.Match = encodeMatch(&m)
		extra := matchFields(&m)
		extra.setTrue(fieldUnserved, len(r.Split) == 0 && r.Redirect == nil && r.Direct == nil)
		extra.setNumber("route", uint32(index)+1)
		extra.setFields("origin", encodeOrigin(r.Origin))
		extra.setText("service", string(r.Service))
		to.Metadata = extra.metadata()
		out = append(out, to)
	}
	return out, nil
}

func encodeGateway(g *mesh.Gateway, index int) (*listenerv3.Listener, error) {
	address, err := socket(fmt.Sprintf("0.0.0.0:%d", g.Port))
	if err != nil {
		return nil, err
	}
	f := fields{}
	f.setText("name", g.Name)
	f.setNumber("index", uint32(index))
	out := &listenerv3.Listener{Address: address, Metadata: f.metadata()}
	for i := range g.TLS {
		socket, err := encodeServerTLS(&g.TLS[i])
		if err != nil {
			return nil, err
		}
		out.FilterChains = append(out.FilterChains, &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: g.TLS[i].Hosts}, TransportSocket: socket,
		})
	}
	streams, err := encodeStreams(g.Streams)
	if err != nil {
		return nil, err
	}
	out.FilterChains = append(out.FilterChains, streams...)
	return out, nil
}

func packFilter(name string, m proto.Message) (*listenerv3.Filter, error) {
	packed, err := pack(m)
	if err != nil {
		return nil, err
	}
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed}}, nil
}
