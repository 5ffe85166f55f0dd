package xds

import (
	"fmt"

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
func Encode(s *mesh.Snapshot, n Node) (Resources, error) {
	view := View(s, n)
	out := Resources{Version: s.Version}
	encode := encodeNouns
	if n.Kind == Envoy {
		encode = encodeForEnvoy
	}
	if err := encode(&out, view, &n); err != nil {
		return Resources{}, fmt.Errorf("encode snapshot %d for %s: %w", s.Version, n.ID, err)
	}
	return out, nil
}

// Names of the layout for our own proxy.
const (
	nounsMesh    = "mesh"     // the routes between services
	nounsGateway = "gateway/" // a listener and its routes, by the gateway's port and name
)

// encodeNouns makes the layout for our own proxy: a cluster for each
// destination, the endpoints of each port, routes as they are.
func encodeNouns(out *Resources, view *mesh.Snapshot, n *Node) error {
	for _, name := range sortedServices(view) {
		if err := encodeService(out, view.Services[name]); err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
	}
	if err := encodeCertificates(out, view); err != nil {
		return err
	}
	if !n.Gateway() {
		routes, err := encodeHosts(nounsMesh, view.Hosts)
		if err != nil {
			return err
		}
		return out.Set(Routes, nounsMesh, routes)
	}
	for i := range view.Gateways {
		g := &view.Gateways[i]
		name := fmt.Sprintf("%s%d/%s", nounsGateway, g.Port, g.Name)
		l, err := encodeGateway(g, i)
		if err != nil {
			return fmt.Errorf("gateway %s: %w", g.Name, err)
		}
		l.Name = name
		routes, err := encodeHosts(name, g.VirtualHosts)
		if err != nil {
			return fmt.Errorf("gateway %s: %w", g.Name, err)
		}
		if err := out.Set(Listeners, name, l); err != nil {
			return err
		}
		if err := out.Set(Routes, name, routes); err != nil {
			return err
		}
	}
	return nil
}

func sortedServices(s *mesh.Snapshot) []mesh.ServiceName {
	byName := make(map[string]bool, len(s.Services))
	for name := range s.Services {
		byName[string(name)] = true
	}
	var out []mesh.ServiceName
	for _, name := range sortedKeys(byName) {
		out = append(out, mesh.ServiceName(name))
	}
	return out
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

// encodeHosts makes virtual hosts and routes one to one; a route with several
// matches becomes as many routes that say to which they belong.
func encodeHosts(name string, hosts []mesh.VirtualHost) (*routev3.RouteConfiguration, error) {
	out := &routev3.RouteConfiguration{Name: name, MostSpecificHeaderMutationsWins: true}
	for i := range hosts {
		vh := &hosts[i]
		to := &routev3.VirtualHost{Name: fmt.Sprintf("%d", i), Domains: vh.Hosts}
		if vh.RequireTLS {
			to.RequireTls = routev3.VirtualHost_ALL
		}
		for j := range vh.Routes {
			routes, err := encodeNoun(&vh.Routes[j], j)
			if err != nil {
				return nil, fmt.Errorf("host %s: route %d: %w", vh.Hosts[0], j, err)
			}
			to.Routes = append(to.Routes, routes...)
		}
		if len(vh.Streams) > 0 {
			chains, err := encodeStreams(vh.Streams)
			if err != nil {
				return nil, fmt.Errorf("host %s: %w", vh.Hosts[0], err)
			}
			if to.Metadata, err = attach(nil, "streams", &listenerv3.Listener{FilterChains: chains}); err != nil {
				return nil, fmt.Errorf("host %s: %w", vh.Hosts[0], err)
			}
		}
		out.VirtualHosts = append(out.VirtualHosts, to)
	}
	return out, nil
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
